/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/container_adopt.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container_rekey_impl.h"
#include "crypto/luks_disk.h"
#include "util/io.h"
#include "util/log.h"

enum { FOREIGN_GENERATION = 1, TOKEN_IDS = 32 };

/* --- may it be adopted? --- */

/* What no container of ours is; NULL: nothing. */
static const char *judge_requirements(struct crypt_device *cd)
{
	const char *type = crypt_get_type(cd);
	uint32_t flags = 0;

	if (type && strcmp(type, CRYPT_LUKS1) == 0)
		return NULL; /* it has none */
	if (crypt_persistent_flags_get(cd, CRYPT_FLAGS_REQUIREMENTS, &flags) < 0)
		return "its requirements cannot be read";
	if (flags &
	    (CRYPT_REQUIREMENT_ONLINE_REENCRYPT | CRYPT_REQUIREMENT_OFFLINE_REENCRYPT))
		return "a reencryption is under way; finish it with cryptsetup reencrypt "
		       "--resume-only";
	if (flags)
		return "it has requirements that are not known here";
	if (crypt_persistent_flags_get(cd, CRYPT_FLAGS_ACTIVATION, &flags) < 0 || flags)
		return "activation flags are stored in it (cryptsetup --persistent); open "
		       "it once with --persistent and without them";
	return NULL;
}

static const char *judge_cipher(struct crypt_device *cd)
{
	const char *cipher = crypt_get_cipher(cd), *mode = crypt_get_cipher_mode(cd);

	if (!cipher || !mode)
		return "its cipher cannot be read";
	if (strcmp(cipher, "cipher_null") == 0)
		return "it is not encrypted at all (cipher_null)";
	if (strncmp(mode, "xts-", 4) != 0)
		return "its cipher mode is not XTS";
	if (strcmp(cipher, "aes") != 0 || strcmp(mode, "xts-plain64") != 0)
		return "its cipher is not aes-xts-plain64";
	if (crypt_get_volume_key_size(cd) != VOLUME_KEY_LEN)
		return "its volume key is not of 512 bits (AES-256-XTS)";
	return NULL;
}

static const char *judge_integrity(struct crypt_device *cd)
{
	struct crypt_params_integrity ip = {.tag_size = 0};

	return crypt_get_integrity_info(cd, &ip) == 0 && ip.tag_size
		       ? "it has integrity tags (dm-integrity)"
		       : NULL;
}

static const char *judge_layout(struct crypt_device *cd, uint64_t file_len)
{
	uint64_t data_off = crypt_get_data_offset(cd) * LUKS_SECTOR_LEN, area;
	int sector_len = crypt_get_sector_size(cd);
	const char *type = crypt_get_type(cd);

	if (!data_off)
		return "its data lies in another file (detached header)";
	if (sector_len != 512 && sector_len != 4096)
		return "its sectors are of neither 512 nor 4096 bytes";
	if (!container_geometry_valid(data_off, (uint32_t)sector_len))
		return "its data does not begin at a whole page between 1 MiB and 64 MiB";
	if (type && strcmp(type, CRYPT_LUKS2) == 0 &&
	    (crypt_get_metadata_size(cd, &area, NULL) < 0 || area != LUKS2_HDR_LEN))
		return "its metadata areas are not of 16 KiB";
	if (file_len < data_off || (file_len - data_off) % (uint64_t)sector_len)
		return "its data is not a whole number of sectors";
	return NULL;
}

static const char *judge(struct crypt_device *cd, uint64_t file_len)
{
	const char *why = judge_requirements(cd);

	if (!why)
		why = judge_cipher(cd);
	if (!why)
		why = judge_integrity(cd);
	if (!why)
		why = judge_layout(cd, file_len);
	return why;
}

/* --- reading --- */

static bool has_magic(int fd)
{
	char magic[LUKS_MAGIC_LEN];

	return io_pread_full(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic) &&
	       memcmp(magic, LUKS_MAGIC_1ST, sizeof(magic)) == 0;
}

/* An adoption that was cut short while it wrote the first page of LUKS1. */
static vcf_err_t attach_mended(struct container *c)
{
	struct luks1_hdr_disk h;
	uint64_t data_off;

	memcpy(&h, c->hdr, sizeof(h));
	data_off = (uint64_t)be32toh(h.payload_be) * LUKS_SECTOR_LEN;
	if (be16toh(h.version_be) == 1 && container_geometry_valid(data_off, 512) &&
	    data_off <= c->subject.data_off)
		luks1_mend(c->hdr, data_off);
	return container_attach(c);
}

/* The first len bytes. */
static vcf_err_t copy_head(struct container **out, int fd, uint64_t len)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = container_new(&c, len);

	if (!err)
		err = container_read_header(c, fd);
	if (!err)
		err = attach_mended(c);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}

static const char *describe(struct container *c, const struct container *look)
{
	const char *type = crypt_get_type(look->cd), *uuid = crypt_get_uuid(look->cd);

	if (!type || !uuid || container_set_uuid(c, uuid))
		return "its uuid cannot be read";
	c->subject.format = strcmp(type, CRYPT_LUKS2) == 0 ? FORMAT_LUKS2 : FORMAT_LUKS1;
	c->subject.sector_len = (uint32_t)crypt_get_sector_size(look->cd);
	c->token.generation = FOREIGN_GENERATION;
	return NULL;
}

