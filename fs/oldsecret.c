/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/oldsecret.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/jsonlines.h"
#include "fs/keysctl.h"
#include "fs/keysop.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/text.h"

enum {
	HANDOVER_MS = 10 * 1000, /* while a daemon starts, ends or is being replaced */
	RETRY_US = 50 * 1000,
};

/* --- before and after --- */

vcf_err_t oldsecret_note(struct offline *o, const struct container *c, const char *path,
			 const void *hdr, uint64_t *id)
{
	const struct token *t = container_token(c);
	struct journal_entry e = {.state = JOURNAL_DELETING};
	struct stat st;
	vcf_err_t err;

	*id = 0;
	if (t->derived)
		return 0;
	if (strlen(path) >= sizeof(e.path))
		return -ENAMETOOLONG;
	if (lstat(path, &st) < 0)
		return -errno;
	memcpy(e.uuid, container_subject(c)->uuid, UUID_LEN);
	TEXT_CUT(e.service, t->service);
	TEXT_CUT(e.key_id, t->key_id);
	TEXT_CUT(e.path, path);
	e.dev = st.st_dev;
	e.ino = st.st_ino;
	err = journal_add(o->journal, &e, hdr);
	CRASHPOINT("oldsecret-noted");
	if (!err)
		*id = e.id;
	return err;
}

static void close_note(struct offline *o, uint64_t id)
{
	vcf_err_t err = journal_set(o->journal, id, JOURNAL_CLOSED, NULL, 0);

	if (err && err != -ENOENT) /* harmless: the next run comes to the same */
		log_warn("the journal cannot be written: %s", strerror(-err));
}

void oldsecret_cancel(struct offline *o, uint64_t id)
{
	if (id)
		close_note(o, id);
}

vcf_err_t oldsecret_beside(char dst[PATH_MAX], const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	int len = snprintf(dst, PATH_MAX, "%.*s.%s.vmcryptfs", (int)(name - path), path,
			   name);

	return len >= PATH_MAX || len - (name - path) > NAME_MAX ? -ENAMETOOLONG : 0;
}

/* --- handing over --- */

/* As the mount knows it, where it lies there. */
static const char *shown_path(const struct offline *o, const char *path)
{
	const char *place = offline_place(o, path);

	return place ? place : path;
}

static vcf_err_t put_header(struct json_object *item, struct offline *o, uint64_t id)
{
	auto_free char *hdr = malloc(CONTAINER_PEEK_LEN);
	auto_free char *text = malloc(BASE64_LEN(CONTAINER_PEEK_LEN) + 1);
	vcf_err_t err = hdr && text ? journal_header(o->journal, id, hdr) : -ENOMEM;

	if (err)
		return err;
	base64_encode(text, hdr, CONTAINER_PEEK_LEN);
	json_put_text(item, "header", text);
	return 0;
}

static vcf_err_t make_request(struct json_object **out, struct offline *o,
			      const struct journal_entry *e, bool now)
{
	struct json_object *request = json_object_new_object();
	struct json_object *items = json_object_new_array();
	struct json_object *item = json_object_new_object();
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err;

	json_put_text(request, "op", "queue");
	json_object_object_add(request, "items", items);
	json_object_array_add(items, item);
	uuid_unparse_lower(e->uuid, label);
	json_put_text(item, "label", label);
	json_put_text(item, "service", e->service);
	json_put_text(item, "key_id", e->key_id);
	json_put_text(item, "path", shown_path(o, e->path));
	json_put_flag(item, "now", now);
	err = put_header(item, o, e->id);
	if (err)
		json_object_put(request);
	else
		*out = request;
	return err;
}

/* The journal of a mount that nobody serves. -EBUSY: somebody has it. */
static vcf_err_t ask_journal(const struct offline *o, struct json_object *request,
			     FILE *to)
{
	auto_journal struct journal *j = NULL;
	struct keysop op = {.cfg = o->cfg};
	char path[PATH_MAX];
	vcf_err_t err = mountpoint_state(path, sizeof(path), o->cfg, "journal");

	if (!err)
		err = journal_open(&j, path);
	op.journal = j;
	return err ? err : keysop_run(&op, request, to);
}

