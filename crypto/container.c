/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Life cycle of a container: memfd, libcryptsetup's handle, locked keys, unlock.
 *
 * libcryptsetup sees nothing but /proc/self/fd/N of our memfd: what has been judged is
 * what is used, whatever happens to the file meanwhile. crypt_init() and crypt_free()
 * share counters inside the library that it does not lock: RANK_CRYPTSETUP. The calls
 * between may run in parallel on different containers. It makes, checks and changes headers; a key
 * slot is opened by luks_slot.c.
 */
#include "crypto/container.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uuid/uuid.h>

#include "crypto/container_parts.h"
#include "util/io.h"
#include "util/lock.h"
#include "util/log.h"

static struct mutex library_lock = MUTEX_INIT(RANK_CRYPTSETUP);

/* Without a callback libcryptsetup prints to stdout. usrptr: a container or NULL. */
static void log_library(int level, const char *msg, void *usrptr)
{
	struct container *c = usrptr;
	int len = (int)strcspn(msg, "\n");

	log_dbg("libcryptsetup: %.*s", len, msg);
	if (c && level == CRYPT_LOG_ERROR)
		snprintf(c->error, sizeof(c->error), "%.*s", len, msg);
}

static vcf_err_t map_header(struct container *c)
{
	size_t len = (size_t)c->subject.data_off;
	void *p;

	c->memfd = memfd_create("vmcryptfs-header", MFD_CLOEXEC);
	if (c->memfd < 0 || ftruncate(c->memfd, (off_t)len) < 0)
		return -errno;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, c->memfd, 0);
	if (p == MAP_FAILED)
		return -errno;
	c->hdr = p;
	return 0;
}

vcf_err_t container_new(struct container **out, uint64_t data_off)
{
	auto_container struct container *c = calloc(1, sizeof(*c));
	vcf_err_t err;

	if (!c)
		return -ENOMEM;
	c->memfd = -1;
	c->subject.data_off = data_off;
	c->subject.key_bits = VOLUME_KEY_BITS;
	err = map_header(c);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}

vcf_err_t container_attach(struct container *c)
{
	SCOPED_LOCK(&library_lock);
	char path[32];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->memfd);
	rc = crypt_init(&c->cd, path);
	if (rc < 0)
		return rc;
	crypt_set_log_callback(c->cd, log_library, c);
	return 0;
}

/*
 * The library starts its crypto and random backends at the first load, in globals and
 * without a lock; two threads would both do it. Loading nothing is enough.
 */
static vcf_err_t start_backends(void)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = container_new(&c, CONTAINER_PEEK_LEN);

	if (!err)
		err = container_attach(c);
	if (err)
		return err;
	return crypt_load(c->cd, CRYPT_LUKS, NULL) < 0 ? 0 : -EIO;
}

vcf_err_t container_init(void)
{
	if (escrow_init())
		return -EIO;
	crypt_set_log_callback(NULL, log_library, NULL);
	crypt_token_external_disable();
	/* A memfd has one user; locks would want a folder below /run. */
	if (crypt_metadata_locking(NULL, 0) < 0)
		return -EIO;
	return start_backends();
}

vcf_err_t container_set_pbkdf(struct container *c)
{
	static const struct crypt_pbkdf_type pbkdf = {
		.type = CRYPT_KDF_PBKDF2,
		.hash = "sha256",
		.iterations = ITERATIONS_MIN,
		.flags = CRYPT_PBKDF_NO_BENCHMARK,
	};

	return crypt_set_pbkdf_type(c->cd, &pbkdf) < 0 ? -EIO : 0;
}

vcf_err_t container_set_uuid(struct container *c, const char *text)
{
	if (uuid_parse(text, c->subject.uuid) < 0)
		return -EINVAL;
	uuid_unparse_lower(c->subject.uuid, c->subject.uuid_text);
	return 0;
}

