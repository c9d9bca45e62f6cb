/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New containers, made in memory: DESIGN section 3, "Container".
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <uuid/uuid.h>

#include "crypto/container_parts.h"
#include "crypto/luks_disk.h"
#include "crypto/token_fields.h"
#include "util/lock.h"
#include "util/log.h"

enum { NEW_KEYSLOT = 0, NEW_TOKEN = 0, NEW_ESCROW = 1 };

void container_set_created(struct token *t)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(t->created, sizeof(t->created), "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* XTS wants two different keys: IEEE 1619-2018; libgcrypt checks it in FIPS mode only. */
static void random_volume_key(unsigned char key[VOLUME_KEY_LEN])
{
	do {
		secret_random(key, VOLUME_KEY_LEN);
	} while (memcmp(key, key + VOLUME_KEY_LEN / 2, VOLUME_KEY_LEN / 2) == 0);
}

static int format_luks2(struct container *c)
{
	struct crypt_params_luks2 params = {.sector_size = c->subject.sector_len};
	int rc = crypt_set_metadata_size(c->cd, LUKS2_HDR_LEN,
					 c->subject.data_off - LUKS2_KEYSLOTS_OFF);

	if (rc < 0)
		return rc;
	return crypt_format(c->cd, CRYPT_LUKS2, "aes", "xts-plain64",
			    c->subject.uuid_text, (const char *)c->keys->volume_key,
			    VOLUME_KEY_LEN, &params);
}

static int format_luks1(struct container *c)
{
	struct crypt_params_luks1 params = {.hash = "sha256"};

	return crypt_format(c->cd, CRYPT_LUKS1, "aes", "xts-plain64",
			    c->subject.uuid_text, (const char *)c->keys->volume_key,
			    VOLUME_KEY_LEN, &params);
}

static int format_any(struct container *c)
{
	return c->subject.format == FORMAT_LUKS2 ? format_luks2(c) : format_luks1(c);
}

/*
 * The first one in a process asks libdevmapper for its version, which keeps the answer without a
 * lock: nobody else may do so at the same time.
 */
static int format(struct container *c)
{
	static struct mutex first_lock = MUTEX_INIT(RANK_CRYPTSETUP);
	static _Atomic bool done;
	int rc;

	if (done)
		return format_any(c);
	SCOPED_LOCK(&first_lock);
	rc = format_any(c);
	done = true;
	return rc;
}

/*
 * libcryptsetup fills the area of the key slots with noise, to hide nothing in our case:
 * there never was an older slot. Without it a header takes 0.3 MiB of the disk, not 2.
 */
static void drop_noise(struct container *c)
{
	size_t from =
		c->subject.format == FORMAT_LUKS2 ? LUKS2_KEYSLOTS_OFF : LUKS1_TOKEN_END;

	if (madvise(c->hdr + from, (size_t)c->subject.data_off - from, MADV_REMOVE) < 0)
		log_dbg("MADV_REMOVE: %s", strerror(errno));
}

/* Header and one key slot. */
static int make_header(struct container *c, const struct secret *secret)
{
	int rc = crypt_set_data_offset(c->cd, c->subject.data_off / LUKS_SECTOR_LEN);

	if (rc >= 0)
		rc = format(c);
	if (rc < 0)
		return rc;
	drop_noise(c);
	secret_hex(secret, c->keys->passphrase);
	rc = crypt_keyslot_add_by_volume_key(
		c->cd, NEW_KEYSLOT, (const char *)c->keys->volume_key, VOLUME_KEY_LEN,
		c->keys->passphrase, SECRET_HEX_LEN);
	secret_wipe(c->keys->passphrase, sizeof(c->keys->passphrase));
	return rc;
}

static vcf_err_t put_escrow_luks2(struct container *c)
{
	char json[ESCROW_JSON_MAX + 1];
	ssize_t len = escrow_format(json, sizeof(json), &c->escrow);

	if (len < 0)
		return (vcf_err_t)len;
	return crypt_token_json_set(c->cd, NEW_ESCROW, json) < 0 ? -EIO : 0;
}

vcf_err_t container_put_token_luks2(struct container *c)
{
	char json[TOKEN_JSON_MAX + 1];
	ssize_t len = token_format(json, sizeof(json), &c->token);

	if (len < 0)
		return (vcf_err_t)len;
	if (crypt_token_json_set(c->cd, NEW_TOKEN, json) < 0)
		return -EIO;
	return *c->escrow.recipient ? put_escrow_luks2(c) : 0;
}

static vcf_err_t seal_secret(struct container *c, const struct secret *secret,
			     const struct escrow_public *escrow)
{
	c->escrow = (struct escrow){.keyslot = c->token.keyslot};
	if (!escrow)
		return 0;
	return escrow_seal(&c->escrow, escrow, c->subject.uuid, c->token.generation,
			   secret);
}

vcf_err_t container_put_token(struct container *c, const struct secret *secret,
			      const struct escrow_public *escrow)
{
	vcf_err_t err = keytable_kcv(c->token.kcv, c->keys->volume_key, c->subject.uuid);

	if (!err)
		err = token_mac(c->token.mac, &c->token, &c->subject, secret);
	if (!err)
		err = seal_secret(c, secret, escrow);
	if (err)
		return err;
	return c->subject.format == FORMAT_LUKS2 ? container_put_token_luks2(c)
						 : container_put_token_luks1(c);
}

static uint64_t data_off_of(const struct container_params *p)
{
	return p->data_off ? p->data_off : CONTAINER_DATA_OFF;
}

static bool params_valid(const struct container_params *p, const struct token *tok)
{
	if (p->format == FORMAT_LUKS1 ? p->sector_len != 512 : p->format != FORMAT_LUKS2)
		return false;
	return !uuid_is_null(p->uuid) && token_valid(tok) &&
	       container_geometry_valid(data_off_of(p), p->sector_len);
}

static vcf_err_t fill(struct container *c, const struct container_params *p,
		      const struct secret *secret)
{
	vcf_err_t err = container_lock_keys(c);

	if (!err)
		err = container_attach(c);
	if (!err)
		err = container_set_pbkdf(c);
	if (err)
		return err;
	random_volume_key(c->keys->volume_key);
	if (make_header(c, secret) < 0)
		return -EIO;
	return container_put_token(c, secret, p->escrow);
}

vcf_err_t container_format(struct container **out, const struct container_params *p,
			   const struct token *tok, const struct secret *secret)
{
	auto_container struct container *c = NULL;
	struct token t = *tok;
	vcf_err_t err;

	t.keyslot = NEW_KEYSLOT;
	container_set_created(&t);
	if (!params_valid(p, &t))
		return -EINVAL;
	err = container_new(&c, data_off_of(p));
	if (err)
		return err;
	c->token = t;
	c->subject.format = p->format;
	c->subject.sector_len = p->sector_len;
	memcpy(c->subject.uuid, p->uuid, UUID_LEN);
	uuid_unparse_lower(p->uuid, c->subject.uuid_text);
	err = fill(c, p, secret);
	if (err) {
		log_err("cannot make a container: %s %s", strerror(-err), c->error);
		return err;
	}
	c->unlocked = true;
	*out = STEAL_PTR(&c);
	return 0;
}
