/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One secret in the configuration, from which each image's is derived. For trying and for
 * sites that protect their configuration by other means; it stores nothing, so nothing
 * can be destroyed.
 *
 * secret of an image = HKDF-SHA256(the option `secret`, salt = label, the info below)
 */
#include <errno.h>
#include <string.h>

#include "crypto/kdf.h"
#include "crypto/keys/helper.h"

static const char info[] = "vmcryptfs static v1";

struct keys {
	struct secret *root;
};

static vcf_err_t static_option(void *ctx, const char *name, const char *value)
{
	struct keys *k = ctx;
	vcf_err_t err;

	if (strcmp(name, "secret") != 0) {
		helper_log("unknown option %s", name);
		return -EINVAL;
	}
	secret_free(STEAL_PTR(&k->root));
	err = secret_new_hex(&k->root, value, strlen(value));
	if (err)
		helper_log("secret: %d lower-case hex digits are wanted", SECRET_HEX_LEN);
	return err;
}

static vcf_err_t static_start(void *ctx)
{
	struct keys *k = ctx;

	if (!k->root) {
		helper_log("the option secret is missing");
		return -EINVAL;
	}
	return 0;
}

static vcf_err_t static_get(void *ctx, const char *id, struct secret **out,
			    struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_secret struct secret *s = NULL;

	if (!keyproto_label_valid(id))
		return helper_fail(f, KEY_NOTFOUND, "no such label");
	if (secret_new(&s) ||
	    hkdf_sha256(secret_bytes(s), SECRET_LEN, secret_bytes(k->root), SECRET_LEN,
			id, strlen(id), info))
		return helper_fail(f, KEY_UNAVAILABLE, "cannot derive the secret");
	*out = STEAL_PTR(&s);
	return 0;
}

static vcf_err_t static_find(void *ctx, const char *label, struct helper *h,
			     struct helper_failure *f)
{
	helper_item(h, label, label, "-");
	return 0;
}

/* What exists is not known here. */
static vcf_err_t static_list(void *ctx, const char *prefix, struct helper *h,
			     struct helper_failure *f)
{
	return 0;
}

static vcf_err_t static_destroy(void *ctx, const char *id, const char *label, bool *gone,
				struct helper_failure *f)
{
	if (strcmp(id, label) != 0)
		return helper_fail(f, KEY_INVALID, "the record's label is another");
	*gone = true;
	return 0;
}

static void static_stop(void *ctx)
{
	struct keys *k = ctx;

	secret_free(STEAL_PTR(&k->root));
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "static",
		.caps = KEY_CAP_DERIVES,
		.option = static_option,
		.start = static_start,
		.get = static_get,
		.find = static_find,
		.list = static_list,
		.destroy = static_destroy,
		.stop = static_stop,
	};
	struct keys keys = {0};

	return helper_main(&ops, &keys);
}