static vcf_err_t load_exact(struct container **out, int fd, const struct container *look,
			    const char **why)
{
	auto_container struct container *c = NULL;
	uint64_t data_off = crypt_get_data_offset(look->cd) * LUKS_SECTOR_LEN;
	vcf_err_t err = copy_head(&c, fd, data_off);

	if (err)
		return err;
	*why = describe(c, look);
	if (!*why && crypt_load(c->cd, crypt_get_type(look->cd), NULL) < 0)
		*why = "its header is damaged";
	if (*why)
		return -EBADMSG;
	*out = STEAL_PTR(&c);
	return 0;
}

static bool is_ours(int fd)
{
	auto_container struct container *c = NULL;

	return container_load(&c, fd, NULL, NULL) == 0;
}

vcf_err_t container_load_foreign(struct container **out, int fd, const char **why)
{
	auto_container struct container *look = NULL;
	uint64_t len;
	vcf_err_t err = io_file_len(fd, &len);

	if (err)
		return err;
	*why = "it is no LUKS container (or one with a detached header)";
	if (!has_magic(fd))
		return -EPERM;
	*why = "it is a container of vmcryptfs already";
	if (is_ours(fd))
		return -EEXIST;
	/* As much of it as a header may take; its geometry is not known yet. */
	err = copy_head(&look, fd, len < DATA_OFF_MAX ? len : DATA_OFF_MAX);
	if (err)
		return err;
	*why = crypt_load(look->cd, CRYPT_LUKS, NULL) < 0 ? "its LUKS header is damaged"
							  : judge(look->cd, len);
	return *why ? -EBADMSG : load_exact(out, fd, look, why);
}

/* --- unlocking --- */

static vcf_err_t try_passphrase(struct container *c, const char *passphrase, size_t len)
{
	size_t key_len = VOLUME_KEY_LEN;
	int rc = crypt_volume_key_get(c->cd, CRYPT_ANY_SLOT, (char *)c->keys->volume_key,
				      &key_len, passphrase, len);

	if (rc == -ENOMEM)
		return rc;
	return rc < 0 ? -EKEYREJECTED : 0;
}

/* XTS must not be used with equal halves. */
static bool key_is_fit(const unsigned char *key)
{
	return memcmp(key, key + VOLUME_KEY_LEN / 2, VOLUME_KEY_LEN / 2) != 0;
}

vcf_err_t container_unlock_foreign(struct container *c, const struct secret *secret)
{
	vcf_err_t err = container_lock_keys(c);

	if (err)
		return err;
	secret_hex(secret, c->keys->passphrase);
	err = try_passphrase(c, c->keys->passphrase, SECRET_HEX_LEN);
	secret_wipe(c->keys->passphrase, sizeof(c->keys->passphrase));
	if (err == -EKEYREJECTED)
		err = try_passphrase(c, (const char *)secret_bytes(secret), SECRET_LEN);
	if (!err && !key_is_fit(c->keys->volume_key))
		err = -EKEYREJECTED;
	c->unlocked = !err;
	if (err)
		secret_wipe(c->keys, sizeof(*c->keys));
	return err;
}

static bool is_in_use(const struct container *c, int slot)
{
	crypt_keyslot_info info = crypt_keyslot_status(c->cd, slot);

	return info != CRYPT_SLOT_INACTIVE && info != CRYPT_SLOT_INVALID;
}

void container_foreign_extent(const struct container *c, struct foreign_extent *out)
{
	*out = (struct foreign_extent){0};
	for (int i = 0; i < crypt_keyslot_max(crypt_get_type(c->cd)); i++)
		out->slots += is_in_use(c, i);
	for (int i = 0; c->subject.format == FORMAT_LUKS2 && i < TOKEN_IDS; i++)
		out->tokens += crypt_token_status(c->cd, i, NULL) != CRYPT_TOKEN_INACTIVE;
}

/* --- the new header --- */

/* Noise stays where their material was, for container_wipe_unused() to find. */
static vcf_err_t remove_other_slots(struct container *c, int keep)
{
	for (int i = 0; i < crypt_keyslot_max(crypt_get_type(c->cd)); i++) {
		if (i != keep && is_in_use(c, i) && crypt_keyslot_destroy(c->cd, i) < 0)
			return -EIO;
	}
	return 0;
}

static vcf_err_t change(struct rekey *r, struct container *c,
			const struct rekey_params *p)
{
	vcf_err_t err = rekey_add_slot(r, c, p);

	if (!err)
		err = remove_other_slots(c, (int)c->token.keyslot);
	return err ? err : rekey_set_identity(c, p);
}

vcf_err_t container_adopt(struct rekey **out, struct container *c,
			  const struct rekey_params *p, enum token_holes holes,
			  const char *name)
{
	if (!p->context)
		return -EINVAL;
	c->token.holes = holes;
	return rekey_make(out, c, p, change, name);
}
