/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A record is of the uuid that was asked for; it ends when its outcome was told, or nobody asked. */
#include "fs/rekeyer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "fs/jsonlines.h"
#include "fs/rekeyjob.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/text.h"

enum {
	AT_ONCE_MAX = 8, /* the others wait in their commands */
	FORGOTTEN_MS = 60 * 1000,
};

struct record {
	struct record *next;
	struct rekeyer *r;
	uint64_t dev, ino; /* copies of one container have one uuid */
	unsigned char uuid[UUID_LEN];
	bool ended;		    /* (l) */
	uint64_t ended_ms;	    /* (l) monotonic */
	struct rekeyjob_result res; /* (l) */
};

struct rekeyer {
	struct server *sv;
	struct mutex lock;
	struct record *records; /* (l) */
};

vcf_err_t rekeyer_new(struct rekeyer **out, struct server *sv)
{
	struct rekeyer *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->sv = sv;
	mutex_init(&r->lock, RANK_REKEYER);
	*out = r;
	return 0;
}

void rekeyer_free(struct rekeyer *r)
{
	while (r->records) {
		struct record *next = r->records->next;

		free(r->records);
		r->records = next;
	}
	mutex_fini(&r->lock);
	free(r);
}

static void drop_locked(struct rekeyer *r, struct record *gone)
{
	struct record **link = &r->records;

	while (*link != gone)
		link = &(*link)->next;
	*link = gone->next;
	free(gone);
}

static struct record *find_locked(struct rekeyer *r, const struct rekeyjob_order *w)
{
	struct record *o = r->records;

	while (o && (o->dev != w->dev || o->ino != w->ino ||
		     memcmp(o->uuid, w->uuid, UUID_LEN) != 0))
		o = o->next;
	return o;
}

/* How many are under way; those that nobody asks for any more are forgotten. */
static size_t count_locked(struct rekeyer *r)
{
	uint64_t now_ms = clock_now_ms();
	struct record *next;
	size_t cnt = 0;

	for (struct record *o = r->records; o; o = next) {
		next = o->next;
		if (!o->ended)
			cnt++;
		else if (now_ms - o->ended_ms > FORGOTTEN_MS)
			drop_locked(r, o);
	}
	return cnt;
}

static void finish(void *arg, const struct rekeyjob_result *res)
{
	struct record *o = arg;
	SCOPED_LOCK(&o->r->lock);

	o->res = *res;
	o->ended_ms = clock_now_ms();
	o->ended = true;
}

/* --- requests --- */

struct wanted {
	struct rekeyjob_order order;
	char path[STATE_PATH_MAX];
};

static vcf_err_t read_request(struct wanted *w, struct json_object *request)
{
	const char *path = json_text(request, "path");

	if (!*path || strlen(path) >= sizeof(w->path) ||
	    uuid_parse(json_text(request, "uuid"), w->order.uuid) ||
	    strlen(json_text(request, "service")) > TOKEN_SERVICE_MAX)
		return -EINVAL;
	TEXT_CUT(w->path, path);
	w->order.kind = REKEYJOB_NEW;
	w->order.path = w->path;
	w->order.dev = json_number(request, "dev");
	w->order.ino = json_number(request, "ino");
	w->order.service = json_text(request, "service");
	w->order.now = json_flag(request, "now");
	return 0;
}

static vcf_err_t start_locked(struct rekeyer *r, const struct rekeyjob_order *order)
{
	struct record *o = calloc(1, sizeof(*o));
	vcf_err_t err;

	if (!o)
		return -ENOMEM;
	o->r = r;
	o->dev = order->dev;
	o->ino = order->ino;
	memcpy(o->uuid, order->uuid, UUID_LEN);
	err = rekeyjob_start(r->sv, order, finish, o);
	if (err) {
		free(o);
		return err;
	}
	o->next = r->records;
	r->records = o;
	return 0;
}

/* --- answers --- */

static struct json_object *state(const char *name)
{
	struct json_object *o = json_object_new_object();

	json_put_text(o, "state", name);
	return o;
}

static struct json_object *failure(vcf_err_t err, const char *why)
{
	struct json_object *o = state("failed");

	json_put_number(o, "code", (uint64_t)-err);
	json_put_text(o, "text", why ? why : strerror(-err));
	return o;
}

static void put_old(struct json_object *o, const struct rekeyjob_result *res)
{
	json_put_text(o, "old_key_id", res->old.key_id);
	json_put_text(o, "old_service", res->old.service);
	json_put_text(o, "old",
		      res->old_due    ? "queued"
		      : res->old_kept ? "kept"
				      : "site");
	if (res->old_due)
		json_put_time(o, "due", res->old_due);
	json_put_flag(o, "escrow_lost", res->escrow_lost);
}

static struct json_object *outcome(const struct rekeyjob_result *res)
{
	char uuid[UUID_TEXT_LEN + 1];
	struct json_object *o;

	if (res->err || !res->is_image)
		return failure(res->err ? res->err : -ENOENT, res->why);
	o = state("done");
	uuid_unparse_lower(res->uuid, uuid);
	json_put_text(o, "uuid", uuid);
	json_put_text(o, "key_id", res->token.key_id);
	json_put_text(o, "service", res->token.service);
	json_put_number(o, "generation", res->token.generation);
	json_put_flag(o, "changed", res->changed);
	if (res->changed)
		put_old(o, res);
	return o;
}

/* Another one is at the header, or has just changed it: the next request begins anew. */
static bool is_passing(const struct rekeyjob_result *res)
{
	return res->err == -EAGAIN || res->err == -ESTALE;
}

struct json_object *rekeyer_ask(struct rekeyer *r, struct json_object *request)
{
	struct wanted w = {.order = {.dev = 0}};
	struct json_object *answer = NULL;
	struct record *o;
	vcf_err_t err = read_request(&w, request);

	if (err)
		return failure(err, NULL);
	SCOPED_LOCK(&r->lock);
	o = find_locked(r, &w.order);
	if (!o && count_locked(r) < AT_ONCE_MAX && !r->sv->taking_over)
		err = start_locked(r, &w.order);
	if (err)
		return failure(err, NULL);
	if (!o || !o->ended)
		return state("waits");
	answer = is_passing(&o->res) ? state("waits") : outcome(&o->res);
	if (is_passing(&o->res))
		json_put_flag(answer, "passing", true);
	drop_locked(r, o);
	return answer;
}
