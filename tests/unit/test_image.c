/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The corners of an image one by one; what random operations find is in
 * test_image_model.c. Faults come from a sealed memfd (a write fails, ftruncate does
 * not), from RLIMIT_FSIZE, and, for root, from a full tmpfs.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "tests/unit/image_rig.h"

enum { BYTES_MAX = 65536 };

static unsigned char bytes[BYTES_MAX];

static void setup(void)
{
	signal(SIGXFSZ, SIG_IGN);
	for (int i = 0; i < BYTES_MAX; i++)
		bytes[i] = (unsigned char)(1 + i % 251);
}

static const struct {
	uint32_t sector_len;
	bool holes_zero;
} kinds[] = {{512, true}, {512, false}, {4096, true}, {4096, false}};

static void kind_init(struct rig *rig, int fd, int kind)
{
	rig_init(rig, fd, kinds[kind].sector_len, kinds[kind].holes_zero);
}

static int memory_file(void)
{
	return memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* The image is plen bytes long: the first `kept` of the pattern, then zeros. */
static void expect_cut(struct rig *rig, uint64_t kept, uint64_t plen)
{
	static unsigned char want[BYTES_MAX];

	memset(want, 0, sizeof(want));
	memcpy(want, bytes, kept);
	ck_assert_uint_eq(image_size(rig->im), plen);
	if (plen)
		rig_expect(rig, want, plen, 0);
	rig_check_raw(rig, want, plen);
}

/* Every change between sizes around the ends of sectors, and what is left afterwards. */
START_TEST(size_changes)
{
	uint64_t s = kinds[_i].sector_len;
	const uint64_t sizes[] = {0,	     1,		s - 1,	   s,	      s + 1,
				  2 * s - 1, 2 * s,	2 * s + 7, 3 * s - 1, 3 * s,
				  4 * s + 3, 2 * s - 2, s + 2};

	for (int a = 0; a < ROWS(sizes); a++) {
		for (int b = 0; b < ROWS(sizes); b++) {
			uint64_t kept = sizes[a] < sizes[b] ? sizes[a] : sizes[b];
			struct rig rig;

			kind_init(&rig, memory_file(), _i);
			ck_assert_int_eq(rig_write(&rig, bytes, sizes[a], 0), 0);
			expect_cut(&rig, sizes[a], sizes[a]);
			ck_assert_int_eq(rig_truncate(&rig, sizes[b]), 0);
			expect_cut(&rig, kept, sizes[b]);
			rig_reopen(&rig);
			ck_assert_int_eq(rig_truncate(&rig, 5 * s + 1), 0);
			expect_cut(&rig, kept, 5 * s + 1);
			rig_fini(&rig);
		}
	}
}
END_TEST

/* P before; where the failing write starts and ends */
static const struct {
	uint64_t plen, poff, end;
} failing[] = {
	{0, 0, 1},
	{0, 100, 20000},
	{100, 100, 20000},
	{100, 50, 200},
	{4096, 4096, 12288},
	{4095, 4095, 4096},
	{4095, 0, 4096},
	{5000, 8192, 9000},
	{12288, 0, 12289},
	{12287, 1, 30000},
	{1, 0, 30000},
	{511, 511, 1025},
	{8192, 65000, 65536},
	{8191, 65000, 65536},
};

START_TEST(failed_write_sealed)
{
	int kind = _i % ROWS(kinds), row = _i / ROWS(kinds);
	uint64_t plen = failing[row].plen, end = failing[row].end;
	struct rig rig;

	kind_init(&rig, memory_file(), kind);
	ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
	ck_assert_int_eq(fcntl(rig.f.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	ck_assert_int_eq(
		rig_write(&rig, bytes, end - failing[row].poff, failing[row].poff),
		-EPERM);
	expect_cut(&rig, plen, plen);
	rig_reopen(&rig);
	expect_cut(&rig, plen, plen);
	rig_fini(&rig);
}
END_TEST

/* The soft limit alone, so that it can go up again. */
static void set_file_limit(rlim_t len)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = len < limit.rlim_max ? len : limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(failed_write_limit)
{
	int kind = _i % ROWS(kinds), row = _i / ROWS(kinds);
	uint64_t plen = failing[row].plen, end = failing[row].end, clen = 0;
	struct rig rig;

	kind_init(&rig, memory_file(), kind);
	ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
	ck_assert_int_eq(span_encode_size(&rig.p.geom, end, &clen), 0);
	if (clen > rig_clen(&rig)) { /* kS - 1 to kS makes the file smaller */
		set_file_limit(clen - 1);
		ck_assert_int_eq(rig_write(&rig, bytes, end - failing[row].poff,
					   failing[row].poff),
				 -EFBIG);
		ck_assert_int_eq(rig_truncate(&rig, end), -EFBIG);
		set_file_limit(RLIM_INFINITY);
	}
	expect_cut(&rig, plen, plen);
	ck_assert_int_eq(rig_truncate(&rig, BYTES_MAX), 0);
	expect_cut(&rig, plen, BYTES_MAX);
	rig_fini(&rig);
}
END_TEST

/* A file on a tmpfs of its own that nobody else sees; -1 where we may not mount. */
static int small_tmpfs(const char *option)
{
	const char *dir = unit_tmpdir();
	int fd;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", 0, option) < 0)
		return -1;
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
	return fd;
}

/*
 * The disk is full in the middle of an extending write: part of it is on the medium,
 * also behind the old end in its last sector. Nothing of that may show up later.
 */
START_TEST(failed_write_full)
{
	static const uint64_t sizes[] = {0, 100, 4095, 4096, 4097, 8191, 8192, 10000};
	int kind = _i % ROWS(kinds);
	uint64_t plen = sizes[_i / ROWS(kinds)];
	int fd = small_tmpfs("size=32768");
	struct rig rig;

	if (fd < 0)
		return;
	kind_init(&rig, fd, kind);
	ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
	ck_assert_int_eq(rig_write(&rig, bytes, 60000 - plen, plen), -ENOSPC);
	expect_cut(&rig, plen, plen);
	rig_reopen(&rig);
	ck_assert_int_eq(rig_truncate(&rig, 20000), 0);
	expect_cut(&rig, plen, 20000);
	ck_assert_int_eq(rig_fallocate(&rig, 0, 0, 60000), -ENOSPC);
	expect_cut(&rig, plen, 20000);
	rig_fini(&rig);
}
END_TEST

/* A hole reads as zeros, or as noise where holes are nothing special. */
START_TEST(hole_rule)
{
	uint32_t s = kinds[_i].sector_len;
	struct rig rig;
	void *data;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, 3 * (size_t)s, 0), 0);
	ck_assert_int_eq(fallocate(rig.f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   RIG_DATA_OFF + s, s),
			 0);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, s, s, &data), s);
	ck_assert(io_is_zero(data, s) == kinds[_i].holes_zero);
	rig_expect(&rig, bytes, s, 0);
	rig_expect(&rig, bytes + 2 * (size_t)s, s, 2 * (uint64_t)s);
	rig_fini(&rig);
}
END_TEST

