/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal on real files. fdatasync() and pwrite() go through wrappers (ld --wrap), so
 * that a test can let them fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/journal.h"
#include "crypto/journal_record.h"
#include "crypto/secret.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

int __real_flock(int fd, int op);
int __wrap_flock(int fd, int op);
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off);

static const char *renamed_from, *renamed_to;
static bool sync_fails;
static ssize_t write_room = -1; /* bytes until pwrite fails; -1: no limit */
static bool skip_sync;
static bool disk_is_fast; /* for the loops: no sync, no room ahead */

int __wrap_fdatasync(int fd)
{
	if (sync_fails) {
		errno = EIO;
		return -1;
	}
	return skip_sync || disk_is_fast ? 0 : __real_fdatasync(fd);
}

/* Between open and lock another process renames a file over this one. */
int __wrap_flock(int fd, int op)
{
	const char *from = renamed_from;

	renamed_from = NULL;
	if (from && rename(from, renamed_to) < 0)
		abort();
	return __real_flock(fd, op);
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	return disk_is_fast ? 0 : __real_fallocate64(fd, mode, off, len);
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off)
{
	if (write_room >= 0 && (size_t)write_room < len) {
		len = (size_t)write_room;
		if (!len) {
			errno = ENOSPC;
			return -1;
		}
	}
	if (write_room > 0)
		write_room -= (ssize_t)len;
	return __real_pwrite64(fd, buf, len, off);
}

static const char *path_of(const char *name)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	return path;
}

static struct journal *open_ok(const char *name)
{
	struct journal *j = NULL;

	ck_assert_int_eq(journal_open(&j, path_of(name)), 0);
	return j;
}

static struct journal_entry entry_of(int n)
{
	struct journal_entry e = {.state = JOURNAL_DELETING, .dev = 7, .ino = 1000};

	e.ino += (uint64_t)n;
	e.derived = n % 3 == 0;
	memset(e.uuid, n, UUID_LEN);
	snprintf(e.service, sizeof(e.service), "service-%d", n);
	snprintf(e.key_id, sizeof(e.key_id), "key/%d", n);
	snprintf(e.path, sizeof(e.path), "instance/%d/disk", n);
	return e;
}

/* Like a LUKS2 header: some blocks with bytes, most without. */
static const unsigned char *header_of(int n)
{
	static unsigned char hdr[CONTAINER_PEEK_LEN];

	memset(hdr, 0, sizeof(hdr));
	memset(hdr, n + 1, 700);
	memset(hdr + 4096, n + 2, 1500);
	hdr[sizeof(hdr) - 1] = 9;
	return hdr;
}

static uint64_t add_ok(struct journal *j, int n, bool with_header)
{
	struct journal_entry e = entry_of(n);

	ck_assert_int_eq(journal_add(j, &e, with_header ? header_of(n) : NULL), 0);
	return e.id;
}

static void check_entry(struct journal *j, uint64_t id, int n, enum journal_state state,
			bool with_header)
{
	struct journal_entry want = entry_of(n), got;
	unsigned char hdr[CONTAINER_PEEK_LEN];

	ck_assert_int_eq(journal_get(j, id, &got), 0);
	ck_assert_int_eq(got.state, state);
	ck_assert_str_eq(got.service, want.service);
	ck_assert_str_eq(got.key_id, want.key_id);
	ck_assert_str_eq(got.path, want.path);
	ck_assert_mem_eq(got.uuid, want.uuid, UUID_LEN);
	ck_assert(got.dev == want.dev && got.ino == want.ino &&
		  got.derived == want.derived);
	ck_assert_int_eq(journal_header(j, id, hdr), with_header ? 0 : -ENODATA);
	if (with_header)
		ck_assert_mem_eq(hdr, header_of(n), sizeof(hdr));
}

static int count_one(void *arg, const struct journal_entry *e)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

static int entries(struct journal *j)
{
	int cnt = 0;

	ck_assert_int_eq(journal_each(j, count_one, &cnt), 0);
	return cnt;
}

