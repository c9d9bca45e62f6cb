/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ftruncate() goes through a wrapper, so that a test can see what a wipe left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/deletion.h"
#include "crypto/header_wipe.h"
#include "crypto/journal.h"
#include "crypto/journal_record.h"
#include "crypto/reserve.h"
#include "tests/unit/fake_service.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);

static bool keep_length;

int __wrap_ftruncate64(int fd, off_t len)
{
	return keep_length ? 0 : __real_ftruncate64(fd, len);
}

/* Waits until cond holds, at most some seconds. */
#define UNTIL(cond)                                                                      \
	do {                                                                             \
		int tries_ = 0;                                                          \
		while (!(cond) && tries_++ < 5000)                                       \
			usleep(1000);                                                    \
		ck_assert_msg(cond, "never: %s", #cond);                                 \
	} while (0)

static const struct deletion_timing quick = {
	.spacing_ms = 1, .backoff_min_ms = 5, .backoff_max_ms = 20, .poll_ms = 1000};

struct rig {
	struct keyservice *ks;
	struct journal *j;
	struct deletion_queue *q;
	struct deletion_config cfg;
	unsigned char uuid[UUID_LEN];
	struct secret *secret;
	const char *key_id;
	unsigned char hdr[CONTAINER_PEEK_LEN];
	_Atomic bool linked; /* what the tree would show */
	_Atomic vcf_err_t walk_err;
	_Atomic int walks;
};

static const char *path_of(const char *name)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	return path;
}

static vcf_err_t in_use(void *arg, const struct journal_entry *entries, size_t cnt,
			bool *used)
{
	struct rig *g = arg;

	g->walks++;
	for (size_t i = 0; i < cnt; i++)
		used[i] = g->linked && memcmp(entries[i].uuid, g->uuid, UUID_LEN) == 0;
	return g->walk_err;
}

static bool is_linked(void *arg, const unsigned char uuid[UUID_LEN])
{
	struct rig *g = arg;

	return g->linked && memcmp(uuid, g->uuid, UUID_LEN) == 0;
}

/* A service with one secret and the header that belongs to it. */
static void set_up(struct rig *g)
{
	unlink(path_of("journal"));
	memset(g, 0, sizeof(*g));
	g->ks = fake_new();
	g->cfg = (struct deletion_config){
		.service = "vault", .in_use = in_use, .in_use_arg = g};
	memset(g->uuid, 0x5a, UUID_LEN);
	ck_assert_int_eq(secret_new_random(&g->secret), 0);
	g->key_id = fake_put(g->ks, g->uuid, g->secret);
	fake_header(g->hdr, g->uuid, "vault", g->key_id, g->secret);
	ck_assert_int_eq(journal_open(&g->j, path_of("journal")), 0);
}

static void start(struct rig *g)
{
	ck_assert_int_eq(deletion_queue_new_timed(&g->q, g->j, g->ks, &g->cfg, &quick),
			 0);
}

static void tear_down(struct rig *g)
{
	deletion_queue_free(g->q);
	keyservice_free(g->ks);
	journal_close(g->j);
	secret_free(g->secret);
}

static struct journal_entry intent(const struct rig *g)
{
	struct journal_entry e = {.dev = 1, .ino = 2, .path = "i/disk"};

	memcpy(e.uuid, g->uuid, UUID_LEN);
	snprintf(e.service, sizeof(e.service), "vault");
	snprintf(e.key_id, sizeof(e.key_id), "%s", g->key_id);
	return e;
}

static uint64_t begin(struct rig *g)
{
	struct journal_entry e = intent(g);
	uint64_t id = 0;

	ck_assert_int_eq(deletion_begin(g->q, &e, g->hdr, &id), 0);
	ck_assert_int_eq((int)journal_count(g->j, JOURNAL_DELETING), 1);
	return id;
}

static void unlink_and_wipe(struct rig *g, uint64_t id)
{
	int fd = unit_tmpfile();

	deletion_unlinked(g->q, id);
	ck_assert_int_eq((int)journal_count(g->j, JOURNAL_UNLINKED), 1);
	ck_assert_int_eq(io_pwrite_full(fd, g->hdr, sizeof(g->hdr), 0), 0);
	deletion_wipe(g->q, id, fd, CONTAINER_DATA_OFF);
	close(fd);
}

