/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The site secret: one secret of the key service from which those of `derived` images come.
 * Fetched once and kept (struct secret) for the life of the server; made at the first need. A
 * small file in the state directory names it ("UUID KEY_ID\n", and " SERVICE" before the end of
 * the line where that is not the default one); it holds no secret. Each service has its own.
 * Thread-safe.
 */
#ifndef VCF_FS_SITEKEY_H
#define VCF_FS_SITEKEY_H

#include "crypto/keyservice.h"
#include "crypto/reserve.h"
#include "crypto/secret.h"
#include "fs/deferred.h"

struct sitekey;

/*
 * Reads the file at path if it is there. service: its name, NULL for the default one. -EBADMSG: it
 * is damaged or another service's (logged).
 */
NODISCARD vcf_err_t sitekey_new(struct sitekey **out, struct keyservice *ks,
				struct reserve *r, const char *path, const char *service);
/* The file of a service's site secret: `base` for the default one, else base@NAME. -ENAMETOOLONG. */
NODISCARD vcf_err_t sitekey_path(char *dst, size_t room, const char *base,
				 const char *service);
/* What the file says; key_id is "" if there is none. -EBADMSG, -errno. */
NODISCARD vcf_err_t sitekey_read_file(const char *path, const char *service,
				      unsigned char uuid[UUID_LEN],
				      char key_id[TOKEN_KEY_ID_MAX + 1]);
/* Names a secret that nothing is derived from yet, "" as service for the default one; durable. */
NODISCARD vcf_err_t sitekey_write_file(const char *path, const char *service,
				       const unsigned char uuid[UUID_LEN],
				       const char *key_id);
void sitekey_free(struct sitekey *k);

/*
 * The secret and its key id. 0: *out is a copy, the caller's. -EINPROGRESS: ready(arg, err) will
 * be called once from another thread; then ask again or give up. Blocks on disk at most.
 */
NODISCARD vcf_err_t sitekey_get(struct sitekey *k, struct secret **out,
				char key_id[TOKEN_KEY_ID_MAX + 1],
				reserve_ready_fn *ready, void *arg);

/* True if this is the site secret's label (or key id): it is never destroyed. Either may be NULL. */
bool sitekey_is(struct sitekey *k, const unsigned char *uuid, const char *key_id);

/* Ends every wait with -ECANCELED; to be called before the key service goes. */
void sitekey_cancel(struct sitekey *k);

#endif