/* The file's bytes up to its last record's end (each record starts on a block). */
struct image {
	unsigned char *bytes;
	size_t len;
	size_t offs[64]; /* of the records */
	int cnt;
};

static void load_file(struct image *im, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	im->bytes = calloc(1, (size_t)st.st_size + JOURNAL_ALIGN);
	ck_assert(io_pread_full(fd, im->bytes, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	im->cnt = 0;
	im->len = JOURNAL_HEADER_LEN;
	while ((n = journal_record_peek(im->bytes + im->len)) > 0) {
		ck_assert_int_lt(im->cnt, 64);
		im->offs[im->cnt++] = im->len;
		im->len += (size_t)n;
	}
	ck_assert_int_eq((int)n, 0);
}

static void load_image(struct image *im, const char *name)
{
	load_file(im, path_of(name));
}

static void store_image(const char *name, const void *bytes, size_t len)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(io_pwrite_full(fd, bytes, len, 0), 0);
	close(fd);
}

/* --- codec --- */

START_TEST(codec_limits)
{
	static unsigned char hdr[CONTAINER_PEEK_LEN], back[CONTAINER_PEEK_LEN];
	static unsigned char buf[JOURNAL_RECORD_MAX];
	unsigned char file_id[JOURNAL_ID_LEN] = {1, 2, 3};
	struct journal_record r = {.add = true, .seq = UINT64_MAX}, got;
	ssize_t n;

	memset(hdr, 0xff, sizeof(hdr));
	r.entry.state = JOURNAL_SUSPECT;
	r.entry.id = UINT64_MAX;
	r.entry.due = -1;
	memset(r.entry.service, 's', TOKEN_SERVICE_MAX);
	memset(r.entry.key_id, 'k', TOKEN_KEY_ID_MAX);
	memset(r.entry.path, 'p', sizeof(r.entry.path) - 1);
	n = journal_record_encode(buf, file_id, &r, hdr);
	ck_assert_int_gt((int)n, CONTAINER_PEEK_LEN);
	ck_assert_int_eq((int)journal_record_peek(buf), (int)n);
	ck_assert_int_eq(journal_record_decode(&got, back, file_id, buf, (size_t)n), 0);
	ck_assert_mem_eq(back, hdr, sizeof(hdr));
	ck_assert(got.entry.id == UINT64_MAX && got.seq == UINT64_MAX &&
		  got.entry.due == -1);
	ck_assert_str_eq(got.entry.path, r.entry.path);
	ck_assert_str_eq(got.entry.key_id, r.entry.key_id);
	/* a record of another file */
	file_id[15] ^= 1;
	ck_assert_int_eq(journal_record_decode(&got, back, file_id, buf, (size_t)n),
			 -EBADMSG);
	memset(r.entry.path, 'p', sizeof(r.entry.path));
	ck_assert_int_eq((int)journal_record_encode(buf, file_id, &r, hdr), -EINVAL);
}
END_TEST

START_TEST(codec_every_bit_counts)
{
	static unsigned char buf[JOURNAL_RECORD_MAX];
	unsigned char file_id[JOURNAL_ID_LEN] = {0};
	struct journal_record r = {.seq = 5, .entry = entry_of(1)}, got;
	ssize_t n = journal_record_encode(buf, file_id, &r, NULL);
	size_t own = buf[8] | (size_t)buf[9] << 8;

	ck_assert_int_eq((int)n, JOURNAL_ALIGN);
	for (size_t bit = 0; bit < own * 8; bit++) {
		buf[bit / 8] ^= (unsigned char)(1 << bit % 8);
		ck_assert_int_eq(journal_record_decode(&got, NULL, file_id, buf, 512),
				 -EBADMSG);
		buf[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	ck_assert_int_eq(journal_record_decode(&got, NULL, file_id, buf, 512), 0);
}
END_TEST

/* --- the file --- */

START_TEST(round_trip)
{
	struct journal *j = open_ok("a/b/c/round");
	uint64_t a = add_ok(j, 1, true), b = add_ok(j, 2, false), c = add_ok(j, 3, true);
	struct journal_entry e;
	struct stat st;

	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, b, JOURNAL_DESTROYING, "key/2", 12345), 0);
	ck_assert_int_eq(journal_set(j, c, JOURNAL_CLOSED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, c, JOURNAL_CLOSED, NULL, 0), -ENOENT);
	ck_assert_int_eq(journal_set_using(j, a, 3, 4, "where"), 0);
	journal_close(j);
	ck_assert_int_eq(stat(path_of("a/b/c/round"), &st), 0);
	ck_assert_int_eq((int)(st.st_mode & 07777), 0600);
	ck_assert_int_eq(stat(path_of("a/b"), &st), 0);
	ck_assert_int_eq((int)(st.st_mode & 07777), 0700);

	j = open_ok("a/b/c/round");
	ck_assert_int_eq(entries(j), 2);
	check_entry(j, b, 2, JOURNAL_DESTROYING, false);
	ck_assert_int_eq(journal_get(j, b, &e), 0);
	ck_assert_int_eq((int)e.due, 12345);
	ck_assert_int_eq(journal_get(j, a, &e), 0);
	ck_assert_int_eq(e.state, JOURNAL_USING);
	ck_assert_str_eq(e.path, "where");
	ck_assert(e.dev == 3 && e.ino == 4);
	ck_assert_int_eq(journal_get(j, c, &e), -ENOENT);
	ck_assert_int_eq(journal_header(j, c, NULL), -ENOENT);
	ck_assert_int_eq((int)journal_count(j, JOURNAL_USING), 1);
	ck_assert_int_eq((int)journal_count(j, JOURNAL_CLOSED), 0);
	ck_assert(add_ok(j, 4, false) > c); /* ids are never used again */
	journal_close(j);
}
END_TEST

static int stop_at_two(void *arg, const struct journal_entry *e)
{
	struct journal *j = arg;

	/* no lock is held: closing from here is fine */
	ck_assert_int_eq(journal_set(j, e->id, JOURNAL_CLOSED, NULL, 0), 0);
	return e->ino == 1002 ? 42 : 0;
}

START_TEST(each_may_change)
{
	struct journal *j = open_ok("each");

	for (int i = 1; i < 5; i++)
		add_ok(j, i, false);
	ck_assert_int_eq(journal_each(j, stop_at_two, j), 42);
	ck_assert_int_eq(entries(j), 2);
	journal_close(j);
}
END_TEST

START_TEST(one_opener)
{
	struct journal *j = open_ok("lock"), *second = NULL;

	ck_assert_int_eq(journal_open(&second, path_of("lock")), -EBUSY);
	journal_close(j);
	journal_close(open_ok("lock"));
}
END_TEST

/* How the torn record's place looks after the crash. */
enum { CUT, ZEROS, GARBAGE };

/*
 * The last record is there up to every byte: it must be gone, all before it there, and
 * the next append must hold.
 */
static void torn_at(const struct image *im, size_t at, int rest)
{
	size_t last = im->offs[im->cnt - 1], len = im->len + 4096;
	unsigned char *bytes = calloc(1, len);
	struct journal *j;
	uint64_t id;

	memcpy(bytes, im->bytes, at);
	if (rest == GARBAGE)
		memset(bytes + at, 0xa5, im->len - at);
	store_image("torn2", bytes, rest == CUT ? at : len);
	free(bytes);
	j = open_ok("torn2");
	ck_assert_int_eq(entries(j), 1);
	check_entry(j, 1, 1, JOURNAL_DELETING, true);
	id = add_ok(j, 2, false);
	ck_assert_int_eq((int)id, 2);
	journal_close(j);
	j = open_ok("torn2");
	ck_assert_int_eq(entries(j), 2);
	check_entry(j, 2, 2, JOURNAL_DELETING, false);
	journal_close(j);
	ck_assert(last < im->len);
}

static void make_torn_image(struct image *im, bool with_header)
{
	struct journal *j;

	unlink(path_of("torn"));
	j = open_ok("torn");
	add_ok(j, 1, true);
	if (with_header)
		add_ok(j, 5, true);
	else
		ck_assert_int_eq(journal_set(j, 1, JOURNAL_UNLINKED, NULL, 0), 0);
	journal_close(j);
	load_image(im, "torn");
}

START_TEST(torn_tail)
{
	size_t own, last;
	struct image im;

	disk_is_fast = true;
	log_set_level(LOG_LEVEL_WARN);
	make_torn_image(&im, _i / 3);
	last = im.offs[im.cnt - 1];
	own = im.bytes[last + 8] | (size_t)im.bytes[last + 9] << 8;
	while (!im.bytes[last + own - 1])
		own--; /* zeros that are not there are there */
	/* in a large record only around its parts' borders */
	for (size_t n = 0; n < own; n++)
		if (n < 300 || n % 512 < 2 || n + 3 > own)
			torn_at(&im, last + n, _i % 3);
	free(im.bytes);
	log_set_level(LOG_LEVEL_INFO);
	disk_is_fast = false;
}
END_TEST

START_TEST(failed_write_changes_nothing)
{
	struct journal *j = open_ok("short");
	uint64_t a = add_ok(j, 1, true);
	struct journal_entry e = entry_of(2);

	write_room = 2000; /* the record is longer: torn */
	ck_assert_int_eq(journal_add(j, &e, header_of(2)), -ENOSPC);
	write_room = 0;
	ck_assert_int_eq(journal_set(j, a, JOURNAL_CLOSED, NULL, 0), -ENOSPC);
	write_room = -1;
	check_entry(j, a, 1, JOURNAL_DELETING, true);
	ck_assert_int_eq(entries(j), 1);
	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), 0);
	journal_close(j);
	j = open_ok("short");
	check_entry(j, a, 1, JOURNAL_UNLINKED, true);
	ck_assert_int_eq(entries(j), 1);
	journal_close(j);
}
END_TEST

