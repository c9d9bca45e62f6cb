/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arena is one anonymous mapping: mlock'd (no swap), MADV_DONTDUMP (no core),
 * MADV_WIPEONFORK (a child that is going to execute a helper sees zeros). Slots are
 * handed out from a free list under one mutex.
 */
#include "crypto/secret.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "util/lock.h"
#include "util/log.h"
#include "util/parse.h"

enum { ARENA_LEN = 512 * 1024 };

struct secret {
	unsigned char bytes[SECRET_LEN];
	struct secret *next; /* (l) free list */
	uint64_t pad[3];
};
_Static_assert(sizeof(struct secret) == 64, "a slot is one cache line");

static struct mutex arena_lock = MUTEX_INIT(RANK_SECRET);
static struct secret *arena_free; /* (l) */
static bool arena_ready;	  /* (l) */

static void arena_fill(struct secret *slots)
{
	for (size_t i = ARENA_LEN / sizeof(*slots); i > 0; i--) {
		slots[i - 1].next = arena_free;
		arena_free = &slots[i - 1];
	}
	arena_ready = true;
}

vcf_err_t secret_arena_init(void)
{
	SCOPED_LOCK(&arena_lock);
	void *p;

	if (arena_ready)
		return 0;
	p = mmap(NULL, ARENA_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	if (p == MAP_FAILED)
		return -errno;
	if (mlock(p, ARENA_LEN) < 0) {
		int err = -errno;

		log_err("cannot lock %d KiB of memory for secrets: %s; raise "
			"RLIMIT_MEMLOCK "
			"(ulimit -l, LimitMEMLOCK=)",
			ARENA_LEN / 1024, strerror(-err));
		munmap(p, ARENA_LEN);
		return err;
	}
	madvise(p, ARENA_LEN, MADV_DONTDUMP);
	madvise(p, ARENA_LEN, MADV_WIPEONFORK);
	arena_fill(p);
	return 0;
}

vcf_err_t secret_new(struct secret **out)
{
	SCOPED_LOCK(&arena_lock);
	struct secret *s = arena_free;

	if (!s)
		return -ENOMEM;
	arena_free = s->next;
	memset(s, 0, sizeof(*s));
	*out = s;
	return 0;
}

vcf_err_t secret_new_random(struct secret **out)
{
	vcf_err_t err = secret_new(out);

	if (!err)
		secret_random((*out)->bytes, SECRET_LEN);
	return err;
}

vcf_err_t secret_new_hex(struct secret **out, const char *hex, size_t len)
{
	auto_secret struct secret *s = NULL;
	vcf_err_t err = secret_new(&s);

	if (!err)
		err = hex_decode(s->bytes, SECRET_LEN, hex, len);
	if (err)
		return err;
	*out = STEAL_PTR(&s);
	return 0;
}

vcf_err_t secret_dup(struct secret **out, const struct secret *s)
{
	vcf_err_t err = secret_new(out);

	if (!err)
		memcpy((*out)->bytes, s->bytes, SECRET_LEN);
	return err;
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	SCOPED_LOCK(&arena_lock);
	secret_wipe(s, sizeof(*s));
	s->next = arena_free;
	arena_free = s;
}

unsigned char *secret_bytes(const struct secret *s)
{
	return (unsigned char *)(uintptr_t)s->bytes;
}

void secret_hex(const struct secret *s, char dst[SECRET_HEX_LEN + 1])
{
	hex_encode(dst, s->bytes, SECRET_LEN);
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	unsigned int diff = 0;

	for (size_t i = 0; i < SECRET_LEN; i++)
		diff |= a->bytes[i] ^ b->bytes[i];
	return diff == 0;
}

void secret_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}

void secret_random(void *p, size_t len)
{
	unsigned char *dst = p;

	while (len) {
		ssize_t n = getrandom(dst, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			perror("getrandom");
			abort();
		}
		dst += n;
		len -= (size_t)n;
	}
}
