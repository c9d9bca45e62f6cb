/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutants of containers (mutant.h) below a server: each is refused with an error and a line in the log
 * that names the file, or reads exactly as the original does. A refused one is never written to; of one
 * that is read only a damaged copy of the header may have been mended, or what was left of an old key
 * slot overwritten, which is said.
 *
 * VCF_MUTANTS    of each kind (default 250): fewer than there are regular ones are spread over these,
 *                what is more is random
 * VCF_FUZZ_SEED  default: the time     VCF_MUTANT  only this one, by the number that is printed
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/escrow.h"
#include "fs/span.h"
#include "tests/protocol/mutant.h"
#include "tests/protocol/rig.h"
#include "util/io.h"
#include "util/log.h"

enum { PLAIN_LEN = 3 * 4096 + 100, READ_MAX = 64 * 1024, ERRNOS = 200, HELD_MAX = 800 };

static const struct kind {
	const char *name;
	enum luks_format format;
	uint32_t sector_len;
	bool escrow;
	const char *settings[4];
} kinds[] = {
	{"luks2-4096", FORMAT_LUKS2, 4096, true, {"format.sector-size=4096"}},
	{"luks2-512",
	 FORMAT_LUKS2,
	 512,
	 false,
	 {"format.sector-size=512", "rules.derived=*"}},
	{"luks1",
	 FORMAT_LUKS1,
	 512,
	 true,
	 {"format.type=luks1", "format.sector-size=512"}},
	{"luks1-derived",
	 FORMAT_LUKS1,
	 512,
	 false,
	 {"format.type=luks1", "format.sector-size=512", "rules.derived=*"}},
};

struct lab {
	struct rig r;
	struct original o;
	unsigned char data[128 * 1024]; /* of the original, from data_off on */
	unsigned char plain[READ_MAX];	/* zeros behind PLAIN_LEN */
	struct mutant m;
	char name[32];
	FILE *log;
	char said[8192]; /* what the log got since the mutant came */
	size_t refused[ERRNOS], right, mended;
	bool keeps_numbers; /* the file system gives no inode number twice */
	/* Mutants that are gone keep their inode numbers until the server has forgotten their keys. */
	int held[HELD_MAX];
	int held_cnt;
};

static unsigned int seed;

