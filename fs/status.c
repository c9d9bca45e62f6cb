/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build-config.h"
#include "crypto/deletion.h"
#include "crypto/keyservice.h"
#include "crypto/reserve.h"
#include "fs/deferred.h"
#include "fs/device_config.h"
#include "fs/history.h"
#include "fs/imagetable.h"
#include "fs/jsonlines.h"
#include "fs/keyset.h"
#include "fs/keysop.h"
#include "fs/listener.h"
#include "fs/loglevel.h"
#include "fs/mountpoint.h"
#include "fs/promote.h"
#include "fs/status_io.h"
#include "fs/statusfile.h"
#include "util/audit.h"
#include "util/io.h"
#include "util/log.h"

enum { REPLY_MAX = 64 * 1024 * 1024, QUEUE_LISTED = 1000 };

struct status_socket {
	struct server *sv;
	const struct session *session;
	struct listener *listener;
	char path[108];
	char link[108]; /* in the default folder, "" if that is where the socket is */
};

static int add_device(void *arg, const struct device_look *l)
{
	static const char *const kinds[] = {
		[PEEK_EMPTY] = "empty",
		[PEEK_CONTAINER] = "container",
		[PEEK_PLAINTEXT] = "foreign",
		[PEEK_DAMAGED] = "damaged",
	};
	struct json_object *o = json_object_new_object();

	json_put_text(o, "name", l->name);
	json_put_shown(o, "device", l->path);
	json_put_text(o, "kind", l->err ? "absent" : kinds[l->peek.kind]);
	return json_object_array_add(arg, o);
}

/* Each is looked at: one that is not there keeps secrets from being destroyed. */
static struct json_object *devices(const struct config *cfg)
{
	struct json_object *all = json_object_new_array();

	if (device_each(cfg, add_device, all))
		log_dbg("status: no memory");
	return all;
}

/* Null where it never was. */
static void put_time(struct json_object *o, const char *key, time_t t)
{
	if (t)
		json_put_time(o, key, t);
	else
		json_object_object_add(o, key, NULL);
}

static struct json_object *key_service(const struct server *sv, const struct keyset *s)
{
	const struct config *wanted = config_service(sv->cfg, s->name);
	struct json_object *o = json_object_new_object();
	struct keyservice_status ks;

	keyservice_get_status(s->keys, &ks);
	json_put_text(o, "name", s->name);
	json_put_text(o, "helper", ks.helper);
	json_put_text(o, "state", ks.state);
	json_put_text(o, "breaker", ks.breaker);
	json_put_number(o, "breaker_opened", ks.breaker_opened);
	json_put_number(o, "children", ks.children);
	json_put_number(o, "waiting", ks.waiting);
	json_put_number(o, "requests", ks.requests);
	json_put_number(o, "failures", ks.failures);
	json_put_number(o, "restarts", ks.restarts);
	json_put_number(o, "reserve", reserve_count(s->reserve));
	json_put_number(o, "reserve_wanted", wanted ? wanted->reserve : 0);
	json_object_object_add(o, "wrapped",
			       json_object_new_boolean(ks.caps & KEY_CAP_WRAPPED));
	json_put_text(o, "last_error", ks.last_error);
	put_time(o, "last_success", ks.last_success);
	put_time(o, "last_failure", ks.last_failure);
	json_object_object_add(o, "latency", status_latency(ks.took_cnt, ks.took_sum_ns));
	return o;
}

/* `key_service` is the default one, as ever; `key_services` are all. */
static void add_services(struct server *sv, struct json_object *o)
{
	struct json_object *all = json_object_new_array();
	struct keyset *s;

	for (size_t i = 0; (s = keyset_at(sv, i)); i++)
		json_object_array_add(all, key_service(sv, s));
	json_object_object_add(o, "key_service", key_service(sv, keyset_at(sv, 0)));
	json_object_object_add(o, "key_services", all);
}

