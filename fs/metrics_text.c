/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/metrics_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/jsonlines.h"
#include "fs/latency.h"
#include "util/visible.h"

void metrics_write_label(FILE *to, const char *value)
{
	const unsigned char *p = (const unsigned char *)value;

	fputc('"', to);
	while (*p) {
		size_t len = visible_utf8_len(p);

		if (*p == '\n')
			fputs("\\n", to);
		else if (*p == '"' || *p == '\\')
			fprintf(to, "\\%c", *p);
		else if (!len)
			fprintf(to, "\\\\x%02x", *p);
		else
			fwrite(p, 1, len, to);
		p += len ? len : 1;
	}
	fputc('"', to);
}

/* --- samples --- */

struct label {
	const char *name, *value;
};

enum { LABELS_MAX = 5 };

/* Of a mount: its mount point, then up to four more. */
struct labels {
	struct label at[LABELS_MAX];
	size_t cnt;
};

static struct labels labels_of(const struct metrics_mount *m)
{
	return (struct labels){.at = {{"mountpoint", m->mountpoint}}, .cnt = 1};
}

static struct labels with(struct labels l, const char *name, const char *value)
{
	l.at[l.cnt++] = (struct label){name, value};
	return l;
}

static void put_name(FILE *to, const char *name, const char *suffix,
		     const struct labels *l)
{
	fprintf(to, "%s%s{", name, suffix);
	for (size_t i = 0; i < l->cnt; i++) {
		fprintf(to, "%s%s=", i ? "," : "", l->at[i].name);
		metrics_write_label(to, l->at[i].value);
	}
	fputs("} ", to);
}

static void put(FILE *to, const char *name, struct labels l, uint64_t v)
{
	put_name(to, name, "", &l);
	fprintf(to, "%" PRIu64 "\n", v);
}

static void put_real(FILE *to, const char *name, struct labels l, double v)
{
	put_name(to, name, "", &l);
	fprintf(to, "%.9g\n", v);
}

static void put_histogram(FILE *to, const char *name, struct labels l,
			  struct json_object *o, const char *key)
{
	struct latency h;
	uint64_t sum = 0;
	char bound[32];

	latency_get(&h, o, key);
	for (unsigned int i = 0; i < HISTOGRAM_CNT; i++) {
		struct labels le = with(l, "le", bound);

		if (i < HISTOGRAM_BOUNDS)
			snprintf(bound, sizeof(bound), "%.9g",
				 (double)histogram_bound_us(i) / 1e6);
		else
			strcpy(bound, "+Inf");
		sum += h.cnt[i];
		put_name(to, name, "_bucket", &le);
		fprintf(to, "%" PRIu64 "\n", sum);
	}
	put_name(to, name, "_sum", &l);
	fprintf(to, "%.6f\n", (double)h.sum_us / 1e6);
	put_name(to, name, "_count", &l);
	fprintf(to, "%" PRIu64 "\n", sum);
}

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

static double real(struct json_object *o, const char *key)
{
	struct json_object *v = member(o, key);

	return v ? json_object_get_double(v) : 0;
}

/* --- of a mount --- */

#define MOUNT_METRIC(fn)                                                                 \
	static void fn(FILE *to, const char *name, const struct metrics_view *v,         \
		       const struct metrics_mount *m)

MOUNT_METRIC(emit_up)
{
	(void)v;
	put(to, name, labels_of(m), m->status != NULL);
}

MOUNT_METRIC(emit_mounted)
{
	(void)v;
	put(to, name, labels_of(m), m->mounted);
}

MOUNT_METRIC(emit_seconds)
{
	(void)v;
	put_real(to, name, labels_of(m), m->seconds);
}

MOUNT_METRIC(emit_build)
{
	(void)v;
	if (m->status)
		put(to, name,
		    with(labels_of(m), "version", json_text(m->status, "version")), 1);
}

MOUNT_METRIC(emit_keeper)
{
	(void)v;
	if (m->status)
		put(to, name, labels_of(m), !json_flag(m->status, "keeper_gone"));
}

/* A number of the status object, or of an object in it. */
#define NUMBER(fn, object, key)                                                          \
	MOUNT_METRIC(fn)                                                                 \
	{                                                                                \
		struct json_object *o = m->status;                                       \
                                                                                         \
		(void)v;                                                                 \
		if (o && *(object))                                                      \
			o = member(o, object);                                           \
		if (o)                                                                   \
			put(to, name, labels_of(m), json_number(o, key));                \
	}