/*
 * A death between a growth's ftruncate and what follows; the call is carried out again by
 * a new image. Row: how it grows; 0: truncate, 1: a write behind a gap, 2: fallocate; 3:
 * truncate within a block.
 */
START_TEST(growth_repeated)
{
	int kind = _i % ROWS(kinds), how = _i / ROWS(kinds);
	const uint64_t plen = 5000, end = how < 3 ? 40003 : 6500;
	static unsigned char want[BYTES_MAX];
	uint64_t clen = 0;
	struct rig rig;

	memset(want, 0, sizeof(want));
	memcpy(want, bytes, plen);
	kind_init(&rig, unit_tmpfile(), kind);
	ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
	ck_assert_int_eq(span_encode_size(&rig.p.geom, end, &clen), 0);
	ck_assert_int_eq(ftruncate(rig.f.fd, (off_t)clen), 0);
	rig_reopen(&rig);
	if (how == 0 || how == 3) {
		ck_assert_int_eq(rig_truncate(&rig, end), 0);
	} else if (how == 1) {
		memcpy(want + 30001, bytes, end - 30001);
		ck_assert_int_eq(rig_write(&rig, bytes, end - 30001, 30001), 0);
	} else {
		ck_assert_int_eq(rig_fallocate(&rig, 0, 20000, end - 20000), 0);
	}
	ck_assert_uint_eq(image_size(rig.im), end);
	rig_expect(&rig, want, end, 0);
	rig_check_raw(&rig, want, end);
	rig_fini(&rig);
}
END_TEST

/*
 * A power loss may keep a growth's data and lose its ftruncate: where the data shares a block
 * with what was there, it lies in the padding and in the marker. Neither may be seen later.
 */
