/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A container gets another secret: in memory, in a file, and in what a crash leaves of a file.
 *
 * The writes of one rekey are recorded and every state that a crash may leave is rebuilt: all that
 * was synced, and of what was not yet any set of pages (each prefix of them, and sets by chance).
 * Each has to open with exactly one of the two secrets, and the journal has to be able to tell
 * from the uuid which one that is.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/container_rekey.h"
#include "crypto/luks1_pages.h"
#include "crypto/luks_disk.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static const unsigned char new_uuid[UUID_LEN] = "another secret.";
static struct secret *new_secret;
static int mends; /* headers that a load had to mend */

static void setup(void)
{
	made_setup();
	ck_assert_int_eq(secret_new_random(&new_secret), 0);
}

static void teardown(void)
{
	secret_free(new_secret);
	made_teardown();
}

static struct rekey_params params_of(const struct secret *secret)
{
	struct rekey_params p = {
		.service = "other", .key_id = "new-key-id", .secret = secret};

	memcpy(p.uuid, new_uuid, UUID_LEN);
	return p;
}

/* The container of made[kind], unlocked from its file. */
static struct container *load(int fd, const struct secret *secret)
{
	struct container *c;

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_unlock(c, secret, "image"), 0);
	return c;
}

static struct rekey *rekey(struct container *c)
{
	struct rekey_params p = params_of(new_secret);
	struct rekey *r;

	ck_assert_int_eq(container_rekey(&r, c, &p, "image"), 0);
	return r;
}

/* True: the new one; false: the old one. Anything else fails. */
static bool which_secret(int fd, int kind)
{
	auto_container struct container *c = NULL, *again = NULL;
	const struct secret *right, *wrong;
	bool is_new, mended;

	ck_assert_int_eq(container_load(&c, fd, "image", &mended), 0);
	mends += mended;
	is_new = memcmp(container_subject(c)->uuid, new_uuid, UUID_LEN) == 0;
	right = is_new ? new_secret : made[kind].secret;
	wrong = is_new ? made[kind].secret : new_secret;
	ck_assert_str_eq(container_token(c)->key_id,
			 is_new ? "new-key-id" : made_token.key_id);
	ck_assert_int_eq(container_mac_check(c, wrong), -EBADMSG);
	ck_assert_int_eq(container_unlock(c, right, "image"), 0);
	ck_assert_mem_eq(container_volume_key(c), container_volume_key(made[kind].c),
			 VOLUME_KEY_LEN);
	ck_assert_int_eq(container_write_mended(c, fd), 0);
	ck_assert_int_eq(container_load(&again, fd, "image", &mended), 0);
	ck_assert(!mended);
	ck_assert_mem_eq(container_subject(again)->uuid, container_subject(c)->uuid,
			 UUID_LEN);
	return is_new;
}

static vcf_err_t count(void *arg)
{
	++*(int *)arg;
	return 0;
}

START_TEST(rekeyed_file)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_container struct container *again = NULL;
	auto_rekey struct rekey *r = rekey(c);
	enum rekey_outcome outcome;
	const struct token *t;
	int notes = 0;

	ck_assert_int_eq(container_write_rekeyed(r, fd, count, &notes, &outcome), 0);
	ck_assert_int_eq(outcome, REKEY_NEW);
	ck_assert_int_eq(notes, 1);
	ck_assert(which_secret(fd, _i));
	ck_assert_int_eq(container_load(&again, fd, "image", NULL), 0);
	t = container_token(again);
	ck_assert_str_eq(t->service, "other");
	ck_assert_str_eq(t->context, made_token.context);
	ck_assert_uint_eq(t->generation, made_token.generation + 1);
	ck_assert(!t->derived);
	ck_assert(!container_has_unused(again));
}
END_TEST

/* The old slot is gone: of its bytes none is left in the header. */
START_TEST(old_slot_is_overwritten)
{
	const size_t at = _i == MADE_LUKS1 ? LUKS1_TOKEN_END : LUKS2_KEYSLOTS_OFF;
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_rekey struct rekey *r = rekey(c);
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	enum rekey_outcome outcome;
	struct stat st;

	ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), 0);
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert(!memmem(now, CONTAINER_DATA_OFF, made[_i].header + at, 64));
	ck_assert(
		!memmem(now, CONTAINER_DATA_OFF, made[_i].header + at + 128 * 1024, 64));
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_le(st.st_blocks * 512, 320 * 1024);
}
END_TEST