START_TEST(failed_sync_is_final)
{
	struct journal *j = open_ok("sync");
	uint64_t a = add_ok(j, 1, true);
	struct journal_entry e = entry_of(2);

	sync_fails = true;
	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), -EIO);
	sync_fails = false;
	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), -EIO);
	ck_assert_int_eq(journal_add(j, &e, NULL), -EIO);
	check_entry(j, a, 1, JOURNAL_DELETING, true);
	journal_close(j);
	journal_close(open_ok("sync"));
}
END_TEST

/* The file may not grow: deletes go on in the room that was allocated ahead. */
START_TEST(full_disk)
{
	struct journal *j = open_ok("full");
	struct rlimit old, now;
	struct stat st;
	int cnt = 0;

	ck_assert_int_eq(stat(path_of("full"), &st), 0);
	ck_assert_int_ge((int)st.st_blocks, 4 * 1024 * 1024 / 512);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	now = old;
	now.rlim_cur = (rlim_t)st.st_size;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &now), 0);
	skip_sync = true;
	for (vcf_err_t err = 0; !err; cnt++) {
		struct journal_entry e = entry_of(cnt);

		err = journal_add(j, &e, header_of(cnt));
		if (err)
			ck_assert_int_eq(err, -EFBIG);
	}
	skip_sync = false;
	ck_assert_int_gt(cnt, 300);
	ck_assert_int_eq(entries(j), cnt - 1);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	add_ok(j, 77, true); /* there is room again */
	journal_close(j);
	j = open_ok("full");
	ck_assert_int_eq(entries(j), cnt);
	journal_close(j);
}
END_TEST