NUMBER(emit_uptime, "", "uptime")
NUMBER(emit_generation, "", "generation")
NUMBER(emit_deaths, "", "deaths")
NUMBER(emit_hangs, "", "hangs")
NUMBER(emit_upgrades, "", "upgrades")
NUMBER(emit_replayed, "", "replayed")
NUMBER(emit_poisoned, "", "poisoned")
NUMBER(emit_dropped, "", "dropped_records")
NUMBER(emit_stalls, "stall_ms", "count")
NUMBER(emit_nodes, "", "nodes")
NUMBER(emit_handles, "", "handles")
NUMBER(emit_keys, "", "keys")
NUMBER(emit_parked, "", "parked")
NUMBER(emit_async, "", "asynchronous")
NUMBER(emit_queue, "destroy_queue", "waiting")
NUMBER(emit_suspects, "destroy_queue", "suspect")
NUMBER(emit_paused, "destroy_queue", "paused_s")
NUMBER(emit_unconfigured, "", "destroy_unconfigured")
NUMBER(emit_promote, "", "promote_queue")
NUMBER(emit_audit_waiting, "audit", "waiting")
NUMBER(emit_audit_lost, "audit", "lost")

#define STALL(fn, expression)                                                            \
	MOUNT_METRIC(fn)                                                                 \
	{                                                                                \
		struct json_object *s = member(m->status, "stall_ms");                   \
                                                                                         \
		(void)v;                                                                 \
		if (s)                                                                   \
			put_real(to, name, labels_of(m), (expression) / 1e3);            \
	}

STALL(emit_stall_sum, real(s, "mean") * real(s, "count"))
STALL(emit_stall_last, real(s, "last"))
STALL(emit_stall_longest, real(s, "max"))

MOUNT_METRIC(emit_next_due)
{
	struct json_object *q = member(m->status, "destroy_queue");
	time_t due = q ? json_time(q, "next_due") : -1;

	(void)v;
	if (due > 0)
		put(to, name, labels_of(m), (uint64_t)due);
}

MOUNT_METRIC(emit_open)
{
	struct json_object *images = member(m->status, "images");
	uint64_t open = 0;

	(void)v;
	for (size_t i = 0; images && i < json_object_array_length(images); i++)
		open += json_number(json_object_array_get_idx(images, i), "opens") > 0;
	if (images)
		put(to, name, labels_of(m), open);
}

MOUNT_METRIC(emit_escrow)
{
	struct json_object *e = member(m->status, "escrow");

	(void)v;
	if (!e)
		return;
	put(to, name, with(labels_of(m), "sealed", "yes"), json_number(e, "with"));
	put(to, name, with(labels_of(m), "sealed", "no"), json_number(e, "without"));
}

MOUNT_METRIC(emit_devices)
{
	static const char *const kinds[] = {"container", "empty", "foreign", "damaged",
					    "absent"};
	struct json_object *all = member(m->status, "devices");
	uint64_t cnt[5] = {0};

	(void)v;
	if (!all)
		return;
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		const char *kind = json_text(json_object_array_get_idx(all, i), "kind");

		for (int k = 0; k < 5; k++)
			cnt[k] += strcmp(kind, kinds[k]) == 0;
	}
	for (int k = 0; k < 5; k++)
		put(to, name, with(labels_of(m), "kind", kinds[k]), cnt[k]);
}

/* --- reads and writes --- */

static void put_ways(FILE *to, const char *name, struct labels l, struct json_object *o,
		     const char *read_key, const char *write_key)
{
	put(to, name, with(l, "direction", "read"), json_number(o, read_key));
	put(to, name, with(l, "direction", "write"), json_number(o, write_key));
}

#define WAYS(fn, read_key, write_key)                                                    \
	MOUNT_METRIC(fn)                                                                 \
	{                                                                                \
		struct json_object *io = member(m->status, "io");                        \
                                                                                         \
		(void)v;                                                                 \
		if (io)                                                                  \
			put_ways(to, name, labels_of(m), io, read_key, write_key);       \
	}

WAYS(emit_bytes, "bytes_read", "bytes_written")
WAYS(emit_errors, "read_errors", "write_errors")

MOUNT_METRIC(emit_duration)
{
	struct json_object *io = member(m->status, "io");

	(void)v;
	if (!io)
		return;
	put_histogram(to, name, with(labels_of(m), "direction", "read"), io,
		      "read_latency");
	put_histogram(to, name, with(labels_of(m), "direction", "write"), io,
		      "write_latency");
}

/* --- key services --- */

typedef void service_fn(FILE *to, const char *name, struct labels l,
			struct json_object *ks);

