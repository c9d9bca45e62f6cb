/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kcv's vector was computed by Python's hmac module from the formula in DESIGN. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "crypto/secret.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parse.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct keytable *make(size_t records)
{
	struct keytable *kt = NULL;
	bool hidden;

	ck_assert_int_eq(keytable_new(&kt, records, &hidden), 0);
	return kt;
}

/* A key whose bytes all differ by `seed`, with its right kcv. */
static struct key_ref put(struct keytable *kt, unsigned char seed)
{
	unsigned char uuid[UUID_LEN], kcv[KCV_LEN], key[VOLUME_KEY_LEN];
	struct key_ref ref = {0};

	memset(uuid, seed, sizeof(uuid));
	for (int i = 0; i < VOLUME_KEY_LEN; i++)
		key[i] = (unsigned char)(seed + i);
	ck_assert_int_eq(keytable_kcv(kcv, key, uuid), 0);
	ck_assert_int_eq(keytable_put(kt, uuid, kcv, key, &ref), 0);
	ck_assert_uint_ne(ref.generation, 0);
	return ref;
}

static void ck_key(const struct keytable *kt, struct key_ref ref, unsigned char seed)
{
	const unsigned char *key = keytable_key(kt, ref);

	ck_assert_ptr_nonnull(key);
	for (int i = 0; i < VOLUME_KEY_LEN; i++)
		ck_assert_uint_eq(key[i], (unsigned char)(seed + i));
}

START_TEST(life_cycle)
{
	auto_keytable struct keytable *kt = make(3);
	struct key_ref a = put(kt, 1), b = put(kt, 2), c = put(kt, 3), d;
	unsigned char some[VOLUME_KEY_LEN] = {1};
	const unsigned char *where;

	ck_assert_uint_eq(keytable_count(kt), 3);
	ck_assert_int_eq(keytable_put(kt, some, some, some, &d), -ENFILE);
	ck_key(kt, a, 1);
	ck_key(kt, b, 2);
	ck_key(kt, c, 3);
	where = keytable_key(kt, b);
	keytable_del(kt, b);
	ck_assert(io_is_zero(where, VOLUME_KEY_LEN));
	ck_assert_ptr_null(keytable_key(kt, b));
	keytable_del(kt, b); /* a second time: nothing */
	ck_assert_uint_eq(keytable_count(kt), 2);
	d = put(kt, 4);
	ck_assert_uint_eq(d.slot, b.slot);
	ck_assert_uint_ne(d.generation, b.generation);
	ck_assert_ptr_null(keytable_key(kt, b));
	keytable_del(kt, b); /* must not hit the slot's next owner */
	ck_key(kt, d, 4);
	ck_assert_ptr_null(keytable_key(kt, (struct key_ref){0, 0}));
	ck_assert_ptr_null(keytable_key(kt, (struct key_ref){3, 1}));
}
END_TEST

START_TEST(equal_halves)
{
	auto_keytable struct keytable *kt = make(1);
	unsigned char key[VOLUME_KEY_LEN] = {0};
	struct key_ref ref;

	ck_assert_int_eq(keytable_put(kt, key, key, key, &ref), -EINVAL);
	key[VOLUME_KEY_LEN - 1] = 1;
	ck_assert_int_eq(keytable_put(kt, key, key, key, &ref), 0);
}
END_TEST

START_TEST(kcv_vector)
{
	static const char key_hex[] =
		"2718281828459045235360287471352662497757247093699959574966967627"
		"3141592653589793238462643383279502884197169399375105820974944592";
	unsigned char key[VOLUME_KEY_LEN], uuid[UUID_LEN], kcv[KCV_LEN];
	char hex[2 * KCV_LEN + 1];

	ck_assert_int_eq(hex_decode(key, sizeof(key), key_hex, 2 * sizeof(key)), 0);
	for (int i = 0; i < UUID_LEN; i++)
		uuid[i] = (unsigned char)i;
	ck_assert_int_eq(keytable_kcv(kcv, key, uuid), 0);
	hex_encode(hex, kcv, sizeof(kcv));
	ck_assert_str_eq(hex, "1e19c78fe49e05bc496757a390e54a2b");
}
END_TEST

