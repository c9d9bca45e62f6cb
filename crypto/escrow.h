/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Escrow: an image's secret, sealed for a key that is kept offline, in a second token of its
 * container. Whoever has the private key opens the image without the key service; nobody else learns
 * anything from the token, nodes neither (they have the public key alone).
 *
 *   {"type":"vmcryptfs-escrow","keyslots":["0"],"version":1,"recipient":HEX,"sealed":BASE64}
 *
 * recipient  the first 16 bytes of SHA-256 of the public key, in hex: which key it is for
 * sealed     crypto_box_seal() of libsodium (X25519, XSalsa20-Poly1305) over 64 bytes: "VMCESCR1",
 *            the container's uuid, its generation (8 bytes, big-endian), the secret
 *
 * Anybody can seal something for a public key: what comes out is believed only if uuid and
 * generation are the container's, the secret opens its slot, and MAC and kcv are right.
 *
 * A LUKS1 container has it at bytes 3584..4095, in the form of its other token with the magic
 * "VMCRYPTE". escrow_init() runs once; thread-safe afterwards.
 */
#ifndef VCF_CRYPTO_ESCROW_H
#define VCF_CRYPTO_ESCROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/keytable.h"
#include "crypto/secret.h"
#include "util/err.h"

enum {
	ESCROW_KEY_LEN = 32,
	ESCROW_RECIPIENT_LEN = 32, /* characters */
	ESCROW_SEALED_LEN = 64 + 48,
	ESCROW_JSON_MAX = 400,
};
#define ESCROW_TYPE "vmcryptfs-escrow"

struct escrow_public {
	unsigned char key[ESCROW_KEY_LEN];
	char recipient[ESCROW_RECIPIENT_LEN + 1];
};

/* The token; an empty recipient: there is none. */
struct escrow {
	unsigned int keyslot;
	char recipient[ESCROW_RECIPIENT_LEN + 1];
	unsigned char sealed[ESCROW_SEALED_LEN];
};

/* -EIO. */
NODISCARD vcf_err_t escrow_init(void);

/* Seals a container's secret; keyslot is the caller's to set. -EIO. */
NODISCARD vcf_err_t escrow_seal(struct escrow *out, const struct escrow_public *pub,
				const unsigned char uuid[UUID_LEN], uint64_t generation,
				const struct secret *secret);

/*
 * -ENOKEY it is for another key; -EBADMSG it cannot be opened, or was made for another container or
 * generation; -ENOMEM.
 */
NODISCARD vcf_err_t escrow_open(struct secret **out, const struct escrow *e,
				const struct secret *private_key,
				const unsigned char uuid[UUID_LEN], uint64_t generation);

/* The token's text: as token_parse() and token_format(). */
NODISCARD vcf_err_t escrow_parse(struct escrow *out, const char *json, size_t len);
NODISCARD ssize_t escrow_format(char *dst, size_t room, const struct escrow *e);

/* The public key of a private one. */
NODISCARD vcf_err_t escrow_public_of(struct escrow_public *out,
				     const struct secret *private_key);

/*
 * Key files: one line, "vmcryptfs-escrow-public-1 BASE64" or "vmcryptfs-escrow-private-1 BASE64".
 * Reading: -EBADMSG it is no such file; -EPERM a private one that others than its owner may read;
 * -errno. Making: PATH (0600) and PATH.pub (0644), neither of which may be there (-EEXIST).
 */
NODISCARD vcf_err_t escrow_read_public(struct escrow_public *out, const char *path);
NODISCARD vcf_err_t escrow_read_private(struct secret **out, const char *path);
NODISCARD vcf_err_t escrow_make_key(const char *path, struct escrow_public *out);

#endif