vcf_err_t container_lock_keys(struct container *c)
{
	void *p;

	if (c->keys)
		return 0;
	p = mmap(NULL, sizeof(*c->keys), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (mlock(p, sizeof(*c->keys)) < 0) {
		munmap(p, sizeof(*c->keys));
		snprintf(c->error, sizeof(c->error),
			 "cannot lock a page for its key; raise RLIMIT_MEMLOCK");
		return -ENOMEM;
	}
	madvise(p, sizeof(*c->keys), MADV_DONTDUMP);
	madvise(p, sizeof(*c->keys), MADV_WIPEONFORK);
	c->keys = p;
	return 0;
}

/* Opens the token's slot, whose material that is; the volume key goes to the locked page. */
static vcf_err_t open_slot(struct container *c, const unsigned char *material,
			   const struct secret *secret)
{
	vcf_err_t err = container_lock_keys(c);

	if (err)
		return err;
	secret_hex(secret, c->keys->passphrase);
	err = luks_slot_open(c->keys->volume_key, &c->slot, material, c->keys->passphrase,
			     SECRET_HEX_LEN);
	secret_wipe(c->keys->passphrase, sizeof(c->keys->passphrase));
	return err;
}

/* The key must be the one that the MAC speaks of, and a key that XTS may use. */
static vcf_err_t check_volume_key(const struct container *c)
{
	const unsigned char *key = c->keys->volume_key;
	unsigned char kcv[KCV_LEN];
	vcf_err_t err = keytable_kcv(kcv, key, c->subject.uuid);

	if (err)
		return err;
	if (memcmp(kcv, c->token.kcv, KCV_LEN) != 0 ||
	    memcmp(key, key + VOLUME_KEY_LEN / 2, VOLUME_KEY_LEN / 2) == 0)
		return -EBADMSG;
	return 0;
}

/* The three checks in order; *why is set on error. */
static vcf_err_t unlock(struct container *c, const unsigned char *material,
			const struct secret *secret, const char **why)
{
	vcf_err_t err = open_slot(c, material, secret);

	*why = err == -EKEYREJECTED ? "the secret does not open the key slot"
	       : *c->error	    ? c->error
				    : strerror(-err);
	if (err)
		return err;
	*why = "the header's MAC is wrong: it was changed, or is another container's";
	err = container_mac_check(c, secret);
	if (err)
		return err;
	*why = "the volume key is not the one that the header names";
	return check_volume_key(c);
}

static vcf_err_t unlock_with(struct container *c, const unsigned char *material,
			     const struct secret *secret, const char *name)
{
	const char *why;
	vcf_err_t err;

	c->error[0] = '\0';
	err = unlock(c, material, secret, &why);
	c->unlocked = !err;
	if (!err)
		return 0;
	if (c->keys)
		secret_wipe(c->keys, sizeof(*c->keys));
	if (name)
		log_err("%s: cannot unlock with key id %s: %s", name, c->token.key_id,
			why);
	return err;
}

vcf_err_t container_unlock(struct container *c, const struct secret *secret,
			   const char *name)
{
	if (!c->slot.digest_len || !c->hdr)
		return -EINVAL;
	return unlock_with(c, c->hdr + c->slot.material_off, secret, name);
}

/* What the material is of the digest and the kcv tell; it need not be of the same moment. */
vcf_err_t container_unlock_file(struct container *c, int fd, const struct secret *secret,
				const char *name)
{
	auto_free unsigned char *material = NULL;
	ssize_t n;

	if (!c->slot.digest_len)
		return -EINVAL;
	material = malloc(LUKS_MATERIAL_LEN);
	if (!material)
		return -ENOMEM;
	n = io_pread_full(fd, material, LUKS_MATERIAL_LEN, (off_t)c->slot.material_off);
	if (n < 0)
		return (vcf_err_t)n;
	if (n < LUKS_MATERIAL_LEN)
		return -EIO;
	return unlock_with(c, material, secret, name);
}

vcf_err_t container_mac_check(const struct container *c, const struct secret *secret)
{
	return token_mac_check(&c->token, &c->subject, secret);
}

bool container_has_key_of(const struct container *c, const struct container *other)
{
	unsigned char kcv[KCV_LEN];

	return c->unlocked &&
	       keytable_kcv(kcv, c->keys->volume_key, other->subject.uuid) == 0 &&
	       memcmp(kcv, other->token.kcv, KCV_LEN) == 0;
}

const struct token *container_token(const struct container *c)
{
	return &c->token;
}

const struct escrow *container_escrow(const struct container *c)
{
	return &c->escrow;
}

const struct token_subject *container_subject(const struct container *c)
{
	return &c->subject;
}

const unsigned char *container_volume_key(const struct container *c)
{
	return c->unlocked ? c->keys->volume_key : NULL;
}

static void detach(struct container *c)
{
	SCOPED_LOCK(&library_lock);

	crypt_free(STEAL_PTR(&c->cd));
}

void container_drop_header(struct container *c)
{
	if (c->cd)
		detach(c);
	if (c->hdr)
		munmap(STEAL_PTR(&c->hdr), (size_t)c->subject.data_off);
	if (c->memfd >= 0)
		close(STEAL_FD(&c->memfd));
}

void container_free(struct container *c)
{
	if (!c)
		return;
	container_drop_header(c);
	if (c->keys) {
		secret_wipe(c->keys, sizeof(*c->keys));
		munmap(c->keys, sizeof(*c->keys));
	}
	free(c);
}
