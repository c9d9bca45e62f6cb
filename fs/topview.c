/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/topview.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "fs/jsonlines.h"
#include "util/cleanup.h"
#include "util/visible.h"

static const char *const key_names[] = {"iops", "bytes", "mean", "p99", "opens", "name"};
_Static_assert(sizeof(key_names) / sizeof(key_names[0]) == TOPVIEW_KEYS,
	       "each has a name");

/* --- samples --- */

static void read_figures(struct topview_row *r, struct json_object *o)
{
	r->bytes[IOSTAT_READ] = json_number(o, "bytes_read");
	r->bytes[IOSTAT_WRITE] = json_number(o, "bytes_written");
	r->errors = json_number(o, "read_errors") + json_number(o, "write_errors");
	latency_get(&r->took[IOSTAT_READ], o, "read_latency");
	latency_get(&r->took[IOSTAT_WRITE], o, "write_latency");
}

static void read_image(struct topview_row *r, struct json_object *o)
{
	snprintf(r->id, sizeof(r->id), "%s/%" PRIx64, json_text(o, "uuid"),
		 json_number(o, "ino"));
	snprintf(r->name, sizeof(r->name), "%s", json_text(o, "path"));
	r->opens = json_number(o, "opens");
	read_figures(r, o);
}

/* Counters that are smaller than before began anew. */
static uint64_t grown(uint64_t now, uint64_t before)
{
	return now >= before ? now - before : now;
}

static void set_rates(struct topview_row *r, const struct topview_row *before,
		      double seconds)
{
	struct latency both = {.total = 0};

	for (int way = 0; way < IOSTAT_WAYS; way++) {
		struct latency d;

		latency_since(&d, &r->took[way], &before->took[way]);
		latency_add(&both, &d);
		r->iops[way] = (double)d.total / seconds;
		r->rate[way] = (double)grown(r->bytes[way], before->bytes[way]) / seconds;
	}
	r->requests = both.total;
	r->mean_us = latency_mean_us(&both);
	r->p99_us = latency_quantile_us(&both, 0.99);
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct topview_row *)a)->id,
		      ((const struct topview_row *)b)->id);
}

/* One whose key has just come began with nothing. */
static void compare(struct topview *v, const struct topview *before)
{
	static const struct topview_row nothing;
	struct topview_row *old = calloc(before->cnt + 1, sizeof(*old));

	if (!old)
		return;
	memcpy(old, before->rows, before->cnt * sizeof(*old));
	qsort(old, before->cnt, sizeof(*old), by_id);
	for (size_t i = 0; i < v->cnt; i++) {
		const struct topview_row *was =
			bsearch(&v->rows[i], old, before->cnt, sizeof(*old), by_id);

		set_rates(&v->rows[i], was ? was : &nothing, v->seconds);
	}
	set_rates(&v->all, &before->all, v->seconds);
	free(old);
}

static const char *service_state(struct json_object *o)
{
	struct json_object *all = NULL;
	const char *worst = "ok";

	if (!json_object_object_get_ex(o, "key_services", &all))
		return "?";
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		const char *state = json_text(json_object_array_get_idx(all, i), "state");

		if (strcmp(state, "failing") == 0)
			return "FAILING";
		if (strcmp(state, "slow") == 0)
			worst = "SLOW";
	}
	return worst;
}

static void set_texts(struct topview *v, struct json_object *o)
{
	struct json_object *queue = NULL;
	char name[256];

	visible_copy(name, sizeof(name), json_text(o, "mountpoint"));
	snprintf(v->title, sizeof(v->title),
		 "%s  up %" PRIu64 " s, generation %" PRIu64 ", deaths %" PRIu64, name,
		 json_number(o, "uptime"), json_number(o, "generation"),
		 json_number(o, "deaths"));
	json_object_object_get_ex(o, "destroy_queue", &queue);
	snprintf(v->state, sizeof(v->state),
		 "images %zu, open %zu; key service %s; waiting for keys %" PRIu64
		 ", to be destroyed %" PRIu64 "%s",
		 v->cnt, v->open, service_state(o), json_number(o, "parked"),
		 json_number(queue, "waiting"),
		 json_flag(o, "keeper_gone") ? "; THE KEEPER IS GONE" : "");
}

