/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log-ins at OpenStack Keystone (v3): by application credential or by password. Keeps one
 * token in locked memory, renews it before it expires, and finds services in the
 * catalog that comes with it. Not thread-safe.
 *
 * Helpers of the same service share one log-in (loginshare.h). A process's first one waits a
 * random part of login-jitter before: nodes that start together do not log in together.
 *
 * A token's life is counted from its arrival by this machine's monotonic clock: Keystone
 * says both ends of it, so neither clock need be right.
 */
#ifndef VCF_CRYPTO_KEYS_KEYSTONE_H
#define VCF_CRYPTO_KEYS_KEYSTONE_H

#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"

enum { KEYSTONE_NAME_MAX = 256 };

struct keystone_options {
	char auth_url[HTTP_ENDPOINTS_MAX * HTTP_URL_MAX];
	char ca_file[1024]; /* auth-ca-file; else the service's */
	char app_id[KEYSTONE_NAME_MAX], app_name[KEYSTONE_NAME_MAX];
	char app_secret_file[1024];
	char user_id[KEYSTONE_NAME_MAX], username[KEYSTONE_NAME_MAX];
	char user_domain_id[KEYSTONE_NAME_MAX], user_domain_name[KEYSTONE_NAME_MAX];
	char password_file[1024];
	char project_id[KEYSTONE_NAME_MAX], project_name[KEYSTONE_NAME_MAX];
	char project_domain_id[KEYSTONE_NAME_MAX], project_domain_name[KEYSTONE_NAME_MAX];
	char region[KEYSTONE_NAME_MAX];
	char interface[16];
	unsigned int jitter_s; /* login-jitter */
};

enum { KEYSTONE_JITTER_S = 1 }; /* the default of jitter_s, for who makes the options */

/* Takes an option; 0, -ENOENT if it is none of ours, -EINVAL: bad, and logged. */
NODISCARD vcf_err_t keystone_option(struct keystone_options *o, const char *name,
				    const char *value);

struct keystone;

/* o and http are copied. service_type: to look up in the catalog; NULL: no catalog wanted.
 * 0, or what helper_fail() returned. No network yet. */
NODISCARD vcf_err_t keystone_new(struct keystone **out, const struct keystone_options *o,
				 const struct http_options *http,
				 const char *service_type, struct helper_failure *f);

void keystone_free(struct keystone *k);

/*
 * A token that is good for a while; logs in if need be. Valid until the next call.
 * 0, or what helper_fail() returned.
 */
NODISCARD vcf_err_t keystone_token(struct keystone *k, const char **token,
				   struct helper_failure *f);

/* The service refused the token: the next keystone_token() gets another one. */
void keystone_refused(struct keystone *k);

/* The service's URL of the catalog, "" before the first token. */
const char *keystone_endpoint(const struct keystone *k);

#endif
