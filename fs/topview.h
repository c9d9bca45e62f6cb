/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `top` shows: rates between two status objects of a mount, sorted, and as lines of text. No
 * terminal, no clock.
 */
#ifndef VCF_FS_TOPVIEW_H
#define VCF_FS_TOPVIEW_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "fs/iostat.h"
#include "fs/latency.h"
#include "util/err.h"

enum topview_key {
	TOPVIEW_IOPS,
	TOPVIEW_BYTES,
	TOPVIEW_MEAN,
	TOPVIEW_P99,
	TOPVIEW_OPENS,
	TOPVIEW_NAME,
	TOPVIEW_KEYS
};

/* Of one image, or of all together. */
struct topview_row {
	char id[64];	/* which counters these are: uuid and inode */
	char name[256]; /* as it is: not for a terminal */
	uint64_t opens, bytes[IOSTAT_WAYS], errors;
	struct latency took[IOSTAT_WAYS];
	/* since the sample before */
	double iops[IOSTAT_WAYS], rate[IOSTAT_WAYS], mean_us, p99_us;
	uint64_t requests;
};

struct topview {
	struct topview_row *rows;
	size_t cnt, open;
	struct topview_row all;
	double seconds;		     /* since the sample before; 0: there is none */
	char title[512], state[512]; /* ready for a terminal */
};

/*
 * Takes a sample. before: the last one, or NULL; seconds between them. The caller frees it.
 * -ENOMEM.
 */
NODISCARD vcf_err_t topview_new(struct topview **out, struct json_object *status,
				const struct topview *before, double seconds);
void topview_free(struct topview *v);

/* "iops", "bytes", "mean", "p99", "opens", "name"; TOPVIEW_KEYS: none of them. */
enum topview_key topview_parse_key(const char *word);
const char *topview_key_name(enum topview_key key);

/* The largest first; names from a to z. Rows that are equal: by name. */
void topview_sort(struct topview *v, enum topview_key key);

/*
 * Lines without their ends, cut at `width` columns, each ASCII. Head: the first TOPVIEW_HEAD_LINES,
 * of which the last one names the columns.
 */
enum { TOPVIEW_HEAD_LINES = 4, TOPVIEW_WIDTH_MAX = 1024 };
void topview_head(char dst[TOPVIEW_WIDTH_MAX], size_t width, const struct topview *v,
		  int line);
void topview_line(char dst[TOPVIEW_WIDTH_MAX], size_t width, const struct topview_row *r);

#endif
