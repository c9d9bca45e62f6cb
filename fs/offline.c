/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new secret, step by step, with its entry in the journal:
 *
 *   creating  new at the service   unused   header made in memory   using   header written   closed
 *
 * A run that ends in between leaves the entry. The next one asks the service for the label (the new
 * uuid) and destroys what it finds, but `using` only if the file that the entry names is seen not to
 * have that uuid: else the header may have been written. What the journal parked as suspect may have
 * been in use since: it is kept.
 */
#include "fs/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "crypto/container_rekey.h"
#include "crypto/containerid.h"
#include "crypto/kdf.h"
#include "fs/device_config.h"
#include "fs/exitcode.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keysettings.h"
#include "fs/mountpoint.h"
#include "fs/nodelock.h"
#include "fs/oldsecret.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

enum { ARRIVAL_S = 300 };

int offline_init_crypto(void)
{
	return secret_arena_init() || crypto_init() || container_init() ? EXIT_FAILED
									: EXIT_OK;
}

/* --- what an earlier run has left --- */

enum carried { CARRIED_NO, CARRIED_YES, CARRIED_UNKNOWN };

/*
 * Does the container that was to carry the secret carry it, by the better of its headers? No only if
 * the very file is seen, with another uuid: one that is gone from its path may have been moved.
 */
static enum carried is_carried(const struct journal_entry *e)
{
	auto_close int fd = io_open_file(AT_FDCWD, e->path, O_RDONLY | O_NONBLOCK, true);
	auto_container struct container *c = NULL;
	struct stat st;
	bool mended;

	if (fd < 0 || fstat(fd, &st) < 0 || container_load(&c, fd, e->path, &mended))
		return CARRIED_UNKNOWN;
	if (memcmp(container_subject(c)->uuid, e->uuid, UUID_LEN) == 0)
		return fdatasync(fd) == 0 ? CARRIED_YES : CARRIED_UNKNOWN;
	return st.st_dev == e->dev && st.st_ino == e->ino ? CARRIED_NO : CARRIED_UNKNOWN;
}

/* 0: it is destroyed. -ENOKEY: nothing of that label is at the service. */
static vcf_err_t destroy_label(struct keyservice *ks, const struct journal_entry *e)
{
	const struct keycall call = {ks, e->service, *e->path ? e->path : NULL, e->uuid};
	struct keyservice_sync got = {0};
	char label[UUID_TEXT_LEN + 1], id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	uuid_unparse_lower(e->uuid, label);
	err = keyservice_find_sync(ks, label, &got);
	if (err)
		return err;
	TEXT_CUT(id, got.id);
	err = keycall_destroy(&call, id, &got);
	return err == -ENOKEY ? 0 : err;
}

vcf_err_t offline_service(struct offline *o, const char *name, struct keyservice **ks)
{
	const struct config *service;
	struct keysettings s;
	vcf_err_t err;
	size_t i = 0;

	while ((service = config_service_at(o->cfg, i)) &&
	       strcmp(service->service_name, name) != 0)
		i++;
	if (!service) {
		fprintf(stderr, "vmcryptfs %s: the key service '%s' is not configured\n",
			o->command, name);
		return -ENOKEY;
	}
	if (!o->ks[i]) {
		err = keysettings_init(&s, o->cfg, service);
		s.kc.give_up = true;
		if (!err)
			err = keyservice_new(&o->ks[i], &s.kc);
		keysettings_fini(&s);
		if (err)
			return err;
	}
	*ks = o->ks[i];
	return 0;
}

/* May a `new` without an answer still arrive at the service? As long as reserve.c waits. */
static bool may_arrive(const struct journal_entry *e)
{
	time_t now = time(NULL);

	return e->state == JOURNAL_CREATING && now >= e->created &&
	       now - e->created < ARRIVAL_S;
}

/* 0: the entry may be closed. -EAGAIN: not yet. */
static vcf_err_t destroy_unused(struct offline *o, const struct journal_entry *e)
{
	struct keyservice *ks;
	vcf_err_t err = offline_service(o, e->service, &ks);

	if (err)
		return err;
	err = destroy_label(ks, e);
	if (err == -ENOKEY)
		err = may_arrive(e) ? -EAGAIN : 0;
	return err;
}

