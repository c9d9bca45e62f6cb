/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of live entries, and when the file is compacted. An entry in memory changes
 * only after its record is durable. Ids rise, so the table is sorted by itself.
 *
 * Saved headers stay in the file; a node knows where its first record lies.
 */
#include "crypto/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/journal_file.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/parse.h"

enum {
	DEAD_AT_OPEN = 1024 * 1024,	   /* compact at open above this, ... */
	DEAD_MEANWHILE = 16 * 1024 * 1024, /* ... while running above this ... */
	DEAD_SMALL = 64 * 1024, /* ... and never below this, half dead or not */
};

struct node {
	struct journal_entry entry;
	uint64_t add_off; /* its first record */
	size_t add_len;
	bool has_header;
};

struct journal {
	struct mutex lock;	  /* guards all of it and the file */
	struct journal_file file; /* (l) */
	struct node **nodes;	  /* (l) by id */
	size_t cnt, room;	  /* (l) */
	uint64_t next_id;	  /* (l) */
	uint64_t live_len;	  /* (l) bytes that compaction would keep */
	uint64_t compact_at;	  /* (l) dead bytes */
};

/* The position of id, or where it would be. */
static size_t position(const struct journal *j, uint64_t id)
{
	size_t lo = 0, hi = j->cnt;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (j->nodes[mid]->entry.id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct node *find_node(const struct journal *j, uint64_t id)
{
	size_t i = position(j, id);

	return i < j->cnt && j->nodes[i]->entry.id == id ? j->nodes[i] : NULL;
}

static vcf_err_t make_room(struct journal *j)
{
	size_t room = j->room ? j->room * 2 : 64;
	struct node **nodes;

	if (j->cnt < j->room)
		return 0;
	nodes = reallocarray(j->nodes, room, sizeof(struct node *));
	if (!nodes)
		return -ENOMEM;
	j->nodes = nodes;
	j->room = room;
	return 0;
}

/* There is room, and the id is the highest so far. */
static void push_node(struct journal *j, struct node *n)
{
	j->nodes[j->cnt++] = n;
	j->live_len += n->add_len;
	if (j->next_id <= n->entry.id)
		j->next_id = n->entry.id + 1;
}

static void drop_node(struct journal *j, struct node *n)
{
	size_t i = position(j, n->entry.id);

	j->live_len -= n->add_len;
	memmove(&j->nodes[i], &j->nodes[i + 1], (j->cnt - i - 1) * sizeof(struct node *));
	j->cnt--;
	free(n);
}

static uint64_t dead_len(const struct journal *j)
{
	return j->file.write_off - JOURNAL_HEADER_LEN - j->live_len;
}

/* --- replay --- */

static vcf_err_t replay_add(struct journal *j, const struct journal_record *r,
			    uint64_t off, size_t len)
{
	struct node *n;
	vcf_err_t err;

	if (j->cnt && j->nodes[j->cnt - 1]->entry.id >= r->entry.id)
		return -EBADMSG; /* never written by us: ids rise */
	err = make_room(j);
	if (err)
		return err;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->entry = r->entry;
	n->add_off = off;
	n->add_len = len;
	n->has_header = r->has_header;
	push_node(j, n);
	return 0;
}

static vcf_err_t replay_one(void *arg, const struct journal_record *r, uint64_t off,
			    size_t len)
{
	struct journal *j = arg;
	struct node *n;

	if (r->add)
		return replay_add(j, r, off, len);
	n = find_node(j, r->entry.id);
	if (!n)
		return 0; /* its first record was lost to damage */
	journal_record_apply(&n->entry, r);
	if (n->entry.state == JOURNAL_CLOSED)
		drop_node(j, n);
	return 0;
}

/* --- compaction --- */

static vcf_err_t copy_node(struct journal *j, struct journal_file *to,
			   const struct node *n, uint64_t *off, size_t *len)
{
	auto_free unsigned char *hdr = n->has_header ? malloc(CONTAINER_PEEK_LEN) : NULL;
	struct journal_record r;
	vcf_err_t err;

	if (n->has_header) {
		if (!hdr)
			return -ENOMEM;
		err = journal_file_read(&j->file, &r, hdr, n->add_off);
		if (err)
			return err;
	}
	r = (struct journal_record){.add = true,
				    .has_header = n->has_header,
				    .fields = JOURNAL_F_KEY | JOURNAL_F_DUE |
					      JOURNAL_F_PLACE,
				    .entry = n->entry};
	return journal_file_append(to, &r, hdr, false, off, len);
}

static vcf_err_t copy_live(struct journal *j, struct journal_file *to, uint64_t *off,
			   size_t *len)
{
	vcf_err_t err = 0;

	for (size_t i = 0; i < j->cnt && !err; i++)
		err = copy_node(j, to, j->nodes[i], &off[i], &len[i]);
	return err;
}

static void take_places(struct journal *j, const uint64_t *off, const size_t *len)
{
	j->live_len = 0;
	for (size_t i = 0; i < j->cnt; i++) {
		j->nodes[i]->add_off = off[i];
		j->nodes[i]->add_len = len[i];
		j->live_len += len[i];
	}
}

static vcf_err_t compact_locked(struct journal *j)
{
	auto_free uint64_t *off = calloc(j->cnt + 1, sizeof(*off));
	auto_free size_t *len = calloc(j->cnt + 1, sizeof(*len));
	struct journal_file fresh = {.fd = -1};
	uint64_t before = j->file.write_off;
	vcf_err_t err;

	if (!off || !len)
		return -ENOMEM;
	err = journal_file_beside(&fresh, &j->file, j->next_id);
	if (err)
		return err;
	err = copy_live(j, &fresh, off, len);
	if (!err)
		err = journal_file_replace(&j->file, &fresh);
	if (fresh.fd >= 0) { /* it replaced nothing */
		journal_file_discard(&fresh);
		return err;
	}
	take_places(j, off, len);
	log_info("%s: compacted from %" PRIu64 " to %" PRIu64 " KiB, %zu entries",
		 j->file.path, before / 1024, j->file.write_off / 1024, j->cnt);
	return err;
}

/* Failing costs disk room only: it is tried again when as much again is dead. */
static void maybe_compact(struct journal *j)
{
	uint64_t dead = dead_len(j);
	vcf_err_t err;

	if (j->file.failed || dead < j->compact_at || dead < j->live_len)
		return;
	err = compact_locked(j);
	j->compact_at = err ? dead + DEAD_MEANWHILE : DEAD_MEANWHILE;
	if (err)
		log_warn("%s: cannot compact the journal: %s", j->file.path,
			 strerror(-err));
}

/* --- opening --- */

/* Parks what another host, or records that are lost, may have used since. */
static vcf_err_t park(struct journal *j, bool all)
{
	vcf_err_t err = 0;
	size_t cnt = 0;

	for (size_t i = 0; i < j->cnt && !err; i++) {
		enum journal_state state = j->nodes[i]->entry.state;
		struct journal_record r = {
			.entry = {.id = j->nodes[i]->entry.id, .state = JOURNAL_SUSPECT}};
		uint64_t off;
		size_t len;

		if (state == JOURNAL_SUSPECT ||
		    (!all && state != JOURNAL_CREATING && state != JOURNAL_UNUSED))
			continue;
		err = journal_file_append(&j->file, &r, NULL, true, &off, &len);
		if (!err)
			j->nodes[i]->entry.state = JOURNAL_SUSPECT;
		cnt++;
	}
	if (!err && cnt)
		log_warn("%s: %zu entries are parked as suspect; see vmcryptfs keys",
			 j->file.path, cnt);
	return err;
}

/* The good records of a damaged file move to a new one before anything is appended; a
 * foreign file becomes this host's. */
static vcf_err_t settle_oddities(struct journal *j)
{
	bool foreign = j->file.foreign, damaged = j->file.damaged;
	vcf_err_t err;

	if (!foreign && !damaged)
		return 0;
	if (foreign)
		log_warn("%s: this journal was written on another host; nothing in it "
			 "is used or destroyed here",
			 j->file.path);
	err = compact_locked(j);
	return err ? err : park(j, foreign);
}

static vcf_err_t compact_at_open(struct journal *j)
{
	uint64_t dead = dead_len(j);

	j->compact_at = DEAD_MEANWHILE;
	if (dead > DEAD_AT_OPEN || (dead > DEAD_SMALL && dead > j->live_len)) {
		vcf_err_t err = compact_locked(j);

		if (err)
			log_warn("%s: cannot compact the journal: %s", j->file.path,
				 strerror(-err));
	}
	return j->file.failed ? -EIO : 0;
}

static vcf_err_t load(struct journal *j)
{
	vcf_err_t err;

	j->next_id = j->file.header.next_id;
	err = journal_file_replay(&j->file, replay_one, j);
	if (!err)
		err = settle_oddities(j);
	if (!err)
		err = compact_at_open(j);
	if (err)
		log_err("%s: cannot read the journal: %s", j->file.path, strerror(-err));
	return err;
}

vcf_err_t journal_open(struct journal **out, const char *path)
{
	auto_journal struct journal *j = calloc(1, sizeof(*j));
	vcf_err_t err;

	if (!j)
		return -ENOMEM;
	mutex_init(&j->lock, RANK_JOURNAL);
	err = journal_file_open(&j->file, path);
	if (!err)
		err = load(j);
	if (err)
		return err;
	*out = STEAL_PTR(&j);
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->cnt; i++)
		free(j->nodes[i]);
	free(j->nodes);
	journal_file_close(&j->file);
	mutex_fini(&j->lock);
	free(j);
}

/* --- changes --- */

static vcf_err_t add_locked(struct journal *j, struct node *n, const void *hdr)
{
	struct journal_record r = {.add = true,
				   .has_header = hdr != NULL,
				   .fields = JOURNAL_F_KEY | JOURNAL_F_DUE |
					     JOURNAL_F_PLACE};
	vcf_err_t err = make_room(j);

	if (err)
		return err;
	n->entry.id = j->next_id;
	r.entry = n->entry;
	err = journal_file_append(&j->file, &r, hdr, true, &n->add_off, &n->add_len);
	if (!err)
		push_node(j, n);
	return err;
}

vcf_err_t journal_add(struct journal *j, struct journal_entry *entry, const void *hdr)
{
	struct node *n = calloc(1, sizeof(*n));
	vcf_err_t err;

	if (!n)
		return -ENOMEM;
	n->entry = *entry;
	n->has_header = hdr != NULL;
	if (!n->entry.created)
		n->entry.created = time(NULL);
	SCOPED_LOCK(&j->lock);
	err = add_locked(j, n, hdr);
	if (err) {
		free(n);
		return err;
	}
	entry->id = n->entry.id;
	entry->created = n->entry.created;
	return 0;
}

/* Appends the record and takes its fields over. */
static vcf_err_t change(struct journal *j, struct journal_record *r)
{
	SCOPED_LOCK(&j->lock);
	struct node *n = find_node(j, r->entry.id);
	uint64_t off;
	vcf_err_t err;
	size_t len;

	if (!n)
		return -ENOENT;
	err = journal_file_append(&j->file, r, NULL, true, &off, &len);
	if (err)
		return err;
	journal_record_apply(&n->entry, r);
	if (n->entry.state == JOURNAL_CLOSED)
		drop_node(j, n);
	maybe_compact(j);
	return 0;
}

/* Fits a text into an array; false if it does not and may not be cut. */
static bool copy_text(char *dst, size_t room, const char *text, bool cut)
{
	size_t len = strlen(text);

	if (len >= room && !cut)
		return false;
	len = len < room ? len : room - 1;
	memcpy(dst, text, len);
	dst[len] = '\0';
	return true;
}

vcf_err_t journal_set(struct journal *j, uint64_t id, enum journal_state state,
		      const char *key_id, time_t due)
{
	struct journal_record r = {.entry = {.id = id, .state = state, .due = due}};

	if (due)
		r.fields |= JOURNAL_F_DUE;
	if (key_id) {
		r.fields |= JOURNAL_F_KEY;
		if (!copy_text(r.entry.key_id, sizeof(r.entry.key_id), key_id, false))
			return -EINVAL;
	}
	return change(j, &r);
}

vcf_err_t journal_set_using(struct journal *j, uint64_t id, uint64_t dev, uint64_t ino,
			    const char *path)
{
	struct journal_record r = {
		.fields = JOURNAL_F_PLACE,
		.entry = {.id = id, .state = JOURNAL_USING, .dev = dev, .ino = ino}};

	copy_text(r.entry.path, sizeof(r.entry.path), path, true);
	return change(j, &r);
}

/* --- questions --- */

/* The first live entry with this id or a higher one. */
static bool entry_from(struct journal *j, uint64_t id, struct journal_entry *out)
{
	SCOPED_LOCK(&j->lock);
	size_t i = position(j, id);

	if (i == j->cnt)
		return false;
	*out = j->nodes[i]->entry;
	return true;
}

vcf_err_t journal_get(struct journal *j, uint64_t id, struct journal_entry *out)
{
	struct journal_entry e;

	if (!entry_from(j, id, &e) || e.id != id)
		return -ENOENT;
	*out = e;
	return 0;
}

vcf_err_t journal_each(struct journal *j,
		       int (*fn)(void *arg, const struct journal_entry *e), void *arg)
{
	struct journal_entry e = {.id = 0};
	int rc = 0;

	while (!rc && entry_from(j, e.id, &e)) {
		rc = fn(arg, &e);
		e.id++;
	}
	return rc;
}

vcf_err_t journal_header(struct journal *j, uint64_t id, void *hdr)
{
	SCOPED_LOCK(&j->lock);
	struct node *n = find_node(j, id);
	struct journal_record r;

	if (!n)
		return -ENOENT;
	if (!n->has_header)
		return -ENODATA;
	return journal_file_read(&j->file, &r, hdr, n->add_off);
}

void journal_host(struct journal *j, char hex[JOURNAL_HOST_HEX_LEN + 1])
{
	static const unsigned char unknown[JOURNAL_ID_LEN];
	const unsigned char *id = j->file.header.host_id;
	SCOPED_LOCK(&j->lock);

	*hex = '\0';
	if (memcmp(id, unknown, JOURNAL_ID_LEN) != 0)
		hex_encode(hex, id, JOURNAL_ID_LEN);
}

const char *journal_state_name(enum journal_state state)
{
	static const char *const names[] = {
		[JOURNAL_CREATING] = "creating",     [JOURNAL_UNUSED] = "unused",
		[JOURNAL_USING] = "using",	     [JOURNAL_DELETING] = "deleting",
		[JOURNAL_UNLINKED] = "unlinked",     [JOURNAL_WIPED] = "wiped",
		[JOURNAL_DESTROYING] = "destroying", [JOURNAL_SUSPECT] = "suspect",
		[JOURNAL_CLOSED] = "closed",
	};

	return names[state];
}

size_t journal_count(struct journal *j, enum journal_state state)
{
	SCOPED_LOCK(&j->lock);
	size_t cnt = 0;

	for (size_t i = 0; i < j->cnt; i++)
		cnt += j->nodes[i]->entry.state == state;
	return cnt;
}
