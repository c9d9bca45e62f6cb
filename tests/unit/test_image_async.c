/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers that are begun and ended apart: which may be, what they hold until their end, and that
 * their bytes are those of image_pread() and image_pwrite().
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/image_rig.h"

enum { PLEN = 3 * 4096 + 512, FULL = 12288 };

static unsigned char *text, *cipher;
static struct image_worker other; /* another thread's */

static void make(struct rig *rig, uint32_t sector_len, bool holes_zero)
{
	char path[] = "/var/tmp/vcf-image-async.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	unlink(path);
	rig_init(rig, fd, sector_len, holes_zero);
	rig->f.direct_fd = rig_direct_twin(fd);
	rig->f.direct_align = 512;
	text = aligned_alloc(4096, RIG_REQUEST_MAX);
	cipher = aligned_alloc(4096, RIG_REQUEST_MAX);
	for (int i = 0; i < RIG_REQUEST_MAX; i++)
		text[i] = (unsigned char)(i * 7 + i / 251);
	rig_worker_init(&other);
}

static void drop(struct rig *rig)
{
	rig_worker_fini(&other);
	free(text);
	free(cipher);
	rig_fini(rig);
}

static vcf_err_t begin(struct rig *rig, bool write, size_t len, uint64_t poff,
		       struct image_transfer *t)
{
	if (write)
		return image_begin_write(rig->im, &rig->f, &rig->w, text, len, poff,
					 cipher, t);
	return image_begin_read(rig->im, &rig->f, &rig->w, len, poff, t);
}

/* P is no multiple of a unit. */
static const struct {
	size_t len;
	uint64_t poff;
	vcf_err_t want;
} rows[] = {
	{4096, 0, 0},
	{4096, 8192, 0},
	{12288, 0, 0},
	{0, 0, -EAGAIN},
	{512, 0, -EAGAIN},	     /* less than a unit */
	{4096, 512, -EAGAIN},	     /* between units */
	{512, 12288, -EAGAIN},	     /* the last sector: its unit crosses the end */
	{4096, 12288, -EAGAIN},	     /* beyond P */
	{16384, 0, -EAGAIN},	     /* likewise */
	{4096, 1ull << 40, -EAGAIN}, /* far beyond */
	{4096, UINT64_MAX - 4095, -EAGAIN}, /* no sum of these overflows */
	{SIZE_MAX - 4095, 4096, -EAGAIN},
};

START_TEST(which)
{
	bool write = _i % 2;
	uint32_t sector_len = _i / 2 % 2 ? 512 : 4096;
	struct image_transfer t;
	struct rig rig;

	make(&rig, sector_len, true);
	ck_assert_int_eq(rig_write(&rig, text, PLEN, 0), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		vcf_err_t err = begin(&rig, write, rows[i].len, rows[i].poff, &t);

		ck_assert_msg(err == (rig.f.direct_fd < 0 ? -EAGAIN : rows[i].want),
			      "row %zu: %d", i, err);
		if (!err)
			image_end(&t);
	}
	close(rig.f.direct_fd);
	rig.f.direct_fd = -1;
	ck_assert_int_eq(begin(&rig, write, 4096, 0, &t), -EAGAIN);
	drop(&rig);
}
END_TEST

/* Written apart and read at once, and the other way round; ciphertext as the second opinion has it. */
START_TEST(same_bytes)
{
	uint32_t sector_len = _i % 2 ? 512 : 4096;
	struct image_transfer t;
	struct rig rig;

	make(&rig, sector_len, true);
	ck_assert_int_eq(rig_truncate(&rig, PLEN), 0);
	if (rig.f.direct_fd >= 0) {
		ck_assert_int_eq(begin(&rig, true, FULL, 0, &t), 0);
		ck_assert_int_eq(image_transfer_now(&t, cipher), 0);
		image_end(&t);
		memset(text + FULL, 0, RIG_REQUEST_MAX - FULL);
		rig_expect(&rig, text, PLEN, 0);
		rig_check_raw(&rig, text, PLEN);
		memset(cipher, 1, FULL);
		ck_assert_int_eq(begin(&rig, false, 8192, 4096, &t), 0);
		ck_assert_int_eq(image_transfer_now(&t, cipher), 0);
		ck_assert_int_eq(image_decrypt(&t, &other, cipher), 0);
		image_end(&t);
		ck_assert(!memcmp(cipher, text + 4096, 8192));
	}
	drop(&rig);
}
END_TEST