/* Again and again: slots are used anew. */
START_TEST(many_times)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_secret struct secret *secret = NULL;

	ck_assert_int_eq(secret_dup(&secret, made[_i].secret), 0);
	for (int i = 0; i < 3; i++) {
		auto_container struct container *c = load(fd, secret);
		auto_rekey struct rekey *r = NULL;
		struct secret *next;
		struct rekey_params p;
		enum rekey_outcome outcome;

		ck_assert_int_eq(secret_new_random(&next), 0);
		p = params_of(next);
		p.uuid[0] = (unsigned char)i;
		ck_assert_int_eq(container_rekey(&r, c, &p, "image"), 0);
		ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), 0);
		secret_free(secret);
		secret = next;
	}
}
END_TEST

START_TEST(bad_parameters)
{
	static const struct {
		const char *service, *key_id, *context;
		bool nil;
	} rows[] = {
		{"", "id", NULL, false},	  {"default", "", NULL, false},
		{"default", "../x", NULL, false}, {"default", "id", "\n", false},
		{"default", "id", NULL, true},
	};
	auto_close int fd = made_file(made[0].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[0].secret);
	struct rekey_params p = params_of(new_secret);
	struct rekey *r = NULL;

	p.service = rows[_i].service;
	p.key_id = rows[_i].key_id;
	p.context = rows[_i].context;
	if (rows[_i].nil)
		memset(p.uuid, 0, UUID_LEN);
	ck_assert_int_eq(container_rekey(&r, c, &p, "image"), -EINVAL);
	ck_assert_ptr_null(r);
}
END_TEST

START_TEST(not_unlocked)
{
	auto_close int fd = made_file(made[0].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = NULL;
	struct rekey_params p = params_of(new_secret);
	struct rekey *r = NULL;

	ck_assert_int_eq(container_load(&c, fd, "image", NULL), 0);
	ck_assert_int_eq(container_rekey(&r, c, &p, "image"), -EINVAL);
}
END_TEST

/* Somebody has written another header meanwhile. */
START_TEST(file_changed)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_rekey struct rekey *r = rekey(c);
	enum rekey_outcome outcome = REKEY_NEW;

	ck_assert_int_eq(io_pwrite_full(fd, "x", 1, 1100), 0);
	ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), -ESTALE);
	ck_assert_int_eq(outcome, REKEY_OLD);
}
END_TEST

static vcf_err_t refuse(void *arg)
{
	return -ENOSPC;
}

START_TEST(note_refused)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_rekey struct rekey *r = rekey(c);
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	enum rekey_outcome outcome = REKEY_NEW;

	ck_assert_int_eq(container_write_rekeyed(r, fd, refuse, NULL, &outcome), -ENOSPC);
	ck_assert_int_eq(outcome, REKEY_OLD);
	ck_assert(!which_secret(fd, _i));
	/* of the new slot nothing stays */
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert_mem_eq(now, made[_i].header, CONTAINER_DATA_OFF);
}
END_TEST

/* --- crashes --- */

enum { WRITES_MAX = 8, PAGE = 4096, SECTOR = 512, SLOT_ROOM = 63 * PAGE };

struct step {
	unsigned char *bytes; /* NULL: a sync */
	size_t len;
	uint64_t off;
	bool sync, hole;
};

struct record {
	struct step steps[2 * WRITES_MAX];
	int cnt;
	int fail_at; /* this write or sync fails; -1: none */
	int calls;
};

static struct step *next_step(struct record *rec)
{
	ck_assert_int_lt(rec->cnt, ROWS(rec->steps));
	return &rec->steps[rec->cnt++];
}

static vcf_err_t record_write(void *arg, const void *buf, size_t len, uint64_t off)
{
	struct record *rec = arg;
	struct step *s = next_step(rec);

	*s = (struct step){.bytes = malloc(len), .len = len, .off = off};
	memcpy(s->bytes, buf, len);
	return rec->calls++ == rec->fail_at ? -EIO : 0;
}

static vcf_err_t record_sync(void *arg)
{
	struct record *rec = arg;

	*next_step(rec) = (struct step){.sync = true};
	return rec->calls++ == rec->fail_at ? -EIO : 0;
}

static void record_punch(void *arg, uint64_t off, uint64_t len)
{
	struct step *s = next_step(arg);

	*s = (struct step){.bytes = calloc(1, len), .len = len, .off = off, .hole = true};
}

static void free_record(struct record *rec)
{
	for (int i = 0; i < rec->cnt; i++)
		free(rec->steps[i].bytes);
}

