/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keysop.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/exitcode.h"
#include "fs/imagetable.h"
#include "fs/inventory.h"
#include "fs/jsonlines.h"
#include "fs/keyset.h"
#include "fs/rekeyer.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/text.h"

enum { FORGET_TRIES = 100, FORGET_PAUSE_US = 10 * 1000 };

/* --- entries --- */

struct json_object *keysop_entry(const struct journal_entry *e)
{
	struct json_object *o = json_object_new_object();
	char uuid[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(e->uuid, uuid);
	json_put_number(o, "id", e->id);
	json_put_text(o, "state", journal_state_name(e->state));
	json_put_text(o, "uuid", uuid);
	json_put_text(o, "service", e->service);
	json_put_text(o, "key_id", e->key_id);
	json_put_text(o, "path", e->path);
	json_put_flag(o, "derived", e->derived);
	json_put_time(o, "created", e->created);
	if (e->due)
		json_put_time(o, "due", e->due);
	return o;
}

static bool is_waiting(const struct journal_entry *e)
{
	return e->state == JOURNAL_DESTROYING || e->state == JOURNAL_SUSPECT;
}

struct listing {
	struct json_object *list;
	size_t most;
	time_t next_due; /* 0: none */
};

static int list_entry(void *arg, const struct journal_entry *e)
{
	struct listing *l = arg;

	if (!is_waiting(e))
		return 0;
	if (e->state == JOURNAL_DESTROYING && (!l->next_due || e->due < l->next_due))
		l->next_due = e->due;
	if (json_object_array_length(l->list) < l->most)
		json_object_array_add(l->list, keysop_entry(e));
	return 0;
}

static struct listing list_entries(const struct keysop *k, size_t most)
{
	struct listing l = {.list = json_object_new_array(), .most = most};

	(void)!journal_each(k->journal, list_entry, &l);
	return l;
}

/* The longest pause, and the first error. */
static struct deletion_status service_states(const struct keysop *k)
{
	struct deletion_status all = {0}, one;
	struct keyset *s;

	for (size_t i = 0; k->sv && (s = keyset_at(k->sv, i)); i++) {
		deletion_get_status(s->deletions, &one);
		if (one.pause_s > all.pause_s)
			all.pause_s = one.pause_s;
		if (!*all.last_error)
			TEXT_CUT(all.last_error, one.last_error);
	}
	return all;
}

static bool any_controller(const struct config *cfg)
{
	const struct config *service;

	for (size_t i = 0; (service = config_service_at(cfg, i)); i++) {
		if (service->controller)
			return true;
	}
	return false;
}

struct json_object *keysop_queue_status(const struct keysop *k, size_t most)
{
	struct listing l = list_entries(k, most);
	struct json_object *o = json_object_new_object();
	struct deletion_status st = service_states(k);

	json_put_number(o, "waiting", journal_count(k->journal, JOURNAL_DESTROYING));
	json_put_number(o, "suspect", journal_count(k->journal, JOURNAL_SUSPECT));
	json_put_text(o, "destroyer", any_controller(k->cfg) ? "controller" : "node");
	if (l.next_due)
		json_put_time(o, "next_due", l.next_due);
	else
		json_object_object_add(o, "next_due", NULL);
	json_put_number(o, "paused_s", st.pause_s);
	json_put_text(o, "last_error", st.last_error);
	json_object_object_add(o, "entries", l.list);
	return o;
}

/* --- an operator's decisions --- */

struct decision {
	const struct keysop *k;
	struct json_object *which; /* texts */
	bool all;
	enum journal_state state; /* of the entries meant */
	vcf_err_t (*act)(const struct keysop *k, const struct journal_entry *e);
	const char *verb; /* for the log */
	struct json_object *done, *failed;
	bool *found; /* by index in which */
};

static bool names(const char *text, const struct journal_entry *e)
{
	unsigned char uuid[UUID_LEN];

	if (!*text) /* one that is not known yet is no name */
		return false;
	if (uuid_parse(text, uuid) == 0 && memcmp(uuid, e->uuid, UUID_LEN) == 0)
		return true;
	return strcmp(text, e->key_id) == 0 || strcmp(text, e->path) == 0;
}

static bool is_meant(struct decision *d, const struct journal_entry *e)
{
	bool meant = d->all;

	for (size_t i = 0; i < json_object_array_length(d->which); i++) {
		struct json_object *t = json_object_array_get_idx(d->which, i);

		if (!names(json_object_get_string(t), e))
			continue;
		d->found[i] = true;
		meant = true;
	}
	return meant;
}

static int decide_one(void *arg, const struct journal_entry *e)
{
	struct decision *d = arg;
	struct json_object *o;
	vcf_err_t err;

	if (e->state != d->state || !is_meant(d, e))
		return 0;
	err = d->act(d->k, e);
	o = keysop_entry(e);
	if (err) {
		json_put_text(o, "error",
			      err == -EBUSY ? "it is being destroyed just now"
					    : strerror(-err));
		json_object_array_add(d->failed, o);
		return 0;
	}
	log_info("%s: its secret %s at %s: %s by an operator", e->path, e->key_id,
		 e->service, d->verb);
	json_object_array_add(d->done, o);
	return 0;
}

static struct json_object *decide(struct decision *d)
{
	size_t cnt = json_object_array_length(d->which);
	auto_free bool *found = calloc(cnt + 1, sizeof(*found));
	struct json_object *o = json_object_new_object();
	struct json_object *missing = json_object_new_array();