START_TEST(compaction)
{
	struct journal *j = open_ok("compact"), *second = NULL;
	struct stat before, after;
	uint64_t keep[10], last = 0;
	bool with[10];

	disk_is_fast = true;
	for (int i = 0; i < 1000; i++) {
		last = add_ok(j, i % 100, i % 2);
		if (i % 100 == 7) {
			keep[i / 100] = last;
			with[i / 100] = i % 2;
			ck_assert_int_eq(
				journal_set(j, last, JOURNAL_DESTROYING, NULL, i + 1), 0);
			continue;
		}
		ck_assert_int_eq(journal_set(j, last, JOURNAL_CLOSED, NULL, 0), 0);
	}
	disk_is_fast = false;
	journal_close(j);
	ck_assert_int_eq(stat(path_of("compact"), &before), 0);
	for (int round = 0; round < 2; round++) {
		j = open_ok("compact");
		ck_assert_int_eq(entries(j), 10);
		for (int i = 0; i < 10; i++) {
			struct journal_entry e;

			check_entry(j, keep[i], 7, JOURNAL_DESTROYING, with[i]);
			ck_assert_int_eq(journal_get(j, keep[i], &e), 0);
			ck_assert_int_eq((int)e.due, i * 100 + 8);
		}
		/* the lock went over to the new file */
		ck_assert_int_eq(journal_open(&second, path_of("compact")), -EBUSY);
		journal_close(j);
		ck_assert_int_eq(stat(path_of("compact"), &after), 0);
		ck_assert(after.st_ino != before.st_ino);
	}
	ck_assert_int_ne(access(path_of("compact.new"), F_OK), 0);
	j = open_ok("compact");
	ck_assert(add_ok(j, 1, false) > last);
	journal_close(j);
}
END_TEST