static int open_backing(struct lab *l, const char *name, int flags)
{
	int fd = open(rig_backing(&l->r, name), flags | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void load_original(struct lab *l, const struct kind *k)
{
	auto_close int fd = open_backing(l, "original", O_RDONLY);
	struct statfs fs;
	struct stat st;

	ck_assert_int_eq(fstatfs(fd, &fs), 0);
	l->keeps_numbers = fs.f_type == TMPFS_MAGIC;
	ck_assert_int_eq(fstat(fd, &st), 0);
	l->o.format = k->format;
	l->o.sector_len = k->sector_len;
	l->o.data_off = CONTAINER_DATA_OFF;
	l->o.size = (uint64_t)st.st_size;
	l->o.head = malloc(MUTANT_HEAD_LEN);
	ck_assert_uint_lt(l->o.size - l->o.data_off, sizeof(l->data));
	ck_assert_int_eq(io_pread_full(fd, l->o.head, MUTANT_HEAD_LEN, 0),
			 MUTANT_HEAD_LEN);
	ck_assert_int_gt(
		io_pread_full(fd, l->data, sizeof(l->data), (off_t)l->o.data_off), 0);
	ck_assert(original_scan(&l->o));
	ck_assert_int_eq(l->o.format == FORMAT_LUKS1 && l->o.escrow.cnt > 0,
			 l->o.format == FORMAT_LUKS1 && k->escrow);
}

static void open_log(struct lab *l)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/log", l->r.dir);
	ck_assert_int_eq(log_set_file(path), 0);
	log_set_level(LOG_LEVEL_INFO);
	l->log = fopen(path, "re");
	ck_assert_ptr_nonnull(l->log);
}

/* With a hole, which reads as zeros only while the header says so. */
static void make_original(struct lab *l)
{
	uint64_t node = rig_image(&l->r, ROOT, "original", PLAIN_LEN);
	struct fuse_open_out open;

	ck_assert_int_eq(fc_open(l->r.c, node, O_RDWR, &open), 0);
	ck_assert_int_eq(fc_fallocate(l->r.c, node, open.fh,
				      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096,
				      4096),
			 0);
	ck_assert_int_eq(fc_release(l->r.c, node, open.fh), 0);
	fc_forget(l->r.c, node, 1);
	rig_pattern(l->plain, PLAIN_LEN, 1);
	memset(l->plain + 4096, 0, 4096);
}

static void lab_start(struct lab *l, const struct kind *k)
{
	const char *settings[8] = {"key-service.linger=0"};
	struct escrow_public pub;
	char dir[600], option[700];
	int cnt = 1;

	for (int i = 0; k->settings[i]; i++)
		settings[cnt++] = k->settings[i];
	snprintf(dir, sizeof(dir), "%s/escrow.XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(dir));
	strcat(dir, "/key");
	ck_assert_int_eq(escrow_make_key(dir, &pub), 0);
	snprintf(option, sizeof(option), "escrow.public-key=%s.pub", dir);
	if (k->escrow)
		settings[cnt++] = option;
	ck_assert_int_eq(log_set_file("/dev/null"), 0);
	rig_start(&l->r, settings);
	open_log(l);
	make_original(l);
	load_original(l, k);
}

static void let_go(struct lab *l)
{
	while (l->held_cnt)
		close(l->held[--l->held_cnt]);
}

/* Images are closed once a second. */
static void remove_mutant(struct lab *l)
{
	int fd = open_backing(l, l->name, O_WRONLY | O_TRUNC);

	l->held[l->held_cnt++] = fd;
	ck_assert_int_eq(unlink(rig_backing(&l->r, l->name)), 0);
	if (l->keeps_numbers)
		let_go(l);
	if (l->held_cnt < HELD_MAX)
		return;
	rig_sleep_ms(2500);
	let_go(l);
}

static void lab_end(struct lab *l)
{
	let_go(l);
	rig_check_empty(&l->r);
	fclose(l->log);
	free(l->o.head);
	ck_assert_int_eq(log_set_file("/dev/null"), 0);
	rig_end(&l->r);
}

static void write_part(int fd, const void *buf, size_t len, uint64_t off, uint64_t size)
{
	if (off >= size)
		return;
	if (len > size - off)
		len = (size_t)(size - off);
	ck_assert_int_eq(io_pwrite_full(fd, buf, len, (off_t)off), 0);
}

/* False: the file system has no files of such a size. */
static bool plant(struct lab *l)
{
	auto_close int fd = open_backing(l, l->name, O_RDWR | O_CREAT | O_EXCL);
	const struct mutant *m = &l->m;
	size_t data_len = (size_t)(l->o.size - l->o.data_off);

	write_part(fd, m->head, sizeof(m->head), 0, m->size);
	if (!io_is_zero(m->kept, sizeof(m->kept)))
		write_part(fd, m->kept, sizeof(m->kept), l->o.data_off - sizeof(m->kept),
			   m->size);
	write_part(fd, l->data, data_len, l->o.data_off, m->size);
	return ftruncate(fd, (off_t)m->size) == 0;
}

static bool part_same(int fd, const void *want, size_t len, uint64_t off, uint64_t size)
{
	static unsigned char buf[MUTANT_HEAD_LEN];

	if (off >= size)
		return true;
	if (len > size - off)
		len = (size_t)(size - off);
	return io_pread_full(fd, buf, len, (off_t)off) == (ssize_t)len &&
	       memcmp(buf, want, len) == 0;
}

/* Is the file as it was planted? */
static bool untouched(struct lab *l)
{
	auto_close int fd = open_backing(l, l->name, O_RDONLY);
	const struct mutant *m = &l->m;
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_msg((uint64_t)st.st_size == m->size, "%s: the size has changed",
		      m->what);
	ck_assert_msg(part_same(fd, l->data, (size_t)(l->o.size - l->o.data_off),
				l->o.data_off, m->size),
		      "%s: data has changed", m->what);
	return part_same(fd, m->head, sizeof(m->head), 0, m->size) &&
	       part_same(fd, m->kept, sizeof(m->kept), l->o.data_off - sizeof(m->kept),
			 m->size);
}

static void listen(struct lab *l)
{
	size_t n;

	clearerr(l->log);
	n = fread(l->said, 1, sizeof(l->said) - 1, l->log);
	l->said[n] = '\0';
}

/* A line of its own: "...] err: NAME: ...". */
static bool names_it(const struct lab *l)
{
	char want[64];

	snprintf(want, sizeof(want), "err: %s: ", l->name);
	return strstr(l->said, want) != NULL;
}

static void check_refused(struct lab *l, int err)
{
	ck_assert_msg(err != FC_NO_ANSWER, "%s: no answer", l->m.what);
	ck_assert_msg(err == -EBADMSG || err == -EKEYREJECTED || err == -ENOKEY ||
			      err == -EPERM,
		      "%s: refused with %s", l->m.what, strerror(-err));
	listen(l);
	ck_assert_msg(names_it(l), "%s: %s, and the log says only: %s", l->m.what,
		      strerror(-err), l->said);
	ck_assert_msg(untouched(l), "%s: refused, but changed", l->m.what);
	l->refused[-err]++;
}

/* The whole of it, or as much as one request gives. */
static void check_content(struct lab *l, uint64_t node, uint64_t fh, uint64_t want)
{
	static unsigned char buf[READ_MAX];
	struct fuse_attr attr;
	size_t len = want < READ_MAX ? (size_t)want : READ_MAX;

	ck_assert_int_eq(fc_getattr(l->r.c, node, &attr), 0);
	ck_assert_msg(attr.size == want, "%s: size %llu, not %llu", l->m.what,
		      (unsigned long long)attr.size, (unsigned long long)want);
	ck_assert_msg(fc_read(l->r.c, node, fh, 0, buf, READ_MAX) == (long)len,
		      "%s: cannot be read", l->m.what);
	ck_assert_msg(memcmp(buf, l->plain, len) == 0, "%s: WRONG PLAINTEXT", l->m.what);
}

static void check_mended(struct lab *l)
{
	listen(l);
	if (untouched(l))
		return;
	ck_assert_msg(strstr(l->said, "copy of the header was damaged") ||
			      strstr(l->said, "left of an old key slot is overwritten"),
		      "%s: changed without a word", l->m.what);
	l->mended++;
}

static void check_read(struct lab *l, uint64_t node, uint64_t fh)
{
	struct geom g = {.data_off = l->o.data_off, .sector_len = l->o.sector_len};
	uint64_t want = 0;
	vcf_err_t err = span_decode_size(&g, l->m.size, &want);

	if (l->m.may_be_empty)
		want = 0;
	ck_assert_msg(!err || l->m.may_be_empty, "%s: torn, but opened", l->m.what);
	check_content(l, node, fh, want);
	ck_assert_int_eq(fc_release(l->r.c, node, fh), 0);
	check_mended(l);
	l->right++;
}

static void try(struct lab *l)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	int err;

	if (plant(l)) {
		ck_assert_msg(fc_lookup(l->r.c, ROOT, l->name, &entry) == 0,
			      "%s: no lookup", l->m.what);
		err = fc_open(l->r.c, entry.nodeid, O_RDONLY, &open);
		if (err)
			check_refused(l, err);
		else
			check_read(l, entry.nodeid, open.fh);
		fc_forget(l->r.c, entry.nodeid, 1);
	}
	remove_mutant(l);
}

static void report(const struct lab *l, const char *name, size_t cnt)
{
	size_t refused = 0;

	for (int i = 0; i < ERRNOS; i++)
		refused += l->refused[i];
	printf("%s: %zu mutants: %zu refused (EBADMSG %zu, EKEYREJECTED %zu, ENOKEY %zu, "
	       "EPERM %zu), %zu read right, %zu of them mended; 0 wrong\n",
	       name, cnt, refused, l->refused[EBADMSG], l->refused[EKEYREJECTED],
	       l->refused[ENOKEY], l->refused[EPERM], l->right, l->mended);
}

static size_t number_of(const char *env, size_t def)
{
	const char *text = getenv(env);

	return text ? strtoul(text, NULL, 10) : def;
}

/* The n-th of `want`. */
static size_t choose(const struct original *o, size_t n, size_t want)
{
	size_t all = mutant_cnt(o);

	if (getenv("VCF_MUTANT"))
		return number_of("VCF_MUTANT", 0);
	if (want >= all || n < 2)
		return n;
	return (n * all / want + seed % (all / want)) % all;
}

START_TEST(mutants)
{
	const struct kind *k = &kinds[_i];
	size_t want = number_of("VCF_MUTANTS", 250);
	struct lab *l = calloc(1, sizeof(*l));

	ck_assert_ptr_nonnull(l);
	lab_start(l, k);
	if (getenv("VCF_MUTANT"))
		want = 1;
	for (size_t n = 0; n < want; n++) {
		size_t number = choose(&l->o, n, want);

		mutant_make(&l->m, &l->o, number, seed + (unsigned int)n);
		snprintf(l->name, sizeof(l->name), "m%zu", number);
		if (getenv("VCF_TEST_LOG"))
			printf("%s %zu: %s\n", k->name, number, l->m.what);
		try(l);
	}
	report(l, k->name, want);
	lab_end(l);
	free(l);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_mutants");
	TCase *t = tcase_create("mutants");

	seed = (unsigned int)number_of("VCF_FUZZ_SEED", (size_t)time(NULL));
	printf("VCF_FUZZ_SEED=%u\n", seed);
	tcase_add_loop_test(t, mutants, 0, ROWS(kinds));
	suite_add_tcase(s, t);
	return s;
}
