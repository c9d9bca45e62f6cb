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

#include "crypto/container_adopt.h"
#include "crypto/containerid.h"
#include "crypto/kdf.h"
#include "fs/device_config.h"
#include "fs/exitcode.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keysctl.h"
#include "fs/keysettings.h"
#include "fs/mountpoint.h"
#include "fs/newsecret.h"
#include "fs/nodelock.h"
#include "fs/offline_impl.h"
#include "fs/oldsecret.h"
#include "fs/replace.h"
#include "fs/serve.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

enum { ARRIVAL_S = 300 };

int offline_init_crypto(void)
{
	serve_harden();
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
	SCOPED_LOCK(&o->lock);
	const struct config *service;
	vcf_err_t err = 0;
	size_t i = 0;

	while ((service = config_service_at(o->cfg, i)) &&
	       strcmp(service->service_name, name) != 0)
		i++;
	if (!service) {
		fprintf(stderr, "vmcryptfs %s: the key service '%s' is not configured\n",
			o->command, name);
		return -ENOKEY;
	}
	if (!o->ks[i])
		err = keysettings_connect(&o->ks[i], o->cfg, service);
	if (!err)
		*ks = o->ks[i];
	return err;
}

/* May a `new` without an answer still arrive at the service? As long as reserve.c waits. */
static bool may_arrive(const struct journal_entry *e)
{
	time_t now = time(NULL);

	return e->state == JOURNAL_CREATING && now >= e->created &&
	       now - e->created < ARRIVAL_S;
}

vcf_err_t offline_destroy_unused(struct offline *o, const struct journal_entry *e)
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

	if (newsecret_is_site(e)) {
		newsecret_settle_site(o, e);
		return 0;
	}
	if (replace_is(e)) {
		replace_settle(o, e);
		return 0;
	}
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
		err = offline_destroy_unused(o, e);
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
	mutex_init(&o->lock, RANK_OFFLINE);
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
	mutex_fini(&o->lock);
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

/*
 * Nobody opens it until fd is closed: a daemon's handles have this lock, on every node. -EBUSY: one
 * has it.
 */
static vcf_err_t keep_closed(int fd)
{
	vcf_err_t err = nodelock_byte(fd, NODELOCK_OPEN, true, false);

	if (err == -EAGAIN)
		return -EBUSY;
	/* no such locks: status tells */
	return err == -EINVAL || err == -EOPNOTSUPP || err == -ENOSYS ? 0 : err;
}

static vcf_err_t ask_to_forget(const char *socket, const struct stat *st)
{
	struct json_object *request = json_object_new_object(), *answer = NULL;
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	vcf_err_t err = to ? 0 : -ENOMEM;

	json_put_text(request, "op", "forget");
	json_put_number(request, "dev", st->st_dev);
	json_put_number(request, "ino", st->st_ino);
	if (!err)
		err = keysctl_call(socket, request, to);
	if (to && fclose(to) == EOF && !err)
		err = -ENOMEM;
	json_object_put(request);
	if (!err)
		answer = json_tokener_parse(text);
	if (!err && !json_flag(answer, "forgotten"))
		err = -EBUSY;
	json_object_put(answer);
	return err;
}

/*
 * The key that a mount may keep of a file that nobody has open goes. One whose server does not know
 * this is asked for what it has.
 */
static vcf_err_t make_forget(struct json_object *mount, const char *runtime,
			     const struct stat *st)
{
	const char *mountpoint = json_text(mount, "mountpoint");
	char socket[PATH_MAX];
	vcf_err_t err = keysctl_path(socket, sizeof(socket), runtime, mountpoint);

	if (!err)
		err = ask_to_forget(socket, st);
	return err && mount_has_open(mount, st) ? -EBUSY : 0;
}

