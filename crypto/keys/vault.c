/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HashiCorp Vault and OpenBao: a secret in a record of its own (mode kv), or encrypted by
 * the service and kept in the image's header (mode transit). vault.h tells the parts,
 * contrib/doc/key-services.md the options.
 */
#include "crypto/keys/vault.h"

#include "crypto/keys/credential.h"

static vcf_err_t on_option(void *ctx, const char *name, const char *value)
{
	return vault_option(ctx, name, value);
}

static vcf_err_t on_start(void *ctx)
{
	vcf_err_t err = vault_options_check(ctx);

	return err ? err : vault_session_start(ctx);
}

static unsigned int on_ready_caps(void *ctx)
{
	const struct vault *v = ctx;

	return v->mode == VAULT_TRANSIT ? KEY_CAP_WRAPPED : 0;
}

static vcf_err_t on_new(void *ctx, const char *label, const struct secret *secret,
			char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_new(v, label, secret, id, f)
				   : vault_transit_new(v, label, secret, id, f);
}

static vcf_err_t on_get(void *ctx, const char *id, struct secret **out,
			struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_get(v, id, out, f)
				   : vault_transit_get(v, id, out, f);
}

/* Of mode transit nothing is there to be found. */
static vcf_err_t on_find(void *ctx, const char *label, struct helper *h,
			 struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_find(v, label, h, f) : 0;
}

static vcf_err_t on_list(void *ctx, const char *prefix, struct helper *h,
			 struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_list(v, prefix, h, f) : 0;
}

static vcf_err_t on_destroy(void *ctx, const char *id, const char *label, bool *gone,
			    struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_destroy(v, id, label, gone, f)
				   : vault_transit_destroy(id, label, gone, f);
}

static vcf_err_t on_ping(void *ctx, struct helper_failure *f)
{
	struct vault *v = ctx;

	return v->mode == VAULT_KV ? vault_kv_ping(v, f) : vault_transit_ping(v, f);
}

static void on_stop(void *ctx)
{
	vault_session_stop(ctx);
}

static void on_paths(void *ctx, struct fence *fence)
{
	const struct vault *v = ctx;

	http_options_paths(&v->http_options, fence);
	credential_paths(fence, v->secret_id_file);
	credential_paths(fence, v->token_file);
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "vault",
		.caps = KEY_CAP_DEADLINE,
		.network = true,
		.option = on_option,
		.paths = on_paths,
		.start = on_start,
		.ready_caps = on_ready_caps,
		.new_secret = on_new,
		.get = on_get,
		.find = on_find,
		.list = on_list,
		.destroy = on_destroy,
		.ping = on_ping,
		.stop = on_stop,
	};
	static struct vault vault;

	vault_options_init(&vault);
	return helper_main(&ops, &vault);
}