/* Lines that are not written yet, and events that are in none. */
static void add_audit(struct json_object *o)
{
	struct json_object *a = json_object_new_object();
	uint64_t waiting, lost;

	audit_counts(&waiting, &lost);
	json_put_number(a, "waiting", waiting);
	json_put_number(a, "lost", lost);
	json_object_object_add(o, "audit", a);
}

struct foreign {
	struct server *sv;
	size_t cnt;
};

static int count_foreign(void *arg, const struct journal_entry *e)
{
	struct foreign *f = arg;

	f->cnt += e->state == JOURNAL_DESTROYING && !keyset_get(f->sv, e->service);
	return 0;
}

/* Deletions of services that are not configured: nobody does them. */
static size_t foreign_deletions(struct server *sv)
{
	struct foreign f = {.sv = sv};

	return journal_each(sv->journal, count_foreign, &f) < 0 ? 0 : f.cnt;
}

static struct json_object *destroy_queue(struct server *sv)
{
	const struct keysop k = {
		.cfg = sv->cfg, .journal = sv->journal, .queue = sv->deletions, .sv = sv};

	return keysop_queue_status(&k, QUEUE_LISTED);
}

static void add_counts(struct server *sv, struct json_object *o)
{
	size_t nodes, handles, waiting, suspect;

	state_counts(sv->state, &nodes, &handles);
	deletion_counts(sv->deletions, &waiting, &suspect);
	json_put_number(o, "nodes", nodes);
	json_put_number(o, "handles", handles);
	json_put_number(o, "keys", keytable_count(sv->keys));
	json_put_number(o, "parked", deferred_parked_cnt(sv->deferred));
	json_put_number(o, "destroy_unconfigured", foreign_deletions(sv));
	json_put_number(o, "suspects", suspect);
	json_object_object_add(o, "destroy_queue", destroy_queue(sv));
	json_put_number(o, "promote_queue", promote_count(sv->promote));
}

struct coverage {
	uint32_t mark;
	size_t with, without;
};

static void count_escrow(void *arg, const struct image_entry *e)
{
	struct coverage *c = arg;

	if (e->escrow == c->mark)
		c->with++;
	else
		c->without++;
}

/* Of the images with a key in memory: how many could be opened by the configured escrow key. */
static struct json_object *escrow(struct server *sv)
{
	const struct escrow_public *pub = config_escrow(sv->cfg);
	struct json_object *o;
	struct coverage c = {0};

	if (!pub)
		return NULL;
	c.mark = imagetable_escrow_mark(pub->recipient);
	imagetable_each(sv->images, count_escrow, &c);
	o = json_object_new_object();
	json_put_text(o, "recipient", pub->recipient);
	json_put_number(o, "with", c.with);
	json_put_number(o, "without", c.without);
	return o;
}

static struct json_object *last_death(const struct history *h)
{
	struct json_object *o;

	if (!h->deaths)
		return NULL;
	o = json_object_new_object();
	json_put_number(o, "signal", h->last_signal);
	json_put_number(o, "in_flight", h->last_in_flight);
	json_put_number(o, "seconds_ago", h->death_age_ms / 1000);
	return o;
}

static struct json_object *stall(const struct history *h)
{
	struct json_object *o = json_object_new_object();

	json_put_number(o, "count", h->stalls);
	json_object_object_add(o, "last", json_object_new_double(h->stall_last_ms));
	json_object_object_add(o, "mean", json_object_new_double(h->stall_mean_ms));
	json_object_object_add(o, "max", json_object_new_double(h->stall_max_ms));
	return o;
}