	d->found = found;
	d->done = json_object_new_array();
	d->failed = json_object_new_array();
	if (found)
		(void)!journal_each(d->k->journal, decide_one, d);
	for (size_t i = 0; i < cnt; i++) {
		if (!found || !found[i])
			json_object_array_add(
				missing,
				json_object_get(json_object_array_get_idx(d->which, i)));
	}
	json_object_object_add(o, "done", d->done);
	json_object_object_add(o, "failed", d->failed);
	json_object_object_add(o, "missing", missing);
	return o;
}

/* That of its service. */
static struct deletion_queue *queue_of(const struct keysop *k, uint64_t id)
{
	return k->sv ? keyset_deletions(k->sv, id) : k->queue;
}

static void look_at_all(const struct keysop *k)
{
	struct keyset *s;

	for (size_t i = 0; k->sv && (s = keyset_at(k->sv, i)); i++)
		deletion_look(s->deletions);
}

/* Closes an entry, but not under the hands of the one who destroys. */
static vcf_err_t close_entry(const struct keysop *k, const struct journal_entry *e)
{
	if (k->queue)
		return deletion_restore(queue_of(k, e->id), e->id);
	return journal_set(k->journal, e->id, JOURNAL_CLOSED, NULL, 0);
}

/*
 * A new entry without a saved header takes the suspect's place: it is destroyed by its label. Died
 * in between, there are both; the suspect can be dropped.
 */
static vcf_err_t confirm_entry(const struct keysop *k, const struct journal_entry *e)
{
	struct journal_entry fresh = *e;
	vcf_err_t err;

	fresh.state = JOURNAL_DESTROYING;
	fresh.created = 0;
	fresh.due = time(NULL);
	if (e->derived)
		return -EINVAL;
	err = journal_add(k->journal, &fresh, NULL);
	CRASHPOINT("confirm-added");
	if (!err)
		err = journal_set(k->journal, e->id, JOURNAL_CLOSED, NULL, 0);
	if (!err && k->queue)
		deletion_look(queue_of(k, e->id));
	return err;
}

static struct json_object *list_of(struct json_object *request, const char *key)
{
	struct json_object *v;

	if (json_object_object_get_ex(request, key, &v) &&
	    json_object_is_type(v, json_type_array))
		return json_object_get(v);
	return json_object_new_array();
}

static struct json_object *op_decide(const struct keysop *k, struct json_object *request,
				     const char *op)
{
	struct decision d = {.k = k, .which = list_of(request, "which")};
	struct json_object *o;

	d.state = JOURNAL_SUSPECT;
	d.act = close_entry;
	d.verb = "forgotten";
	if (strcmp(op, "restore") == 0) {
		d.state = JOURNAL_DESTROYING;
		d.all = json_flag(request, "all");
		d.verb = "kept";
	} else if (strcmp(op, "confirm") == 0) {
		d.act = confirm_entry;
		d.verb = "to be destroyed";
	}
	o = decide(&d);
	if (any_controller(k->cfg) && d.state == JOURNAL_DESTROYING)
		json_put_text(o, "note",
			      "destroyer = controller: a reap that uses an inventory of "
			      "before now still destroys them");
	json_object_put(d.which);
	return o;
}

static struct json_object *op_pending(const struct keysop *k, struct json_object *request,
				      const char *op)
{
	(void)request;
	(void)op;
	return keysop_queue_status(k, SIZE_MAX);
}

/* --- orphans --- */

static int is_known(void *arg, const struct journal_entry *e)
{
	const struct journal_entry *want = arg;

	return memcmp(e->uuid, want->uuid, UUID_LEN) == 0 ||
	       (strcmp(e->key_id, want->key_id) == 0 &&
		strcmp(e->service, want->service) == 0);
}

/* The header that was saved with it is that of a container with this secret. */
static vcf_err_t take_header(struct json_object *item, const struct journal_entry *e,
			     unsigned char hdr[CONTAINER_PEEK_LEN])
{
	const char *text = json_text(item, "header");
	auto_container struct container *c = NULL;
	const struct token *t;
	vcf_err_t err = base64_decode(hdr, CONTAINER_PEEK_LEN, text, strlen(text));

	if (!err)
		err = container_load_saved(&c, hdr, CONTAINER_PEEK_LEN, e->path);
	if (err)
		return -EINVAL;
	t = container_token(c);
	return memcmp(container_subject(c)->uuid, e->uuid, UUID_LEN) == 0 &&
			       !t->derived && strcmp(t->key_id, e->key_id) == 0 &&
			       strcmp(t->service, e->service) == 0
		       ? 0
		       : -EINVAL;
}

/* 0, -EEXIST: the journal has it, -EINVAL: it is no secret of a container. */
static vcf_err_t take_item(const struct keysop *k, struct json_object *item,
			   struct journal_entry *e)
{
	const char *path = json_text(item, "path");