vcf_err_t topview_new(struct topview **out, struct json_object *status,
		      const struct topview *before, double seconds)
{
	struct topview *v = calloc(1, sizeof(*v));
	struct json_object *images = NULL, *io = NULL;

	if (!v)
		return -ENOMEM;
	if (json_object_object_get_ex(status, "images", &images))
		v->cnt = json_object_array_length(images);
	v->rows = calloc(v->cnt + 1, sizeof(*v->rows));
	if (!v->rows) {
		topview_free(v);
		return -ENOMEM;
	}
	for (size_t i = 0; i < v->cnt; i++) {
		read_image(&v->rows[i], json_object_array_get_idx(images, i));
		v->open += v->rows[i].opens > 0;
	}
	if (json_object_object_get_ex(status, "io", &io))
		read_figures(&v->all, io);
	set_texts(v, status);
	if (before && seconds > 0) {
		v->seconds = seconds;
		compare(v, before);
	}
	*out = v;
	return 0;
}

void topview_free(struct topview *v)
{
	if (v)
		free(v->rows);
	free(v);
}

/* --- order --- */

enum topview_key topview_parse_key(const char *word)
{
	int i = 0;

	while (i < TOPVIEW_KEYS && strcmp(word, key_names[i]) != 0)
		i++;
	return (enum topview_key)i;
}

const char *topview_key_name(enum topview_key key)
{
	return key_names[key];
}

static double value(const struct topview_row *r, enum topview_key key)
{
	switch (key) {
	case TOPVIEW_IOPS:
		return r->iops[IOSTAT_READ] + r->iops[IOSTAT_WRITE];
	case TOPVIEW_BYTES:
		return r->rate[IOSTAT_READ] + r->rate[IOSTAT_WRITE];
	case TOPVIEW_MEAN:
		return r->mean_us;
	case TOPVIEW_P99:
		return r->p99_us;
	case TOPVIEW_OPENS:
		return (double)r->opens;
	default:
		return 0;
	}
}

static int in_order(const void *a, const void *b, void *arg)
{
	const struct topview_row *r = a, *s = b;
	enum topview_key key = *(enum topview_key *)arg;
	double x = value(r, key), y = value(s, key);
	int names;

	if (x > y || x < y)
		return x > y ? -1 : 1;
	names = strcmp(r->name, s->name);
	return names ? names : strcmp(r->id, s->id);
}

void topview_sort(struct topview *v, enum topview_key key)
{
	qsort_r(v->rows, v->cnt, sizeof(*v->rows), in_order, &key);
}

/* --- lines --- */

static void cut(char *line, size_t width)
{
	if (width < TOPVIEW_WIDTH_MAX && strlen(line) > width)
		line[width] = '\0';
}

static void put_way(FILE *to, const char *what, const struct topview_row *r, int way)
{
	fprintf(to, "%s %.0f/s %.1f MiB/s", what, r->iops[way], r->rate[way] / 1048576);
}

static void put_all(FILE *to, const struct topview *v)
{
	char mean[16], p99[16];

	if (v->seconds <= 0) {
		fputs("measuring ...", to);
		return;
	}
	latency_text(mean, v->all.mean_us, v->all.requests);
	latency_text(p99, v->all.p99_us, v->all.requests);
	put_way(to, "reads", &v->all, IOSTAT_READ);
	put_way(to, ", writes", &v->all, IOSTAT_WRITE);
	fprintf(to, ", mean %s, p99 %s, failed so far %" PRIu64, mean, p99,
		v->all.errors);
}

void topview_head(char dst[TOPVIEW_WIDTH_MAX], size_t width, const struct topview *v,
		  int line)
{
	FILE *to = fmemopen(dst, TOPVIEW_WIDTH_MAX, "w");

	*dst = '\0';
	if (!to)
		return;
	if (line == 0)
		fputs(v->title, to);
	else if (line == 1)
		fputs(v->state, to);
	else if (line == 2)
		put_all(to, v);
	else
		fprintf(to, "%8s %8s %9s %9s %9s %9s %5s  IMAGE", "R/s", "W/s", "R MiB/s",
			"W MiB/s", "MEAN", "P99", "OPEN");
	fclose(to);
	cut(dst, width);
}

void topview_line(char dst[TOPVIEW_WIDTH_MAX], size_t width, const struct topview_row *r)
{
	char mean[16], p99[16], name[sizeof(r->name) * 4];

	latency_text(mean, r->mean_us, r->requests);
	latency_text(p99, r->p99_us, r->requests);
	visible_copy(name, sizeof(name), r->name);
	snprintf(dst, TOPVIEW_WIDTH_MAX,
		 "%8.0f %8.0f %9.1f %9.1f %9s %9s %5" PRIu64 "  %s%.900s",
		 r->iops[IOSTAT_READ], r->iops[IOSTAT_WRITE],
		 r->rate[IOSTAT_READ] / 1048576, r->rate[IOSTAT_WRITE] / 1048576, mean,
		 p99, r->opens, r->errors ? "(ERRORS) " : "", name);
	cut(dst, width);
}