vcf_err_t offline_check_daemons(const char *runtime, int fd, const struct stat *st)
{
	struct json_object *all = NULL;
	vcf_err_t err = keep_closed(fd);

	if (!err)
		err = statusfile_read_all(&all, runtime);
	if (err)
		return err == -ENOENT ? 0 : err; /* no daemon ever ran here */
	for (size_t i = 0; !err && i < json_object_array_length(all); i++)
		err = make_forget(json_object_array_get_idx(all, i), runtime, st);
	json_object_put(all);
	return err;
}

const char *offline_refusal(vcf_err_t err)
{
	switch (err) {
	case -EBUSY:
		return "a daemon has it open, or somebody has it open otherwise; see vmcryptfs status";
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
	err = change ? offline_check_daemons(runtime, f->fd, &st) : 0;
	/* QEMU's own LUKS driver, a loop device: they take no lock of ours */
	if (!err && change && S_ISREG(st.st_mode))
		err = replace_check_alone(f->fd);
	nodelock_begin(f->fd);
	nodelock_look_anew(f->fd);
	return err;
}

vcf_err_t offline_claim(struct offline_file *f, const char *path, const char *runtime,
			bool change)
{
	vcf_err_t err;

	*f = (struct offline_file){.fd = -1};
	err = open_file(f, path, runtime, change);
	if (err)
		offline_close(f);
	return err;
}

static vcf_err_t load_ours(struct offline_file *f, const char **why)
{
	bool mended = false;

	(void)why;
	return container_load(&f->c, f->fd, f->path, &mended);
}

static vcf_err_t load_foreign(struct offline_file *f, const char **why)
{
	f->foreign = true;
	return container_load_foreign(&f->c, f->fd, why);
}

static vcf_err_t open_and_load(struct offline_file *f, const char *command,
			       const char *path, const char *runtime, bool change,
			       vcf_err_t (*load)(struct offline_file *f,
						 const char **why))
{
	const char *why = NULL;
	vcf_err_t err = offline_claim(f, path, runtime, change);

	if (!err)
		err = load(f, &why);
	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", command, path,
			why ? why : offline_refusal(err));
		offline_close(f);
	}
	return err;
}

vcf_err_t offline_open(struct offline_file *f, const char *command, const char *path,
		       const char *runtime, bool change)
{
	return open_and_load(f, command, path, runtime, change, load_ours);
}

vcf_err_t offline_open_foreign(struct offline_file *f, const char *command,
			       const char *path, const char *runtime)
{
	return open_and_load(f, command, path, runtime, true, load_foreign);
}

void offline_close(struct offline_file *f)
{
	container_free(STEAL_PTR(&f->c));
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

vcf_err_t offline_fetch_from(struct offline *o, const struct offline_file *f,
			     const char *service, const char *id, struct secret **secret)
{
	struct keyservice_sync got = {0};
	struct keyservice *ks;
	struct keycall call;
	vcf_err_t err = offline_service(o, service, &ks);

	if (err)
		return err;
	call = (struct keycall){ks, service, f->path, container_subject(f->c)->uuid};
	err = keycall_get(&call, id, &got);
	if (err)
		fprintf(stderr, "vmcryptfs %s: %s: key service: %s %s\n", o->command,
			f->path, strerror(-err), got.text);
	else
		*secret = got.secret;
	return err;
}

vcf_err_t offline_fetch(struct offline *o, const struct offline_file *f,
			struct secret **secret)
{
	const struct token *t = container_token(f->c);
	auto_secret struct secret *base = NULL;
	vcf_err_t err = offline_fetch_from(o, f, t->service, t->key_id, &base);

	if (err)
		return err;
	if (t->derived)
		return token_derive_secret(secret, base, container_subject(f->c)->uuid);
	*secret = STEAL_PTR(&base);
	return 0;
}

const char *offline_place(const struct offline *o, const char *path)
{
	char backing[PATH_MAX];
	size_t len;

	if (!o->cfg->backing || !realpath(o->cfg->backing, backing))
		return NULL;
	len = strlen(backing);
	return strncmp(path, backing, len) == 0 && path[len] == '/' ? path + len + 1
								    : NULL;
}
