/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The new header in memory; container_rekey_io.c has the way to the file. */
#include "crypto/container_rekey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uuid/uuid.h>

#include "crypto/container_rekey_impl.h"
#include "crypto/luks_disk.h"
#include "crypto/token_fields.h"
#include "util/log.h"

enum { TOKEN_IDS = 32 };

void container_rekey_free(struct rekey *r)
{
	if (!r)
		return;
	free(r->old_head);
	free(r->kept);
	free(r);
}

size_t rekey_head_len(const struct container *c)
{
	return c->subject.format == FORMAT_LUKS2 ? LUKS2_KEYSLOTS_OFF : LUKS1_TOKEN_END;
}

static int free_slot(const struct container *c)
{
	for (int i = 0; i < KEYSLOTS_MAX; i++) {
		if (crypt_keyslot_status(c->cd, i) == CRYPT_SLOT_INACTIVE)
			return i;
	}
	return -1;
}

/* Whole pages, as they are written. */
vcf_err_t rekey_slot_area(const struct container *c, int slot, struct rekey_area *a)
{
	if (crypt_keyslot_area(c->cd, slot, &a->off, &a->len) < 0)
		return -EIO;
	a->len = (a->len + REKEY_PAGE - 1) / REKEY_PAGE * REKEY_PAGE;
	if (a->off % REKEY_PAGE || a->off < rekey_head_len(c) ||
	    a->off + a->len > c->subject.data_off)
		return -EIO;
	return 0;
}

static vcf_err_t add_slot(struct container *c, int slot, const struct secret *secret)
{
	int rc;

	secret_hex(secret, c->keys->passphrase);
	rc = crypt_keyslot_add_by_volume_key(
		c->cd, slot, (const char *)c->keys->volume_key, VOLUME_KEY_LEN,
		c->keys->passphrase, SECRET_HEX_LEN);
	secret_wipe(c->keys->passphrase, sizeof(c->keys->passphrase));
	return rc == slot ? 0 : -EIO;
}

/* Its area is zeros in memory; the file's is overwritten at the end. */
static vcf_err_t remove_slot(struct container *c, int slot, const struct rekey_area *a)
{
	if (crypt_keyslot_destroy(c->cd, slot) < 0)
		return -EIO;
	return madvise(c->hdr + a->off, a->len, MADV_REMOVE) < 0 ? -errno : 0;
}

static vcf_err_t remove_tokens(struct container *c)
{
	if (c->subject.format != FORMAT_LUKS2)
		return 0;
	for (int i = 0; i < TOKEN_IDS; i++) {
		if (crypt_token_status(c->cd, i, NULL) == CRYPT_TOKEN_INACTIVE)
			continue;
		if (crypt_token_json_set(c->cd, i, NULL) < 0)
			return -EIO;
	}
	return 0;
}

