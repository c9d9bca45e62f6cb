/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What reads and writes of images have done and how long they took: by image while its key is in
 * memory, and by thread for the whole mount. Both lie in the session, so a death of the server
 * loses nothing but the requests that it was just counting.
 *
 * The time is that between the request's arrival at its thread and its answer being ready: the kernel's
 * part before and after, and waiting for a key, are not in it.
 */
#ifndef VCF_FS_IOSTAT_H
#define VCF_FS_IOSTAT_H

#include "util/histogram.h"

enum iostat_way { IOSTAT_READ, IOSTAT_WRITE, IOSTAT_WAYS };

struct iostat {
	struct histogram took; /* of those that went well */
	_Atomic uint64_t bytes;
	_Atomic uint64_t errors;
	uint64_t reserved;
};
_Static_assert(sizeof(struct iostat) == 208, "part of SESSION_VERSION");

struct session;

/* The whole mount's, all threads together. */
struct iostat_sum {
	uint64_t cnt[HISTOGRAM_CNT], requests, sum_ns, bytes, errors;
};
void iostat_copy(struct iostat_sum *to, const struct iostat *from);
void iostat_sum(struct iostat_sum to[IOSTAT_WAYS], const struct session *s);

/* own: of the calling thread, which alone counts there. */
static inline void iostat_done(struct iostat *image, struct iostat *own, uint64_t ns,
			       uint64_t bytes)
{
	histogram_add_own(&own->took, ns);
	histogram_raise(&own->bytes, bytes);
	histogram_add(&image->took, ns);
	atomic_fetch_add_explicit(&image->bytes, bytes, memory_order_relaxed);
}

static inline void iostat_failed(struct iostat *image, struct iostat *own)
{
	histogram_raise(&own->errors, 1);
	atomic_fetch_add_explicit(&image->errors, 1, memory_order_relaxed);
}

#endif