/* The next process finds the same records, drops a damaged one, and repeats no name. */
START_TEST(attach)
{
	struct keytable *old = make(4);
	auto_keytable struct keytable *kt = NULL;
	struct key_ref a = put(old, 1), b = put(old, 2), c = put(old, 3), d;
	size_t dropped = 0;

	keytable_del(old, a);
	((unsigned char *)(uintptr_t)keytable_key(old, c))[5] ^= 1;
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 3, &dropped), -EBADMSG);
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 400, &dropped), -EBADMSG);
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 4, &dropped), 0);
	keytable_detach(old);
	ck_assert_uint_eq(dropped, 1);
	ck_assert_uint_eq(keytable_count(kt), 1);
	ck_assert_ptr_null(keytable_key(kt, a));
	ck_key(kt, b, 2);
	ck_assert_ptr_null(keytable_key(kt, c));
	d = put(kt, 4);
	ck_assert_uint_gt(d.generation, c.generation);
	ck_assert_uint_ne(d.slot, b.slot);
}
END_TEST

#if !SANITIZED
static long locked_kib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];
	long kib = -1;

	ck_assert_ptr_nonnull(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kib);
	fclose(f);
	return kib;
}

/* Stays locked by a process that uses none of it; a hidden area needs no lock. */
START_TEST(pin)
{
	auto_keytable struct keytable *kt = make(4);
	int plain = memfd_create("plain", MFD_CLOEXEC);
	long before = locked_kib();

	ck_assert_int_ge(plain, 0);
	ck_assert_int_eq(ftruncate(plain, 65536), 0);
	ck_assert_int_eq(keytable_pin(plain), 0);
	ck_assert_int_eq(locked_kib(), before + 64);
	close(plain);
	ck_assert_int_eq(locked_kib(), before + 64);
	ck_assert_int_eq(keytable_pin(keytable_fd(kt)), 0);
	ck_assert_int_eq(keytable_pin(-1), -EBADF);
}
END_TEST
#endif

START_TEST(is)
{
	auto_keytable struct keytable *kt = make(3);
	struct key_ref a = put(kt, 1), b = put(kt, 2), c;
	unsigned char one[UUID_LEN], two[UUID_LEN];

	memset(one, 1, sizeof(one));
	memset(two, 2, sizeof(two));
	ck_assert(keytable_is(kt, a, one));
	ck_assert(!keytable_is(kt, a, two));
	ck_assert(keytable_is(kt, b, two));
	one[UUID_LEN - 1] ^= 1;
	ck_assert(!keytable_is(kt, a, one));
	one[UUID_LEN - 1] ^= 1;
	ck_assert(!keytable_is(kt, (struct key_ref){0, 0}, one));
	ck_assert(!keytable_is(kt, (struct key_ref){3, 1}, one));
	ck_assert(!keytable_is(kt, (struct key_ref){0xffffffff, 1}, one));
	keytable_del(kt, a);
	ck_assert(!keytable_is(kt, a, one));
	c = put(kt, 1); /* the same container, another record of it */
	ck_assert_uint_eq(c.slot, a.slot);
	ck_assert(keytable_is(kt, c, one));
	ck_assert(!keytable_is(kt, a, one));
}
END_TEST

struct wish {
	struct key_ref keep[2];
	int asked;
};

static bool is_wanted(void *arg, struct key_ref ref)
{
	struct wish *w = arg;

	w->asked++;
	for (int i = 0; i < 2; i++) {
		if (w->keep[i].slot == ref.slot &&
		    w->keep[i].generation == ref.generation)
			return true;
	}
	return false;
}