/* Compaction that finds no room leaves all as it was. */
START_TEST(compaction_without_room)
{
	struct journal *j = open_ok("noroom");
	uint64_t keep = add_ok(j, 1, true);
	struct stat before, after;
	struct image im;

	for (int i = 0; i < 40; i++) {
		uint64_t id = add_ok(j, 2, true);

		ck_assert_int_eq(journal_set(j, id, JOURNAL_CLOSED, NULL, 0), 0);
		if (i > 30)
			continue;
	}
	journal_close(j);
	ck_assert_int_eq(stat(path_of("noroom"), &before), 0);
	write_room = 4096; /* the new file's header */
	j = open_ok("noroom");
	write_room = -1;
	check_entry(j, keep, 1, JOURNAL_DELETING, true);
	ck_assert_int_eq(stat(path_of("noroom"), &after), 0);
	ck_assert(after.st_ino == before.st_ino);
	ck_assert_int_ne(access(path_of("noroom.new"), F_OK), 0);
	ck_assert_int_eq(journal_set(j, keep, JOURNAL_UNLINKED, NULL, 0), 0);
	journal_close(j);
	j = open_ok("noroom");
	check_entry(j, keep, 1, JOURNAL_UNLINKED, true);
	journal_close(j);
	load_image(&im, "noroom");
	ck_assert_int_eq(im.cnt, 1);
	free(im.bytes);
}
END_TEST

/* A record in the middle is bad: the rest is kept, what waited for use is parked. */
START_TEST(damage_in_the_middle)
{
	struct journal *j = open_ok("damage");
	uint64_t a = add_ok(j, 1, true), b = add_ok(j, 2, false), c;
	struct image im;

	ck_assert_int_eq(journal_set(j, b, JOURNAL_UNUSED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), 0); /* lost */
	c = add_ok(j, 3, true);
	journal_close(j);
	load_image(&im, "damage");
	ck_assert_int_eq(im.cnt, 5);
	im.bytes[im.offs[3] + 40] ^= 1;
	store_image("damage", im.bytes, im.len);
	free(im.bytes);
	for (int round = 0; round < 2; round++) {
		j = open_ok("damage");
		ck_assert_int_eq(entries(j), 3);
		check_entry(j, a, 1, JOURNAL_DELETING, true);
		check_entry(j, b, 2, JOURNAL_SUSPECT, false);
		check_entry(j, c, 3, JOURNAL_DELETING, true);
		journal_close(j);
	}
	ck_assert_int_eq(access(path_of("damage.damaged"), F_OK), 0);
}
END_TEST

