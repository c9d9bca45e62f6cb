/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metrics in the text form of Prometheus, out of status objects. No I/O but the stream.
 *
 * Source: prometheus.io, "Exposition formats", text format 0.0.4; names and units as its "Metric
 * and label naming" wants them.
 */
#ifndef VCF_FS_METRICS_TEXT_H
#define VCF_FS_METRICS_TEXT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* One mount point that is asked for. */
struct metrics_mount {
	const char *mountpoint;
	bool mounted;		    /* mountinfo has it */
	struct json_object *status; /* NULL: nobody answers */
	double seconds;		    /* that the answer took */
};

struct metrics_view {
	const struct metrics_mount *mounts;
	size_t mount_cnt;
	bool per_image;
	size_t image_limit; /* of each mount: those with the most requests */
};

struct metrics_family {
	const char *name;
	const char *type; /* "counter", "gauge", "histogram" */
	const char *help; /* one sentence */
	void (*emit)(FILE *to, const char *name, const struct metrics_view *v,
		     const struct metrics_mount *m);
};

/* The table: what there is, for the text, for `metrics --list`, and for the test of the document. */
extern const struct metrics_family metrics_families[];
extern const size_t metrics_family_cnt;

void metrics_write(FILE *to, const struct metrics_view *v);

/* A label's value: quoted, with \\, \" and \n; bytes that are not UTF-8 as \\xNN. */
void metrics_write_label(FILE *to, const char *value);

#endif
