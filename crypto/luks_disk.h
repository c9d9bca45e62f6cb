/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of LUKS headers as they lie on disk; all numbers are big-endian.
 *
 * Source: LUKS1 On-Disk Format Specification 1.2.3, figure 1 and 2; LUKS2 On-Disk Format
 * Specification 1.1.1, section 2.1. Ours: the token of a LUKS1 container, in the gap
 * between its header (592 bytes) and the first key slot's material (4096), and behind it,
 * in the last 512 bytes of that gap, the escrow token.
 */
#ifndef VCF_CRYPTO_LUKS_DISK_H
#define VCF_CRYPTO_LUKS_DISK_H

#include <stddef.h>
#include <stdint.h>

enum {
	LUKS_MAGIC_LEN = 6,
	LUKS1_SLOTS = 8,
	LUKS1_TOKEN_OFF = 1024,
	LUKS1_ESCROW_OFF = 3584,
	LUKS1_TOKEN_END = 4096,
	LUKS_SECTOR_LEN = 512, /* the unit of LUKS1's offsets */
	LUKS_STRIPES = 4000,
	LUKS2_HDR_LEN = 16 * 1024, /* one metadata copy: binary part and JSON */
	LUKS2_BIN_LEN = 4096,
	LUKS2_KEYSLOTS_OFF = 2 * LUKS2_HDR_LEN,
};

#define LUKS_MAGIC_1ST "LUKS\xba\xbe"
#define LUKS_MAGIC_2ND "SKUL\xba\xbe"
#define LUKS1_TOKEN_MAGIC "VMCRYPTF"
#define LUKS1_ESCROW_MAGIC "VMCRYPTE"

struct luks1_slot_disk {
	uint32_t active_be;
	uint32_t iterations_be;
	unsigned char salt[32];
	uint32_t material_be; /* in sectors of 512 bytes */
	uint32_t stripes_be;
} __attribute__((packed));
_Static_assert(sizeof(struct luks1_slot_disk) == 48, "LUKS1 key slot");

struct luks1_hdr_disk {
	char magic[LUKS_MAGIC_LEN];
	uint16_t version_be;
	char cipher_name[32];
	char cipher_mode[32];
	char hash_spec[32];
	uint32_t payload_be; /* in sectors of 512 bytes */
	uint32_t key_bytes_be;
	unsigned char digest[20];
	unsigned char digest_salt[32];
	uint32_t digest_iterations_be;
	char uuid[40];
	struct luks1_slot_disk slot[LUKS1_SLOTS];
} __attribute__((packed));
_Static_assert(sizeof(struct luks1_hdr_disk) == 592, "LUKS1 header");
_Static_assert(offsetof(struct luks1_hdr_disk, payload_be) == 104, "LUKS1 payload");
_Static_assert(offsetof(struct luks1_hdr_disk, slot) == 208, "LUKS1 slots");

struct luks2_hdr_disk {
	char magic[LUKS_MAGIC_LEN];
	uint16_t version_be;
	uint64_t hdr_len_be;
	uint64_t seqid_be;
	char label[48];
	char csum_alg[32];
	unsigned char salt[64];
	char uuid[40];
	char subsystem[48];
	uint64_t hdr_off_be;
	unsigned char pad1[184];
	unsigned char csum[64];
	unsigned char pad2[7 * 512];
} __attribute__((packed));
_Static_assert(sizeof(struct luks2_hdr_disk) == LUKS2_BIN_LEN, "LUKS2 binary header");
_Static_assert(offsetof(struct luks2_hdr_disk, uuid) == 168, "LUKS2 uuid");
_Static_assert(offsetof(struct luks2_hdr_disk, csum) == 448, "LUKS2 checksum");

struct luks1_token_disk {
	char magic[8];
	uint32_t len_le; /* of the JSON text that follows */
	char json[];	 /* then le32 CRC-32 of magic, length and text */
} __attribute__((packed));
_Static_assert(sizeof(struct luks1_token_disk) == 12, "LUKS1 token area");

#endif
