/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/http.h"
#include "util/parse.h"

static vcf_err_t set_path(char dst[1024], const char *name, const char *value, bool bare)
{
	bool fits = strlen(value) < 1024;

	if (!fits || !*value || (*value != '/' && (!bare || strchr(value, '/')))) {
		helper_log("%s: an absolute path is wanted%s", name,
			   bare ? ", or the name of a systemd credential" : "");
		return -EINVAL;
	}
	snprintf(dst, 1024, "%s", value);
	return 0;
}

static vcf_err_t set_seconds(unsigned int *dst, const char *name, const char *value)
{
	uint64_t s;

	if (parse_duration(value, &s) || s < 1 || s > 3600) {
		helper_log("%s: 1 s to 1 h are wanted", name);
		return -EINVAL;
	}
	*dst = (unsigned int)s;
	return 0;
}

vcf_err_t http_option(struct http_options *o, const char *name, const char *value)
{
	if (strcmp(name, "ca-file") == 0)
		return set_path(o->ca_file, name, value, false);
	if (strcmp(name, "ca-dir") == 0)
		return set_path(o->ca_dir, name, value, false);
	if (strcmp(name, "client-cert") == 0)
		return set_path(o->client_cert, name, value, true);
	if (strcmp(name, "client-key") == 0)
		return set_path(o->client_key, name, value, true);
	if (strcmp(name, "connect-timeout") == 0)
		return set_seconds(&o->connect_timeout_s, name, value);
	if (strcmp(name, "request-timeout") == 0)
		return set_seconds(&o->request_timeout_s, name, value);
	if (strcmp(name, "insecure-loopback") != 0)
		return -ENOENT;
	if (parse_bool(value, &o->insecure_loopback) == 0)
		return 0;
	helper_log("%s: yes or no is wanted", name);
	return -EINVAL;
}

void http_options_identity(const struct http_options *o, struct lockbuf *out)
{
	const char *const parts[] = {o->ca_file, o->ca_dir, o->client_cert, o->client_key,
				     o->insecure_loopback ? "loopback" : ""};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		lockbuf_add_text(out, "\n");
		lockbuf_add_text(out, parts[i]);
	}
}

void http_options_paths(const struct http_options *o, struct fence *fence)
{
	credential_paths(fence, o->ca_file);
	credential_paths(fence, o->client_cert);
	credential_paths(fence, o->client_key);
	if (*o->ca_dir)
		fence_allow(fence, FENCE_READ, o->ca_dir);
}
