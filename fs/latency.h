/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures out of a status object, for commands: histograms (util/histogram.h), their differences,
 * means and quantiles. No I/O.
 */
#ifndef VCF_FS_LATENCY_H
#define VCF_FS_LATENCY_H

#include <json-c/json.h>
#include <stdint.h>

#include "util/histogram.h"

struct latency {
	uint64_t cnt[HISTOGRAM_CNT]; /* each bucket for itself */
	uint64_t total, sum_us;
};

/* The member of that name: status_latency()'s form. What is missing or no number is 0. */
void latency_get(struct latency *out, struct json_object *o, const char *key);

void latency_add(struct latency *to, const struct latency *l);

/* What came since `before`; where that is not smaller (the counters began anew), all of `l`. */
void latency_since(struct latency *out, const struct latency *l,
		   const struct latency *before);

/* Microseconds; 0 where there is nothing. */
double latency_mean_us(const struct latency *l);

/*
 * So many took at most this long: q in (0, 1], by interpolation inside the bucket, so good to the
 * bucket's width. Of what took longer than the last bound: that bound.
 */
double latency_quantile_us(const struct latency *l, double q);

/* "850 us", "1.2 ms", "3.4 s"; "-" where total is 0. */
void latency_text(char dst[16], double us, uint64_t total);

#endif
