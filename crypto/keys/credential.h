/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Credentials that a helper needs for its service: a password, the secret of an
 * application credential, a role's secret-id, a token, a client key.
 *
 * They come from files only, never from the configuration itself, and each log-in reads
 * its file anew, so that an exchanged credential needs no restart. A file is named by its
 * absolute path, or by a bare name, which is looked up in $CREDENTIALS_DIRECTORY (systemd's
 * LoadCredential=). It must be a regular file, no symbolic link, of root or of this
 * process's user, and give nothing to the group or to others: mode 0400 or 0600; systemd
 * itself makes 0440 in its folder, of which only the service's user can see the inside.
 */
#ifndef VCF_CRYPTO_KEYS_CREDENTIAL_H
#define VCF_CRYPTO_KEYS_CREDENTIAL_H

#include "crypto/keys/helper.h"
#include "crypto/keys/lockbuf.h"

enum { CREDENTIAL_MAX = 8 * 1024, CREDENTIAL_PATH_MAX = 4096 };

/*
 * Writes the absolute path of `where` to path. option: what the texts call it.
 * 0, or what helper_fail() returned (invalid).
 */
NODISCARD vcf_err_t credential_path(char path[CREDENTIAL_PATH_MAX], const char *option,
				    const char *where, struct helper_failure *f);

/* Where it is: the folder, since the file may be replaced while we are at work. "" is nowhere. */
void credential_paths(struct fence *fence, const char *where);

/*
 * Reads one: the file without the newlines at its end, 1 to CREDENTIAL_MAX bytes, no NUL.
 * out: the caller's, a NUL behind its last byte. 0, or what helper_fail() returned: denied.
 */
NODISCARD vcf_err_t credential_read(struct lockbuf **out, const char *option,
				    const char *where, struct helper_failure *f);

/*
 * The same check of the file, without reading it: for a client key, which the TLS library
 * reads itself.
 */
NODISCARD vcf_err_t credential_check(const char *option, const char *where,
				     struct helper_failure *f);

#endif