static void each_service(FILE *to, const char *name, const struct metrics_mount *m,
			 service_fn *fn)
{
	struct json_object *all = member(m->status, "key_services");

	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *ks = json_object_array_get_idx(all, i);

		fn(to, name, with(labels_of(m), "service", json_text(ks, "name")), ks);
	}
}

#define SERVICE_METRIC(fn, statement)                                                    \
	static void one_##fn(FILE *to, const char *name, struct labels l,                \
			     struct json_object *ks)                                     \
	{                                                                                \
		statement;                                                               \
	}                                                                                \
	MOUNT_METRIC(fn)                                                                 \
	{                                                                                \
		(void)v;                                                                 \
		each_service(to, name, m, one_##fn);                                     \
	}

static bool is(struct json_object *o, const char *key, const char *text)
{
	return strcmp(json_text(o, key), text) == 0;
}

static void put_when(FILE *to, const char *name, struct labels l, struct json_object *ks,
		     const char *key)
{
	time_t t = json_time(ks, key);

	if (t > 0)
		put(to, name, l, (uint64_t)t);
}

SERVICE_METRIC(emit_ks_up, put(to, name, l, !is(ks, "state", "failing")))
SERVICE_METRIC(emit_ks_slow, put(to, name, l, is(ks, "state", "slow")))
SERVICE_METRIC(emit_ks_held, put(to, name, l, !is(ks, "breaker", "closed")))
SERVICE_METRIC(emit_ks_opened, put(to, name, l, json_number(ks, "breaker_opened")))
SERVICE_METRIC(emit_ks_requests, put(to, name, l, json_number(ks, "requests")))
SERVICE_METRIC(emit_ks_failures, put(to, name, l, json_number(ks, "failures")))
SERVICE_METRIC(emit_ks_restarts, put(to, name, l, json_number(ks, "restarts")))
SERVICE_METRIC(emit_ks_waiting, put(to, name, l, json_number(ks, "waiting")))
SERVICE_METRIC(emit_ks_helpers, put(to, name, l, json_number(ks, "children")))
SERVICE_METRIC(emit_ks_reserve, put(to, name, l, json_number(ks, "reserve")))
SERVICE_METRIC(emit_ks_wanted, put(to, name, l, json_number(ks, "reserve_wanted")))
SERVICE_METRIC(emit_ks_success, put_when(to, name, l, ks, "last_success"))
SERVICE_METRIC(emit_ks_failure, put_when(to, name, l, ks, "last_failure"))
SERVICE_METRIC(emit_ks_duration, put_histogram(to, name, l, ks, "latency"))

/* --- images --- */

static uint64_t requests_of(struct json_object *image)
{
	return json_number(image, "reads") + json_number(image, "writes");
}

static int by_requests(const void *a, const void *b)
{
	uint64_t x = requests_of(*(struct json_object *const *)a);
	uint64_t y = requests_of(*(struct json_object *const *)b);

	return x < y ? 1 : x > y ? -1 : 0;
}

typedef void image_fn(FILE *to, const char *name, struct labels l, struct json_object *i);

/* Of those that lie within the limit. */
static void each_image(FILE *to, const char *name, const struct metrics_view *v,
		       const struct metrics_mount *m, image_fn *fn)
{
	struct json_object *all = v->per_image ? member(m->status, "images") : NULL;
	size_t cnt = all ? json_object_array_length(all) : 0;
	struct json_object **list = calloc(cnt ? cnt : 1, sizeof(struct json_object *));

	if (!list)
		return;
	for (size_t i = 0; i < cnt; i++)
		list[i] = json_object_array_get_idx(all, i);
	if (cnt > v->image_limit)
		qsort(list, cnt, sizeof(struct json_object *), by_requests);
	for (size_t i = 0; i < cnt && i < v->image_limit; i++) {
		struct labels l = with(labels_of(m), "image", json_text(list[i], "path"));

		fn(to, name, with(l, "uuid", json_text(list[i], "uuid")), list[i]);
	}
	free(list);
}

#define IMAGE_METRIC(fn, statement)                                                      \
	static void one_##fn(FILE *to, const char *name, struct labels l,                \
			     struct json_object *i)                                      \
	{                                                                                \
		statement;                                                               \
	}                                                                                \
	MOUNT_METRIC(fn)                                                                 \
	{                                                                                \
		each_image(to, name, v, m, one_##fn);                                    \
	}

static void put_busy(FILE *to, const char *name, struct labels l, struct json_object *i)
{
	struct latency r, w;

	latency_get(&r, i, "read_latency");
	latency_get(&w, i, "write_latency");
	put_real(to, name, with(l, "direction", "read"), (double)r.sum_us / 1e6);
	put_real(to, name, with(l, "direction", "write"), (double)w.sum_us / 1e6);
}

IMAGE_METRIC(emit_im_opens, put(to, name, l, json_number(i, "opens")))
IMAGE_METRIC(emit_im_requests, put_ways(to, name, l, i, "reads", "writes"))
IMAGE_METRIC(emit_im_bytes, put_ways(to, name, l, i, "bytes_read", "bytes_written"))
IMAGE_METRIC(emit_im_errors, put_ways(to, name, l, i, "read_errors", "write_errors"))
IMAGE_METRIC(emit_im_busy, put_busy(to, name, l, i))

MOUNT_METRIC(emit_omitted)
{
	struct json_object *all = member(m->status, "images");
	size_t cnt = all ? json_object_array_length(all) : 0;

	if (all && v->per_image)
		put(to, name, labels_of(m),
		    cnt > v->image_limit ? cnt - v->image_limit : 0);
}

/* clang-format off */
#define PER_IMAGE " (with per-image = yes)."
const struct metrics_family metrics_families[] = {
	{"vmcryptfs_up", "gauge", "1: a server answers for the mount point; 0: none does.",
	 emit_up},
	{"vmcryptfs_mounted", "gauge", "1: a vmcryptfs is mounted there, whether it answers or not.",
	 emit_mounted},
	{"vmcryptfs_status_seconds", "gauge", "How long the server took to answer for these metrics.",
	 emit_seconds},
	{"vmcryptfs_build_info", "gauge", "Always 1; the label has the server's version.",
	 emit_build},
	{"vmcryptfs_keeper_up", "gauge", "0: nobody would replace the server.", emit_keeper},
	{"vmcryptfs_mount_uptime_seconds", "gauge", "Since the mount began.", emit_uptime},
	{"vmcryptfs_server_generation", "gauge", "The number of the server that serves.",
	 emit_generation},
	{"vmcryptfs_server_deaths_total", "counter", "Ends of servers that nobody asked for.",
	 emit_deaths},
	{"vmcryptfs_server_hangs_total", "counter", "Of these: the keeper ended one that hung.",
	 emit_hangs},
	{"vmcryptfs_server_upgrades_total", "counter", "Upgrades of the program under the mount.",
	 emit_upgrades},
	{"vmcryptfs_requests_replayed_total", "counter", "Requests that a next server executed again.",
	 emit_replayed},
	{"vmcryptfs_requests_poisoned_total", "counter",
	 "Requests answered with EIO, since three servers crashed on them.", emit_poisoned},
	{"vmcryptfs_records_dropped_total", "counter", "Records of a dead server that were not sound.",
	 emit_dropped},
	{"vmcryptfs_stalls_total", "counter", "How often one server ended and the next one served.",
	 emit_stalls},
	{"vmcryptfs_stall_seconds_total", "counter", "The time in between, of all of them.",
	 emit_stall_sum},
	{"vmcryptfs_stall_last_seconds", "gauge", "The last one's.", emit_stall_last},
	{"vmcryptfs_stall_longest_seconds", "gauge", "The longest one's.", emit_stall_longest},
	{"vmcryptfs_nodes", "gauge", "Files and folders that the kernel has in its cache.",
	 emit_nodes},
	{"vmcryptfs_handles", "gauge", "Open files and folders.", emit_handles},
	{"vmcryptfs_keys", "gauge", "Images with a key in memory.", emit_keys},
	{"vmcryptfs_images_open", "gauge", "Of these: how many somebody has open.", emit_open},
	{"vmcryptfs_requests_parked", "gauge", "Requests that wait for a key now.", emit_parked},
	{"vmcryptfs_transfers_asynchronous_total", "counter",
	 "Direct transfers that no worker waited for.", emit_async},
	{"vmcryptfs_io_bytes_total", "counter", "Plaintext bytes of images read and written.",
	 emit_bytes},
	{"vmcryptfs_io_errors_total", "counter", "Reads and writes of images that failed.",
	 emit_errors},
	{"vmcryptfs_io_duration_seconds", "histogram",
	 "Reads and writes of images, from arrival to answer, without waits for keys.",
	 emit_duration},
	{"vmcryptfs_key_service_up", "gauge", "0: its last answer was a failure, or it gives none.",
	 emit_ks_up},
	{"vmcryptfs_key_service_slow", "gauge", "1: a request has waited for 3 s.", emit_ks_slow},
	{"vmcryptfs_key_service_held_back", "gauge",
	 "1: requests are held back until a ping is answered.", emit_ks_held},
	{"vmcryptfs_key_service_outages_total", "counter", "How often that began.",
	 emit_ks_opened},
	{"vmcryptfs_key_service_requests_total", "counter",
	 "Requests of this server; its successor begins anew.", emit_ks_requests},
	{"vmcryptfs_key_service_failures_total", "counter", "Of these: how many got an error.",
	 emit_ks_failures},
	{"vmcryptfs_key_service_helper_restarts_total", "counter", "Helpers that ended or hung.",
	 emit_ks_restarts},
	{"vmcryptfs_key_service_waiting", "gauge", "Requests that wait now.", emit_ks_waiting},
	{"vmcryptfs_key_service_helpers", "gauge", "Helper processes now.", emit_ks_helpers},
	{"vmcryptfs_key_service_reserve", "gauge", "Unused secrets that are ready.",
	 emit_ks_reserve},
	{"vmcryptfs_key_service_reserve_wanted", "gauge", "How many there should be.",
	 emit_ks_wanted},
	{"vmcryptfs_key_service_last_success_timestamp_seconds", "gauge",
	 "When a helper last gave an answer; missing: not yet.", emit_ks_success},
	{"vmcryptfs_key_service_last_failure_timestamp_seconds", "gauge",
	 "When something last failed; missing: never.", emit_ks_failure},
	{"vmcryptfs_key_service_duration_seconds", "histogram",
	 "From a request to a helper to its answer.", emit_ks_duration},
	{"vmcryptfs_destroy_queue", "gauge", "Secrets that wait to be destroyed.", emit_queue},
	{"vmcryptfs_destroy_suspects", "gauge", "Secrets that an operator has to decide on.",
	 emit_suspects},
	{"vmcryptfs_destroy_unconfigured", "gauge",
	 "Secrets to be destroyed at services that have no section.", emit_unconfigured},
	{"vmcryptfs_destroy_next_timestamp_seconds", "gauge",
	 "When the next secret is due; missing: none waits.", emit_next_due},
	{"vmcryptfs_destroy_paused_seconds", "gauge",
	 "So long the queue waits, since the service did not answer.", emit_paused},
	{"vmcryptfs_promote_queue", "gauge", "Images that wait for a secret of their own.",
	 emit_promote},
	{"vmcryptfs_audit_waiting", "gauge", "Lines of the audit trail that cannot be written now.",
	 emit_audit_waiting},
	{"vmcryptfs_audit_lost_total", "counter", "Events that are in no line.", emit_audit_lost},
	{"vmcryptfs_escrow_images", "gauge",
	 "Open images by whether the escrow key would open them; missing: no escrow.",
	 emit_escrow},
	{"vmcryptfs_devices", "gauge", "Configured block devices by what is on them.",
	 emit_devices},
	{"vmcryptfs_image_opens", "gauge", "Handles of an image" PER_IMAGE, emit_im_opens},
	{"vmcryptfs_image_requests_total", "counter",
	 "Its reads and writes since its key came into memory" PER_IMAGE, emit_im_requests},
	{"vmcryptfs_image_bytes_total", "counter", "Its bytes" PER_IMAGE, emit_im_bytes},
	{"vmcryptfs_image_errors_total", "counter", "Its failures" PER_IMAGE, emit_im_errors},
	{"vmcryptfs_image_busy_seconds_total", "counter",
	 "The sum of how long its requests took" PER_IMAGE, emit_im_busy},
	{"vmcryptfs_images_omitted", "gauge", "Images beyond image-limit" PER_IMAGE,
	 emit_omitted},
};
/* clang-format on */
const size_t metrics_family_cnt = sizeof(metrics_families) / sizeof(metrics_families[0]);

/* One that has no sample has no head either. */
static void write_family(FILE *to, const struct metrics_family *f,
			 const struct metrics_view *v)
{
	char *text = NULL;
	size_t len = 0;
	FILE *samples = open_memstream(&text, &len);

	if (!samples)
		return;
	for (size_t i = 0; i < v->mount_cnt; i++)
		f->emit(samples, f->name, v, &v->mounts[i]);
	if (fclose(samples) == 0 && len)
		fprintf(to, "# HELP %s %s\n# TYPE %s %s\n%s", f->name, f->help, f->name,
			f->type, text);
	free(text);
}

void metrics_write(FILE *to, const struct metrics_view *v)
{
	for (size_t i = 0; i < metrics_family_cnt; i++)
		write_family(to, &metrics_families[i], v);
}