static vcf_err_t ask(const struct offline *o, struct json_object *request, FILE *to)
{
	char socket[PATH_MAX];
	vcf_err_t err =
		keysctl_path(socket, sizeof(socket), o->runtime, o->cfg->mountpoint);

	if (!err)
		err = keysctl_call(socket, request, to);
	return err == -ENOENT || err == -ECONNREFUSED ? ask_journal(o, request, to) : err;
}

/* -EAGAIN: it was not heard to its end; to ask again does no harm. */
static vcf_err_t understand(const char *text)
{
	struct json_object *answer = json_tokener_parse(text ? text : "");
	vcf_err_t err = 0;

	if (!json_object_is_type(answer, json_type_object))
		err = -EAGAIN;
	else if (json_object_object_get_ex(answer, "error", NULL))
		err = -EREMOTEIO;
	if (err == -EREMOTEIO)
		log_warn("an old secret is not taken: %s", json_text(answer, "error"));
	json_object_put(answer);
	return err;
}

static vcf_err_t ask_once(const struct offline *o, struct json_object *request)
{
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	vcf_err_t err = to ? ask(o, request, to) : -ENOMEM;

	if (to && fclose(to) == EOF && !err)
		err = -ENOMEM;
	return err ? err : understand(text);
}

/* Is it worth another try? Another thread has the journal, or the server has died just now. */
static bool may_pass(vcf_err_t err)
{
	return err == -EBUSY || err == -EAGAIN || err == -ECONNRESET || err == -EPIPE ||
	       err == -EACCES;
}

static vcf_err_t hand_over(struct offline *o, const struct journal_entry *e, bool now)
{
	uint64_t until_ms = clock_now_ms() + HANDOVER_MS;
	struct json_object *request = NULL;
	vcf_err_t err = make_request(&request, o, e, now);

	if (err)
		return err;
	err = ask_once(o, request);
	while (may_pass(err) && clock_now_ms() < until_ms) {
		usleep(RETRY_US);
		err = ask_once(o, request);
	}
	json_object_put(request);
	return err;
}

vcf_err_t oldsecret_gone(struct offline *o, uint64_t id, bool now,
			 struct oldsecret_end *end)
{
	const struct config *service;
	struct journal_entry e;
	vcf_err_t err = 0;

	*end = (struct oldsecret_end){.how = OLDSECRET_SITE};
	if (!id)
		return 0;
	err = journal_get(o->journal, id, &e);
	if (err)
		return err;
	TEXT_CUT(end->service, e.service);
	TEXT_CUT(end->key_id, e.key_id);
	service = config_service(o->cfg, e.service);
	if (!service)
		return -ENOKEY;
	end->how = service->keep ? OLDSECRET_KEPT : OLDSECRET_QUEUED;
	end->due = time(NULL) + (now ? 0 : (time_t)service->destroy_delay_s);
	CRASHPOINT("oldsecret-gone");
	if (!service->keep)
		err = hand_over(o, &e, now);
	CRASHPOINT("oldsecret-queued");
	if (!err)
		close_note(o, id);
	return err;
}

void oldsecret_describe(char *dst, size_t room, const struct oldsecret_end *end)
{
	char due[32];

	utc_format(due, end->due);
	if (end->how == OLDSECRET_SITE)
		snprintf(dst, room,
			 "its old secret was derived from the site's, which stays");
	else if (end->how == OLDSECRET_KEPT)
		snprintf(dst, room, "its old secret %s at %s stays (on-delete = keep)",
			 end->key_id, end->service);
	else if (end->how == OLDSECRET_DESTROYED)
		snprintf(dst, room, "its old secret %s at %s is destroyed", end->key_id,
			 end->service);
	else if (end->due <= time(NULL))
		snprintf(dst, room, "its old secret %s at %s is to be destroyed now",
			 end->key_id, end->service);
	else
		snprintf(dst, room, "its old secret %s at %s is destroyed from %s on",
			 end->key_id, end->service, due);
}

