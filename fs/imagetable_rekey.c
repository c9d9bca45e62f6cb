/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An entry while its container gets another secret. Nobody may read the header meanwhile: a COLD
 * entry is BUSY, so that opens wait for the end; a READY one stays so, and whoever has the image
 * goes on with it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/imagetable_impl.h"
#include "util/crashpoint.h"
#include "util/text.h"

static void detach(struct imagetable *t, struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	e->detached = true;
}

/*
 * -ESTALE: it lingers, and was of another file that had this inode number. One that is open may know
 * the uuid from before a change that a server died in.
 */
static vcf_err_t claim(struct imagetable *t, struct image_entry *e,
		       const unsigned char uuid[UUID_LEN])
{
	SCOPED_LOCK(&t->lock);
	SCOPED_LOCK(&e->state_lock);

	if (e->state == IMAGE_BUSY || e->rekeying)
		return -EAGAIN;
	if (e->state == IMAGE_READY && !e->opens && memcmp(e->uuid, uuid, UUID_LEN) != 0)
		return -ESTALE;
	if (e->state == IMAGE_COLD)
		e->state = IMAGE_BUSY;
	e->rekeying = true;
	return 0;
}

vcf_err_t imagetable_rekey_begin(struct imagetable *t, uint64_t dev, uint64_t ino,
				 const unsigned char uuid[UUID_LEN],
				 struct image_entry **out)
{
	const struct node n = {.dev = dev, .ino = ino};
	struct image_entry *e;
	vcf_err_t err;
	bool lingers;

	do {
		err = imagetable_find_or_add(t, &n, &e, &lingers);
		if (err)
			return err;
		err = claim(t, e, uuid);
		if (err == -ESTALE)
			detach(t, e);
		if (err)
			imagetable_put(t, e);
	} while (err == -ESTALE);
	if (!err)
		*out = e;
	return err;
}

uint32_t imagetable_escrow_mark(const char *recipient)
{
	char head[9];

	TEXT_CUT(head, recipient);
	return (uint32_t)strtoul(head, NULL, 16);
}

void imagetable_set_escrow(struct image_entry *e, const struct container *c)
{
	SCOPED_LOCK(&e->state_lock);

	e->escrow = imagetable_escrow_mark(container_escrow(c)->recipient);
}

/* Its context stays, and is read without the lock. */
static void set_token(struct token *to, const struct token *from)
{
	memcpy(to->service, from->service, sizeof(to->service));
	memcpy(to->key_id, from->key_id, sizeof(to->key_id));
	memcpy(to->created, from->created, sizeof(to->created));
	memcpy(to->kcv, from->kcv, sizeof(to->kcv));
	memcpy(to->mac, from->mac, sizeof(to->mac));
	to->derived = from->derived;
	to->keyslot = from->keyslot;
	to->generation = from->generation;
}

/*
 * At each moment key and record fit, for a successor: by the new uuid, or by the old one with its
 * kcv. What it finds half done is completed by promote.c.
 */
void imagetable_rekeyed(struct imagetable *t, struct image_entry *e,
			const struct container *c, const char *path)
{
	SCOPED_LOCK(&e->state_lock);
	const struct token_subject *s = container_subject(c);

	if (!e->image)
		return;
	TEXT_CUT(e->path, path);
	TEXT_CUT(e->record->path, path);
	memcpy(e->uuid, s->uuid, UUID_LEN);
	set_token(&e->token, container_token(c));
	keytable_rename(t->sv->keys, e->key, s->uuid, container_token(c)->kcv);
	CRASHPOINT("rekey-renamed");
	memcpy(e->record->uuid, s->uuid, UUID_LEN);
	set_token(&e->record->token, container_token(c));
	e->escrow = e->record->escrow =
		imagetable_escrow_mark(container_escrow(c)->recipient);
	CRASHPOINT("rekey-published");
}

void imagetable_rekey_end(struct imagetable *t, struct image_entry *e)
{
	bool busy;

	mutex_lock(&t->lock);
	e->rekeying = false;
	mutex_unlock(&t->lock);
	mutex_lock(&e->state_lock);
	busy = e->state == IMAGE_BUSY;
	mutex_unlock(&e->state_lock);
	if (busy)
		imagetable_finish(t, e, 0);
	else
		imagetable_put(t, e);
}
