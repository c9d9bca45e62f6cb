/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/status_io.h"

#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "fs/imagetable.h"
#include "fs/iostat.h"
#include "fs/jsonlines.h"
#include "util/log.h"
#include "util/text.h"

/* What is copied of an entry under the table's lock. */
struct view {
	char path[256];
	unsigned char uuid[UUID_LEN];
	char key_id[TOKEN_KEY_ID_MAX + 1], service[TOKEN_SERVICE_MAX + 1];
	bool derived;
	uint32_t sector_len;
	unsigned int opens;
	uint64_t data_off, dev, ino;
	struct iostat_sum io[IOSTAT_WAYS];
};

struct views {
	struct view *at;
	size_t cnt, room;
};

static void copy(void *arg, const struct image_entry *e)
{
	struct views *l = arg;
	struct view *v;

	if (l->cnt == l->room)
		return; /* it came while we were counting: it is in the next answer */
	v = &l->at[l->cnt++];
	TEXT_CUT(v->path, e->path);
	memcpy(v->uuid, e->uuid, UUID_LEN);
	TEXT_CUT(v->key_id, e->token.key_id);
	TEXT_CUT(v->service, e->token.service);
	v->derived = e->token.derived;
	v->sector_len = e->sector_len;
	v->opens = e->opens;
	v->data_off = e->data_off;
	v->dev = e->dev;
	v->ino = e->ino;
	for (int way = 0; way < IOSTAT_WAYS; way++)
		iostat_copy(&v->io[way], &e->io[way]);
}

struct json_object *status_latency(const uint64_t *cnt, uint64_t sum_ns)
{
	struct json_object *o = json_object_new_object();
	struct json_object *counts = json_object_new_array();
	int used = HISTOGRAM_CNT;

	while (used && !cnt[used - 1])
		used--;
	for (int i = 0; i < used; i++)
		json_object_array_add(counts, json_object_new_uint64(cnt[i]));
	json_put_number(o, "sum_us", sum_ns / 1000);
	json_object_object_add(o, "counts", counts);
	return o;
}

static void put_io(struct json_object *o, const struct iostat_sum io[IOSTAT_WAYS])
{
	const struct iostat_sum *r = &io[IOSTAT_READ], *w = &io[IOSTAT_WRITE];

	json_put_number(o, "reads", r->requests);
	json_put_number(o, "writes", w->requests);
	json_put_number(o, "bytes_read", r->bytes);
	json_put_number(o, "bytes_written", w->bytes);
	json_put_number(o, "read_errors", r->errors);
	json_put_number(o, "write_errors", w->errors);
	json_object_object_add(o, "read_latency", status_latency(r->cnt, r->sum_ns));
	json_object_object_add(o, "write_latency", status_latency(w->cnt, w->sum_ns));
}

static struct json_object *show(const struct view *v)
{
	struct json_object *o = json_object_new_object();
	char uuid[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(v->uuid, uuid);
	json_put_shown(o, "path", v->path);
	json_put_text(o, "uuid", uuid);
	json_put_text(o, "key_id", v->key_id);
	json_put_text(o, "service", v->service);
	json_object_object_add(o, "derived", json_object_new_boolean(v->derived));
	json_put_number(o, "sector_size", v->sector_len);
	json_put_number(o, "data_offset", v->data_off);
	json_put_number(o, "dev", v->dev);
	json_put_number(o, "ino", v->ino);
	json_put_number(o, "opens", v->opens);
	put_io(o, v->io);
	return o;
}

struct json_object *status_images(struct server *sv)
{
	struct json_object *all = json_object_new_array();
	struct views l = {.room = keytable_count(sv->keys)};

	l.at = calloc(l.room ? l.room : 1, sizeof(*l.at));
	if (!l.at) {
		log_dbg("status: no memory");
		return all;
	}
	imagetable_each(sv->images, copy, &l);
	for (size_t i = 0; i < l.cnt; i++)
		json_object_array_add(all, show(&l.at[i]));
	free(l.at);
	return all;
}

struct json_object *status_io(const struct session *s)
{
	struct json_object *o = json_object_new_object();
	struct iostat_sum io[IOSTAT_WAYS];

	iostat_sum(io, s);
	put_io(o, io);
	return o;
}