static vcf_err_t make_record(struct record *rec, int kind, enum rekey_outcome *outcome)
{
	auto_close int fd = made_file(made[kind].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[kind].secret);
	auto_rekey struct rekey *r = rekey(c);
	struct rekey_io io = {record_write, record_sync, record_punch, rec};

	return container_rekey_replay(r, &io, NULL, NULL, outcome);
}

static void apply(int fd, const struct step *s, size_t from, size_t len)
{
	ck_assert_int_eq(io_pwrite_full(fd, s->bytes + from, len, (off_t)(s->off + from)),
			 0);
}

/* A file with all steps before `end` in it. */
static int file_after(const struct record *rec, int kind, int end)
{
	int fd = made_file(made[kind].header, CONTAINER_DATA_OFF);

	for (int i = 0; i < end; i++) {
		if (rec->steps[i].bytes)
			apply(fd, &rec->steps[i], 0, rec->steps[i].len);
	}
	return fd;
}

/* What a crash may leave a part of: of a page that is overwritten its sectors. */
static size_t unit_of(const struct step *s)
{
	return s->len <= PAGE ? SECTOR : PAGE;
}

/* Of step i the pages, or sectors, in the mask. */
static bool after_crash(const struct record *rec, int kind, int i, uint64_t mask)
{
	auto_close int fd = file_after(rec, kind, i);
	const struct step *s = &rec->steps[i];
	const size_t unit = unit_of(s);

	for (size_t at = 0; at * unit < s->len; at++) {
		if (mask >> (at % 64) & 1)
			apply(fd, s, at * unit, unit);
	}
	return which_secret(fd, kind);
}

/* Of a header's four pages, or a page's eight sectors, every set; of a slot's 63 pages some by chance. */
static int masks_of(const struct step *s)
{
	if (!s->bytes)
		return 0;
	return s->len <= PAGE ? 255 : s->len <= LUKS2_HDR_LEN ? 15 : 3;
}

static uint64_t mask_of(const struct step *s, int k, uint64_t *lot)
{
	*lot ^= *lot << 13;
	*lot ^= *lot >> 7;
	*lot ^= *lot << 17;
	return s->len <= LUKS2_HDR_LEN ? (uint64_t)k : *lot;
}

/* Between two syncs there is one write (holes apart): its pages may come in any order. */
START_TEST(crash_anywhere)
{
	struct record rec = {.fail_at = -1};
	enum rekey_outcome outcome;
	bool was_new = false;
	int mends_before = mends;
	uint64_t lot = 88172645463325252ull;

	ck_assert_int_eq(make_record(&rec, _i, &outcome), 0);
	ck_assert_int_eq(outcome, REKEY_NEW);
	for (int i = 0; i < rec.cnt; i++) {
		const struct step *s = &rec.steps[i];

		/* each write is durable before the next one */
		ck_assert(!s->bytes || s->hole || rec.steps[i + 1].sync);
		for (int k = 0; k < masks_of(s); k++) {
			uint64_t mask = mask_of(s, k, &lot);

			/* once new it never is the old one again */
			ck_assert(after_crash(&rec, _i, i, mask) || !was_new);
		}
		was_new |= after_crash(&rec, _i, i, UINT64_MAX);
	}
	ck_assert(was_new);
	ck_assert_int_gt(mends, mends_before);
	free_record(&rec);
}
END_TEST

/* Pages kept for a replacement that did not come about do nothing to another one's first page. */
START_TEST(kept_pages_of_another_time)
{
	struct record rec = {.fail_at = -1};
	unsigned char page[LUKS1_TOKEN_END];
	enum rekey_outcome outcome;
	auto_close int fd = -1;
	auto_container struct container *c = NULL;
	bool mended;

	ck_assert_int_eq(make_record(&rec, MADE_LUKS1, &outcome), 0);
	fd = file_after(&rec, MADE_LUKS1, 4); /* slot, sync, kept pages, sync */
	free_record(&rec);
	/* a page that is neither of the two, though one of its sectors is */
	memcpy(page, made[MADE_LUKS1].header, sizeof(page));
	page[LUKS1_TOKEN_OFF + 3 * SECTOR] ^= 1;
	ck_assert_int_eq(io_pwrite_full(fd, page, sizeof(page), 0), 0);
	ck_assert_int_eq(container_load(&c, fd, "image", &mended), 0);
	ck_assert(!mended);
}
END_TEST