/* An entry that was parked need not tell the file, nor the last state. */
static enum carried has_carrier(const struct journal_entry *e)
{
	enum carried carried;

	if (e->state == JOURNAL_CREATING || e->state == JOURNAL_UNUSED)
		return CARRIED_NO;
	carried = *e->path ? is_carried(e) : CARRIED_UNKNOWN;
	return carried == CARRIED_NO && e->state != JOURNAL_USING ? CARRIED_UNKNOWN
								  : carried;
}

static void say_kept(const struct journal_entry *e, const char *label)
{
	if (e->state == JOURNAL_SUSPECT)
		log_warn(
			"the secret %s is kept: it is of another machine, or of a journal "
			"that was damaged, and may be in use",
			label);
	else
		log_warn(
			"%s: not there any more: it cannot be said whether it has the secret "
			"%s, which is kept",
			e->path, label);
}

static int settle_entry(void *arg, const struct journal_entry *e)
{
	enum carried carried;
	struct offline *o = arg;
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err = 0;

	if (oldsecret_is(e)) {
		oldsecret_settle(o, e);
		return 0;
	}
	carried = has_carrier(e);
	uuid_unparse_lower(e->uuid, label);
	if (carried == CARRIED_UNKNOWN) {
		say_kept(e, label);
		return 0;
	}
	if (carried == CARRIED_NO)
		err = destroy_unused(o, e);
	if (err == -EAGAIN)
		log_info(
			"the secret %s of a run that was cut short may still come to the "
			"key service: a later run looks again",
			label);
	else if (err)
		log_warn("the secret %s of a run that was cut short is still at the key "
			 "service: %s",
			 label, strerror(-err));
	else if (journal_set(o->journal, e->id, JOURNAL_CLOSED, NULL, 0))
		log_warn("the journal cannot be written");
	return 0;
}

/* --- start and end --- */

static int fail(const struct offline *o, int code, const char *what, vcf_err_t err)
{
	fprintf(stderr, "vmcryptfs %s: %s: %s\n", o->command, what, strerror(-err));
	return code;
}