/* A record is missing: what comes after it is not simply the next one. */
START_TEST(gap_in_the_sequence)
{
	struct journal *j = open_ok("gap");
	uint64_t a = add_ok(j, 1, true), b = add_ok(j, 2, false);
	struct image im;

	ck_assert_int_eq(journal_set(j, b, JOURNAL_UNUSED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNLINKED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, a, JOURNAL_WIPED, NULL, 0), 0);
	journal_close(j);
	load_image(&im, "gap");
	memmove(im.bytes + im.offs[3], im.bytes + im.offs[4], im.len - im.offs[4]);
	store_image("gap", im.bytes, im.len - JOURNAL_ALIGN);
	free(im.bytes);
	j = open_ok("gap");
	check_entry(j, a, 1, JOURNAL_WIPED, true);
	check_entry(j, b, 2, JOURNAL_SUSPECT, false);
	journal_close(j);
}
END_TEST

/* An old record behind the last one does not come back to life. */
START_TEST(stale_record)
{
	struct journal *j = open_ok("stale");
	uint64_t a = add_ok(j, 1, false), b;
	struct image im;

	ck_assert_int_eq(journal_set(j, a, JOURNAL_UNUSED, NULL, 0), 0);
	ck_assert_int_eq(journal_set(j, a, JOURNAL_USING, NULL, 0), 0);
	journal_close(j);
	load_image(&im, "stale");
	im.bytes = realloc(im.bytes, im.len + (size_t)2 * JOURNAL_ALIGN);
	memcpy(im.bytes + im.len, im.bytes + im.offs[1], (size_t)2 * JOURNAL_ALIGN);
	store_image("stale", im.bytes, im.len + (size_t)2 * JOURNAL_ALIGN);
	free(im.bytes);
	j = open_ok("stale");
	check_entry(j, a, 1, JOURNAL_USING, false);
	b = add_ok(j, 2, false);
	journal_close(j);
	j = open_ok("stale");
	check_entry(j, a, 1, JOURNAL_USING, false);
	check_entry(j, b, 2, JOURNAL_DELETING, false);
	journal_close(j);
	load_image(&im, "stale");
	ck_assert_int_eq(im.cnt, 4);
	free(im.bytes);
}
END_TEST

/* The file is compacted by its owner, who then ends, while we wait for its lock. */
START_TEST(lock_of_a_replaced_file)
{
	char from[4200], to[4200];
	struct journal *j;

	journal_close(open_ok("old"));
	j = open_ok("fresh");
	add_ok(j, 1, false);
	journal_close(j);
	snprintf(from, sizeof(from), "%s", path_of("fresh"));
	snprintf(to, sizeof(to), "%s", path_of("old"));
	renamed_to = to;
	renamed_from = from;
	j = open_ok("old");
	ck_assert_int_eq(entries(j), 1);
	journal_close(j);
}
END_TEST

START_TEST(other_host)
{
	struct journal *j = open_ok("host");
	uint64_t a = add_ok(j, 1, true);
	struct journal_header h;
	struct image im;

	journal_close(j);
	load_image(&im, "host");
	ck_assert_int_eq(journal_header_decode(&h, im.bytes), 0);
	memset(h.host_id, 0x77, sizeof(h.host_id));
	ck_assert_int_eq(journal_header_encode(im.bytes, &h), 0);
	store_image("host", im.bytes, im.len);
	free(im.bytes);
	j = open_ok("host");
	check_entry(j, a, 1, JOURNAL_SUSPECT, true);
	journal_close(j);
	load_image(&im, "host");
	ck_assert_int_eq(journal_header_decode(&h, im.bytes), 0);
	ck_assert(h.host_id[0] != 0x77 || h.host_id[1] != 0x77);
	free(im.bytes);
}
END_TEST

static const struct {
	const char *what;
	size_t at; /* byte to change; */
	size_t len;
	int err;
} refused_rows[] = {
	{"magic", 0, 8192, -EBADMSG},	   {"version", 8, 8192, -ENOTSUP},
	{"checksum", 72, 8192, -EBADMSG},  {"file id", 20, 8192, -EBADMSG},
	{"next id", 64, 8192, -EBADMSG},   {"short", 0, 100, -EBADMSG},
	{"one block", 30, 4096, -EBADMSG},
};