START_TEST(growth_lost)
{
	const uint64_t plen = 5000, ends[] = {5001, 5100, 8191, 8192, 8193, 40003};
	uint64_t s = kinds[_i].sector_len, pad = s - plen % s, clen = 0;

	for (int i = 0; i < ROWS(ends); i++) {
		struct rig rig;

		kind_init(&rig, unit_tmpfile(), _i);
		ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
		ck_assert_int_eq(span_encode_size(&rig.p.geom, plen, &clen), 0);
		ck_assert_int_eq(rig_write(&rig, bytes, 2 * s, plen), 0);
		ck_assert_int_eq(ftruncate(rig.f.fd, (off_t)clen), 0);
		rig_reopen(&rig);
		ck_assert_uint_eq(image_size(rig.im), plen);
		ck_assert_int_eq(rig_truncate(&rig, plen + pad - 1), 0);
		ck_assert_int_eq(rig_truncate(&rig, plen), 0);
		ck_assert_int_eq(rig_truncate(&rig, ends[i]), 0);
		expect_cut(&rig, plen, ends[i]);
		rig_reopen(&rig);
		ck_assert_int_eq(rig_truncate(&rig, 50001), 0);
		expect_cut(&rig, plen, 50001);
		rig_fini(&rig);
	}
}
END_TEST

START_TEST(hole_written_whole)
{
	uint32_t s = kinds[_i].sector_len;
	unsigned char zeros[4096] = {0};
	struct rig rig;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(rig_truncate(&rig, 4 * (uint64_t)s), 0);
	ck_assert(rig_is_hole(&rig, 1) == kinds[_i].holes_zero);
	ck_assert_int_eq(rig_write(&rig, bytes, 3, s + 5), 0);
	rig_expect(&rig, NULL, s + 5, 0);
	rig_expect(&rig, bytes, 3, s + 5);
	rig_expect(&rig, NULL, 3 * s - 8, s + 8);
	ck_assert(!rig_is_hole(&rig, 1));
	ck_assert(rig_is_hole(&rig, 0) == kinds[_i].holes_zero);
	/* zeros that are written are no hole */
	ck_assert_int_eq(rig_write(&rig, zeros, s, 2 * (uint64_t)s), 0);
	ck_assert(!rig_is_hole(&rig, 2));
	ck_assert_int_eq(rig_write(&rig, zeros, 1, 3 * (uint64_t)s), 0);
	ck_assert(!rig_is_hole(&rig, 3));
	rig_fini(&rig);
}
END_TEST

START_TEST(punch)
{
	uint32_t s = kinds[_i].sector_len;
	bool holes = kinds[_i].holes_zero;
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	uint64_t plen = 6 * (uint64_t)s + 9;
	struct rig rig;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, plen, 0), 0);
	ck_assert_int_eq(rig_fallocate(&rig, mode, s - 3, 2 * (uint64_t)s), 0);
	rig_expect(&rig, bytes, s - 3, 0);
	rig_expect(&rig, NULL, 2 * (size_t)s, s - 3);
	rig_expect(&rig, bytes + 3 * (size_t)s - 3, plen - 3 * s + 3,
		   3 * (uint64_t)s - 3);
	ck_assert(!rig_is_hole(&rig, 0));
	ck_assert(rig_is_hole(&rig, 1) == holes);
	ck_assert(!rig_is_hole(&rig, 2));
	/* an edge in a hole stays a hole; one that is beyond the end is cut */
	ck_assert_int_eq(rig_fallocate(&rig, mode, s + 1, 5), 0);
	ck_assert(rig_is_hole(&rig, 1) == holes);
	ck_assert_int_eq(rig_fallocate(&rig, mode, 6 * (uint64_t)s, INT64_MAX / 2), 0);
	ck_assert(rig_is_hole(&rig, 6) == holes);
	ck_assert_int_eq(rig_fallocate(&rig, mode, plen, 4096), 0);
	ck_assert_uint_eq(image_size(rig.im), plen);
	rig_expect(&rig, NULL, 9, 6 * (uint64_t)s);
	rig_fini(&rig);
}
END_TEST

