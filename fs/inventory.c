/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading inventories. Lines that do not have the form are refused with the file: what cannot be
 * read may be a use. Two indexes, sorted in inventory_check(), answer the questions.
 */
#include "fs/inventory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/token.h"
#include "fs/jsonlines.h"
#include "util/log.h"
#include "util/parse.h"

enum { CLOCKS_APART_S = 300, BLOCK_LEN = 512 };

struct inventory {
	struct inventory_host **hosts;
	size_t host_cnt;
	struct inventory_use *uses;
	size_t cnt, room;
	const struct inventory_use **by_key, **by_uuid;
	uint64_t lines; /* of the file that is read, after its first */
	const char *file;
};

vcf_err_t inventory_new(struct inventory **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void inventory_free(struct inventory *inv)
{
	if (!inv)
		return;
	for (size_t i = 0; i < inv->cnt; i++)
		json_object_put(inv->uses[i].line);
	for (size_t i = 0; i < inv->host_cnt; i++) {
		json_object_put(inv->hosts[i]->head);
		free(inv->hosts[i]);
	}
	free(inv->hosts);
	free(inv->uses);
	free(inv->by_key);
	free(inv->by_uuid);
	free(inv);
}

/* --- reading a file --- */

static vcf_err_t add_host(struct inventory *inv, struct json_object *o)
{
	struct inventory_host *h = calloc(1, sizeof(*h));
	void *p = reallocarray(inv->hosts, inv->host_cnt + 1, sizeof(*inv->hosts));

	if (p)
		inv->hosts = p;
	if (!h || !p) {
		free(h);
		return -ENOMEM;
	}
	h->head = json_object_get(o);
	h->name = json_text(o, "host");
	h->file = inv->file;
	h->time = json_time(o, "time");
	inv->hosts[inv->host_cnt++] = h;
	inv->lines = 0;
	if (!*h->name || !*json_text(o, "folder") || h->time < 0) {
		log_err("%s: its first line has no host, folder or time", inv->file);
		return -EBADMSG;
	}
	return 0;
}

static vcf_err_t make_room(struct inventory *inv)
{
	size_t room = inv->room ? 2 * inv->room : 256;
	void *p;

	if (inv->cnt < inv->room)
		return 0;
	p = reallocarray(inv->uses, room, sizeof(*inv->uses));
	if (!p)
		return -ENOMEM;
	inv->uses = p;
	inv->room = room;
	return 0;
}

static bool find_kind(struct json_object *o, enum inventory_kind *kind)
{
	const char *type = json_text(o, "type");

	if (strcmp(type, "container") == 0 || strcmp(type, "damaged") == 0)
		*kind = INVENTORY_IMAGE;
	else if (strcmp(type, "unreadable") == 0)
		*kind = INVENTORY_UNREADABLE;
	else if (strcmp(type, "site") == 0)
		*kind = INVENTORY_SITE;
	else if (strcmp(type, "journal") == 0)
		*kind = strcmp(json_text(o, "state"), "destroying") == 0
				? INVENTORY_DUE
				: INVENTORY_JOURNAL;
	else
		return false;
	return true;
}

static vcf_err_t add_use(struct inventory *inv, struct json_object *o)
{
	struct inventory_use u = {.host = inv->hosts[inv->host_cnt - 1]};
	vcf_err_t err;

	u.key_id = json_text(o, "key_id");
	u.service = json_text(o, "service");
	u.path = json_text(o, "path");
	u.derived = json_flag(o, "derived");
	if (!find_kind(o, &u.kind) ||
	    (u.kind != INVENTORY_UNREADABLE &&
	     uuid_parse(json_text(o, "uuid"), u.uuid)) ||
	    (*u.key_id && !token_key_id_valid(u.key_id))) {
		log_err("%s: line %llu is not of an inventory", inv->file,
			(unsigned long long)inv->lines + 1);
		return -EBADMSG;
	}
	err = make_room(inv);
	if (err)
		return err;
	u.line = json_object_get(o);
	inv->uses[inv->cnt++] = u;
	return 0;
}

static vcf_err_t take_line(void *arg, struct json_object *o, bool first)
{
	struct inventory *inv = arg;

	if (first)
		return add_host(inv, o);
	inv->lines++;
	return add_use(inv, o);
}

vcf_err_t inventory_read(struct inventory *inv, const char *path)
{
	vcf_err_t err;

	inv->file = path;
	err = jsonlines_read(path, "vmcryptfs-inventory", take_line, inv);
	if (err)
		return err;
	if (json_number(inv->hosts[inv->host_cnt - 1]->head, "count") != inv->lines ||
	    !json_flag(inv->hosts[inv->host_cnt - 1]->head, "complete")) {
		log_err("%s: it is not complete", path);
		return -EBADMSG;
	}
	return 0;
}

/* --- is it the whole truth? --- */

static bool has_text(struct json_object *o, const char *key, const char *text)
{
	struct json_object *list;

	if (!json_object_object_get_ex(o, key, &list) ||
	    !json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *t =
			json_object_get_string(json_object_array_get_idx(list, i));

		if (t && strcmp(t, text) == 0)
			return true;
	}
	return false;
}

static int check_host(const struct inventory_host *h, const struct inventory_demand *d)
{
	int faults = 0;

	if (strcmp(json_text(h->head, "site"), d->site) != 0) {
		log_err("%s: it is of site '%s', not '%s'", h->file,
			json_text(h->head, "site"), d->site);
		faults++;
	}
	if (!has_text(h->head, "services", d->service)) {
		log_err("%s: host %s has no service called %s", h->file, h->name,
			d->service);
		faults++;
	}
	if (h->time > d->now + CLOCKS_APART_S) {
		log_err("%s: it is of the future: the clocks differ", h->file);
		faults++;
	}
	if (h->time + (time_t)d->max_age_s < d->now) {
		log_err("%s: it is %llu s old, more than %llu", h->file,
			(unsigned long long)(d->now - h->time),
			(unsigned long long)d->max_age_s);
		faults++;
	}
	return faults;
}

static bool has_folder(const struct inventory *inv, const struct inventory_host *of,
		       const char *folder)
{
	for (size_t i = 0; i < inv->host_cnt; i++) {
		const struct inventory_host *h = inv->hosts[i];

		if (strcmp(h->name, of->name) == 0 &&
		    strcmp(json_text(h->head, "folder"), folder) == 0)
			return true;
	}
	return false;
}

/* A host's other mounts, as its state directory tells. */
static int check_folders(const struct inventory *inv, const struct inventory_host *h)
{
	struct json_object *list;
	int faults = 0;

	if (!json_object_object_get_ex(h->head, "folders", &list) ||
	    !json_object_is_type(list, json_type_array)) {
		log_err("%s: its first line has no folders", h->file);
		return 1;
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *t =
			json_object_get_string(json_object_array_get_idx(list, i));

		if (t && !has_folder(inv, h, t)) {
			log_err("host %s: there is no inventory of its other backing "
				"folder %s",
				h->name, t);
			faults++;
		}
	}
	return faults;
}

static bool is_listed(const char *hosts, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = hosts; *p; p += strspn(p, ",")) {
		size_t n = strcspn(p, ",");

		if (n == len && strncmp(p, name, n) == 0)
			return true;
		p += n;
	}
	return false;
}