START_TEST(refused)
{
	struct journal *j = open_ok("refuse");
	struct image im;

	add_ok(j, 1, true);
	journal_close(j);
	load_image(&im, "refuse");
	im.bytes[refused_rows[_i].at] += 7;
	store_image("refuse", im.bytes, refused_rows[_i].len);
	ck_assert_int_eq(journal_open(&j, path_of("refuse")), refused_rows[_i].err);
	free(im.bytes);
	unlink(path_of("refuse"));
}
END_TEST

/* A crash between making the file and its header leaves zeros or nothing. */
START_TEST(unfinished_creation)
{
	static const char zeros[JOURNAL_HEADER_LEN];

	store_image("young", zeros, _i ? sizeof(zeros) : 0);
	journal_close(open_ok("young"));
	journal_close(open_ok("young"));
}
END_TEST

START_TEST(no_file_to_be_had)
{
	struct journal *j = NULL;

	store_image("plain", "x", 1);
	ck_assert_int_eq(journal_open(&j, path_of("plain/journal")), -ENOTDIR);
	ck_assert_int_eq(symlink("plain", path_of("link")), 0);
	ck_assert_int_eq(journal_open(&j, path_of("link")), -ELOOP);
	ck_assert_ptr_null(j);
}
END_TEST

/*
 * tests/golden/v1-journal: entries 1 to 8 of entry_of(), written by the first version, without a
 * host. Later versions read it, go on with it, and keep what it says.
 */
START_TEST(golden)
{
	static const enum journal_state states[] = {
		[1] = JOURNAL_DELETING, [2] = JOURNAL_DESTROYING, [3] = JOURNAL_SUSPECT,
		[4] = JOURNAL_CREATING, [5] = JOURNAL_UNUSED,	  [6] = JOURNAL_USING,
		[8] = JOURNAL_WIPED,
	};
	struct journal_entry e;
	struct journal *j;
	struct image im;
	char hex[JOURNAL_HOST_HEX_LEN + 1], path[512];

	snprintf(path, sizeof(path), "%s/tests/golden/v1-journal", VCF_SOURCE_ROOT);
	load_file(&im, path);
	store_image("golden", im.bytes, im.len);
	free(im.bytes);
	for (int round = 0; round < 2; round++) {
		j = open_ok("golden");
		ck_assert_int_eq(entries(j), round ? 8 : 7);
		for (int n = 1; n <= 8; n++) {
			if (n != 7)
				check_entry(j, (uint64_t)n, n, states[n], n < 4);
		}
		ck_assert_int_eq(journal_get(j, 7, &e), -ENOENT);
		ck_assert_int_eq(journal_get(j, 2, &e), 0);
		ck_assert_int_eq(e.due, 1800000000);
		journal_host(j, hex);
		ck_assert_str_eq(hex, "");
		if (!round)
			ck_assert_uint_eq(add_ok(j, 9, false), 9);
		journal_close(j);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("journal");
	TCase *t = tcase_create("journal");

	tcase_add_test(t, codec_limits);
	tcase_add_test(t, codec_every_bit_counts);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, each_may_change);
	tcase_add_test(t, one_opener);
	tcase_add_loop_test(t, torn_tail, 0, 6);
	tcase_add_test(t, failed_write_changes_nothing);
	tcase_add_test(t, failed_sync_is_final);
	tcase_add_test(t, full_disk);
	tcase_add_test(t, compaction);
	tcase_add_test(t, compaction_without_room);
	tcase_add_test(t, damage_in_the_middle);
	tcase_add_test(t, gap_in_the_sequence);
	tcase_add_test(t, stale_record);
	tcase_add_test(t, lock_of_a_replaced_file);
	tcase_add_test(t, other_host);
	tcase_add_loop_test(t, refused, 0, ROWS(refused_rows));
	tcase_add_loop_test(t, unfinished_creation, 0, 2);
	tcase_add_test(t, no_file_to_be_had);
	tcase_add_test(t, golden);
	suite_add_tcase(s, t);
	return s;
}