/* memfd is tmpfs, which has no ZERO_RANGE: nothing is touched where it is needed. */
START_TEST(zero_range_unsupported)
{
	uint32_t s = kinds[_i].sector_len;
	struct rig rig;
	int err;

	kind_init(&rig, memory_file(), _i);
	if (!fallocate(rig.f.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096)) {
		rig_fini(&rig);
		return; /* one day it has it */
	}
	ck_assert_int_eq(rig_write(&rig, bytes, 4 * (size_t)s, 0), 0);
	err = rig_fallocate(&rig, FALLOC_FL_ZERO_RANGE, s / 2, 5 * (uint64_t)s);
	ck_assert_int_eq(err, kinds[_i].holes_zero ? -EOPNOTSUPP : 0);
	if (err) {
		expect_cut(&rig, 4 * (uint64_t)s, 4 * (uint64_t)s);
		ck_assert_int_eq(rig_fallocate(&rig, FALLOC_FL_ZERO_RANGE, s / 2, s), 0);
		rig_expect(&rig, bytes, s / 2, 0);
		rig_expect(&rig, NULL, s, s / 2);
		rig_expect(&rig, bytes + s / 2 + s, s, s / 2 + s);
	} else {
		expect_cut(&rig, s / 2, s / 2 + 5 * (uint64_t)s);
	}
	rig_fini(&rig);
}
END_TEST

static const struct {
	int mode;
	uint64_t poff, len;
	int err;
} refused[] = {
	{0, 0, 0, -EINVAL},
	{FALLOC_FL_PUNCH_HOLE, 0, 1, -EOPNOTSUPP},
	{FALLOC_FL_COLLAPSE_RANGE, 0, 4096, -EOPNOTSUPP},
	{FALLOC_FL_INSERT_RANGE, 0, 4096, -EOPNOTSUPP},
	{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 1,
	 -EOPNOTSUPP},
	{0, INT64_MAX, 1, -EFBIG},
	{0, 0, INT64_MAX, -EFBIG},
	{FALLOC_FL_KEEP_SIZE, UINT64_MAX, 2, -EFBIG},
};

START_TEST(fallocate_refused)
{
	struct rig rig;

	kind_init(&rig, memory_file(), 2);
	ck_assert_int_eq(rig_write(&rig, bytes, 100, 0), 0);
	ck_assert_int_eq(
		rig_fallocate(&rig, refused[_i].mode, refused[_i].poff, refused[_i].len),
		refused[_i].err);
	expect_cut(&rig, 100, 100);
	ck_assert_int_eq(rig_write(&rig, bytes, 2, INT64_MAX - 1), -EFBIG);
	ck_assert_int_eq(rig_write(&rig, bytes, 2, UINT64_MAX), -EFBIG);
	ck_assert_int_eq(rig_truncate(&rig, UINT64_MAX), -EFBIG);
	ck_assert_int_eq(rig_truncate(&rig, INT64_MAX), -EFBIG);
	expect_cut(&rig, 100, 100);
	rig_fini(&rig);
}
END_TEST