/* --- what a run that was cut short has left --- */

enum place { PLACE_HAS, PLACE_OTHER, PLACE_NONE, PLACE_UNKNOWN };

static vcf_err_t sync_folder(const char *path)
{
	char folder[PATH_MAX];
	auto_close int fd = -1;

	TEXT_CUT(folder, path);
	fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static enum place read_place(int fd, const char *path, const unsigned char uuid[UUID_LEN])
{
	auto_container struct container *c = NULL;
	vcf_err_t err = container_load(&c, fd, path, NULL);

	if (err)
		return err == -EPERM || err == -ENODATA ? PLACE_OTHER : PLACE_UNKNOWN;
	return memcmp(container_subject(c)->uuid, uuid, UUID_LEN) == 0 ? PLACE_HAS
								       : PLACE_OTHER;
}

/*
 * What has that name: the container, something else, nothing. Where it is not the container, that must
 * be so after a loss of power, too: the run that changed it may not have come to its sync.
 */
static enum place look(const char *path, const unsigned char uuid[UUID_LEN])
{
	auto_close int fd = io_open_file(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, true);
	enum place at;

	if (fd < 0)
		at = fd == -ENOENT || fd == -ENOTDIR ? PLACE_NONE : PLACE_UNKNOWN;
	else
		at = read_place(fd, path, uuid);
	if (at == PLACE_OTHER && fsync(fd) < 0)
		at = PLACE_UNKNOWN;
	if (at != PLACE_HAS && sync_folder(path))
		at = PLACE_UNKNOWN;
	return at;
}

/* The file's, and the name that it has while another one takes its place. */
static enum place look_at_both(const struct journal_entry *e)
{
	enum place at = look(e->path, e->uuid), beside;
	char path[PATH_MAX];

	if (at == PLACE_HAS || oldsecret_beside(path, e->path))
		return at;
	beside = look(path, e->uuid);
	if (beside == PLACE_HAS) /* it goes as soon as it can: replace_settle() */
		return at == PLACE_OTHER ? PLACE_UNKNOWN : PLACE_HAS;
	return beside == PLACE_UNKNOWN ? PLACE_UNKNOWN : at;
}

/* Elsewhere than below the mount it may have been moved, and another file has its name. */
static bool is_same_file(const struct journal_entry *e)
{
	struct stat st;

	return lstat(e->path, &st) == 0 && st.st_dev == e->dev && st.st_ino == e->ino;
}

bool oldsecret_is(const struct journal_entry *e)
{
	return e->state == JOURNAL_DELETING || e->state == JOURNAL_WIPED;
}

static void settle_gone(struct offline *o, const struct journal_entry *e)
{
	struct oldsecret_end end;
	char text[1024];
	vcf_err_t err = oldsecret_gone(o, e->id, false, &end);

	if (err) {
		log_warn("%s: its old secret %s at %s stays noted: %s", e->path,
			 e->key_id, e->service, strerror(-err));
		return;
	}
	oldsecret_describe(text, sizeof(text), &end);
	log_info("%s: a run was cut short: %s", e->path, text);
}

void oldsecret_settle(struct offline *o, const struct journal_entry *e)
{
	bool is_below = offline_place(o, e->path) != NULL;
	enum place at;

	if (e->state == JOURNAL_WIPED) {
		if (strcmp(o->command, "shred") != 0)
			log_info("%s: shred was cut short: the next one completes it",
				 e->path);
		return;
	}
	at = look_at_both(e);
	if (at == PLACE_HAS)
		close_note(o, e->id);
	else if ((at == PLACE_OTHER && (is_below || is_same_file(e))) ||
		 (at == PLACE_NONE && is_below))
		settle_gone(o, e);
	else
		log_warn("%s: not there any more, or not to be read: it cannot be said "
			 "whether it has the secret %s, which is kept",
			 e->path, e->key_id);
}
