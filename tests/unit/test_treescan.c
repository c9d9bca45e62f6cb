/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk, on real folders. The header peek is a stand-in: a file that starts with
 * "LUKS" is a container, an empty one is empty, one that starts with '!' cannot be read.
 */
#include "fs/treescan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "util/log.h"

vcf_err_t size_peek_fd(struct peek *out, int fd, uint64_t size)
{
	char head[4] = "";

	if (pread(fd, head, 4, 0) < 0)
		return -errno;
	if (*head == '!')
		return -EIO;
	memset(out, 0, sizeof(*out));
	out->kind = !size			   ? PEEK_EMPTY
		    : memcmp(head, "LUKS", 4) == 0 ? PEEK_CONTAINER
						   : PEEK_PLAINTEXT;
	return 0;
}

struct seen {
	char text[4096]; /* one "class kind path" line a file, sorted at the end */
	int cnt, stop_after;
};

static int note(void *arg, const struct treescan_file *f)
{
	static const char kinds[] = {'e', 'c', 'p', 'd'};
	struct seen *s = arg;
	size_t len = strlen(s->text);
	char kind = !rules_is_image(f->cls) ? '-' : f->err ? '!' : kinds[f->peek.kind];

	ck_assert(S_ISREG(f->st.st_mode));
	if (s->cnt++ < 50)
		snprintf(s->text + len, sizeof(s->text) - len, "%c %s\n", kind, f->path);
	return s->cnt == s->stop_after ? 42 : 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 2, *(char *const *)b + 2);
}

static void sort_lines(char *text)
{
	char *lines[64];
	char *copy = strdup(text);
	size_t cnt = 0;

	for (char *p = strtok(copy, "\n"); p; p = strtok(NULL, "\n"))
		lines[cnt++] = p;
	qsort(lines, cnt, sizeof(lines[0]), by_path);
	*text = '\0';
	for (size_t i = 0; i < cnt; i++) {
		strcat(text, lines[i]);
		strcat(text, "\n");
	}
	free(copy);
}

static struct rules *make(void)
{
	static const struct rule_spec specs[] = {{CLASS_PASSTHROUGH, "locks/**"}};
	struct rules *r = NULL;
	char errbuf[160];

	ck_assert_int_eq(rules_new(&r, specs, 1, NULL, errbuf, sizeof(errbuf)), 0);
	return r;
}