static uint64_t blocks(const struct rig *rig)
{
	struct stat st;

	ck_assert_int_eq(fstat(rig->f.fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

/* What was allocated beyond the end stays through truncate to the same size and growth.
 */
START_TEST(preallocation_stays)
{
	struct rig rig;
	uint64_t want;

	kind_init(&rig, unit_tmpfile(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, 8192, 0), 0);
	if (rig_fallocate(&rig, FALLOC_FL_KEEP_SIZE, 0, 1 << 20)) {
		rig_fini(&rig);
		return;
	}
	ck_assert_uint_eq(image_size(rig.im), 8192);
	want = blocks(&rig);
	ck_assert_uint_ge(want, (1 << 20) / 512);
	ck_assert_int_eq(rig_truncate(&rig, 8192), 0);
	ck_assert_uint_ge(blocks(&rig), want);
	ck_assert_int_eq(rig_truncate(&rig, 12288), 0);
	ck_assert_uint_ge(blocks(&rig), want);
	ck_assert_int_eq(rig_fallocate(&rig, 0, 0, 20480), 0);
	ck_assert_uint_ge(blocks(&rig), want);
	/* and through a write that fails before it moved the end */
	set_file_limit(RIG_DATA_OFF + 30000);
	ck_assert_int_eq(rig_write(&rig, bytes, 1, 65535), -EFBIG);
	set_file_limit(RLIM_INFINITY);
	ck_assert_uint_ge(blocks(&rig), want);
	expect_cut(&rig, 8192, 20480);
	rig_fini(&rig);
}
END_TEST

/* Offsets of 41 and more bits; holes below cost nothing. */
START_TEST(far_out)
{
	const uint64_t far = (1ull << 41) + 12345;
	struct rig rig;

	rig_init(&rig, unit_tmpfile(), kinds[_i].sector_len, true);
	ck_assert_int_eq(rig_write(&rig, bytes, 10000, far), 0);
	ck_assert_uint_eq(image_size(rig.im), far + 10000);
	rig_reopen(&rig);
	rig_expect(&rig, bytes, 10000, far);
	rig_expect(&rig, NULL, 5000, far - 5000);
	rig_expect(&rig, NULL, 5000, 0);
	ck_assert_uint_lt(blocks(&rig), 1000);
	ck_assert_int_eq(image_seek(rig.im, &rig.f, 0, SEEK_HOLE), 0);
	ck_assert_int_gt(image_seek(rig.im, &rig.f, 0, SEEK_DATA), far - 65536);
	ck_assert_int_eq(image_seek(rig.im, &rig.f, far, SEEK_HOLE), far + 10000);
	rig_fini(&rig);
}
END_TEST

START_TEST(torn_sizes)
{
	static const struct {
		uint64_t clen;
		int err;
	} sizes[] = {{0, -EBADMSG},
		     {1, -EBADMSG},
		     {RIG_DATA_OFF - 1, -EBADMSG},
		     {RIG_DATA_OFF, 0},
		     {RIG_DATA_OFF + 1, -EBADMSG},
		     {RIG_DATA_OFF + 4095, -EBADMSG},
		     {RIG_DATA_OFF + 4096, 0},
		     {UINT64_MAX, -EBADMSG}};
	struct rig rig;

	kind_init(&rig, memory_file(), 2);
	for (int i = 0; i < ROWS(sizes); i++) {
		auto_image struct image *im = NULL;

		ck_assert_int_eq(image_new(&im, &rig.p, sizes[i].clen), sizes[i].err);
	}
	rig_fini(&rig);
}
END_TEST

START_TEST(short_backing)
{
	struct rig rig;
	void *data;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, 20000, 0), 0);
	ck_assert_int_eq(ftruncate(rig.f.fd, RIG_DATA_OFF + 9000), 0);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 20000, 0, &data), -EIO);
	ck_assert_int_eq(rig_write(&rig, bytes, 3, 12300), -EIO);
	rig_fini(&rig);
}
END_TEST

START_TEST(key_gone)
{
	struct rig rig;
	void *data;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, 20000, 0), 0);
	keytable_del(rig.keys, rig.p.key);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 1, 0, &data), -ENOKEY);
	ck_assert_int_eq(rig_write(&rig, bytes, 1, 0), -ENOKEY);
	ck_assert_int_eq(rig_write(&rig, bytes, 1, 30000), -ENOKEY);
	ck_assert_int_eq(rig_truncate(&rig, 1), -ENOKEY);
	ck_assert_int_eq(rig_fallocate(&rig, 0, 0, 1), -ENOKEY);
	rig_fini(&rig);
}
END_TEST

START_TEST(reads_at_the_end)
{
	struct rig rig;
	void *data;

	kind_init(&rig, memory_file(), _i);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 10, 0, &data), 0);
	ck_assert_int_eq(rig_write(&rig, bytes, 5000, 0), 0);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 10, 4995, &data), 5);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 10, 5000, &data), 0);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 10, INT64_MAX, &data), 0);
	ck_assert_int_eq(image_pread(rig.im, &rig.f, &rig.w, 0, 0, &data), 0);
	ck_assert_int_eq(rig_write(&rig, bytes, 0, 9999), 0);
	ck_assert_uint_eq(image_size(rig.im), 5000);
	rig_fini(&rig);
}
END_TEST

