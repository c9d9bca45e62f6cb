/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long things took: counts by powers of two, 8 us, 16 us, ... 8.4 s and beyond, and the sum.
 * Only grows. It may lie in memory that outlives the process: no pointers, no locks; a reader sees
 * each number whole, but not all of one moment.
 */
#ifndef VCF_UTIL_HISTOGRAM_H
#define VCF_UTIL_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	HISTOGRAM_FIRST_US = 8,
	HISTOGRAM_BOUNDS = 21,		     /* the last one is 8 us << 20 */
	HISTOGRAM_CNT = HISTOGRAM_BOUNDS + 1 /* and what took longer */
};

struct histogram {
	_Atomic uint64_t cnt[HISTOGRAM_CNT]; /* each for itself, not cumulated */
	_Atomic uint64_t sum_ns;
};

/* The upper bound of a bucket, inclusive; not of the last one. */
static inline uint64_t histogram_bound_us(unsigned int i)
{
	return (uint64_t)HISTOGRAM_FIRST_US << i;
}

static inline unsigned int histogram_bucket(uint64_t ns)
{
	/* Rounded up: what took a nanosecond longer than a bound is beyond it. */
	uint64_t units = ns / 8000 + (ns % 8000 != 0);
	unsigned int i = units <= 1 ? 0 : 64 - (unsigned int)__builtin_clzll(units - 1);

	return i < HISTOGRAM_BOUNDS ? i : HISTOGRAM_BOUNDS;
}

/* Several threads count. */
static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->cnt[histogram_bucket(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

/* One thread counts, others read: a fifth of the price. */
static inline void histogram_raise(_Atomic uint64_t *n, uint64_t by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by,
			      memory_order_relaxed);
}

static inline void histogram_add_own(struct histogram *h, uint64_t ns)
{
	histogram_raise(&h->cnt[histogram_bucket(ns)], 1);
	histogram_raise(&h->sum_ns, ns);
}

static inline uint64_t histogram_total(const struct histogram *h)
{
	uint64_t sum = 0;

	for (int i = 0; i < HISTOGRAM_CNT; i++)
		sum += atomic_load_explicit(&h->cnt[i], memory_order_relaxed);
	return sum;
}

#endif