static uint64_t delete_it(struct rig *g)
{
	uint64_t id = begin(g);

	unlink_and_wipe(g, id);
	return id;
}

static size_t waiting(struct rig *g)
{
	size_t wait, suspect;

	deletion_counts(g->q, &wait, &suspect);
	return wait;
}

static size_t suspects(struct rig *g)
{
	size_t wait, suspect;

	deletion_counts(g->q, &wait, &suspect);
	return suspect;
}

static int live(struct journal *j)
{
	int cnt = 0;

	for (int s = JOURNAL_CREATING; s < JOURNAL_CLOSED; s++)
		cnt += (int)journal_count(j, (enum journal_state)s);
	return cnt;
}

START_TEST(destroyed)
{
	struct rig g;

	set_up(&g);
	start(&g);
	delete_it(&g);
	UNTIL(live(g.j) == 0);
	ck_assert(!fake_has(g.ks, g.key_id));
	ck_assert_int_eq(g.walks, 1);
	tear_down(&g);
}
END_TEST

START_TEST(cancelled)
{
	struct rig g;

	set_up(&g);
	start(&g);
	deletion_cancel(g.q, begin(&g));
	ck_assert_int_eq(live(g.j), 0);
	usleep(3000);
	ck_assert(fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

START_TEST(waits_for_its_day)
{
	struct journal_entry e;
	struct rig g;
	uint64_t id;

	set_up(&g);
	g.cfg.delay_s = 3600;
	start(&g);
	id = delete_it(&g);
	usleep(3000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq((int)waiting(&g), 1);
	ck_assert_int_eq(g.walks, 0);
	ck_assert_int_eq(journal_get(g.j, id, &e), 0);
	ck_assert_int_ge((int)(e.due - time(NULL)), 3590);
	/* an operator takes it back */
	ck_assert_int_eq(deletion_restore(g.q, id), 0);
	ck_assert_int_eq(deletion_restore(g.q, id), -ENOENT);
	ck_assert_int_eq(live(g.j), 0);
	tear_down(&g);
}
END_TEST

START_TEST(becomes_due)
{
	struct rig g;

	set_up(&g);
	g.cfg.delay_s = 1;
	start(&g);
	delete_it(&g);
	UNTIL(live(g.j) == 0);
	ck_assert(!fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

START_TEST(kept)
{
	struct rig g;

	set_up(&g);
	g.cfg.keep = true;
	start(&g);
	delete_it(&g);
	ck_assert_int_eq(live(g.j), 0);
	usleep(3000);
	ck_assert(fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

/* on-delete was changed to keep while one was waiting. */
START_TEST(kept_after_all)
{
	struct journal_entry e;
	struct rig g;

	set_up(&g);
	e = intent(&g);
	e.state = JOURNAL_DESTROYING;
	e.due = 1;
	ck_assert_int_eq(journal_add(g.j, &e, g.hdr), 0);
	g.cfg.keep = true;
	start(&g);
	usleep(3000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq((int)waiting(&g), 1);
	tear_down(&g);
}
END_TEST

/* By a reload: what waits, waits on; what comes after follows the new policy. */
START_TEST(another_policy)
{
	struct journal_entry e;
	struct rig g;
	uint64_t id;

	set_up(&g);
	g.cfg.delay_s = 1;
	start(&g);
	id = delete_it(&g);
	deletion_set_policy(g.q, true, false, 1, 0);
	usleep(1200 * 1000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq((int)waiting(&g), 1);
	ck_assert_int_eq(journal_get(g.j, id, &e), 0);
	deletion_set_policy(g.q, false, false, 3600, 0);
	UNTIL(live(g.j) == 0); /* its own delay was the first */
	ck_assert(!fake_has(g.ks, g.key_id));
	delete_it(&g);
	ck_assert_int_eq((int)waiting(&g), 1);
	tear_down(&g);
}
END_TEST

/* Another machine destroys: the queue asks the service nothing. */
START_TEST(controller)
{
	struct rig g;

	set_up(&g);
	g.cfg.controller = true;
	start(&g);
	delete_it(&g);
	deletion_look(g.q);
	usleep(100 * 1000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq((int)waiting(&g), 1);
	ck_assert_int_eq(fake_calls(g.ks, KEY_GET), 0);
	deletion_set_policy(g.q, false, false, 0, 0);
	UNTIL(live(g.j) == 0);
	ck_assert(!fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

/* A service that does not answer: the queue pauses, longer each time, and says why. */
START_TEST(pauses)
{
	static const struct deletion_timing slow = {
		.backoff_min_ms = 100, .backoff_max_ms = 2000, .poll_ms = 1000};
	struct deletion_status st;
	struct rig g;
	int tries;

	set_up(&g);
	fake_down(g.ks, true);
	ck_assert_int_eq(deletion_queue_new_timed(&g.q, g.j, g.ks, &g.cfg, &slow), 0);
	delete_it(&g);
	do
		deletion_get_status(g.q, &st);
	while (!st.pause_s);
	ck_assert_str_ne(st.last_error, "");
	usleep(900 * 1000); /* 100 + 200 + 400: three tries more, or fewer */
	tries = fake_calls(g.ks, KEY_GET);
	ck_assert_int_ge(tries, 2);
	ck_assert_int_le(tries, 4);
	fake_down(g.ks, false);
	UNTIL(live(g.j) == 0);
	deletion_get_status(g.q, &st);
	ck_assert_str_eq(st.last_error, "");
	ck_assert_uint_eq(st.pause_s, 0);
	tear_down(&g);
}
END_TEST

/* What is due at once comes at once, what follows has to wait for its share of time. */
START_TEST(spaced)
{
	static const struct deletion_timing rest = {.backoff_min_ms = 5,
						    .backoff_max_ms = 20,
						    .poll_ms = 1000,
						    .spacing_ms = 400};
	struct rig g;

	set_up(&g);
	ck_assert_int_eq(deletion_queue_new_timed(&g.q, g.j, g.ks, &g.cfg, &rest), 0);
	delete_it(&g);
	UNTIL(live(g.j) == 0);
	g.key_id = fake_put(g.ks, g.uuid, g.secret);
	fake_header(g.hdr, g.uuid, "vault", g.key_id, g.secret);
	delete_it(&g);
	usleep(150 * 1000);
	ck_assert_int_eq((int)waiting(&g), 1);
	UNTIL(live(g.j) == 0);
	tear_down(&g);
}
END_TEST

START_TEST(derived)
{
	struct journal_entry e;
	struct rig g;
	uint64_t id;

	set_up(&g);
	start(&g);
	e = intent(&g);
	ck_assert_int_eq(deletion_begin(g.q, &e, NULL, &id), -EINVAL);
	e.derived = true;
	ck_assert_int_eq(deletion_begin(g.q, &e, g.hdr, &id), 0);
	unlink_and_wipe(&g, id);
	ck_assert_int_eq(live(g.j), 0);
	usleep(3000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq(fake_calls(g.ks, KEY_GET) + fake_calls(g.ks, KEY_DESTROY), 0);
	tear_down(&g);
}
END_TEST

/* What does not belong together is never destroyed. */
enum { OTHER_SECRET, OTHER_KEY_ID, OTHER_SERVICE, OTHER_UUID, NO_HEADER_AT_ALL, MISFITS };

START_TEST(suspect)
{
	auto_secret struct secret *other = NULL;
	unsigned char uuid[UUID_LEN] = {1};
	struct rig g;
	uint64_t id;

	set_up(&g);
	ck_assert_int_eq(secret_new_random(&other), 0);
	if (_i == OTHER_SECRET)
		fake_header(g.hdr, g.uuid, "vault", g.key_id, other);
	else if (_i == OTHER_KEY_ID)
		fake_header(g.hdr, g.uuid, "vault", "another", g.secret);
	else if (_i == OTHER_SERVICE)
		fake_header(g.hdr, g.uuid, "other", g.key_id, g.secret);
	else if (_i == OTHER_UUID)
		fake_header(g.hdr, uuid, "vault", g.key_id, g.secret);
	else
		memset(g.hdr, 0, sizeof(g.hdr));
	start(&g);
	id = delete_it(&g);
	UNTIL(suspects(&g) == 1);
	usleep(2000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq(fake_calls(g.ks, KEY_DESTROY), 0);
	ck_assert_int_eq(deletion_restore(g.q, id), 0);
	ck_assert_int_eq(live(g.j), 0);
	tear_down(&g);
}
END_TEST

START_TEST(in_use_is_cancelled)
{
	struct rig g;

	set_up(&g);
	g.linked = true;
	start(&g);
	delete_it(&g);
	UNTIL(live(g.j) == 0);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq(fake_calls(g.ks, KEY_DESTROY), 0);
	tear_down(&g);
}
END_TEST

START_TEST(nobody_knows_who_uses_it)
{
	struct rig g;

	set_up(&g);
	g.walk_err = -EIO;
	start(&g);
	delete_it(&g);
	UNTIL(g.walks > 3);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq(fake_calls(g.ks, KEY_GET), 0);
	g.walk_err = 0;
	UNTIL(live(g.j) == 0);
	ck_assert(!fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

START_TEST(gone_already)
{
	struct rig g;

	set_up(&g);
	fake_remove(g.ks, g.key_id);
	start(&g);
	delete_it(&g);
	UNTIL(live(g.j) == 0);
	ck_assert_int_eq(fake_calls(g.ks, KEY_DESTROY), 0);
	tear_down(&g);
}
END_TEST

START_TEST(outage_only_delays)
{
	struct rig g;

	set_up(&g);
	fake_down(g.ks, true);
	start(&g);
	delete_it(&g);
	UNTIL(fake_calls(g.ks, KEY_GET) >= 4);
	ck_assert_int_eq((int)waiting(&g), 1);
	fake_down(g.ks, false);
	UNTIL(live(g.j) == 0);
	ck_assert(!fake_has(g.ks, g.key_id));
	tear_down(&g);
}
END_TEST

static const struct {
	enum key_verb verb;
	enum fake_how how;
	vcf_err_t err;
	bool suspect;
} trouble_rows[] = {
	{KEY_GET, FAKE_REFUSE, -EKEYREJECTED, false},
	{KEY_GET, FAKE_REFUSE, -EPROTO, false},
	{KEY_DESTROY, FAKE_REFUSE, -ETIMEDOUT, false},
	{KEY_DESTROY, FAKE_REFUSE, -EKEYREJECTED, false},
	{KEY_DESTROY, FAKE_LOSE_REPLY, -ETIMEDOUT, false},
	{KEY_DESTROY, FAKE_REFUSE, -EINVAL, true},
};

START_TEST(trouble)
{
	struct rig g;

	set_up(&g);
	fake_fail(g.ks, trouble_rows[_i].verb, trouble_rows[_i].how, trouble_rows[_i].err,
		  3);
	start(&g);
	delete_it(&g);
	if (trouble_rows[_i].suspect) {
		UNTIL(suspects(&g) == 1);
		ck_assert(fake_has(g.ks, g.key_id));
	} else {
		UNTIL(live(g.j) == 0);
		ck_assert(!fake_has(g.ks, g.key_id));
	}
	tear_down(&g);
}
END_TEST

/* A reserve's secret that no container got: with its key id or only its label. */
enum { WITH_KEY_ID, LABEL_ONLY, LINKED_AFTER_ALL, OTHERS_SERVICE, LEFTOVERS };

START_TEST(leftover)
{
	struct journal_entry e;
	struct rig g;

	set_up(&g);
	e = intent(&g);
	e.state = JOURNAL_DESTROYING;
	e.due = 1;
	if (_i == LABEL_ONLY)
		*e.key_id = '\0';
	if (_i == OTHERS_SERVICE)
		snprintf(e.service, sizeof(e.service), "other");
	ck_assert_int_eq(journal_add(g.j, &e, NULL), 0);
	g.linked = _i == LINKED_AFTER_ALL;
	start(&g);
	if (_i == OTHERS_SERVICE)
		usleep(3000);
	else
		UNTIL(live(g.j) == 0);
	ck_assert_int_eq(fake_has(g.ks, g.key_id),
			 _i == LINKED_AFTER_ALL || _i == OTHERS_SERVICE);
	ck_assert_int_eq(live(g.j), _i == OTHERS_SERVICE);
	tear_down(&g);
}
END_TEST

/* More than one batch; one walk of the tree for each. */
START_TEST(many)
{
	enum { CNT = 150 };
	struct journal_entry e;
	struct rig g;

	set_up(&g);
	e = intent(&g);
	e.state = JOURNAL_DESTROYING;
	e.due = 1;
	for (int i = 0; i < CNT; i++) {
		unsigned char uuid[UUID_LEN] = {(unsigned char)i};

		memcpy(e.uuid, uuid, UUID_LEN);
		snprintf(e.key_id, sizeof(e.key_id), "%s",
			 fake_put(g.ks, uuid, g.secret));
		ck_assert_int_eq(journal_add(g.j, &e, NULL), 0);
	}
	start(&g);
	UNTIL(live(g.j) == 0);
	ck_assert_int_eq(fake_records(g.ks), 1);
	ck_assert_int_eq(g.walks, 3);
	tear_down(&g);
}
END_TEST

START_TEST(restore_comes_too_late)
{
	struct rig g;
	uint64_t id;

	set_up(&g);
	start(&g);
	fake_hold(g.ks, true);
	id = delete_it(&g);
	usleep(3000);
	fake_hold(g.ks, false);
	for (vcf_err_t err = -EBUSY; err == -EBUSY;) {
		err = deletion_restore(g.q, id);
		ck_assert(err == 0 || err == -EBUSY || err == -ENOENT);
		/* taken back means that it is there */
		ck_assert(err != 0 || fake_has(g.ks, g.key_id));
	}
	UNTIL(live(g.j) == 0);
	tear_down(&g);
}
END_TEST

/* Taken back while the worker asks for the secret: then it is not destroyed. */
START_TEST(restore_in_time)
{
	struct rig g;
	uint64_t id;

	set_up(&g);
	start(&g);
	fake_hold(g.ks, true);
	id = delete_it(&g);
	UNTIL(g.walks == 1);
	usleep(2000);
	ck_assert_int_eq(deletion_restore(g.q, id), 0);
	fake_hold(g.ks, false);
	UNTIL(fake_calls(g.ks, KEY_GET) == 1);
	usleep(2000);
	ck_assert(fake_has(g.ks, g.key_id));
	ck_assert_int_eq(fake_calls(g.ks, KEY_DESTROY), 0);
	tear_down(&g);
}
END_TEST

/* The end does not wait for the service; its late answer harms nobody. */
START_TEST(end_while_busy)
{
	struct rig g;

	set_up(&g);
	start(&g);
	fake_hold(g.ks, true);
	delete_it(&g);
	UNTIL(g.walks == 1);
	usleep(_i * 1000);
	deletion_queue_free(g.q);
	g.q = NULL;
	ck_assert_int_eq((int)journal_count(g.j, JOURNAL_DESTROYING), 1);
	fake_hold(g.ks, false);
	usleep(2000);
	start(&g);
	UNTIL(live(g.j) == 0);
	tear_down(&g);
}
END_TEST

/* --- recovery --- */

enum { ENDS, WAITS, STAYS };

static const struct {
	enum journal_state state;
	bool linked, keep, derived;
	int want;
} recover_rows[] = {
	{JOURNAL_CREATING, false, false, false, STAYS},
	{JOURNAL_UNUSED, false, false, false, STAYS},
	{JOURNAL_UNUSED, true, false, false, STAYS},
	{JOURNAL_USING, true, false, false, ENDS},
	{JOURNAL_USING, false, false, false, WAITS},
	{JOURNAL_USING, false, true, false, ENDS},
	{JOURNAL_DELETING, true, false, false, ENDS},
	{JOURNAL_DELETING, false, false, false, WAITS},
	{JOURNAL_DELETING, false, true, false, ENDS},
	{JOURNAL_DELETING, false, false, true, ENDS},
	{JOURNAL_UNLINKED, true, false, false, ENDS},
	{JOURNAL_UNLINKED, false, false, false, WAITS},
	{JOURNAL_WIPED, true, false, false, ENDS},
	{JOURNAL_WIPED, false, false, false, WAITS},
	{JOURNAL_DESTROYING, true, false, false, ENDS},
	{JOURNAL_DESTROYING, false, false, false, STAYS},
	{JOURNAL_DESTROYING, false, true, false, STAYS},
	{JOURNAL_SUSPECT, true, false, false, STAYS},
	{JOURNAL_SUSPECT, false, false, false, STAYS},
};

START_TEST(recover)
{
	struct journal_entry e, got;
	struct rig g;

	set_up(&g);
	g.linked = recover_rows[_i].linked;
	g.cfg.keep = recover_rows[_i].keep;
	g.cfg.delay_s = 1000;
	e = intent(&g);
	e.state = recover_rows[_i].state;
	e.derived = recover_rows[_i].derived;
	e.due = 5;
	ck_assert_int_eq(journal_add(g.j, &e, g.hdr), 0);
	ck_assert_int_eq(deletion_recover(g.j, &g.cfg, is_linked, &g), 0);
	if (recover_rows[_i].want == ENDS) {
		ck_assert_int_eq(live(g.j), 0);
	} else {
		bool stays = recover_rows[_i].want == STAYS;

		ck_assert_int_eq(journal_get(g.j, e.id, &got), 0);
		ck_assert_int_eq(got.state, stays ? e.state : JOURNAL_DESTROYING);
		ck_assert_int_eq(got.due > time(NULL) + 900, !stays);
	}
	tear_down(&g);
}
END_TEST

/* --- the wipe --- */

START_TEST(wipe_overwrites)
{
	static unsigned char before[64 * 1024], after[64 * 1024];
	const off_t last = CONTAINER_DATA_OFF - 65536;
	int fd = unit_tmpfile();
	struct stat st;

	memset(before, 0x11, sizeof(before));
	ck_assert_int_eq(__real_ftruncate64(fd, CONTAINER_DATA_OFF + 65536), 0);
	ck_assert_int_eq(io_pwrite_full(fd, before, 40960, 0), 0);
	ck_assert_int_eq(io_pwrite_full(fd, before, 65536, last), 0);
	ck_assert_int_eq(io_pwrite_full(fd, before, 65536, CONTAINER_DATA_OFF), 0);
	keep_length = true;
	header_wipe(fd, CONTAINER_DATA_OFF, "x");
	keep_length = false;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq((int)io_pread_full(fd, after, 40960, i ? last : 0),
				 40960);
		for (size_t k = 0; k + 8 <= 40960; k += 8)
			ck_assert(memcmp(after + k, before, 8) != 0);
	}
	ck_assert_int_eq((int)io_pread_full(fd, after, 65536, CONTAINER_DATA_OFF), 65536);
	ck_assert_mem_eq(after, before, 65536); /* data is not the header's */
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_lt((int)st.st_blocks, 1024); /* holes are left holes */
	header_wipe(fd, CONTAINER_DATA_OFF, "x");
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq((int)st.st_size, 0);
	close(fd);
}
END_TEST

START_TEST(wipe_spares_what_has_a_name)
{
	int fd = open(path_of("named"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char bytes[4096] = "precious", after[4096];

	ck_assert_int_eq(io_pwrite_full(fd, bytes, sizeof(bytes), 0), 0);
	header_wipe(fd, CONTAINER_DATA_OFF, "x");
	ck_assert_int_eq((int)io_pread_full(fd, after, sizeof(after), 0), 4096);
	ck_assert_mem_eq(after, bytes, sizeof(bytes));
	close(fd);
	unlink(path_of("named"));
}
END_TEST

/* Short files, no file to write to: no harm. */
START_TEST(wipe_odd_files)
{
	int fd = unit_tmpfile(), ro = open("/dev/null", O_RDONLY | O_CLOEXEC);

	header_wipe(fd, CONTAINER_DATA_OFF, "x");
	ck_assert_int_eq(io_pwrite_full(fd, "abc", 3, 5000), 0);
	header_wipe(fd, CONTAINER_DATA_OFF, "x");
	ck_assert_int_eq((int)lseek(fd, 0, SEEK_END), 0);
	header_wipe(ro, CONTAINER_DATA_OFF, "x");
	header_wipe(-1, CONTAINER_DATA_OFF, "x");
	close(ro);
	close(fd);
}
END_TEST

/* --- the crash walk --- */

/*
 * One container's whole life, cut after each step, and once more with the step's last
 * record lost (what was done before it was done). After a restart: the secret of a linked
 * container is at the service; a secret there of no container has an entry in the
 * journal.
 */
enum {
	W_TAKE,
	W_USING,
	W_LINK, /* the magic is written */
	W_USED,
	W_BEGIN,
	W_UNLINK,
	W_UNLINKED,
	W_WIPE,
	W_STEPS,
};

struct walk {
	struct rig rig;
	struct reserve *r;
	struct reserved res;
	_Atomic bool told; /* the reserve called back */
	struct journal_entry intent;
	uint64_t id;
};

static const struct reserve_timing at_once = {
	.refuse_ms = 5, .backoff_min_ms = 5, .backoff_max_ms = 20, .settle_ms = 0};

static void start_walk(struct walk *w)
{
	ck_assert_int_eq(journal_open(&w->rig.j, path_of("journal")), 0);
	ck_assert_int_eq(deletion_recover(w->rig.j, &w->rig.cfg, is_linked, &w->rig), 0);
	ck_assert_int_eq(
		reserve_new_timed(&w->r, w->rig.ks, w->rig.j, "vault", 0, &at_once), 0);
	start(&w->rig);
}

static void end_walk(struct walk *w)
{
	deletion_queue_free(w->rig.q);
	reserve_free(w->r);
	journal_close(w->rig.j);
}

static void told(void *arg, vcf_err_t err)
{
	struct walk *w = arg;

	w->told = !err;
}

static void take_one(struct walk *w)
{
	w->told = false;
	ck_assert_int_eq(reserve_take(w->r, &w->res, NULL, told, w), -EINPROGRESS);
	UNTIL(w->told);
	ck_assert_int_eq(reserve_take(w->r, &w->res, NULL, told, w), 0);
	memcpy(w->rig.uuid, w->res.uuid, UUID_LEN);
	w->rig.key_id = w->res.key_id;
	fake_header(w->rig.hdr, w->rig.uuid, "vault", w->res.key_id, w->res.secret);
	w->intent = intent(&w->rig);
}

static void wipe_one(struct walk *w)
{
	int fd = unit_tmpfile();

	deletion_wipe(w->rig.q, w->id, fd, CONTAINER_DATA_OFF);
	close(fd);
	if (!w->rig.cfg.delay_s)
		UNTIL(live(w->rig.j) == 0);
}

static void step(struct walk *w, int n)
{
	switch (n) {
	case W_TAKE:
		take_one(w);
		break;
	case W_USING:
		ck_assert_int_eq(reserve_using(w->r, &w->res, 1, 2, "i/disk"), 0);
		break;
	case W_LINK:
		w->rig.linked = true;
		break;
	case W_USED:
		reserve_used(w->r, &w->res);
		break;
	case W_BEGIN:
		ck_assert_int_eq(deletion_begin(w->rig.q, &w->intent, w->rig.hdr, &w->id),
				 0);
		break;
	case W_UNLINK:
		w->rig.linked = false;
		break;
	case W_UNLINKED:
		deletion_unlinked(w->rig.q, w->id);
		break;
	default:
		wipe_one(w);
	}
}

/* Where the last record starts, and how many there are. */
static int last_record(uint64_t *off)
{
	static unsigned char bytes[1024 * 1024];
	int fd = open(path_of("journal"), O_RDONLY | O_CLOEXEC), cnt = 0;
	size_t pos = JOURNAL_HEADER_LEN;
	ssize_t n;

	ck_assert_int_gt((int)io_pread_full(fd, bytes, sizeof(bytes), 0), 0);
	close(fd);
	while ((n = journal_record_peek(bytes + pos)) > 0) {
		*off = pos;
		pos += (size_t)n;
		cnt++;
	}
	return cnt;
}

static int drop_last_record(void)
{
	uint64_t off = JOURNAL_HEADER_LEN;
	int cnt = last_record(&off);

	ck_assert_int_eq(truncate(path_of("journal"), (off_t)off), 0);
	return cnt;
}

struct noted {
	const struct walk *w;
	bool found;
};

static int note(void *arg, const struct journal_entry *e)
{
	struct noted *n = arg;

	n->found |= memcmp(e->uuid, n->w->rig.uuid, UUID_LEN) == 0 &&
		    (e->state == JOURNAL_UNUSED || e->state == JOURNAL_DESTROYING);
	return 0;
}

static bool due_now(struct walk *w)
{
	return journal_count(w->rig.j, JOURNAL_DESTROYING) && !w->rig.cfg.delay_s;
}

static void check_invariant(struct walk *w)
{
	struct noted n = {.w = w};
	bool has = fake_has_label(w->rig.ks, w->rig.uuid);

	ck_assert(!w->rig.linked || has);
	ck_assert_int_eq(journal_each(w->rig.j, note, &n), 0);
	ck_assert(w->rig.linked || !has || n.found);
	ck_assert(!w->rig.linked || !n.found);
}

static void crash_and_recover(struct walk *w)
{
	start_walk(w);
	UNTIL(!journal_count(w->rig.j, JOURNAL_CREATING));
	UNTIL(!due_now(w));
	UNTIL((size_t)reserve_count(w->r) == journal_count(w->rig.j, JOURNAL_UNUSED));
	check_invariant(w);
	end_walk(w);
}

/* Runs the first cnt steps; true if the last of them wrote a record. */
static bool run_steps(struct walk *w, int cnt, uint64_t delay_s)
{
	uint64_t off;
	int before = 0;

	unlink(path_of("journal"));
	memset(w, 0, sizeof(*w));
	w->rig.ks = fake_new();
	w->rig.cfg = (struct deletion_config){.service = "vault",
					      .delay_s = delay_s,
					      .in_use = in_use,
					      .in_use_arg = &w->rig};
	start_walk(w);
	for (int i = 0; i < cnt; i++) {
		before = last_record(&off);
		step(w, i);
	}
	end_walk(w);
	secret_free(STEAL_PTR(&w->res.secret));
	return last_record(&off) > before;
}

START_TEST(crash_walk)
{
	int cnt = _i / 4 + 1;
	bool lose = _i % 2;
	struct walk w;

	log_set_level(LOG_LEVEL_WARN);
	if (run_steps(&w, cnt, _i % 4 / 2 ? 3600 : 0) && lose)
		drop_last_record();
	crash_and_recover(&w);
	crash_and_recover(&w); /* and again: recovery is recovered from, too */
	keyservice_free(w.rig.ks);
	log_set_level(LOG_LEVEL_INFO);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("deletion");
	TCase *t = tcase_create("deletion");

	tcase_add_test(t, destroyed);
	tcase_add_test(t, cancelled);
	tcase_add_test(t, waits_for_its_day);
	tcase_add_test(t, becomes_due);
	tcase_add_test(t, kept);
	tcase_add_test(t, kept_after_all);
	tcase_add_test(t, another_policy);
	tcase_add_test(t, controller);
	tcase_add_test(t, pauses);
	tcase_add_test(t, spaced);
	tcase_add_test(t, derived);
	tcase_add_loop_test(t, suspect, 0, MISFITS);
	tcase_add_test(t, in_use_is_cancelled);
	tcase_add_test(t, nobody_knows_who_uses_it);
	tcase_add_test(t, gone_already);
	tcase_add_test(t, outage_only_delays);
	tcase_add_loop_test(t, trouble, 0, ROWS(trouble_rows));
	tcase_add_loop_test(t, leftover, 0, LEFTOVERS);
	tcase_add_test(t, many);
	tcase_add_test(t, restore_comes_too_late);
	tcase_add_test(t, restore_in_time);
	tcase_add_loop_test(t, end_while_busy, 0, 3);
	tcase_add_loop_test(t, recover, 0, ROWS(recover_rows));
	tcase_add_test(t, wipe_overwrites);
	tcase_add_test(t, wipe_spares_what_has_a_name);
	tcase_add_test(t, wipe_odd_files);
	tcase_add_loop_test(t, crash_walk, 0, W_STEPS * 4);
	suite_add_tcase(s, t);
	return s;
}