/* A device has no marker: P is whole sectors and stays. */
START_TEST(device)
{
	uint32_t s = kinds[_i].sector_len;
	struct rig rig;

	kind_init(&rig, memory_file(), _i);
	rig.p.geom.device = true;
	ck_assert_int_eq(ftruncate(rig.f.fd, RIG_DATA_OFF + 5 * s + 100), 0);
	rig_reopen(&rig);
	ck_assert_uint_eq(image_size(rig.im), 5 * s);
	ck_assert_int_eq(rig_write(&rig, bytes, 5 * (size_t)s, 0), 0);
	rig_expect(&rig, bytes, 5 * (size_t)s, 0);
	ck_assert_int_eq(rig_write(&rig, bytes, 2, 5 * s - 1), -ENOSPC);
	ck_assert_int_eq(rig_truncate(&rig, s), -EOPNOTSUPP);
	ck_assert_int_eq(rig_truncate(&rig, 6 * (uint64_t)s), -EOPNOTSUPP);
	ck_assert_int_eq(rig_fallocate(&rig, 0, 0, 6 * (uint64_t)s), -EOPNOTSUPP);
	ck_assert_uint_eq(image_size(rig.im), 5 * s);
	ck_assert_uint_eq(rig_clen(&rig), RIG_DATA_OFF + 5 * s + 100);
	rig_expect(&rig, bytes, 5 * (size_t)s, 0);
	/* It was made larger below; all of it is data. */
	ck_assert_int_eq(ftruncate(rig.f.fd, RIG_DATA_OFF + 7 * s), 0);
	ck_assert_int_eq(image_measured(rig.im, RIG_DATA_OFF + 7 * s), 0);
	ck_assert_uint_eq(image_size(rig.im), 7 * s);
	ck_assert_int_eq(rig_truncate(&rig, 7 * (uint64_t)s), 0);
	ck_assert_int_eq(rig_write(&rig, bytes, s, 6 * (uint64_t)s), 0);
	rig_expect(&rig, bytes, s, 6 * (uint64_t)s);
	ck_assert_int_eq(image_seek(rig.im, &rig.f, 5 * (uint64_t)s, SEEK_DATA), 5 * s);
	ck_assert_int_eq(image_seek(rig.im, &rig.f, 0, SEEK_HOLE), 7 * s);
	ck_assert_int_eq(image_measured(rig.im, RIG_DATA_OFF - 1), -EBADMSG);
	ck_assert_uint_eq(image_size(rig.im), 7 * s);
	rig_fini(&rig);
}
END_TEST

/* A read-modify-write keeps its neighbours' ciphertext byte for byte. */
START_TEST(neighbours)
{
	uint32_t s = kinds[_i].sector_len;
	static unsigned char before[8 * 4096], after[8 * 4096];
	struct rig rig;

	kind_init(&rig, unit_tmpfile(), _i);
	ck_assert_int_eq(rig_write(&rig, bytes, 8 * (size_t)s, 0), 0);
	ck_assert_int_eq(io_pread_full(rig.f.fd, before, 8 * (size_t)s, RIG_DATA_OFF),
			 8 * s);
	rig.f.direct_fd = rig_direct_twin(rig.f.fd);
	rig.f.direct_align = 4096;
	ck_assert_int_eq(rig_write(&rig, "x", 1, 3 * (uint64_t)s + 20), 0);
	ck_assert_int_eq(io_pread_full(rig.f.fd, after, 8 * (size_t)s, RIG_DATA_OFF),
			 8 * s);
	for (size_t b = 0; b < 8 * (size_t)s; b += 16) /* blocks of the cipher */
		ck_assert(!memcmp(before + b, after + b, 16) ==
			  (b / 16 != (3 * s + 20) / 16));
	rig_fini(&rig);
}
END_TEST

static TCase *by_kind(Suite *s)
{
	TCase *t = tcase_create("image");
	int n = ROWS(kinds);

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, size_changes, 0, n);
	tcase_add_loop_test(t, hole_rule, 0, n);
	tcase_add_loop_test(t, hole_written_whole, 0, n);
	tcase_add_loop_test(t, growth_lost, 0, n);
	tcase_add_loop_test(t, growth_repeated, 0, n * 4);
	tcase_add_loop_test(t, punch, 0, n);
	tcase_add_loop_test(t, zero_range_unsupported, 0, n);
	tcase_add_loop_test(t, preallocation_stays, 0, n);
	tcase_add_loop_test(t, far_out, 0, n);
	tcase_add_loop_test(t, short_backing, 0, n);
	tcase_add_loop_test(t, key_gone, 0, n);
	tcase_add_loop_test(t, reads_at_the_end, 0, n);
	tcase_add_loop_test(t, device, 0, n);
	tcase_add_loop_test(t, neighbours, 0, n);
	tcase_add_loop_test(t, failed_write_sealed, 0, n * ROWS(failing));
	tcase_add_loop_test(t, failed_write_limit, 0, n * ROWS(failing));
	tcase_add_loop_test(t, failed_write_full, 0, n * 8);
	tcase_add_loop_test(t, fallocate_refused, 0, ROWS(refused));
	tcase_add_test(t, torn_sizes);
	suite_add_tcase(s, t);
	return t;
}

Suite *unit_suite(void)
{
	Suite *s = suite_create("image");

	by_kind(s);
	return s;
}
