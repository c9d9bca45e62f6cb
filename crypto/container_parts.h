/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of struct container, shared by container*.c and sizepeek.c alone.
 *
 *   container.c         life cycle, unlock           container_format.c  new containers
 *   container_load.c    from a file, from a copy     container_io.c      to a file
 *   container_luks1.c   LUKS1: allow-list, token area
 *   container_luks2.c   LUKS2: allow-list
 *   container_rekey*.c  another secret
 *
 * Functions that judge a header return NULL if it is right, or the reason for the log.
 */
#ifndef VCF_CRYPTO_CONTAINER_PARTS_H
#define VCF_CRYPTO_CONTAINER_PARTS_H

#include <libcryptsetup.h>

#include "crypto/container.h"
#include "crypto/luks_slot.h"

enum {
	DATA_OFF_MIN = 1024 * 1024,
	DATA_OFF_MAX = 64 * 1024 * 1024,
	KEYSLOTS_MAX = 8,
	TOKENS_MAX = 2,
	VOLUME_KEY_BITS = 512,
	ITERATIONS_MIN = 1000,
	ITERATIONS_MAX = 10 * 1000 * 1000,
	ERROR_TEXT_LEN = 160,
};

/* Lives in one locked page of its own. */
struct keypage {
	unsigned char volume_key[VOLUME_KEY_LEN];
	char passphrase[SECRET_HEX_LEN + 1];
};

struct container {
	struct crypt_device *cd;
	int memfd;
	unsigned char *hdr; /* memfd, mapped: subject.data_off bytes */
	struct keypage *keys;
	bool unlocked;
	struct token token;
	struct escrow escrow; /* an empty recipient: none */
	struct token_subject subject;
	struct luks_slot slot;	    /* the token's, once judged; digest_len 0: not */
	char error[ERROR_TEXT_LEN]; /* libcryptsetup's last complaint */
};

/* The first bytes of a device whose container is being made. */
#define CREATION_MARK "vmcryptfs: a container is being made here\n"
bool container_is_creation_mark(const void *page);

/* Makes the memfd of data_off bytes and maps it. */
NODISCARD vcf_err_t container_new(struct container **out, uint64_t data_off);

/* crypt_init() on the memfd. */
NODISCARD vcf_err_t container_attach(struct container *c);

/* PBKDF2 with 1000 iterations and no benchmark; forgotten by crypt_load(). */
NODISCARD vcf_err_t container_set_pbkdf(struct container *c);

/* The locked page, if it is not there yet. */
NODISCARD vcf_err_t container_lock_keys(struct container *c);

/* 1 MiB <= data_off <= 64 MiB, whole pages; sector_len 512 or 4096. */
bool container_geometry_valid(uint64_t data_off, uint32_t sector_len);

/* Fills subject's uuid from the text of a header that has been judged. */
NODISCARD vcf_err_t container_set_uuid(struct container *c, const char *text);

/* Judge the mapped header against c->subject and read c->token and c->slot. */
const char *container_judge_luks1(struct container *c);
const char *container_judge_luks2(struct container *c);

/* Writes c->token and c->escrow to the mapped LUKS1 header or through libcryptsetup. */
NODISCARD vcf_err_t container_put_token_luks1(struct container *c);
NODISCARD vcf_err_t container_put_token_luks2(struct container *c);

/*
 * kcv and MAC of the unlocked container, and its tokens into the header: with escrow for that key, or
 * (NULL) without.
 */
NODISCARD vcf_err_t container_put_token(struct container *c, const struct secret *secret,
					const struct escrow_public *escrow);

/* Now, in the token's form. */
void container_set_created(struct token *t);

/* The header is in the map: has it mended (*mended may be NULL), checked, its token read. */
NODISCARD vcf_err_t container_check(struct container *c, const char *name, bool *mended);

/* Reads [0, data_off) of fd into the map; holes are skipped. -EIO if the file is shorter.
 */
NODISCARD vcf_err_t container_read_header(struct container *c, int fd);

#endif
