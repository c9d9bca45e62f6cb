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
	/* The sanitizers' mlock(2) does nothing and always succeeds. */
#if !SANITIZED
	tcase_add_test(t, no_locked_memory);
#endif
	suite_add_tcase(s, t);
	return s;
}