static bool has_host(const struct inventory *inv, const char *name, size_t len)
{
	for (size_t i = 0; i < inv->host_cnt; i++) {
		if (strlen(inv->hosts[i]->name) == len &&
		    strncmp(inv->hosts[i]->name, name, len) == 0)
			return true;
	}
	return false;
}

static int check_hosts(const struct inventory *inv, const char *hosts)
{
	int faults = 0;

	for (const char *p = hosts; *p; p += strspn(p, ",")) {
		size_t n = strcspn(p, ",");

		if (n && !has_host(inv, p, n)) {
			log_err("there is no inventory of host %.*s", (int)n, p);
			faults++;
		}
		p += n;
	}
	for (size_t i = 0; i < inv->host_cnt; i++) {
		if (is_listed(hosts, inv->hosts[i]->name))
			continue;
		log_err("%s: host %s is not in --hosts: are others missing, too?",
			inv->hosts[i]->file, inv->hosts[i]->name);
		faults++;
	}
	return faults;
}

/*
 * Of two machines with one name, one may be missing. Of two inventories of one folder, the older
 * one may have an entry that an operator has taken back since.
 */
static int check_names(const struct inventory *inv)
{
	int faults = 0;

	for (size_t i = 1; i < inv->host_cnt; i++) {
		const struct inventory_host *a = inv->hosts[i - 1], *b = inv->hosts[i];

		if (strcmp(a->name, b->name) != 0)
			continue;
		if (strcmp(json_text(a->head, "host_id"),
			   json_text(b->head, "host_id")) != 0) {
			log_err("%s, %s: two machines are called %s", a->file, b->file,
				a->name);
			faults++;
		} else if (strcmp(json_text(a->head, "folder"),
				  json_text(b->head, "folder")) == 0) {
			log_err("%s, %s: both are of %s on host %s: give the later one "
				"only",
				a->file, b->file, json_text(a->head, "backing"), a->name);
			faults++;
		}
	}
	return faults;
}

