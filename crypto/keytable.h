/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volume keys of all open images: fixed records in memory that the kernel hides
 * (memfd_secret(2)) or, where that is missing, in a locked memfd. Nothing else holds a
 * volume key for longer than a call.
 *
 * The area is described by a descriptor and its size, so that a later process can map the
 * same records; it holds no pointers and no locks. A record is {uuid, kcv, key,
 * generation} and is published by one atomic store of its generation (0 = free). All
 * calls are thread-safe.
 */
#ifndef VCF_CRYPTO_KEYTABLE_H
#define VCF_CRYPTO_KEYTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/err.h"

enum { VOLUME_KEY_LEN = 64, KCV_LEN = 16, UUID_LEN = 16 };

struct keytable;

/* Names one record: valid until keytable_del(); generation tells a reused slot apart. */
struct key_ref {
	uint32_t slot;
	uint32_t generation; /* 0: none */
};

/*
 * Makes and locks an area for `records` keys.
 * Returns 0; -ENOMEM or -EPERM if it cannot be locked (logged, naming the limit needed).
 * *hidden tells whether memfd_secret was available (the caller says so in its log).
 */
NODISCARD vcf_err_t keytable_new(struct keytable **out, size_t records, bool *hidden);

/* Wipes all records and frees. */
void keytable_free(struct keytable *kt);

/*
 * Maps and locks the area of an earlier process: fd as keytable_fd() gave it (it is
 * duplicated), records as in its keytable_new(). Each key's kcv is computed anew; a
 * record that fails is dropped (*dropped counts them: the caller's images have no key
 * then). Only while no other process puts or deletes. -EBADMSG if it is no such area,
 * else as keytable_new().
 */
NODISCARD vcf_err_t keytable_attach(struct keytable **out, int fd, size_t records,
				    size_t *dropped);

/* Unmaps without wiping: the records are for the process that comes next. */
void keytable_detach(struct keytable *kt);

/*
 * Keeps the pages of an area that is not hidden in memory for the life of this process, which uses
 * none of it: between two servers nobody else would. 0, also where there is nothing to do; -errno.
 */
NODISCARD vcf_err_t keytable_pin(int fd);

/* The area's descriptor; owned by the table. */
int keytable_fd(const struct keytable *kt);

/*
 * Stores a key. -EINVAL if its halves are equal (IEEE 1619 wants them different), -ENFILE
 * when the table is full. The caller wipes its own copy.
 */
NODISCARD vcf_err_t keytable_put(struct keytable *kt, const unsigned char uuid[UUID_LEN],
				 const unsigned char kcv[KCV_LEN],
				 const unsigned char key[VOLUME_KEY_LEN],
				 struct key_ref *out);

/*
 * The key bytes of a record, or NULL if ref no longer names it. Valid until
 * keytable_del(); called only in crypto/.
 */
const unsigned char *keytable_key(const struct keytable *kt, struct key_ref ref);

/*
 * The container of this key has another uuid now; kcv is that of the key with it. A process that is
 * killed within leaves one or the other.
 */
void keytable_rename(struct keytable *kt, struct key_ref ref,
		     const unsigned char uuid[UUID_LEN],
		     const unsigned char kcv[KCV_LEN]);

/* Wipes and frees one record. */
void keytable_del(struct keytable *kt, struct key_ref ref);

/* Does the record still hold a key of that container? */
bool keytable_is(const struct keytable *kt, struct key_ref ref,
		 const unsigned char uuid[UUID_LEN]);

/* Is the record's key the one of which that uuid and kcv tell? */
bool keytable_fits(const struct keytable *kt, struct key_ref ref,
		   const unsigned char uuid[UUID_LEN], const unsigned char kcv[KCV_LEN]);

/* Wipes the keys that keep(arg, ref) does not want. Returns how many. */
size_t keytable_keep(struct keytable *kt, bool (*keep)(void *arg, struct key_ref ref),
		     void *arg);

/* Records in use. */
size_t keytable_count(const struct keytable *kt);

/* kcv = HMAC-SHA256(HKDF(key, salt = uuid, "vmcryptfs kcv v1"), uuid)[0..15] */
NODISCARD vcf_err_t keytable_kcv(unsigned char kcv[KCV_LEN],
				 const unsigned char key[VOLUME_KEY_LEN],
				 const unsigned char uuid[UUID_LEN]);

DEFINE_AUTO(keytable, struct keytable *, keytable_free)
#define auto_keytable __attribute__((cleanup(cleanup_keytable)))

#endif