START_TEST(keep)
{
	auto_keytable struct keytable *kt = make(5);
	struct key_ref a = put(kt, 1), b = put(kt, 2), c = put(kt, 3), d = put(kt, 4);
	const unsigned char *where = keytable_key(kt, c);
	struct wish w = {.keep = {a, d}};

	keytable_del(kt, b);
	ck_assert_uint_eq(keytable_keep(kt, is_wanted, &w), 1);
	ck_assert_int_eq(w.asked, 3); /* of what is free nobody is asked */
	ck_key(kt, a, 1);
	ck_key(kt, d, 4);
	ck_assert_ptr_null(keytable_key(kt, c));
	ck_assert(io_is_zero(where, VOLUME_KEY_LEN));
	ck_assert_uint_eq(keytable_count(kt), 2);
	b = put(kt, 5);
	c = put(kt, 6);
	put(kt, 7); /* all five: the slots were given back once each */
	ck_assert_uint_eq(keytable_count(kt), 5);
	w = (struct wish){.keep = {{a.slot, a.generation + 1}, {0, 0}}};
	ck_assert_uint_eq(keytable_keep(kt, is_wanted, &w), 5);
	ck_assert_uint_eq(keytable_count(kt), 0);
}
END_TEST

/*
 * A process dies in keytable_put() before the record counts, or in keytable_del() when it counts
 * no more: what lies there of a key is wiped by whoever comes next.
 */
enum { RECORD_LEN = 128, RECORD_KEY = 40 /* see keytable.c */ };

static uint32_t *generation_of(struct keytable *kt, struct key_ref ref)
{
	return (uint32_t *)((uintptr_t)keytable_key(kt, ref) - RECORD_KEY);
}

START_TEST(attach_after_death)
{
	struct keytable *old = make(4);
	auto_keytable struct keytable *kt = NULL;
	struct key_ref a = put(old, 1), b = put(old, 2), c;
	uint32_t *torn = generation_of(old, a);
	size_t dropped = 77;

	ck_assert_uint_eq(*torn, a.generation);
	*torn = 0;
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 4, &dropped), 0);
	ck_assert_uint_eq(dropped, 0);
	ck_assert_uint_eq(keytable_count(kt), 1);
	ck_key(kt, b, 2);
	ck_assert(io_is_zero(torn, RECORD_LEN));
	keytable_detach(old);
	/* Whatever the generation was: it names nothing any more, and is not given out again. */
	ck_assert_ptr_null(keytable_key(kt, a));
	c = put(kt, 3);
	ck_assert_uint_eq(c.slot, a.slot);
	ck_assert_uint_gt(c.generation, b.generation);
	ck_key(kt, c, 3);
}
END_TEST

/*
 * A process dies in keytable_rename(): before its first store, after it, after the kcv's, the
 * uuid's, and at the end. The key stays, by the old uuid or the new one.
 */
START_TEST(attach_renamed)
{
	enum { UUID_AT = 8, KCV_AT = 24, NEXT_AT = 104, FLAG_AT = 120 };
	const unsigned char next[UUID_LEN] = "another one";
	struct keytable *old = make(1);
	auto_keytable struct keytable *kt = NULL;
	struct key_ref a = put(old, 1);
	unsigned char *r = (unsigned char *)generation_of(old, a);
	unsigned char kcv[KCV_LEN], was[UUID_LEN], was_kcv[KCV_LEN];
	size_t dropped;

	memcpy(was, r + UUID_AT, UUID_LEN);
	memcpy(was_kcv, r + KCV_AT, KCV_LEN);
	ck_assert_int_eq(keytable_kcv(kcv, keytable_key(old, a), next), 0);
	if (_i == 4)
		keytable_rename(old, a, next, kcv);
	if (_i >= 1 && _i < 4) {
		memcpy(r + NEXT_AT, next, UUID_LEN);
		r[FLAG_AT] = 1;
	}
	if (_i >= 2)
		memcpy(r + KCV_AT, kcv, KCV_LEN);
	if (_i >= 3)
		memcpy(r + UUID_AT, next, UUID_LEN);
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 1, &dropped), 0);
	ck_assert_uint_eq(dropped, 0);
	ck_assert(keytable_is(kt, a, _i < 2 ? was : next));
	ck_assert(keytable_fits(kt, a, was, was_kcv) && keytable_fits(kt, a, next, kcv));
	ck_assert(!keytable_fits(kt, a, next, was_kcv));
	keytable_detach(old);
}
END_TEST

