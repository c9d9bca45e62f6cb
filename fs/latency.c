/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/latency.h"

#include <stdio.h>
#include <string.h>

#include "fs/jsonlines.h"

void latency_get(struct latency *out, struct json_object *o, const char *key)
{
	struct json_object *l = NULL, *counts = NULL;

	memset(out, 0, sizeof(*out));
	if (!json_object_object_get_ex(o, key, &l))
		return;
	out->sum_us = json_number(l, "sum_us");
	if (!json_object_object_get_ex(l, "counts", &counts) ||
	    !json_object_is_type(counts, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(counts) && i < HISTOGRAM_CNT;
	     i++) {
		out->cnt[i] =
			json_object_get_uint64(json_object_array_get_idx(counts, i));
		out->total += out->cnt[i];
	}
}

void latency_add(struct latency *to, const struct latency *l)
{
	for (int i = 0; i < HISTOGRAM_CNT; i++)
		to->cnt[i] += l->cnt[i];
	to->total += l->total;
	to->sum_us += l->sum_us;
}

void latency_since(struct latency *out, const struct latency *l,
		   const struct latency *before)
{
	*out = *l;
	if (l->total < before->total || l->sum_us < before->sum_us)
		return;
	for (int i = 0; i < HISTOGRAM_CNT; i++) {
		if (l->cnt[i] < before->cnt[i])
			return;
	}
	for (int i = 0; i < HISTOGRAM_CNT; i++)
		out->cnt[i] -= before->cnt[i];
	out->total -= before->total;
	out->sum_us -= before->sum_us;
}

double latency_mean_us(const struct latency *l)
{
	return l->total ? (double)l->sum_us / (double)l->total : 0;
}

double latency_quantile_us(const struct latency *l, double q)
{
	double rank = q * (double)l->total, before = 0;

	if (!l->total)
		return 0;
	for (unsigned int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		double lower = i ? (double)histogram_bound_us(i - 1) : 0;
		double upper = (double)histogram_bound_us(i), n = (double)l->cnt[i];

		if (n > 0 && before + n >= rank)
			return lower + (upper - lower) * (rank - before) / n;
		before += n;
	}
	return (double)histogram_bound_us(HISTOGRAM_BOUNDS - 1);
}

void latency_text(char dst[16], double us, uint64_t total)
{
	if (!total)
		snprintf(dst, 16, "-");
	else if (us < 1000)
		snprintf(dst, 16, "%.0f us", us);
	else if (us < 1000000)
		snprintf(dst, 16, "%.1f ms", us / 1000);
	else
		snprintf(dst, 16, "%.1f s", us / 1000000);
}
