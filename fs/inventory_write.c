/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/inventory.h"
#include "fs/jsonlines.h"
#include "fs/linked.h"
#include "fs/mountpoint.h"
#include "fs/sitekey.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parse.h"

enum { BLOCK_LEN = 512 };

struct inventory_writer {
	const struct keysop *k;
	struct json_object *lines;
	uint64_t last_id; /* of the journal: lines up to here are there */
	time_t now;
	vcf_err_t err;
};

static struct json_object *line_of(const char *type)
{
	struct json_object *o = json_object_new_object();

	json_put_text(o, "type", type);
	return o;
}

static void put_uuid(struct json_object *o, const unsigned char uuid[UUID_LEN])
{
	char text[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(uuid, text);
	json_put_text(o, "uuid", text);
}

/* --- containers --- */

static vcf_err_t add_container(void *arg, const char *path, const unsigned char *uuid,
			       const struct token *t)
{
	struct inventory_writer *w = arg;
	struct json_object *o = line_of(t      ? "container"
					: uuid ? "damaged"
					       : "unreadable");

	json_put_text(o, "path", path);
	if (uuid)
		put_uuid(o, uuid);
	if (t) {
		json_put_text(o, "service", t->service);
		json_put_text(o, "key_id", t->key_id);
		json_put_flag(o, "derived", t->derived);
	}
	return json_object_array_add(w->lines, o) < 0 ? -ENOMEM : 0;
}

static vcf_err_t walk_unserved(struct inventory_writer *w)
{
	const struct config *cfg = w->k->cfg;
	auto_close int root = open(cfg->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_rules struct rules *rules = NULL;
	vcf_err_t err;

	if (root < 0)
		return -errno;
	if (mountpoint_is_ours(cfg->backing) == 1)
		return -EBUSY; /* a dead mount over it hides what lies below */
	err = config_make_rules(cfg, &rules);
	return err ? err : linked_walk_tree(root, rules, cfg, add_container, w);
}

static vcf_err_t add_site(struct inventory_writer *w, const char *service)
{
	bool is_default = strcmp(service, CONFIG_SERVICE_DEFAULT) == 0;
	char path[PATH_MAX], key_id[TOKEN_KEY_ID_MAX + 1];
	char name[TOKEN_SERVICE_MAX + 8];
	unsigned char uuid[UUID_LEN];
	struct json_object *o;
	vcf_err_t err = sitekey_path(name, sizeof(name), "site", service);

	if (!err)
		err = mountpoint_state(path, sizeof(path), w->k->cfg, name);
	if (!err)
		err = sitekey_read_file(path, is_default ? "" : service, uuid, key_id);
	if (err || !*key_id)
		return err;
	o = line_of("site");
	put_uuid(o, uuid);
	json_put_text(o, "service", service);
	json_put_text(o, "key_id", key_id);
	return json_object_array_add(w->lines, o) < 0 ? -ENOMEM : 0;
}

static vcf_err_t add_sites(struct inventory_writer *w)
{
	const struct config *service;
	vcf_err_t err = 0;

	for (size_t i = 0; !err && (service = config_service_at(w->k->cfg, i)); i++)
		err = add_site(w, service->service_name);
	return err;
}

/* --- the journal --- */

static struct json_object *block_run(const unsigned char *hdr, size_t off, size_t len)
{
	auto_free char *text = malloc(BASE64_LEN(len) + 1);
	struct json_object *run = json_object_new_array();

	if (!text)
		return run;
	base64_encode(text, hdr + off, len);
	json_object_array_add(run, json_object_new_uint64(off));
	json_object_array_add(run, json_object_new_string(text));
	return run;
}

static struct json_object *pack_header(const unsigned char *hdr)
{
	struct json_object *runs = json_object_new_array();
	size_t from = 0, off = 0;

	for (; off < CONTAINER_PEEK_LEN; off += BLOCK_LEN) {
		if (!io_is_zero(hdr + off, BLOCK_LEN))
			continue;
		if (off > from)
			json_object_array_add(runs, block_run(hdr, from, off - from));
		from = off + BLOCK_LEN;
	}
	if (off > from)
		json_object_array_add(runs, block_run(hdr, from, off - from));
	return runs;
}

/* For the controller, which checks the MAC. */
static vcf_err_t add_header(const struct inventory_writer *w, struct json_object *o,
			    const struct journal_entry *e)
{
	const struct config *service = config_service(w->k->cfg, e->service);
	auto_free unsigned char *hdr = NULL;
	vcf_err_t err;

	if (!service || !service->controller || e->state != JOURNAL_DESTROYING ||
	    e->due > w->now)
		return 0;
	json_put_flag(o, "reap", true);
	hdr = malloc(CONTAINER_PEEK_LEN);
	err = hdr ? journal_header(w->k->journal, e->id, hdr) : -ENOMEM;
	if (!err)
		json_object_object_add(o, "header", pack_header(hdr));
	else if (err == -EBADMSG)
		json_put_flag(o, "bad_header", true);
	return err == -ENOMEM ? err : 0;
}

static int add_entry(void *arg, const struct journal_entry *e)
{
	struct inventory_writer *w = arg;
	struct json_object *o;

	if (e->id <= w->last_id)
		return 0;
	w->last_id = e->id;
	o = keysop_entry(e);
	json_put_text(o, "type", "journal");
	w->err = add_header(w, o, e);
	json_object_array_add(w->lines, o);
	return w->err;
}

static int add_offline_entry(void *arg, const struct journal_entry *e)
{
	struct inventory_writer *w = arg;
	struct json_object *o = keysop_entry(e);

	json_put_text(o, "type", "journal");
	return json_object_array_add(w->lines, o) < 0 ? -ENOMEM : 0;
}

/*
 * What commands were cut short with (offline.h). One that is at work now makes the inventory fail; one
 * that begins later makes secrets that are too young for anybody to miss them here.
 */
static vcf_err_t add_offline(struct inventory_writer *w)
{
	auto_journal struct journal *j = NULL;
	char path[PATH_MAX];
	vcf_err_t err = mountpoint_state(path, sizeof(path), w->k->cfg, "offline");

	if (err)
		return err;
	if (access(path, F_OK) < 0)
		return errno == ENOENT ? 0 : -errno;
	err = journal_open(&j, path);
	return err ? err : journal_each(j, add_offline_entry, w);
}

static vcf_err_t collect(struct inventory_writer *w)
{
	vcf_err_t err = add_offline(w);

	if (!err)
		err = journal_each(w->k->journal, add_entry, w);
	if (!err)
		err = w->k->sv ? linked_walk(w->k->sv, add_container, w)
			       : walk_unserved(w);
	if (!err)
		err = add_sites(w);
	return err ? err : journal_each(w->k->journal, add_entry, w);
}

/* --- the first line --- */

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

static bool has_file(const char *state, const char *folder, const char *name)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s/%s", state, folder, name) <
		       (int)sizeof(path) &&
	       access(path, F_OK) == 0;
}

static bool has_journal(const char *state, const char *folder)
{
	return has_file(state, folder, "journal") || has_file(state, folder, "offline");
}

static vcf_err_t put_folders(struct json_object *o, const struct config *cfg)
{
	DIR *d __attribute__((cleanup(close_dir))) = opendir(cfg->state_directory);
	struct json_object *folders = json_object_new_array();
	char own[PATH_MAX];
	struct dirent *e;
	vcf_err_t err = mountpoint_state(own, sizeof(own), cfg, "x");

	json_object_object_add(o, "folders", folders);
	if (!d)
		return -errno;
	while (!err && (errno = 0, e = readdir(d))) {
		if (*e->d_name != '.' && has_journal(cfg->state_directory, e->d_name))
			json_object_array_add(folders, json_object_new_string(e->d_name));
	}
	if (!err && errno)
		err = -errno;
	json_put_text(o, "folder", basename(dirname(own)));
	return err;
}

static vcf_err_t put_head(struct jsonlines_writer *out, const struct inventory_writer *w)
{
	const struct config *cfg = w->k->cfg;
	struct json_object *o = jsonlines_head("vmcryptfs-inventory");
	struct json_object *services = json_object_new_array();
	const struct config *service;
	char host[HOST_NAME_MAX + 1] = "", id[JOURNAL_HOST_HEX_LEN + 1];
	vcf_err_t err;

	if (gethostname(host, sizeof(host) - 1) < 0)
		log_dbg("gethostname: %s", strerror(errno));
	journal_host(w->k->journal, id);
	json_put_text(o, "host", host);
	json_put_text(o, "host_id", id);
	json_put_text(o, "site", cfg->site ? cfg->site : "");
	json_put_text(o, "backing", cfg->backing);
	for (size_t i = 0; (service = config_service_at(cfg, i)); i++)
		json_object_array_add(services,
				      json_object_new_string(service->service_name));
	json_object_object_add(o, "services", services);
	json_put_time(o, "time", w->now);
	json_put_flag(o, "complete", true);
	json_put_number(o, "count", json_object_array_length(w->lines));
	err = put_folders(o, cfg);
	jsonlines_put(out, o);
	return err;
}

static vcf_err_t print(const struct inventory_writer *w, FILE *to)
{
	struct jsonlines_writer *out;
	vcf_err_t err = jsonlines_new(&out, to);

	if (!err)
		err = put_head(out, w);
	if (err) {
		jsonlines_free(out);
		return err;
	}
	for (size_t i = 0; i < json_object_array_length(w->lines); i++)
		jsonlines_put(out,
			      json_object_get(json_object_array_get_idx(w->lines, i)));
	return jsonlines_end(out);
}

vcf_err_t inventory_write(const struct keysop *k, FILE *to)
{
	struct inventory_writer w = {
		.k = k, .lines = json_object_new_array(), .now = time(NULL)};
	vcf_err_t err = collect(&w);

	if (!err)
		err = print(&w, to);
	if (err)
		log_err("%s: no inventory can be made: %s", k->cfg->backing,
			strerror(-err));
	json_object_put(w.lines);
	return err;
}
