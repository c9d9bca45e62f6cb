/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the next run makes of a file that was being replaced. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/config.h"
#include "fs/replace.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/cleanup.h"
#include "util/io.h"

static struct offline o;
static struct config *cfg;
static char root[1024], image[PATH_MAX], beside[PATH_MAX];

static void set(const char *option, const char *folder)
{
	char text[2048];

	snprintf(text, sizeof(text), "%s=%s/%s", option, root, folder);
	ck_assert_int_eq(config_set(cfg, text), 0);
}

static void start(void)
{
	ck_assert_int_eq(offline_init(&o, "test", cfg, cfg->runtime_directory), 0);
}

static void setup(void)
{
	char path[PATH_MAX];

	snprintf(root, sizeof(root), "%s/XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(root));
	for (const char *const *d =
		     (const char *const[]){"back", "mnt", "state", "run", "keys", NULL};
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
	snprintf(beside, sizeof(beside), "%s/back/.image.vmcryptfs", root);
	start();
}

static void teardown(void)
{
	offline_fini(&o);
	config_free(cfg);
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0640);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(io_pwrite_full(fd, text, strlen(text), 0), 0);
	return fd;
}

static void has(const char *path, const char *text)
{
	auto_close int fd = open(path, O_RDONLY);
	char got[64] = "";

	if (!text) {
		ck_assert_int_eq(fd, -1);
		return;
	}
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(io_pread_full(fd, got, sizeof(got) - 1, 0), 0);
	ck_assert_str_eq(got, text);
}

static int count_entry(void *arg, const struct journal_entry *e)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

static int notes(void)
{
	int cnt = 0;

	ck_assert_int_eq(journal_each(o.journal, count_entry, &cnt), 0);
	return cnt;
}

/* Up to where the new file is complete. */
static void begin(struct newsecret *n, struct replace *r, int old)
{
	ck_assert_int_eq(newsecret_get(n, &o, NEWSECRET_NONE, "default", beside), 0);
	ck_assert_int_eq(replace_begin(r, n, image, old), 0);
	ck_assert_int_eq(io_pwrite_full(r->fd, "new", 3, 0), 0);
}

START_TEST(replaced)
{
	auto_close int old = put(image, "old");
	struct newsecret n;
	struct replace r;
	struct stat st;

	begin(&n, &r, old);
	ck_assert_int_eq(replace_switch(&r, old), 0);
	has(image, "new");
	has(beside, "old");
	ck_assert_int_eq(replace_finish(&r, old, true), 0);
	has(image, "new");
	has(beside, NULL);
	ck_assert_int_eq(notes(), 0);
	ck_assert_int_eq(stat(image, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0640);
	replace_fini(&r);
}
END_TEST

START_TEST(discarded)
{
	auto_close int old = put(image, "old");
	struct newsecret n;
	struct replace r;

	begin(&n, &r, old);
	ck_assert_int_eq(replace_discard(&r), 0);
	replace_fini(&r);
	has(image, "old");
	has(beside, NULL);
	ck_assert_int_eq(notes(), 0);
}
END_TEST

/* What happens to the file meanwhile. */
enum change { WRITTEN, GROWN, REMOVED, ANOTHER, LINKED, OPENED };

START_TEST(changed_meanwhile)
{
	auto_close int old = put(image, "old"), other = -1;
	char path[PATH_MAX];
	struct newsecret n;
	struct replace r;

	begin(&n, &r, old);
	snprintf(path, sizeof(path), "%s/elsewhere", root);
	usleep(20 * 1000);
	switch ((enum change)_i) {
	case WRITTEN:
		ck_assert_int_eq(io_pwrite_full(old, "OLD", 3, 0), 0);
		break;
	case GROWN:
		ck_assert_int_eq(ftruncate(old, 10), 0);
		break;
	case REMOVED:
		ck_assert_int_eq(unlink(image), 0);
		break;
	case ANOTHER:
		ck_assert_int_eq(rename(image, path), 0);
		close(put(image, "another"));
		break;
	case LINKED:
		ck_assert_int_eq(link(image, path), 0);
		break;
	case OPENED:
		other = open(image, O_RDWR);
		break;
	}
	ck_assert_int_eq(replace_switch(&r, old), _i == OPENED ? -EBUSY : -ESTALE);
	ck_assert_int_eq(replace_discard(&r), 0);
	replace_fini(&r);
	has(image, _i == WRITTEN   ? "OLD"
		   : _i == REMOVED ? NULL
		   : _i == ANOTHER ? "another"
				   : "old");
	has(beside, NULL);
	ck_assert_int_eq(notes(), 0);
}
END_TEST

/* A run ends, and the next one starts. */
static void cut(struct replace *r)
{
	replace_fini(r);
	offline_fini(&o);
	start();
	made_log();
}

enum moment { BEGUN, EXCHANGED, UNLINKED, MOVED_ON };

START_TEST(cut_short)
{
	auto_close int old = put(image, "old");
	char path[PATH_MAX];
	struct newsecret n;
	struct replace r;

	begin(&n, &r, old);
	if (_i >= EXCHANGED)
		ck_assert_int_eq(replace_switch(&r, old), 0);
	if (_i == UNLINKED)
		ck_assert_int_eq(unlink(beside), 0);
	snprintf(path, sizeof(path), "%s/elsewhere", root);
	if (_i == MOVED_ON) /* by its name, through the mount */
		ck_assert_int_eq(rename(image, path), 0);
	close(STEAL_FD(&old));
	cut(&r);
	has(_i == MOVED_ON ? path : image, _i == BEGUN ? "old" : "new");
	has(beside, NULL);
	ck_assert_int_eq(notes(), 0);
}
END_TEST

/* Somebody was just opening the old one, and got it; or has written to it since. */
START_TEST(cut_short_in_use)
{
	auto_close int old = put(image, "old"), other = -1;
	struct timespec later[2] = {{.tv_sec = time(NULL) + 60},
				    {.tv_sec = time(NULL) + 60}};
	struct newsecret n;
	struct replace r;

	begin(&n, &r, old);
	ck_assert_int_eq(replace_switch(&r, old), 0);
	if (_i)
		ck_assert_int_eq(futimens(old, later), 0);
	else
		other = open(beside, O_RDWR);
	close(STEAL_FD(&old));
	cut(&r);
	has(image, "new");
	has(beside, "old");
	ck_assert_int_eq(notes(), 1);
}
END_TEST

START_TEST(in_the_way)
{
	auto_close int old = put(image, "old");
	struct newsecret n;
	struct replace r;

	close(put(beside, ""));
	begin(&n, &r, old);
	ck_assert_int_eq(replace_discard(&r), 0);
	replace_fini(&r);
	close(put(beside, "somebody's"));
	ck_assert_int_eq(newsecret_get(&n, &o, NEWSECRET_NONE, "default", beside), 0);
	ck_assert_int_eq(replace_begin(&r, &n, image, old), -EEXIST);
	replace_fini(&r);
	has(beside, "somebody's");
	has(image, "old");
}
END_TEST

START_TEST(temp_names)
{
	ck_assert(replace_is_temp("/a/.b.vmcryptfs"));
	ck_assert(replace_is_temp(".b.vmcryptfs"));
	ck_assert(!replace_is_temp("/a/.vmcryptfs"));
	ck_assert(!replace_is_temp("/a/b.vmcryptfs"));
	ck_assert(!replace_is_temp("/a/.b.vmcryptfs.x"));
	ck_assert(!replace_is_temp("/.b.vmcryptfs/c"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("replace");
	TCase *tc = tcase_create("replace");

	tcase_add_unchecked_fixture(tc, made_setup, made_teardown); /* its log */
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, replaced);
	tcase_add_test(tc, discarded);
	tcase_add_loop_test(tc, changed_meanwhile, WRITTEN, OPENED + 1);
	tcase_add_loop_test(tc, cut_short, BEGUN, MOVED_ON + 1);
	tcase_add_loop_test(tc, cut_short_in_use, 0, 2);
	tcase_add_test(tc, in_the_way);
	tcase_add_test(tc, temp_names);
	suite_add_tcase(s, tc);
	return s;
}