static int by_name(const void *a, const void *b)
{
	const struct inventory_host *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);

	return order ? order
		     : strcmp(json_text((*x)->head, "folder"),
			      json_text((*y)->head, "folder"));
}

static int by_key(const void *a, const void *b)
{
	const struct inventory_use *const *x = a, *const *y = b;

	return strcmp((*x)->key_id, (*y)->key_id);
}

static int by_uuid(const void *a, const void *b)
{
	const struct inventory_use *const *x = a, *const *y = b;

	return memcmp((*x)->uuid, (*y)->uuid, UUID_LEN);
}

static vcf_err_t make_index(const struct inventory *inv,
			    const struct inventory_use ***out,
			    int (*order)(const void *a, const void *b))
{
	const struct inventory_use **index = calloc(inv->cnt + 1, sizeof(*index));

	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < inv->cnt; i++)
		index[i] = &inv->uses[i];
	qsort(index, inv->cnt, sizeof(*index), order);
	free(*out);
	*out = index;
	return 0;
}

/* Which secret they need nobody can tell. */
static int check_known(const struct inventory *inv)
{
	int faults = 0;

	for (size_t i = 0; i < inv->cnt; i++) {
		const struct inventory_use *u = &inv->uses[i];

		if (u->kind != INVENTORY_UNREADABLE)
			continue;
		log_err("%s: %s on host %s is plaintext, or its header is destroyed: "
			"restore the header, or remove the file",
			u->host->file, u->path, u->host->name);
		faults++;
	}
	return faults;
}

vcf_err_t inventory_check(struct inventory *inv, const struct inventory_demand *d)
{
	int faults = check_hosts(inv, d->hosts);
	vcf_err_t err;

	if (inv->host_cnt)
		qsort(inv->hosts, inv->host_cnt, sizeof(*inv->hosts), by_name);
	faults += check_names(inv);
	for (size_t i = 0; i < inv->host_cnt; i++)
		faults +=
			check_host(inv->hosts[i], d) + check_folders(inv, inv->hosts[i]);
	if (d->all_known)
		faults += check_known(inv);
	if (faults)
		return -EPERM;
	err = make_index(inv, &inv->by_key, by_key);
	return err ? err : make_index(inv, &inv->by_uuid, by_uuid);
}

/* --- questions --- */