/* A crash before the first page changed: what would open the image with the new secret goes. */
START_TEST(cut_short)
{
	struct record rec = {.fail_at = -1};
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	enum rekey_outcome outcome;
	auto_close int fd = -1;
	auto_container struct container *c = NULL;

	ck_assert_int_eq(make_record(&rec, MADE_LUKS1, &outcome), 0);
	fd = file_after(&rec, MADE_LUKS1, 4); /* slot, sync, kept pages, sync */
	free_record(&rec);
	c = load(fd, made[MADE_LUKS1].secret);
	ck_assert(container_has_unused(c));
	ck_assert_int_eq(container_wipe_unused(c, fd, NULL), 0);
	ck_assert(!container_has_unused(c));
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert(!memmem(now, CONTAINER_DATA_OFF, LUKS1_KEPT_MAGIC, 16));
	ck_assert(!which_secret(fd, MADE_LUKS1));
}
END_TEST

/* Where the last key slot ends at the data and is in use, the pages cannot be kept. */
START_TEST(no_room_to_keep_pages)
{
	const uint64_t end = CONTAINER_DATA_OFF;
	unsigned char hdr[LUKS1_TOKEN_END];
	auto_close int fd = made_file(made[MADE_LUKS1].header, CONTAINER_DATA_OFF);
	struct luks1_hdr_disk *disk = (struct luks1_hdr_disk *)hdr;
	auto_container struct container *c = NULL;
	struct rekey_params p = params_of(new_secret);
	struct rekey *r = NULL;

	memcpy(hdr, made[MADE_LUKS1].header, sizeof(hdr));
	disk->slot[7] = disk->slot[0];
	disk->slot[7].material_be =
		htobe32((uint32_t)((end - SLOT_ROOM) / LUKS_SECTOR_LEN));
	ck_assert_int_eq(io_pwrite_full(fd, hdr, sizeof(hdr), 0), 0);
	c = load(fd, made[MADE_LUKS1].secret);
	ck_assert_int_eq(container_rekey(&r, c, &p, "image"), -ENOSPC);
	ck_assert_ptr_null(r);
}
END_TEST

/* A disk that fails at each call in turn: the outcome says what the file has. */
START_TEST(disk_fails)
{
	for (int at = 0; at < 16; at++) {
		struct record rec = {.fail_at = at};
		enum rekey_outcome outcome;
		vcf_err_t err = make_record(&rec, _i, &outcome);
		auto_close int fd = file_after(&rec, _i, rec.cnt);
		bool is_new = which_secret(fd, _i);

		free_record(&rec);
		if (!err) { /* fewer calls than that */
			ck_assert_int_ge(at, 6);
			return;
		}
		ck_assert_int_eq(err, -EIO);
		ck_assert_int_ne(outcome, REKEY_DOUBT);
		ck_assert_int_eq(is_new, outcome == REKEY_NEW);
	}
	ck_abort_msg("it never came to the end");
}
END_TEST

/* A crash before the old slot was overwritten: the next open finds it. */
START_TEST(remains_are_wiped)
{
	const size_t at = _i == MADE_LUKS1 ? LUKS1_TOKEN_END : LUKS2_KEYSLOTS_OFF;
	struct record rec = {.fail_at = -1};
	auto_container struct container *c = NULL, *again = NULL;
	auto_free unsigned char *now = malloc(CONTAINER_DATA_OFF);
	enum rekey_outcome outcome;
	auto_close int fd = -1;
	bool found = false;
	int end;

	ck_assert_int_eq(make_record(&rec, _i, &outcome), 0);
	for (end = rec.cnt - 1; !rec.steps[end].sync; end--)
		; /* the sync after the noise: without both */
	fd = file_after(&rec, _i, end - 1);
	free_record(&rec);
	c = load(fd, new_secret);
	ck_assert(container_has_unused(c));
	ck_assert_int_eq(container_wipe_unused(c, fd, &found), 0);
	ck_assert(found);
	ck_assert(!container_has_unused(c));
	ck_assert_int_eq(io_pread_full(fd, now, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
	ck_assert(!memmem(now, CONTAINER_DATA_OFF, made[_i].header + at, 64));
	again = load(fd, new_secret);
	ck_assert(!container_has_unused(again));
}
END_TEST

/* Of a container that never was rekeyed nothing is touched, whatever lies between its slots. */
START_TEST(others_are_left_alone)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = NULL;

	ck_assert_int_eq(io_pwrite_full(fd, "remains", 7, CONTAINER_DATA_OFF - 4096), 0);
	c = load(fd, made[_i].secret);
	ck_assert(!container_has_unused(c));
}
END_TEST

/* --- another value of `holes` --- */

static vcf_err_t record_holes(struct record *rec, int kind)
{
	auto_close int fd = made_file(made[kind].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[kind].secret);
	auto_rekey struct rekey *r = NULL;
	struct rekey_io io = {record_write, record_sync, record_punch, rec};
	enum rekey_outcome outcome;
	vcf_err_t err =
		container_set_holes(&r, c, HOLES_NONE, made[kind].secret, "image");

	return err ? err : container_rekey_replay(r, &io, NULL, NULL, &outcome);
}

/* Whose token the file has; it opens in any case, and is what it was but for that. */
static enum token_holes holes_of(int fd, int kind)
{
	auto_container struct container *c = load(fd, made[kind].secret);
	const struct token *t = container_token(c);

	ck_assert_uint_eq(t->generation, made_token.generation);
	ck_assert_str_eq(t->key_id, made_token.key_id);
	ck_assert_mem_eq(container_subject(c)->uuid, made[kind].params.uuid, UUID_LEN);
	ck_assert_mem_eq(container_volume_key(c), container_volume_key(made[kind].c),
			 VOLUME_KEY_LEN);
	return t->holes;
}

START_TEST(holes_change)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_rekey struct rekey *r = NULL;
	enum rekey_outcome outcome;

	ck_assert_int_eq(holes_of(fd, _i), HOLES_ZERO);
	ck_assert_int_eq(container_set_holes(&r, c, HOLES_NONE, made[_i].secret, "image"),
			 0);
	ck_assert_int_eq(container_write_rekeyed(r, fd, NULL, NULL, &outcome), 0);
	ck_assert_int_eq(outcome, REKEY_NEW);
	ck_assert_int_eq(holes_of(fd, _i), HOLES_NONE);
}
END_TEST

