/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests are runs of bytes here: who executes them does not matter. */
#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/park.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

enum { PAGE = SESSION_PAGE_LEN, LEN_MAX = SESSION_REQ_HEAD_LEN + SESSION_REQ_ROOM };

static struct session *s;
static struct park *p;
static unsigned char text[LEN_MAX];
static unsigned int sound; /* of the fuzzed ones, about */

/* What is said of damaged records goes to a file. */
static void quiet(void)
{
	static char path[4200];

	if (*path)
		return;
	snprintf(path, sizeof(path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(path), 0);
}

static void start(void)
{
	quiet();
	ck_assert_int_eq(session_new(&s), 0);
	ck_assert_int_eq(session_map_buffers(s), 0);
	ck_assert_int_eq(park_new(&p, s), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i * 31 + i / 255 + 1);
}

static void end(void)
{
	park_free(p);
	session_free(s, true);
}

/* The process dies and the next one comes. */
static void next(void)
{
	park_free(p);
	ck_assert_int_eq(park_new(&p, s), 0);
}

static struct session_parked *take(size_t len)
{
	struct session_parked *r = NULL;

	ck_assert_int_eq(park_take(p, len, &r), 0);
	return r;
}

static struct session_parked *put(size_t len, uint64_t unique)
{
	struct session_parked *r = take(len);

	park_fill(p, r, text, unique, 2, 1);
	return r;
}

static void drop(struct session_parked *r)
{
	park_wipe(p, r);
	park_give(p, r);
}

static bool is_clean(uint32_t page, uint32_t cnt)
{
	return io_is_zero(session_park_page(s, page), (size_t)cnt * PAGE);
}

static const size_t lens[] = {40,	PAGE - 1,    PAGE,	  PAGE + 1,
			      2 * PAGE, 100000 + 80, LEN_MAX - 1, LEN_MAX};

START_TEST(fill_and_wipe)
{
	struct session_parked *r;
	uint32_t page, cnt;

	start();
	r = take(lens[_i]);
	ck_assert_uint_eq(r->unique, 0); /* nothing yet */
	park_fill(p, r, text, 77, 2, 1);
	ck_assert_uint_eq(r->unique, 77);
	ck_assert_uint_eq(r->len, lens[_i]);
	ck_assert_uint_eq(r->faults, 2);
	ck_assert_uint_eq(r->intent, 1);
	page = r->page;
	cnt = r->page_cnt;
	ck_assert_uint_eq(cnt, (lens[_i] + PAGE - 1) / PAGE);
	ck_assert(!memcmp(park_data(p, r), text, lens[_i]));
	park_wipe(p, r);
	ck_assert_uint_eq(r->unique, 0);
	ck_assert(is_clean(page, cnt));
	park_give(p, r);
	end();
}
END_TEST

/* What was wiped takes no memory either. */
START_TEST(pages_are_given_back)
{
	struct session_parked *r;
	struct stat before, full, after;
	int fd;

	start();
	fd = s->head->fds[SESSION_FD_BUFFERS];
	ck_assert_int_eq(fstat(fd, &before), 0);
	r = put(LEN_MAX, 1);
	ck_assert_int_eq(fstat(fd, &full), 0);
	ck_assert_int_ge(full.st_blocks - before.st_blocks, LEN_MAX / 512);
	drop(r);
	ck_assert_int_eq(fstat(fd, &after), 0);
	ck_assert_int_eq(after.st_blocks, before.st_blocks);
	end();
}
END_TEST

START_TEST(records_full)
{
	struct session_parked *r;

	start();
	for (uint64_t i = 1; i <= SESSION_PARKED_MAX; i++)
		put(40, i);
	ck_assert_int_eq(park_take(p, 40, &r), -ENOMEM);
	for (int i = 0; i < SESSION_PARKED_MAX; i++) {
		ck_assert_uint_eq(s->parked[i].unique, (uint64_t)i + 1);
		ck_assert_uint_eq(s->parked[i].page, (uint32_t)i);
	}
	drop(&s->parked[4711]);
	ck_assert_ptr_eq(put(40, 1), &s->parked[4711]);
	ck_assert_int_eq(park_take(p, 40, &r), -ENOMEM);
	end();
}
END_TEST

/* The pages go out before the records do; holes are found wherever they are. */
START_TEST(fragments)
{
	enum { EACH = LEN_MAX / PAGE + 1, FIT = SESSION_PARK_PAGES / EACH };
	struct session_parked *r[FIT], *one;

	start();
	for (int i = 0; i < FIT; i++)
		r[i] = take(LEN_MAX);
	ck_assert_uint_eq(r[0]->page_cnt, EACH);
	ck_assert_int_eq(park_take(p, LEN_MAX, &one), -ENOMEM);
	/* What is left at the end, page by page. */
	for (int i = FIT * EACH; i < SESSION_PARK_PAGES; i++)
		ck_assert_uint_eq(take(1)->page, (uint32_t)i);
	ck_assert_int_eq(park_take(p, 1, &one), -ENOMEM);
	/* Two holes are no long one. */
	park_give(p, r[5]);
	park_give(p, r[7]);
	one = take(PAGE);
	ck_assert_uint_eq(one->page, r[5]->page);
	ck_assert_int_eq(park_take(p, (size_t)(EACH + 1) * PAGE, &one), -ENOMEM);
	ck_assert_uint_eq(take(LEN_MAX)->page, r[7]->page);
	ck_assert_int_eq(park_take(p, LEN_MAX, &one), -ENOMEM);
	ck_assert_uint_eq(take(LEN_MAX - PAGE)->page, r[5]->page + 1);
	ck_assert_int_eq(park_take(p, 1, &one), -ENOMEM);
	end();
}
END_TEST

/* A successor finds what counted, with its pages taken, and nothing else. */
START_TEST(left_over)
{
	struct session_parked *a, *b, *c, *d;

	start();
	a = put(5000, 10);
	b = take(100000);
	memcpy(session_park_page(s, b->page), text, 100000); /* died before it counted */
	c = put(70, 12);
	next();
	ck_assert_uint_eq(s->head->dropped, 0);
	ck_assert(!memcmp(park_data(p, a), text, 5000));
	ck_assert(!memcmp(park_data(p, c), text, 70));
	for (int i = 0; i < 100; i++) {
		d = take(PAGE);
		ck_assert_ptr_ne(d, a);
		ck_assert_ptr_ne(d, c);
		ck_assert(d->page < a->page || d->page >= a->page + a->page_cnt);
		ck_assert_uint_ne(d->page, c->page);
	}
	drop(a);
	next();
	ck_assert_uint_eq(a->unique, 0);
	ck_assert_uint_eq(c->unique, 12);
	end();
}
END_TEST

static void page_beyond(struct session_parked *r)
{
	r->page = SESSION_PARK_PAGES;
}

static void pages_beyond(struct session_parked *r)
{
	r->page = SESSION_PARK_PAGES - r->page_cnt + 1;
}

static void pages_wrap(struct session_parked *r)
{
	r->page_cnt = 0xffffffff;
}

static void no_pages(struct session_parked *r)
{
	r->page_cnt = 0;
}

static void longer_than_pages(struct session_parked *r)
{
	r->len = r->page_cnt * PAGE + 1;
}

static void longer_than_buffer(struct session_parked *r)
{
	r->page_cnt = LEN_MAX / PAGE + 2;
	r->len = LEN_MAX + 1;
}

static void no_length(struct session_parked *r)
{
	r->len = 0;
}

static void no_header(struct session_parked *r)
{
	r->len = sizeof(struct fuse_in_header) - 1;
}

/* The neighbours' pages: whose they are cannot be said, but the first one has them. */
static void others_page(struct session_parked *r)
{
	r->page--;
}

static const struct {
	const char *name;
	void (*spoil)(struct session_parked *r);
} damage_rows[] = {
	{"page beyond the end", page_beyond},
	{"pages beyond the end", pages_beyond},
	{"so many pages that the sum wraps", pages_wrap},
	{"no pages", no_pages},
	{"longer than its pages", longer_than_pages},
	{"longer than a buffer", longer_than_buffer},
	{"empty", no_length},
	{"shorter than a header", no_header},
	{"on another one's pages", others_page},
};

START_TEST(damaged)
{
	struct session_parked *before, *r, *after;

	start();
	before = put(5000, 1);
	r = put(5000, 2);
	after = put(5000, 3);
	damage_rows[_i].spoil(r);
	next();
	ck_assert_msg(r->unique == 0, "%s", damage_rows[_i].name);
	ck_assert_uint_eq(s->head->dropped, 1);
	ck_assert_uint_eq(before->unique, 1);
	ck_assert_uint_eq(after->unique, 3);
	ck_assert(!memcmp(park_data(p, before), text, 5000));
	ck_assert(!memcmp(park_data(p, after), text, 5000));
	end();
}
END_TEST

/* Mostly small numbers: wholly random ones are never sound. */
static void fuzz_record(struct session_parked *r, uint32_t *x)
{
	unsigned char *bytes = (void *)r;

	for (size_t k = 0; k < sizeof(*r); k++) {
		*x = *x * 1664525 + 1013904223;
		bytes[k] = k % 4 < 2 && *x >> 30 ? (unsigned char)(*x >> 20) : 0;
	}
	if (*x & 1 << 16) {
		r->page_cnt = (r->len + PAGE - 1) / PAGE;
		sound += r->unique != 0;
	}
}

/* Any bytes in the records: those that stay are sound, and can be dropped. */
START_TEST(fuzz)
{
	uint32_t x = 12345;

	start();
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < 8; i++) {
			fuzz_record(&s->parked[i], &x);
		}
		next();
		for (int i = 0; i < 8; i++) {
			struct session_parked *r = &s->parked[i];

			if (!r->unique)
				continue;
			ck_assert_uint_le(r->len, LEN_MAX);
			ck_assert_uint_ge(r->len, sizeof(struct fuse_in_header));
			ck_assert_mem_eq(park_data(p, r), park_data(p, r), r->len);
			drop(r);
		}
	}
	ck_assert_uint_gt(s->head->dropped, 1000);
	ck_assert_uint_gt(sound, 1000);
	end();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("park");
	TCase *t = tcase_create("park");

	tcase_add_loop_test(t, fill_and_wipe, 0, ROWS(lens));
	tcase_add_test(t, pages_are_given_back);
	tcase_add_test(t, records_full);
	tcase_add_test(t, fragments);
	tcase_add_test(t, left_over);
	tcase_add_loop_test(t, damaged, 0, ROWS(damage_rows));
	tcase_add_test(t, fuzz);
	suite_add_tcase(suite, t);
	return suite;
}