/* The first in an index that is not less than the probe. */
static size_t lower(const struct inventory *inv, const struct inventory_use **index,
		    const struct inventory_use *probe,
		    int (*order)(const void *a, const void *b))
{
	size_t lo = 0, hi = inv->cnt;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (order(&index[mid], &probe) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool found(const struct inventory *inv, const struct inventory_use **index,
		  const struct inventory_use *probe,
		  int (*order)(const void *a, const void *b), bool due_too)
{
	for (size_t i = lower(inv, index, probe, order);
	     i < inv->cnt && order(&index[i], &probe) == 0; i++) {
		if (due_too || index[i]->kind != INVENTORY_DUE)
			return true;
	}
	return false;
}

static bool key_found(const struct inventory *inv, const char *key_id, bool due_too)
{
	const struct inventory_use probe = {.key_id = key_id};

	return *key_id && found(inv, inv->by_key, &probe, by_key, due_too);
}

static bool uuid_found(const struct inventory *inv, const unsigned char *uuid,
		       bool due_too)
{
	struct inventory_use probe = {.key_id = ""};

	memcpy(probe.uuid, uuid, UUID_LEN);
	return found(inv, inv->by_uuid, &probe, by_uuid, due_too);
}

bool inventory_uses(const struct inventory *inv, const char *key_id,
		    const unsigned char uuid[UUID_LEN])
{
	return key_found(inv, key_id, false) || uuid_found(inv, uuid, false);
}

bool inventory_names_key(const struct inventory *inv, const char *key_id)
{
	return key_found(inv, key_id, true);
}

bool inventory_names_uuid(const struct inventory *inv, const unsigned char *uuid)
{
	return uuid_found(inv, uuid, true);
}

bool inventory_lacks_key(const struct inventory *inv, const unsigned char *uuid)
{
	struct inventory_use probe = {.key_id = ""};

	memcpy(probe.uuid, uuid, UUID_LEN);
	for (size_t i = lower(inv, inv->by_uuid, &probe, by_uuid);
	     i < inv->cnt && memcmp(inv->by_uuid[i]->uuid, uuid, UUID_LEN) == 0; i++) {
		if (!*inv->by_uuid[i]->key_id)
			return true;
	}
	return false;
}

time_t inventory_oldest(const struct inventory *inv)
{
	time_t t = inv->host_cnt ? inv->hosts[0]->time : 0;

	for (size_t i = 1; i < inv->host_cnt; i++) {
		if (inv->hosts[i]->time < t)
			t = inv->hosts[i]->time;
	}
	return t;
}

int inventory_each(const struct inventory *inv,
		   int (*fn)(void *arg, const struct inventory_use *use), void *arg)
{
	int rc = 0;

	for (size_t i = 0; i < inv->cnt && !rc; i++)
		rc = fn(arg, &inv->uses[i]);
	return rc;
}

static vcf_err_t unpack_run(unsigned char *hdr, struct json_object *run)
{
	const char *text;
	uint64_t off;
	size_t len, text_len;

	if (!json_object_is_type(run, json_type_array) ||
	    json_object_array_length(run) != 2)
		return -EBADMSG;
	off = json_object_get_uint64(json_object_array_get_idx(run, 0));
	text = json_object_get_string(json_object_array_get_idx(run, 1));
	text_len = text ? strlen(text) : 0;
	if (!text_len || text_len % 4 || off % BLOCK_LEN || off >= CONTAINER_PEEK_LEN)
		return -EBADMSG;
	len = text_len / 4 * 3 - (text[text_len - 1] == '=') -
	      (text[text_len - 2] == '=');
	if (len > CONTAINER_PEEK_LEN - off)
		return -EBADMSG;
	return base64_decode(hdr + off, len, text, text_len) ? -EBADMSG : 0;
}

vcf_err_t inventory_header(const struct inventory_use *use, void *hdr)
{
	struct json_object *runs;
	vcf_err_t err = 0;

	if (json_flag(use->line, "bad_header"))
		return -EBADMSG;
	if (!json_object_object_get_ex(use->line, "header", &runs))
		return -ENODATA;
	if (!json_object_is_type(runs, json_type_array))
		return -EBADMSG;
	memset(hdr, 0, CONTAINER_PEEK_LEN);
	for (size_t i = 0; i < json_object_array_length(runs) && !err; i++)
		err = unpack_run(hdr, json_object_array_get_idx(runs, i));
	return err;
}