START_TEST(holes_need_the_secret)
{
	auto_close int fd = made_file(made[_i].header, CONTAINER_DATA_OFF);
	auto_container struct container *c = load(fd, made[_i].secret);
	auto_rekey struct rekey *r = NULL;

	ck_assert_int_lt(container_set_holes(&r, c, HOLES_NONE, new_secret, "image"), 0);
	ck_assert_ptr_null(r);
}
END_TEST

/* Of the write that a crash met any sectors are there. */
START_TEST(holes_cut_short)
{
	struct record rec = {.fail_at = -1};
	bool seen[2] = {false, false};

	ck_assert_int_eq(record_holes(&rec, _i), 0);
	for (int i = 0; i < rec.cnt; i++) {
		const struct step *s = &rec.steps[i];

		for (int pass = 0; s->bytes && pass < 24; pass++) {
			auto_close int fd = file_after(&rec, _i, i);

			for (size_t at = 0; at < s->len; at += SECTOR) {
				unsigned char chance;

				secret_random(&chance, 1);
				if (chance & 1)
					apply(fd, s, at, SECTOR);
			}
			seen[holes_of(fd, _i)] = true;
		}
	}
	ck_assert(seen[HOLES_ZERO] && seen[HOLES_NONE]);
	free_record(&rec);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("container_rekey");
	TCase *tc = tcase_create("container_rekey");

	tcase_add_unchecked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, rekeyed_file, 0, MADE_TWIN);
	tcase_add_loop_test(tc, old_slot_is_overwritten, 0, MADE_TWIN);
	tcase_add_loop_test(tc, many_times, 0, MADE_TWIN);
	tcase_add_loop_test(tc, bad_parameters, 0, 5);
	tcase_add_test(tc, not_unlocked);
	tcase_add_loop_test(tc, file_changed, 0, MADE_TWIN);
	tcase_add_loop_test(tc, note_refused, 0, MADE_TWIN);
	tcase_add_loop_test(tc, crash_anywhere, 0, MADE_TWIN);
	tcase_add_test(tc, kept_pages_of_another_time);
	tcase_add_test(tc, cut_short);
	tcase_add_test(tc, no_room_to_keep_pages);
	tcase_add_loop_test(tc, disk_fails, 0, MADE_TWIN);
	tcase_add_loop_test(tc, remains_are_wiped, 0, MADE_TWIN);
	tcase_add_loop_test(tc, others_are_left_alone, 0, MADE_TWIN);
	tcase_add_loop_test(tc, holes_change, 0, MADE_TWIN);
	tcase_add_loop_test(tc, holes_need_the_secret, 0, MADE_TWIN);
	tcase_add_loop_test(tc, holes_cut_short, 0, MADE_TWIN);
	suite_add_tcase(s, tc);
	return s;
}