/* The generation is there, the key is not (or another's): never used. */
START_TEST(attach_torn)
{
	struct keytable *old = make(3);
	auto_keytable struct keytable *kt = NULL;
	struct key_ref a = put(old, 1), b = put(old, 2), c = put(old, 3);
	unsigned char *key = (unsigned char *)(uintptr_t)keytable_key(old, a);
	size_t dropped = 0;

	memset(key + VOLUME_KEY_LEN / 2, 0, VOLUME_KEY_LEN / 2);
	memcpy((void *)(uintptr_t)keytable_key(old, b), keytable_key(old, c),
	       VOLUME_KEY_LEN);
	ck_assert_int_eq(keytable_attach(&kt, keytable_fd(old), 3, &dropped), 0);
	ck_assert_uint_eq(dropped, 2);
	ck_assert(io_is_zero(key, VOLUME_KEY_LEN));
	ck_assert_ptr_null(keytable_key(kt, a));
	ck_assert_ptr_null(keytable_key(kt, b));
	ck_key(kt, c, 3);
	keytable_detach(old);
}
END_TEST

/* Each generation maps anew; the last one's end wipes for all. */
START_TEST(attach_often)
{
	struct keytable *kt = make(4), *next;
	struct key_ref a = put(kt, 1), b;
	size_t dropped;
	int fd = dup(keytable_fd(kt));

	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(keytable_attach(&next, fd, 4, &dropped), 0);
		keytable_detach(kt);
		kt = next;
		ck_key(kt, a, 1);
		b = put(kt, 2);
		ck_assert_uint_eq(b.generation, a.generation + 1 + (uint32_t)i);
		keytable_del(kt, b);
	}
	keytable_free(kt);
	ck_assert_int_eq(keytable_attach(&kt, fd, 4, &dropped), 0);
	ck_assert_uint_eq(keytable_count(kt), 0);
	ck_assert_uint_eq(dropped, 0);
	keytable_free(kt);
	close(fd);
}
END_TEST

/* Without any lockable memory there is no table. Root is exempt unless it drops its uid.
 */
#if !SANITIZED
START_TEST(no_locked_memory)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct rlimit none = {0, 0};
		struct keytable *kt = NULL;
		bool hidden;

		log_set_level(LOG_LEVEL_ERR);
		if (!freopen("/dev/null", "w", stderr) ||
		    setrlimit(RLIMIT_MEMLOCK, &none) ||
		    /* EINVAL: root of a user namespace, who is not exempt anyway */
		    (getuid() == 0 && setresuid(65534, 65534, 65534) && errno != EINVAL))
			_exit(2);
		status = keytable_new(&kt, 100, &hidden);
		_exit(status == -ENOMEM || status == -EPERM ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST
#endif

Suite *unit_suite(void)
{
	Suite *s = suite_create("keytable");
	TCase *t = tcase_create("keytable");

	tcase_add_test(t, life_cycle);
	tcase_add_test(t, equal_halves);
	tcase_add_test(t, kcv_vector);
	tcase_add_test(t, attach);
	tcase_add_test(t, is);
	tcase_add_test(t, keep);
	tcase_add_test(t, attach_after_death);
	tcase_add_loop_test(t, attach_renamed, 0, 5);
	tcase_add_test(t, attach_torn);
	tcase_add_test(t, attach_often);
	/* The sanitizers' mlock(2) does nothing and always succeeds. */
#if !SANITIZED
	tcase_add_test(t, no_locked_memory);
	tcase_add_test(t, pin);
#endif
	suite_add_tcase(s, t);
	return s;
}
