/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time for deadlines and pauses: it does not jump when somebody sets the clock. Thread-safe. */
#ifndef VCF_UTIL_CLOCK_H
#define VCF_UTIL_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC; the same for all processes of the machine. */
static inline uint64_t clock_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* The same in whole seconds. */
static inline time_t clock_now_s(void)
{
	return (time_t)(clock_now_ms() / 1000);
}

#endif