static vcf_err_t set_uuid(struct container *c, const unsigned char uuid[UUID_LEN])
{
	char text[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(uuid, text);
	if (crypt_set_uuid(c->cd, text) < 0)
		return -EIO;
	return container_set_uuid(c, text);
}

static bool fill_token(struct token *t, const struct rekey_params *p, int slot)
{
	if (snprintf(t->service, sizeof(t->service), "%s", p->service) >=
		    (int)sizeof(t->service) ||
	    snprintf(t->key_id, sizeof(t->key_id), "%s", p->key_id) >=
		    (int)sizeof(t->key_id) ||
	    (p->context && snprintf(t->context, sizeof(t->context), "%s", p->context) >=
				   (int)sizeof(t->context)))
		return false;
	t->derived = false;
	t->generation++;
	t->keyslot = (unsigned int)slot;
	container_set_created(t);
	return token_valid(t);
}

/*
 * LUKS1 only: no key slot, neither an old one nor the new one, lies where both first pages are kept.
 * Ours end 28 KiB before the data; those of qemu-img at the data, of which the last one is hardly ever
 * in use.
 */
static vcf_err_t find_kept(struct rekey *r, const struct container *c)
{
	struct rekey_area a;

	if (c->subject.format != FORMAT_LUKS1)
		return 0;
	r->kept_area = (struct rekey_area){.off = c->subject.data_off - LUKS1_KEPT_LEN,
					   .len = LUKS1_KEPT_LEN};
	for (int i = 0; i < KEYSLOTS_MAX; i++) {
		if (crypt_keyslot_status(c->cd, i) == CRYPT_SLOT_INACTIVE)
			continue;
		if (rekey_slot_area(c, i, &a) || a.off + a.len > r->kept_area.off)
			return -ENOSPC;
	}
	return 0;
}

static vcf_err_t keep_pages(struct rekey *r, const struct container *c)
{
	if (!r->kept_area.len)
		return 0;
	r->kept = malloc(LUKS1_KEPT_LEN);
	return r->kept && luks1_keep(r->kept, r->old_head, c->hdr) ? 0 : -ENOMEM;
}

vcf_err_t rekey_add_slot(struct rekey *r, struct container *c,
			 const struct rekey_params *p)
{
	int slot = free_slot(c);
	vcf_err_t err;

	if (slot < 0)
		return -ENOSPC;
	if (!fill_token(&c->token, p, slot))
		return -EINVAL;
	err = container_set_pbkdf(c);
	if (!err)
		err = add_slot(c, slot, p->secret);
	if (!err)
		err = rekey_slot_area(c, slot, &r->new_area);
	return err ? err : find_kept(r, c);
}

vcf_err_t rekey_set_identity(struct container *c, const struct rekey_params *p)
{
	vcf_err_t err = remove_tokens(c);

	if (!err)
		err = set_uuid(c, p->uuid);
	return err ? err : container_put_token(c, p->secret, p->escrow);
}

static vcf_err_t change(struct rekey *r, struct container *c,
			const struct rekey_params *p)
{
	int old = (int)c->token.keyslot;
	vcf_err_t err = rekey_slot_area(c, old, &r->old_area);

	if (!err)
		err = rekey_add_slot(r, c, p);
	if (!err)
		err = remove_slot(c, old, &r->old_area);
	return err ? err : rekey_set_identity(c, p);
}

/* What lies in memory now is read as if it came from the file. */
static vcf_err_t verify(struct container *c, const struct secret *secret,
			const char *name)
{
	auto_container struct container *again = NULL;
	vcf_err_t err = container_new(&again, c->subject.data_off);

	if (err)
		return err;
	again->subject = c->subject;
	err = container_read_header(again, c->memfd);
	if (!err)
		err = container_check(again, name, NULL);
	if (!err)
		err = container_unlock(again, secret, name);
	if (!err && memcmp(again->keys->volume_key, c->keys->volume_key, VOLUME_KEY_LEN))
		err = -EBADMSG;
	if (!err)
		c->slot = again->slot;
	return err;
}

static vcf_err_t keep_head(struct rekey *r)
{
	size_t len = rekey_head_len(r->c);

	r->old_head = malloc(len);
	if (!r->old_head)
		return -ENOMEM;
	memcpy(r->old_head, r->c->hdr, len);
	return 0;
}

static vcf_err_t new_rekey(struct rekey **out, struct container *c)
{
	auto_rekey struct rekey *r = calloc(1, sizeof(*r));
	vcf_err_t err;

	if (!c->unlocked)
		return -EINVAL;
	if (!r)
		return -ENOMEM;
	r->c = c;
	c->error[0] = '\0';
	err = keep_head(r);
	if (!err)
		*out = STEAL_PTR(&r);
	return err;
}

/* The header in memory was changed, or err. */
static vcf_err_t complete(struct rekey *r, struct container *c,
			  const struct secret *secret, const char *name, vcf_err_t err)
{
	if (!err)
		err = verify(c, secret, name);
	if (!err)
		err = keep_pages(r, c);
	if (err)
		log_err("%s: cannot make another header: %s %s", name, strerror(-err),
			c->error);
	return err;
}

vcf_err_t rekey_make(struct rekey **out, struct container *c,
		     const struct rekey_params *p, rekey_change_fn *fn, const char *name)
{
	auto_rekey struct rekey *r = NULL;
	vcf_err_t err;

	if (uuid_is_null(p->uuid))
		return -EINVAL;
	err = new_rekey(&r, c);
	if (err)
		return err;
	err = complete(r, c, p->secret, name, fn(r, c, p));
	if (!err)
		*out = STEAL_PTR(&r);
	return err;
}

vcf_err_t container_rekey(struct rekey **out, struct container *c,
			  const struct rekey_params *p, const char *name)
{
	return rekey_make(out, c, p, change, name);
}

static vcf_err_t change_holes(struct rekey *r, struct container *c,
			      enum token_holes holes, const struct secret *secret)
{
	vcf_err_t err = find_kept(r, c);

	c->token.holes = holes;
	if (!err)
		err = token_mac(c->token.mac, &c->token, &c->subject, secret);
	if (err)
		return err;
	if (c->subject.format != FORMAT_LUKS2)
		return container_put_token_luks1(c);
	err = remove_tokens(c);
	return err ? err : container_put_token_luks2(c);
}

vcf_err_t container_set_holes(struct rekey **out, struct container *c,
			      enum token_holes holes, const struct secret *secret,
			      const char *name)
{
	auto_rekey struct rekey *r = NULL;
	vcf_err_t err = new_rekey(&r, c);

	if (err)
		return err;
	err = complete(r, c, secret, name, change_holes(r, c, holes, secret));
	if (!err)
		*out = STEAL_PTR(&r);
	return err;
}
