/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets that a command takes from a container: what is noted, and what the next run makes of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/config.h"
#include "fs/mountpoint.h"
#include "fs/oldsecret.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static struct offline o;
static struct config *cfg;
static char root[1024], image[PATH_MAX];

static void set(const char *option, const char *folder)
{
	char text[2048];

	snprintf(text, sizeof(text), "%s=%s/%s", option, root, folder);
	ck_assert_int_eq(config_set(cfg, text), 0);
}

/* A configuration that nobody serves, one file in its backing folder. */
static void setup(void)
{
	char path[PATH_MAX];

	snprintf(root, sizeof(root), "%s/XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(root));
	for (const char *const *d = (const char *const[]){"back", "mnt", "state", "run",
							  "keys", "elsewhere", NULL};
	     *d; d++) {
		snprintf(path, sizeof(path), "%s/%s", root, *d);
		ck_assert_int_eq(mkdir(path, 0700), 0);
	}
	ck_assert_int_eq(config_new(&cfg), 0);
	set("mount.backing", "back");
	set("mount.mountpoint", "mnt");
	set("mount.state-directory", "state");
	set("mount.runtime-directory", "run");
	set("file.directory", "keys");
	ck_assert_int_eq(config_set(cfg, "key-service.helper=file"), 0);
	ck_assert_int_eq(config_finish(cfg, true), 0);
	snprintf(image, sizeof(image), "%s/back/image", root);
	ck_assert_int_eq(offline_init(&o, "test", cfg, cfg->runtime_directory), 0);
}

static void teardown(void)
{
	offline_fini(&o);
	config_free(cfg);
}

static void put(const char *path, const void *bytes, size_t len)
{
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(io_pwrite_full(fd, bytes, len, 0), 0);
}

static void put_made(const char *path, int kind)
{
	put(path, made[kind].header, CONTAINER_DATA_OFF);
}

static uint64_t note(const char *path, int kind)
{
	uint64_t id;

	put_made(path, kind);
	ck_assert_int_eq(oldsecret_note(&o, made[kind].c, path, made[kind].header, &id),
			 0);
	ck_assert_uint_ne(id, 0);
	return id;
}

/* What waits in the mount's journal. */
struct queued {
	size_t cnt;
	struct journal_entry e;
	unsigned char hdr[CONTAINER_PEEK_LEN];
	struct journal *j;
};

static int see(void *arg, const struct journal_entry *e)
{
	struct queued *q = arg;

	q->cnt++;
	q->e = *e;
	ck_assert_int_eq(journal_header(q->j, e->id, q->hdr), 0);
	return 0;
}

static const struct queued *queued(void)
{
	static struct queued q;
	char path[PATH_MAX];

	q.cnt = 0;
	ck_assert_int_eq(mountpoint_state(path, sizeof(path), cfg, "journal"), 0);
	if (access(path, F_OK) < 0)
		return &q;
	ck_assert_int_eq(journal_open(&q.j, path), 0);
	ck_assert_int_eq(journal_each(q.j, see, &q), 0);
	journal_close(q.j);
	return &q;
}

static size_t noted(void)
{
	return journal_count(o.journal, JOURNAL_DELETING);
}

static void run_again(void)
{
	offline_fini(&o);
	ck_assert_int_eq(offline_init(&o, "test", cfg, cfg->runtime_directory), 0);
}

START_TEST(handed_over)
{
	uint64_t id = note(image, MADE_LUKS2);
	struct oldsecret_end end;
	const struct queued *q;

	ck_assert_uint_eq(noted(), 1);
	ck_assert_int_eq(oldsecret_gone(&o, id, false, &end), 0);
	ck_assert_uint_eq(noted(), 0);
	ck_assert_int_eq(end.how, OLDSECRET_QUEUED);
	ck_assert_str_eq(end.key_id, made_token.key_id);
	q = queued();
	ck_assert_uint_eq(q->cnt, 1);
	ck_assert_int_eq(q->e.state, JOURNAL_DESTROYING);
	ck_assert_str_eq(q->e.path, "image");
	ck_assert_str_eq(q->e.key_id, made_token.key_id);
	ck_assert_mem_eq(q->e.uuid, made[MADE_LUKS2].params.uuid, UUID_LEN);
	ck_assert_mem_eq(q->hdr, made[MADE_LUKS2].header, CONTAINER_PEEK_LEN);
	ck_assert_int_ge(q->e.due, time(NULL) + 7 * 86400 - 60);
}
END_TEST

START_TEST(cancelled)
{
	oldsecret_cancel(&o, note(image, MADE_LUKS2));
	ck_assert_uint_eq(noted(), 0);
	ck_assert_uint_eq(queued()->cnt, 0);
}
END_TEST

START_TEST(at_once)
{
	struct oldsecret_end end;

	ck_assert_int_eq(oldsecret_gone(&o, note(image, MADE_LUKS2), true, &end), 0);
	ck_assert_int_le(queued()->e.due, time(NULL));
}
END_TEST

START_TEST(kept)
{
	uint64_t id = note(image, MADE_LUKS2);
	struct oldsecret_end end;

	cfg->keep = true;
	ck_assert_int_eq(oldsecret_gone(&o, id, true, &end), 0);
	ck_assert_int_eq(end.how, OLDSECRET_KEPT);
	ck_assert_uint_eq(queued()->cnt, 0);
	ck_assert_uint_eq(noted(), 0);
}
END_TEST

START_TEST(derived)
{
	struct token tok = made_token;
	struct container *c;
	struct oldsecret_end end;
	uint64_t id = 1;

	tok.derived = true;
	ck_assert_int_eq(container_format(&c, &made[MADE_LUKS2].params, &tok,
					  made[MADE_LUKS2].secret),
			 0);
	ck_assert_int_eq(oldsecret_note(&o, c, image, NULL, &id), 0);
	ck_assert_uint_eq(id, 0);
	ck_assert_int_eq(oldsecret_gone(&o, id, true, &end), 0);
	ck_assert_int_eq(end.how, OLDSECRET_SITE);
	oldsecret_cancel(&o, id);
	container_free(c);
}
END_TEST

START_TEST(long_path)
{
	char path[PATH_MAX];
	uint64_t id;

	memset(path, 'x', 1024);
	path[0] = '/';
	path[1024] = '\0';
	ck_assert_int_eq(oldsecret_note(&o, made[0].c, path, made[0].header, &id),
			 -ENAMETOOLONG);
}
END_TEST

/* A run was cut short after its note; then the name had: */
enum { SAME, OTHER, PLAIN, EMPTY, NOTHING };
static const struct {
	int name, beside;
	const char *folder;
	size_t noted, queued;
} cuts[] = {
	{SAME, NOTHING, "back", 0, 0},	     {OTHER, NOTHING, "back", 0, 1},
	{PLAIN, NOTHING, "back", 0, 1},	     {EMPTY, NOTHING, "back", 0, 1},
	{NOTHING, NOTHING, "back", 0, 1},    {OTHER, SAME, "back", 1, 0},
	{PLAIN, SAME, "back", 1, 0},	     {OTHER, OTHER, "back", 0, 1},
	{NOTHING, SAME, "elsewhere", 0, 0},  {SAME, NOTHING, "elsewhere", 0, 0},
	{OTHER, NOTHING, "elsewhere", 0, 1}, {NOTHING, NOTHING, "elsewhere", 1, 0},
};

static void leave(const char *path, int what)
{
	if (what == NOTHING)
		unlink(path); /* else it stays the same file, as below a rekey */
	if (what == SAME || what == OTHER)
		put_made(path, what == SAME ? MADE_LUKS2 : MADE_LUKS1);
	else if (what == PLAIN)
		put(path, "plaintext, as decrypt leaves it", 31);
	else if (what == EMPTY)
		put(path, "", 0);
}

START_TEST(cut_short)
{
	char path[PATH_MAX], beside[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s/image", root, cuts[_i].folder);
	note(path, MADE_LUKS2);
	ck_assert_int_eq(oldsecret_beside(beside, path), 0);
	leave(path, cuts[_i].name);
	leave(beside, cuts[_i].beside);
	run_again();
	ck_assert_msg(noted() == cuts[_i].noted && queued()->cnt == cuts[_i].queued,
		      "row %d: %zu noted, %zu queued", _i, noted(), queued()->cnt);
	run_again(); /* it is no other the second time */
	ck_assert_uint_eq(noted(), cuts[_i].noted);
	ck_assert_uint_eq(queued()->cnt, cuts[_i].queued);
	made_log();
}
END_TEST

/* Died after the mount had it, before the note was closed: the mount has it once. */
START_TEST(handed_over_twice)
{
	uint64_t id = note(image, MADE_LUKS2);
	struct oldsecret_end end;

	ck_assert_int_eq(oldsecret_gone(&o, id, false, &end), 0);
	note(image, MADE_LUKS2);
	leave(image, OTHER);
	run_again();
	ck_assert_uint_eq(noted(), 0);
	ck_assert_uint_eq(queued()->cnt, 1);
	made_log();
}
END_TEST

/* A header of another container, or none, is no proof of anything: nothing is taken. */
START_TEST(wrong_header)
{
	struct oldsecret_end end;
	uint64_t id;

	put_made(image, MADE_LUKS2);
	ck_assert_int_eq(oldsecret_note(&o, made[MADE_LUKS2].c, image,
					made[MADE_LUKS1].header, &id),
			 0);
	ck_assert_int_lt(oldsecret_gone(&o, id, false, &end), 0);
	ck_assert_uint_eq(noted(), 1);
	ck_assert_uint_eq(queued()->cnt, 0);
	made_log();
}
END_TEST

START_TEST(beside)
{
	char path[PATH_MAX], name[300], got[PATH_MAX];

	ck_assert_int_eq(oldsecret_beside(got, "/a/b"), 0);
	ck_assert_str_eq(got, "/a/.b.vmcryptfs");
	memset(name, 'n', sizeof(name));
	snprintf(path, sizeof(path), "/a/%.244s", name);
	ck_assert_int_eq(oldsecret_beside(got, path), 0);
	snprintf(path, sizeof(path), "/a/%.245s", name);
	ck_assert_int_eq(oldsecret_beside(got, path), -ENAMETOOLONG);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("oldsecret");
	TCase *tc = tcase_create("oldsecret");

	tcase_add_unchecked_fixture(tc, made_setup, made_teardown);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, handed_over);
	tcase_add_test(tc, cancelled);
	tcase_add_test(tc, at_once);
	tcase_add_test(tc, kept);
	tcase_add_test(tc, derived);
	tcase_add_test(tc, long_path);
	tcase_add_loop_test(tc, cut_short, 0, ROWS(cuts));
	tcase_add_test(tc, handed_over_twice);
	tcase_add_test(tc, wrong_header);
	tcase_add_test(tc, beside);
	suite_add_tcase(s, tc);
	return s;
}
