/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/vault.h"

enum kind { PATH, PATH_OR_NONE, TEXT };

static const struct {
	const char *name;
	enum kind kind;
	size_t offset, room;
} options[] = {
#define OPTION(name, kind, field)                                                        \
	{                                                                                \
		name, kind, offsetof(struct vault, field),                               \
			sizeof(((struct vault *)NULL)->field)                            \
	}
	OPTION("address", TEXT, address),
	OPTION("auth-mount", PATH, auth_mount),
	OPTION("cert-role", PATH_OR_NONE, cert_role),
	OPTION("mount", PATH, mount),
	OPTION("namespace", PATH_OR_NONE, namespace),
	OPTION("prefix", PATH_OR_NONE, prefix),
	OPTION("role-id", TEXT, role_id),
	OPTION("secret-id-file", TEXT, secret_id_file),
	OPTION("token-file", TEXT, token_file),
	OPTION("transit-key", PATH, transit_key),
	OPTION("transit-mount", PATH, transit_mount),
#undef OPTION
};

static const char *const auth_names[] = {
	[VAULT_APPROLE] = "approle",
	[VAULT_TOKEN] = "token",
	[VAULT_CERT] = "cert",
	NULL,
};

static const char *const mode_names[] = {
	[VAULT_KV] = "kv",
	[VAULT_TRANSIT] = "transit",
	NULL,
};

void vault_options_init(struct vault *v)
{
	snprintf(v->mount, sizeof(v->mount), "secret");
	snprintf(v->prefix, sizeof(v->prefix), "vmcryptfs");
	snprintf(v->transit_mount, sizeof(v->transit_mount), "transit");
}

static vcf_err_t choose(const char *name, const char *value, const char *const names[])
{
	char all[64] = "";

	for (int i = 0; names[i]; i++) {
		size_t len = strlen(all);

		if (strcmp(names[i], value) == 0)
			return i;
		snprintf(all + len, sizeof(all) - len, "%s%s", len ? ", " : "", names[i]);
	}
	helper_log("%s: one of %s is wanted", name, all);
	return -EINVAL;
}

static vcf_err_t set_mode(struct vault *v, const char *value)
{
	vcf_err_t i = choose("mode", value, mode_names);

	if (i < 0)
		return i;
	v->mode = (enum vault_mode)i;
	return 0;
}

static vcf_err_t set_auth(struct vault *v, const char *value)
{
	vcf_err_t i = choose("auth", value, auth_names);

	if (i < 0)
		return i;
	v->auth = (enum vault_auth)i;
	return 0;
}

static vcf_err_t set_text(struct vault *v, size_t i, const char *value)
{
	char *dst = (char *)v + options[i].offset;
	bool may_be_empty = options[i].kind == PATH_OR_NONE;

	if (options[i].kind != TEXT && !(may_be_empty && !*value) &&
	    !vault_path_valid(value)) {
		helper_log("%s: a path of letters, digits, '_', '-', '.' and '/' is "
			   "wanted, without a slash at its ends",
			   options[i].name);
		return -EINVAL;
	}
	if (strlen(value) >= options[i].room) {
		helper_log("%s: too long", options[i].name);
		return -EINVAL;
	}
	memcpy(dst, value, strlen(value) + 1);
	return 0;
}

vcf_err_t vault_option(struct vault *v, const char *name, const char *value)
{
	vcf_err_t err;

	if (strcmp(name, "mode") == 0)
		return set_mode(v, value);
	if (strcmp(name, "auth") == 0)
		return set_auth(v, value);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(options[i].name, name) == 0)
			return set_text(v, i, value);
	}
	err = http_option(&v->http_options, name, value);
	if (err == -ENOENT) {
		helper_log("unknown option %s", name);
		err = -EINVAL;
	}
	return err;
}

static vcf_err_t missing(const char *option, const char *why)
{
	helper_log("the option %s is missing%s", option, why);
	return -EINVAL;
}

static vcf_err_t check_auth(const struct vault *v)
{
	switch (v->auth) {
	case VAULT_APPROLE:
		if (!*v->role_id)
			return missing("role-id", " (auth = approle)");
		if (!*v->secret_id_file)
			return missing("secret-id-file", " (auth = approle)");
		return 0;
	case VAULT_TOKEN:
		return *v->token_file ? 0 : missing("token-file", " (auth = token)");
	default:
		if (!*v->http_options.client_cert)
			return missing("client-cert", " (auth = cert)");
		return 0;
	}
}

vcf_err_t vault_options_check(struct vault *v)
{
	if (!*v->address)
		return missing("address", "");
	if (v->mode == VAULT_TRANSIT && !*v->transit_key)
		return missing("transit-key", " (mode = transit)");
	if (!*v->auth_mount && v->auth != VAULT_TOKEN)
		snprintf(v->auth_mount, sizeof(v->auth_mount), "%s", auth_names[v->auth]);
	return check_auth(v);
}