static void add_history(struct json_object *o, const struct session *s)
{
	struct history h;

	history_get(&h, s);
	json_put_number(o, "generation", h.generation);
	json_put_number(o, "deaths", h.deaths);
	json_put_number(o, "hangs", h.hangs);
	json_put_number(o, "upgrades", h.upgrades);
	json_put_number(o, "replayed", h.replayed);
	json_put_number(o, "resent", h.resent);
	json_put_number(o, "poisoned", h.poisoned);
	json_put_number(o, "dropped_records", h.dropped);
	json_object_object_add(o, "last_death", last_death(&h));
	json_object_object_add(o, "stall_ms", stall(&h));
	json_put_number(o, "asynchronous", s->head->async_done);
	json_put_number(o, "uptime", h.uptime_s);
}

static struct json_object *describe(const struct status_socket *s)
{
	struct server *sv = s->sv;
	struct json_object *o = json_object_new_object();

	json_put_text(o, "version", VCF_VERSION);
	json_put_text(o, "mountpoint", sv->cfg->mountpoint);
	json_put_text(o, "backing", sv->cfg->backing);
	json_put_text(o, "config", sv->config_path ? sv->config_path : "");
	json_put_number(o, "keeper_pid", (uint64_t)sv->keeper_pid);
	json_object_object_add(o, "keeper_gone",
			       json_object_new_boolean(getppid() != sv->keeper_pid));
	json_put_number(o, "server_pid", (uint64_t)getpid());
	json_put_text(o, "log_level", loglevel_asked(s->session));
	json_put_flag(o, "draining", s->session->head->draining);
	add_history(o, s->session);
	add_counts(sv, o);
	add_services(sv, o);
	add_audit(o);
	json_object_object_add(o, "escrow", escrow(sv));
	json_object_object_add(o, "io", status_io(s->session));
	json_object_object_add(o, "images", status_images(sv));
	json_object_object_add(o, "devices", devices(sv->cfg));
	return o;
}

static void answer(void *arg, int client)
{
	struct json_object *o = describe(arg);
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

	if (io_write_full(client, text, strlen(text)))
		log_dbg("status: the client left");
	json_object_put(o);
}

/*
 * `status` and `umount` look into the default folder, so a link there leads to a socket
 * elsewhere. Without the right to make it they need -r.
 */
static void leave_link(struct status_socket *s)
{
	const char *dir = statusfile_default_directory();

	if (strcmp(dir, s->sv->cfg->runtime_directory) == 0 ||
	    mountpoint_socket(s->link, sizeof(s->link), dir, s->sv->cfg->mountpoint))
		return;
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		log_dbg("%s: %s", dir, strerror(errno));
	unlink(s->link);
	if (symlink(s->path, s->link) < 0)
		s->link[0] = '\0';
}

vcf_err_t status_listen(struct status_socket **out, struct server *sv,
			const struct session *session)
{
	struct status_socket *s = calloc(1, sizeof(*s));
	vcf_err_t err;

	if (!s)
		return -ENOMEM;
	s->sv = sv;
	s->session = session;
	if (mkdir(sv->cfg->runtime_directory, 0755) < 0 && errno != EEXIST)
		log_dbg("%s: %s", sv->cfg->runtime_directory, strerror(errno));
	err = mountpoint_socket(s->path, sizeof(s->path), sv->cfg->runtime_directory,
				sv->cfg->mountpoint);
	if (!err)
		err = listener_new(&s->listener, s->path, answer, s);
	if (!err)
		leave_link(s);
	if (err) {
		log_err("%s: the status socket cannot be made: %s", s->path,
			strerror(-err));
		status_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void status_close(struct status_socket *s)
{
	if (s->link[0])
		unlink(s->link);
	listener_free(s->listener);
	free(s);
}

vcf_err_t status_read(struct json_object **out, const char *socket_path,
		      unsigned int patience_s)
{
	auto_close int fd = listener_connect(socket_path, patience_s);
	auto_free char *text = NULL;
	vcf_err_t err = fd < 0 ? fd : io_read_all(fd, REPLY_MAX, &text);

	if (err)
		return err;
	*out = json_tokener_parse(text);
	return *out ? 0 : -EPROTO;
}