static vcf_err_t open_journal(struct offline *o)
{
	char path[PATH_MAX], folder[PATH_MAX];
	vcf_err_t err = mountpoint_state(path, sizeof(path), o->cfg, "offline");

	if (err)
		return err;
	TEXT_CUT(folder, path);
	if (mkdir(o->cfg->state_directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (mkdir(dirname(folder), 0700) < 0 && errno != EEXIST)
		return -errno;
	return journal_open(&o->journal, path);
}

int offline_init(struct offline *o, const char *command, const struct config *cfg,
		 const char *runtime)
{
	vcf_err_t err;

	*o = (struct offline){.command = command, .runtime = runtime, .cfg = cfg};
	err = config_make_rules(cfg, &o->rules);
	if (err)
		return EXIT_CONFIG;
	containerid_set_site(cfg->site);
	keycall_begin(cfg, command);
	err = open_journal(o);
	if (err == -EBUSY)
		return fail(o, EXIT_BUSY, "another such command is at work", err);
	if (err)
		return fail(o, EXIT_FAILED, "its journal in the state directory", err);
	return journal_each(o->journal, settle_entry, o) ? EXIT_FAILED : EXIT_OK;
}

void offline_fini(struct offline *o)
{
	keycall_end();
	if (o->journal)
		journal_close(o->journal);
	for (size_t i = 0; i < CONFIG_SERVICES_MAX; i++) {
		if (o->ks[i])
			keyservice_free(o->ks[i]);
	}
	rules_free(o->rules);
}

/* --- one file --- */

static bool mount_has_open(struct json_object *mount, const struct stat *st)
{
	struct json_object *images;

	if (!json_object_object_get_ex(mount, "images", &images))
		return false;
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		struct json_object *image = json_object_array_get_idx(images, i);

		if (json_number(image, "dev") == st->st_dev &&
		    json_number(image, "ino") == st->st_ino)
			return true;
	}
	return false;
}

/* One that a daemon of any node has open, where they share the folder. -EBUSY. */
static vcf_err_t check_nodes(int fd)
{
	vcf_err_t err = nodelock_byte(fd, NODELOCK_OPEN, true, false);

	nodelock_byte_release(fd, NODELOCK_OPEN);
	return err == -EAGAIN ? -EBUSY : 0; /* others: no such locks, no such daemons */
}

/* An image that a daemon has open, or whose key it still keeps. -EBUSY. */
static vcf_err_t check_daemons(const char *runtime, int fd, const struct stat *st)
{
	struct json_object *all = NULL;
	vcf_err_t err = check_nodes(fd);

	if (!err)
		err = statusfile_read_all(&all, runtime);
	if (err)
		return err == -ENOENT ? 0 : err; /* no daemon ever ran here */
	for (size_t i = 0; !err && i < json_object_array_length(all); i++)
		if (mount_has_open(json_object_array_get_idx(all, i), st))
			err = -EBUSY;
	json_object_put(all);
	return err;
}

static const char *refusal(vcf_err_t err)
{
	switch (err) {
	case -EBUSY:
		return "a daemon has it open, or still keeps its key; see vmcryptfs status";
	case -EWOULDBLOCK:
		return "another command works on it";
	case -EXDEV:
		return "it is a name in the mount; give its name in the backing folder";
	case -ENODATA:
		return "an empty image: it has no header";
	case -EPERM:
		return "not permitted, or no container";
	case -EBADMSG:
		return "its header is damaged or refused";
	default:
		return strerror(-err);
	}
}

static vcf_err_t open_file(struct offline_file *f, const char *path, const char *runtime,
			   bool change)
{
	char mp[PATH_MAX];
	struct stat st;
	bool mended = false;
	vcf_err_t err;

	if (!realpath(path, f->path))
		return -errno;
	if (mountpoint_of(f->path, mp, sizeof(mp)) == 0)
		return -EXDEV;
	if (stat(f->path, &st) < 0)
		return -errno;
	f->fd = io_open_file(AT_FDCWD, f->path,
			     (change ? O_RDWR : O_RDONLY) |
				     (change && S_ISBLK(st.st_mode) ? O_EXCL : 0) |
				     O_NONBLOCK,
			     true);
	if (f->fd < 0)
		return f->fd;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (change && flock(f->fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	err = change ? check_daemons(runtime, f->fd, &st) : 0;
	nodelock_begin(f->fd);
	nodelock_look_anew(f->fd);
	if (!err)
		err = container_load(&f->c, f->fd, f->path, &mended);
	return err;
}

vcf_err_t offline_open(struct offline_file *f, const char *command, const char *path,
		       const char *runtime, bool change)
{
	vcf_err_t err;

	*f = (struct offline_file){.fd = -1};
	err = open_file(f, path, runtime, change);
	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", command, path, refusal(err));
		offline_close(f);
	}
	return err;
}

void offline_close(struct offline_file *f)
{
	container_free(STEAL_PTR(&f->c));
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

vcf_err_t offline_fetch(struct offline *o, const struct offline_file *f,
			struct secret **secret)
{
	const struct token *t = container_token(f->c);
	struct keyservice_sync got = {0};
	auto_secret struct secret *base = NULL;
	struct keyservice *ks;
	struct keycall call;
	vcf_err_t err;

	err = offline_service(o, t->service, &ks);
	if (err)
		return err;
	call = (struct keycall){ks, t->service, f->path, container_subject(f->c)->uuid};
	err = keycall_get(&call, t->key_id, &got);
	base = got.secret;
	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s: key service: %s %s\n", o->command,
			f->path, strerror(-err), got.text);
		return err;
	}
	if (t->derived)
		return token_derive_secret(secret, base, container_subject(f->c)->uuid);
	*secret = STEAL_PTR(&base);
	return 0;
}

/* --- a new secret --- */

struct fresh {
	struct offline *o;
	struct offline_file *f;
	struct offline_change *ch;
	struct journal_entry entry;
	struct secret *secret;
	bool refused;	     /* by the service: nothing is on its way to it */
	const char *context; /* that of the file's rule; NULL: what it has */
	char context_text[TOKEN_CONTEXT_MAX + 1];
};

/* The file's place in the backing folder, or NULL. */
static const char *place_of(const struct offline *o, const char *path)
{
	char backing[PATH_MAX];
	size_t len;

	if (!o->cfg->backing || !realpath(o->cfg->backing, backing))
		return NULL;
	len = strlen(backing);
	return strncmp(path, backing, len) == 0 && path[len] == '/' ? path + len + 1
								    : NULL;
}

/* What the rules say of it; one that lies somewhere else stays what it is. */
static void look_up(struct fresh *n)
{
	struct stat st;
	const struct config *d = fstat(n->f->fd, &st) == 0 && S_ISBLK(st.st_mode)
					 ? device_by_rdev(n->o->cfg, st.st_rdev)
					 : NULL;
	const char *place = d ? d->device_name : place_of(n->o, n->f->path);

	if (!*n->ch->service) {
		TEXT_CUT(n->ch->service, container_token(n->f->c)->service);
		if (!config_service(n->o->cfg, n->ch->service))
			TEXT_CUT(n->ch->service, CONFIG_SERVICE_DEFAULT);
		if (place)
			TEXT_CUT(n->ch->service, rules_service(n->o->rules, place));
	}
	if (!place)
		return;
	rules_context(n->o->rules, place, n->context_text);
	n->context = n->context_text;
}

static vcf_err_t make_secret(struct fresh *n)
{
	struct keyservice_sync got = {0};
	struct keycall call;
	struct keyservice *ks;
	vcf_err_t err = secret_new_random(&n->secret);

	if (err)
		return err;
	err = offline_service(n->o, n->ch->service, &ks);
	if (err)
		return err;
	containerid_new(n->entry.uuid);
	n->entry.state = JOURNAL_CREATING;
	TEXT_CUT(n->entry.service, n->ch->service);
	TEXT_CUT(n->entry.path, n->f->path);
	err = journal_add(n->o->journal, &n->entry, NULL);
	if (err)
		return err;
	call = (struct keycall){ks, n->ch->service, n->f->path, n->entry.uuid};
	err = keycall_new(&call, n->secret, &got);
	if (err) {
		snprintf(n->ch->text, sizeof(n->ch->text), "key service: %s %s",
			 strerror(-err), got.text);
		n->refused = err == -EKEYREJECTED || err == -EDQUOT || err == -EINVAL;
		return err;
	}
	n->entry.state = JOURNAL_UNUSED;
	if (got.secret) { /* the service's own */
		secret_free(n->secret);
		n->secret = got.secret;
	}
	TEXT_CUT(n->ch->key_id, got.id);
	return journal_set(n->o->journal, n->entry.id, JOURNAL_UNUSED, got.id, 0);
}

static vcf_err_t note_using(void *arg)
{
	struct fresh *n = arg;
	struct stat st;

	if (fstat(n->f->fd, &st) < 0)
		return -errno;
	return journal_set_using(n->o->journal, n->entry.id, st.st_dev, st.st_ino,
				 n->f->path);
}

/*
 * The key service may have taken its time: is the file still there, and nobody's? From here on a
 * daemon's opens find the old header or the new one.
 */
static vcf_err_t look_again(const struct fresh *n)
{
	struct stat st;

	if (fstat(n->f->fd, &st) < 0)
		return -errno;
	return st.st_nlink ? check_daemons(n->o->runtime, n->f->fd, &st) : -ESTALE;
}

/* A daemon of another node may have given it another secret, too. */
static vcf_err_t has_header(const struct fresh *n)
{
	auto_container struct container *now = NULL;
	vcf_err_t err = container_load(&now, n->f->fd, n->f->path, NULL);

	if (err)
		return err;
	return memcmp(container_token(now)->mac, container_token(n->f->c)->mac,
		      TOKEN_MAC_LEN) == 0
		       ? 0
		       : -ESTALE;
}

static vcf_err_t write_header(struct fresh *n, enum rekey_outcome *outcome)
{
	auto_rekey struct rekey *r = NULL;
	struct rekey_params p = {.service = n->ch->service,
				 .key_id = n->ch->key_id,
				 .context = n->context,
				 .secret = n->secret,
				 .escrow = config_escrow(n->o->cfg)};
	vcf_err_t err;

	memcpy(p.uuid, n->entry.uuid, UUID_LEN);
	/* Until the file is closed; daemons that share the folder wait. */
	err = nodelock_byte(n->f->fd, NODELOCK_HEADER, true, true);
	if (err)
		log_dbg("no lock on the header: %s", strerror(-err));
	err = look_again(n);
	if (!err)
		err = has_header(n);
	/* one that was mended as it was loaded */
	if (!err)
		err = container_write_mended(n->f->c, n->f->fd);
	if (!err)
		err = container_rekey(&r, n->f->c, &p, n->f->path);
	return err ? err : container_write_rekeyed(r, n->f->fd, note_using, n, outcome);
}

/* What becomes of the new secret; in doubt the next run looks at the file. */
static void settle(struct fresh *n, enum rekey_outcome outcome)
{
	vcf_err_t err = 0;

	if (!n->entry.id || outcome == REKEY_DOUBT)
		return;
	if (outcome == REKEY_OLD)
		err = destroy_unused(n->o, &n->entry);
	if (err == -EAGAIN && n->refused)
		err = 0;
	if (!err)
		err = journal_set(n->o->journal, n->entry.id, JOURNAL_CLOSED, NULL, 0);
	if (err)
		log_warn(
			"%s: the new secret could not be settled (%s); the next run tries "
			"again",
			n->f->path, strerror(-err));
}

/* One that was moved to another instance's place must not become that one's. */
static bool is_bound_here(const struct fresh *n)
{
	return !n->context || strcmp(container_token(n->f->c)->context, n->context) == 0;
}

static void say_failed(struct offline_change *ch, vcf_err_t err)
{
	char reason[256];

	TEXT_CUT(reason, *ch->text	 ? ch->text
			 : err == -EBUSY ? refusal(err)
					 : strerror(-err));
	snprintf(ch->text, sizeof(ch->text), "%s%s", reason,
		 ch->outcome == REKEY_OLD ? "; it is as it was"
		 : ch->outcome == REKEY_NEW
			 ? "; the next open completes the change"
			 : "; it opens with the old or the new secret");
}

vcf_err_t offline_change_secret(struct offline *o, struct offline_file *f,
				struct offline_change *ch)
{
	struct fresh n = {.o = o, .f = f, .ch = ch};
	bool had_escrow = *container_escrow(f->c)->recipient;
	vcf_err_t err = 0;

	ch->outcome = REKEY_OLD;
	*ch->text = '\0';
	look_up(&n);
	if (ch->stays_bound && !is_bound_here(&n)) {
		TEXT_CUT(ch->text, "it is bound to another instance");
		return -EBADMSG;
	}
	err = make_secret(&n);
	if (!err)
		err = write_header(&n, &ch->outcome);
	settle(&n, ch->outcome);
	secret_free(n.secret);
	ch->escrow_lost = had_escrow && !config_escrow(o->cfg);
	if (ch->outcome == REKEY_NEW)
		keycall_assigned(
			&(const struct keycall){NULL, ch->service, f->path, n.entry.uuid},
			ch->key_id);
	if (err)
		say_failed(ch, err);
	return err;
}

vcf_err_t offline_rekey(struct offline *o, struct offline_file *f)
{
	struct offline_change ch = {.service = ""};
	char was[UUID_TEXT_LEN + 1], old_key[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	TEXT_CUT(was, container_subject(f->c)->uuid_text);
	TEXT_CUT(old_key, container_token(f->c)->key_id);
	err = offline_change_secret(o, f, &ch);
	if (ch.outcome == REKEY_NEW)
		printf("%s: uuid %s is %s now, key %s; it was %s\n", f->path, was,
		       container_subject(f->c)->uuid_text, ch.key_id, old_key);
	if (ch.outcome == REKEY_NEW && ch.escrow_lost)
		fprintf(stderr,
			"vmcryptfs %s: %s: its escrow token was of the old secret; for a new "
			"one the configuration needs [escrow] public-key\n",
			o->command, f->path);
	if (err)
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", o->command, f->path, ch.text);
	return err;
}