	*e = (struct journal_entry){.state = JOURNAL_DESTROYING};
	TEXT_CUT(e->path, *path ? path : "(orphan)");
	TEXT_CUT(e->key_id, json_text(item, "key_id"));
	TEXT_CUT(e->service, json_text(item, "service"));
	if (uuid_parse(json_text(item, "label"), e->uuid) ||
	    !token_key_id_valid(e->key_id) || !token_service_valid(e->service))
		return -EINVAL;
	return journal_each(k->journal, is_known, e) ? -EEXIST : 0;
}

static void say_queued(const struct journal_entry *e, bool orphan, uint64_t delay_s)
{
	char label[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(e->uuid, label);
	if (orphan)
		log_info("secret %s at %s, label %s, is of no image: it is destroyed in "
			 "%llu s",
			 e->key_id, e->service, label, (unsigned long long)delay_s);
	else
		log_info("%s: its old secret %s at %s is destroyed in %llu s", e->path,
			 e->key_id, e->service, (unsigned long long)delay_s);
}

static vcf_err_t queue_one(const struct keysop *k, struct json_object *item)
{
	bool orphan = !*json_text(item, "header");
	auto_free unsigned char *hdr = calloc(1, CONTAINER_PEEK_LEN);
	const struct config *service;
	struct journal_entry e;
	uint64_t delay_s;
	vcf_err_t err = hdr ? take_item(k, item, &e) : -ENOMEM;

	if (!err && !orphan)
		err = take_header(item, &e, hdr);
	if (err)
		return err;
	service = config_service(k->cfg, e.service);
	if (!service)
		return -ENOENT;
	delay_s = json_flag(item, "now") ? 0 : service->destroy_delay_s;
	e.due = time(NULL) + (time_t)delay_s;
	say_queued(&e, orphan, delay_s);
	return journal_add(k->journal, &e, orphan ? NULL : hdr);
}

static struct json_object *failure(const char *text, enum exit_code code)
{
	struct json_object *o = json_object_new_object();

	json_put_text(o, "error", text);
	json_put_number(o, "code", code);
	return o;
}

static struct json_object *op_queue(const struct keysop *k, struct json_object *request,
				    const char *op)
{
	struct json_object *items = list_of(request, "items");
	struct json_object *o = json_object_new_object();
	uint64_t queued = 0, known = 0;
	vcf_err_t err = 0;

	(void)op;
	for (size_t i = 0; i < json_object_array_length(items) && !err; i++) {
		err = queue_one(k, json_object_array_get_idx(items, i));
		queued += !err;
		known += err == -EEXIST;
		err = err == -EEXIST ? 0 : err;
	}
	json_object_put(items);
	look_at_all(k);
	if (err) {
		json_object_put(o);
		return failure(strerror(-err), exit_code_of(err));
	}
	json_put_number(o, "queued", queued);
	json_put_number(o, "known", known);
	return o;
}

/* --- receipts --- */

enum receipt { RECEIPT_CLOSED, RECEIPT_SUSPECT, RECEIPT_UNKNOWN, RECEIPT_KINDS };

/* The entry that a receipt speaks of: nothing that only looks like it. */
static bool find_receipted(const struct keysop *k, struct json_object *r,
			   struct journal_entry *e)
{
	unsigned char uuid[UUID_LEN];
	char host[JOURNAL_HOST_HEX_LEN + 1];

	journal_host(k->journal, host);
	return strcmp(json_text(r, "host_id"), host) == 0 &&
	       strcmp(json_text(r, "backing"), k->cfg->backing) == 0 &&
	       uuid_parse(json_text(r, "uuid"), uuid) == 0 &&
	       journal_get(k->journal, json_number(r, "id"), e) == 0 &&
	       e->state == JOURNAL_DESTROYING && memcmp(e->uuid, uuid, UUID_LEN) == 0 &&
	       strcmp(e->service, json_text(r, "service")) == 0 &&
	       (!*e->key_id || strcmp(e->key_id, json_text(r, "key_id")) == 0);
}

static enum receipt take_receipt(const struct keysop *k, struct json_object *r)
{
	const char *outcome = json_text(r, "outcome");
	struct journal_entry e;
	vcf_err_t err;

	if (!find_receipted(k, r, &e))
		return RECEIPT_UNKNOWN;
	if (strcmp(outcome, "suspect") == 0) {
		err = journal_set(k->journal, e.id, JOURNAL_SUSPECT, NULL, 0);
		log_warn("%s: its secret %s at %s is not destroyed: %s; decide with: "
			 "vmcryptfs keys",
			 e.path, e.key_id, e.service, json_text(r, "text"));
		return err ? RECEIPT_UNKNOWN : RECEIPT_SUSPECT;
	}
	if (strcmp(outcome, "destroyed") != 0 && strcmp(outcome, "gone") != 0 &&
	    strcmp(outcome, "in-use") != 0)
		return RECEIPT_UNKNOWN; /* it waits on */
	err = close_entry(k, &e);
	log_info("%s: its secret %s at %s: %s, says the controller (%s)", e.path,
		 e.key_id, e.service, outcome, json_text(r, "text"));
	return err ? RECEIPT_UNKNOWN : RECEIPT_CLOSED;
}

static struct json_object *op_reaped(const struct keysop *k, struct json_object *request,
				     const char *op)
{
	struct json_object *receipts = list_of(request, "receipts");
	struct json_object *o = json_object_new_object();
	uint64_t cnt[RECEIPT_KINDS] = {0};

	(void)op;
	for (size_t i = 0; i < json_object_array_length(receipts); i++)
		cnt[take_receipt(k, json_object_array_get_idx(receipts, i))]++;
	json_object_put(receipts);
	json_put_number(o, "closed", cnt[RECEIPT_CLOSED]);
	json_put_number(o, "suspect", cnt[RECEIPT_SUSPECT]);
	json_put_number(o, "unknown", cnt[RECEIPT_UNKNOWN]);
	return o;
}

/* --- keys that linger --- */

/* Requests that look at an image without having it open are over soon. */
static vcf_err_t forget(struct server *sv, uint64_t dev, uint64_t ino)
{
	vcf_err_t err = imagetable_forget(sv->images, dev, ino);

	for (int i = 0; err == -EAGAIN && i < FORGET_TRIES; i++) {
		usleep(FORGET_PAUSE_US);
		err = imagetable_forget(sv->images, dev, ino);
	}
	return err == -EAGAIN ? -EBUSY : err;
}

static struct json_object *op_forget(const struct keysop *k, struct json_object *request,
				     const char *op)
{
	struct json_object *o;
	vcf_err_t err = 0;

	(void)op;
	if (k->sv)
		err = forget(k->sv, json_number(request, "dev"),
			     json_number(request, "ino"));
	if (err)
		return failure(strerror(-err), exit_code_of(err));
	o = json_object_new_object();
	json_put_flag(o, "forgotten", true);
	return o;
}

/* --- new secrets --- */

static struct json_object *op_rekey(const struct keysop *k, struct json_object *request,
				    const char *op)
{
	(void)op;
	return k->sv ? rekeyer_ask(k->sv->rekey, request)
		     : failure("nobody serves the mount", EXIT_NOT_FOUND);
}

/* --- all of them --- */

static const struct {
	const char *name;
	struct json_object *(*run)(const struct keysop *k, struct json_object *request,
				   const char *op);
} ops[] = {
	{"pending", op_pending}, {"restore", op_decide}, {"drop", op_decide},
	{"confirm", op_decide},	 {"queue", op_queue},	 {"reaped", op_reaped},
	{"forget", op_forget},	 {"rekey", op_rekey},
};

static struct json_object *run(const struct keysop *k, struct json_object *request)
{
	const char *op = json_text(request, "op");

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(op, ops[i].name) == 0)
			return ops[i].run(k, request, op);
	}
	return failure("this daemon does not know that request", EXIT_FAILED);
}

vcf_err_t keysop_run(const struct keysop *k, struct json_object *request, FILE *to)
{
	struct json_object *o;
	vcf_err_t err = 0;

	if (strcmp(json_text(request, "op"), "inventory") == 0) {
		err = inventory_write(k, to);
		if (!err)
			return 0;
		o = failure(strerror(-err), exit_code_of(err));
	} else {
		o = run(k, request);
	}
	fputs(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), to);
	fputc('\n', to);
	json_object_put(o);
	return fflush(to) == EOF ? -errno : 0;
}