static int make_root(const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void put(int at, const char *path, const char *text)
{
	int fd = openat(at, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

START_TEST(kinds)
{
	auto_rules struct rules *r = make();
	auto_close int root = make_root("kinds");
	struct seen s = {.stop_after = 0};

	ck_assert_int_eq(mkdirat(root, "u", 0700), 0);
	ck_assert_int_eq(mkdirat(root, "u/.deep", 0700), 0);
	ck_assert_int_eq(mkdirat(root, "locks", 0700), 0);
	ck_assert_int_eq(mkdirat(root, "none", 0700), 0);
	put(root, "plain", "hello");
	put(root, "u/disk", "LUKS...");
	put(root, "u/empty", "");
	put(root, "u/.deep/bad", "!");
	put(root, "u/.deep/.hidden", "x");
	put(root, "locks/l", "!");
	ck_assert_int_eq(symlinkat("plain", root, "link"), 0);
	ck_assert_int_eq(symlinkat("u", root, "folderlink"), 0);
	ck_assert_int_eq(symlinkat("/", root, "u/slash"), 0);
	ck_assert_int_eq(mkfifoat(root, "u/fifo", 0600), 0);
	ck_assert_int_eq(treescan(root, r, note, &s), 0);
	sort_lines(s.text);
	ck_assert_str_eq(s.text, "- locks/l\np plain\np u/.deep/.hidden\n! u/.deep/bad\n"
				 "c u/disk\ne u/empty\n");
	s = (struct seen){.stop_after = 0};
	ck_assert_int_eq(treescan_all(root, r, note, &s), 0);
	ck_assert_int_eq(s.cnt, 6);
	/* The descriptor's own position is not used: a second walk sees the same. */
	s = (struct seen){.stop_after = 2};
	ck_assert_int_eq(treescan(root, r, note, &s), 42);
	ck_assert_int_eq(s.cnt, 2);
}
END_TEST

START_TEST(path_only_root)
{
	auto_rules struct rules *r = make();
	auto_close int dir = make_root("pathonly");
	auto_close int root = openat(dir, ".", O_PATH | O_CLOEXEC);
	auto_close int file = -1;
	struct seen s = {.stop_after = 0};

	put(dir, "f", "x");
	ck_assert_int_eq(treescan(root, r, note, &s), 0);
	ck_assert_str_eq(s.text, "p f\n");
	file = openat(dir, "f", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(treescan(file, r, note, &s), -ENOTDIR);
	ck_assert_int_eq(treescan(-1, r, note, &s), -EBADF);
}
END_TEST

/* 1500 levels with names of 10 bytes are beyond PATH_MAX; few descriptors suffice. */
START_TEST(deep)
{
	auto_rules struct rules *r = make();
	auto_close int root = make_root("deep");
	struct seen s = {.stop_after = 0};
	struct rlimit old, few;
	char rm[512];
	int at = dup(root);

	for (int i = 0; i < 1500; i++) {
		int next;

		ck_assert_int_eq(mkdirat(at, "0123456789", 0700), 0);
		/* A sibling at some levels: its path is opened from the root. */
		if (i % 300 == 0)
			ck_assert_int_eq(mkdirat(at, "side", 0700), 0);
		next = openat(at, "0123456789", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (i % 300 == 0)
			put(at, "side/f", "x");
		close(at);
		at = next;
	}
	put(at, "f", "x");
	close(at);
	getrlimit(RLIMIT_NOFILE, &old);
	few = old;
	few.rlim_cur = (rlim_t)root + 8;
	setrlimit(RLIMIT_NOFILE, &few);
	ck_assert_int_eq(treescan(root, r, note, &s), 0);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(s.cnt, 6);
	snprintf(rm, sizeof(rm), "rm -rf '%s/deep'", unit_tmpdir()); /* nftw() cannot */
	ck_assert_int_eq(system(rm), 0);
}
END_TEST

/* Another file system below the root is not entered. Wants a mount. */
START_TEST(other_file_system)
{
	auto_rules struct rules *r = make();
	auto_close int root = make_root("other");
	struct seen s = {.stop_after = 0};
	char path[512];

	ck_assert_int_eq(mkdirat(root, "m", 0700), 0);
	snprintf(path, sizeof(path), "%s/other/m", unit_tmpdir());
	if (mount("none", path, "tmpfs", 0, NULL))
		return; /* no privilege: nothing to see here */
	put(root, "m/f", "x");
	put(root, "g", "x");
	ck_assert_int_eq(treescan(root, r, note, &s), 0);
	ck_assert_int_eq(umount(path), 0);
	ck_assert_str_eq(s.text, "p g\n");
}
END_TEST

/* A folder without permission is skipped; what lies beside it is seen. Not for root. */
START_TEST(unreadable_folder)
{
	auto_rules struct rules *r = make();
	auto_close int root = make_root("unreadable");
	struct seen s = {.stop_after = 0};

	ck_assert_int_eq(mkdirat(root, "shut", 0), 0);
	put(root, "f", "x");
	log_set_level(LOG_LEVEL_ERR);
	ck_assert_int_eq(treescan(root, r, note, &s), 0);
	log_set_level(LOG_LEVEL_INFO);
	ck_assert_str_eq(s.text, "p f\n");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("treescan");
	TCase *t = tcase_create("treescan");

	tcase_add_test(t, kinds);
	tcase_add_test(t, path_only_root);
	tcase_add_test(t, deep);
	tcase_add_test(t, other_file_system);
	tcase_add_test(t, unreadable_folder);
	suite_add_tcase(s, t);
	return s;
}