/* Holes stay zeros; where they are none a first write has to mend them. */
START_TEST(holes)
{
	struct image_transfer t;
	struct rig rig;

	make(&rig, 4096, _i == 0);
	ck_assert_int_eq(rig_truncate(&rig, 65536), 0);
	if (rig.f.direct_fd >= 0 && _i == 0) {
		ck_assert_int_eq(begin(&rig, false, 8192, 4096, &t), 0);
		ck_assert_int_eq(image_transfer_now(&t, cipher), 0);
		ck_assert_int_eq(image_decrypt(&t, &other, cipher), 0);
		image_end(&t);
		ck_assert(io_is_zero(cipher, 8192));
	} else if (rig.f.direct_fd >= 0) {
		rig_reopen(&rig);
		ck_assert_int_eq(begin(&rig, true, 4096, 0, &t), -EAGAIN);
		ck_assert_int_eq(rig_write(&rig, text, 4096, 0), 0);
		ck_assert_int_eq(begin(&rig, true, 4096, 0, &t), 0);
		image_end(&t);
	}
	drop(&rig);
}
END_TEST

static const struct {
	bool first_writes;
	bool write;
	uint64_t poff;
	vcf_err_t want;
} meetings[] = {
	{true, true, 4096, -EAGAIN}, {true, false, 4096, -EAGAIN}, {true, true, 8192, 0},
	{false, false, 4096, 0},     {false, true, 4096, -EAGAIN}, {false, true, 0, 0},
};

START_TEST(meet)
{
	struct image_transfer t, u;
	struct rig rig;

	make(&rig, 4096, true);
	ck_assert_int_eq(rig_write(&rig, text, 16384, 0), 0);
	if (rig.f.direct_fd >= 0) {
		ck_assert_int_eq(begin(&rig, meetings[_i].first_writes, 4096, 4096, &t),
				 0);
		ck_assert_int_eq(
			begin(&rig, meetings[_i].write, 4096, meetings[_i].poff, &u),
			meetings[_i].want);
		image_end(&t);
		if (!meetings[_i].want)
			image_end(&u);
		ck_assert_int_eq(begin(&rig, true, 16384, 0, &t), 0);
		image_end(&t);
	}
	drop(&rig);
}
END_TEST

struct change {
	struct rig *rig;
	int kind;
	_Atomic bool done;
};

static void *change_size(void *arg)
{
	struct change *c = arg;
	struct rig *rig = c->rig;

	if (c->kind == 0)
		ck_assert_int_eq(image_truncate(rig->im, &rig->f, &other, 4096), 0);
	else if (c->kind == 1)
		ck_assert_int_eq(
			image_pwrite(rig->im, &rig->f, &other, text, 4096, 32768), 0);
	else
		ck_assert_int_eq(image_fallocate(rig->im, &rig->f, &other, 0, 0, 65536),
				 0);
	c->done = true;
	return NULL;
}

/* Else what is under way would write beyond the end, and the file would decode as another size. */
START_TEST(size_waits)
{
	struct change c = {.kind = _i};
	struct image_transfer t, u;
	pthread_t thread;
	struct rig rig;

	make(&rig, 4096, true);
	c.rig = &rig;
	ck_assert_int_eq(rig_write(&rig, text, 16384, 0), 0);
	if (rig.f.direct_fd >= 0) {
		ck_assert_int_eq(begin(&rig, true, 4096, 4096, &t), 0);
		ck_assert_int_eq(begin(&rig, false, 4096, 8192, &u), 0);
		ck_assert_int_eq(pthread_create(&thread, NULL, change_size, &c), 0);
		usleep(20000);
		ck_assert(!c.done);
		image_end(&t);
		usleep(5000);
		ck_assert(!c.done);
		image_end(&u);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		ck_assert(c.done);
	}
	drop(&rig);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("image_async");
	TCase *t = tcase_create("image_async");

	tcase_add_loop_test(t, which, 0, 4);
	tcase_add_loop_test(t, same_bytes, 0, 2);
	tcase_add_loop_test(t, holes, 0, 2);
	tcase_add_loop_test(t, meet, 0, ROWS(meetings));
	tcase_add_loop_test(t, size_waits, 0, 3);
	suite_add_tcase(s, t);
	return s;
}
