/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image goes through these steps, each on an executor; between two steps it belongs to a callback
 * of the key service, which posts it again:
 *
 *   LOOK    the path still leads to the inode, under a rule that allows it; its header is the one
 *           that is to be changed
 *   FETCH   the secret that opens it: the site's, or the one that the header names
 *   TAKE    a secret from the reserve: last, since who holds one must not wait
 *   COMMIT  the entry is claimed (imagetable_rekey_begin); the header is loaded again, unlocked and
 *           made anew in memory; what guests wrote is synced, so that little is left to sync under
 *           tree_lock; there, with the name still there, it is written (container_rekey.h)
 *
 * A header that has been changed already may be one that a server died in the middle of: then it goes
 * from FETCH to COMMIT, which mends it, wipes what is left of the old slot and tells the entry.
 *
 * Just before the header changes two notes are in the journal: of the new secret (using), and of the
 * old one with its header (deleting), if it is the image's own. What the server leaves of them when it
 * dies is settled by the uuid in the file, by its successor (takeover.c) or the next mount
 * (deletion_recover()): of the two secrets the one that the file has stays, the other one goes.
 *
 * Unlink and rename look at headers under tree_lock: they see the old one or the new one, and
 * journal the secret that is in it.
 */
#include "fs/rekeyjob.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crypto/container_rekey.h"
#include "fs/deferred.h"
#include "fs/imagetable.h"
#include "fs/keyaudit.h"
#include "fs/keyset.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "fs/sitekey.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

struct rekeyjob {
	struct job job; /* must be first */
	struct server *sv;
	rekeyjob_done_fn *done_fn;
	void *done_arg;
	enum rekeyjob_kind kind;
	uint64_t dev, ino;
	char path[STATE_PATH_MAX];
	unsigned char wanted[UUID_LEN]; /* not OWN: the order's uuid */
	char service[TOKEN_SERVICE_MAX + 1];
	bool now;
	int pathfd; /* O_PATH: keeps the inode from being another file's */
	vcf_err_t err;
	struct keyset *from, *to;     /* the services of its old secret and of the next */
	struct token token;	      /* as LOOK found it; */
	unsigned char uuid[UUID_LEN]; /* likewise */
	bool changed_before;	      /* likewise: nothing is left but to complete it */
	struct secret *old;	      /* what opens it, or the site's that is behind it */
	struct reserved fresh;
	struct keyaudit audit;
	uint64_t deletion; /* the note of the old secret; 0: none */
	struct rekeyjob_result res;
};

static void step_look(struct job *job);
static void step_fetch(struct job *job);
static void step_take(struct job *job);

vcf_err_t rekeyjob_start(struct server *sv, const struct rekeyjob_order *order,
			 rekeyjob_done_fn *done, void *arg)
{
	struct rekeyjob *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->sv = sv;
	m->done_fn = done;
	m->done_arg = arg;
	m->kind = order->kind;
	m->dev = order->dev;
	m->ino = order->ino;
	m->pathfd = -1;
	m->now = order->now;
	memcpy(m->wanted, order->uuid, UUID_LEN);
	TEXT_CUT(m->path, order->path);
	TEXT_CUT(m->service, order->service ? order->service : "");
	m->job.run = step_look;
	deferred_post(sv->deferred, &m->job);
	return 0;
}

static void finish(struct rekeyjob *m, vcf_err_t err)
{
	m->res.err = err;
	m->done_fn(m->done_arg, &m->res);
	if (m->pathfd >= 0)
		close(m->pathfd);
	secret_free(m->old);
	secret_free(m->fresh.secret);
	free(m);
}

static void post(struct rekeyjob *m, void (*step)(struct job *))
{
	m->job.run = step;
	deferred_post(m->sv->deferred, &m->job);
}

static vcf_err_t refuse(struct rekeyjob *m, vcf_err_t err, const char *why)
{
	m->res.why = why;
	m->res.final = true;
	return err;
}

/* --- LOOK --- */

/* Is there still the name that it was known by? */
static bool find_file(struct rekeyjob *m)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	struct stat st;

	m->pathfd = (int)syscall(SYS_openat2, m->sv->rootfd, m->path, &how, sizeof(how));
	return m->pathfd >= 0 && fstatat(m->pathfd, "", &st, AT_EMPTY_PATH) == 0 &&
	       S_ISREG(st.st_mode) && st.st_dev == m->dev && st.st_ino == m->ino;
}

/* One that was moved to another instance's place must not become that one's. */
static bool is_bound_here(const struct rekeyjob *m)
{
	char context[TOKEN_CONTEXT_MAX + 1];

	rules_context(m->sv->rules, m->path, context);
	return strcmp(m->token.context, context) == 0;
}

/* The container of an encrypt path that has no secret of its own, or has come to it? */
static bool is_wanted_own(struct rekeyjob *m)
{
	m->to = keyset_get(m->sv, rules_service(m->sv->rules, m->path));
	m->changed_before = !m->token.derived;
	return m->sv->cfg->promote &&
	       rules_class(m->sv->rules, m->path) == CLASS_ENCRYPT &&
	       (m->token.derived || m->token.generation > 1) && m->from && m->to &&
	       is_bound_here(m);
}

/* The entry of an open image names a header that is not in the file any more. */
static bool is_wanted_complete(struct rekeyjob *m)
{
	m->changed_before = true;
	return !m->token.derived && m->from && memcmp(m->uuid, m->wanted, UUID_LEN) != 0;
}

static vcf_err_t check_new(struct rekeyjob *m)
{
	enum file_class cls = rules_class(m->sv->rules, m->path);
	const char *to = *m->service	    ? m->service
			 : m->token.derived ? rules_service(m->sv->rules, m->path)
					    : m->token.service;

	m->to = keyset_get(m->sv, to);
	m->changed_before = memcmp(m->uuid, m->wanted, UUID_LEN) != 0;
	if (!rules_is_image(cls))
		return refuse(m, -EOPNOTSUPP, "no image by the rules (passthrough)");
	if (m->token.derived && cls == CLASS_DERIVED)
		return refuse(m, -EOPNOTSUPP,
			      "its secret is derived from the site's, as its rule says: "
			      "there is none of its own to change");
	if (!m->from || !m->to)
		return refuse(m, -ENOKEY, "its key service is not configured");
	if (!is_bound_here(m))
		return refuse(m, -EBADMSG, "it is bound to another instance");
	return 0;
}

/* 0 with *c NULL: there is nothing to do. */
static vcf_err_t load(struct rekeyjob *m, int fd, struct container **c, bool *mended)
{
	vcf_err_t err = container_load(c, fd, m->path, mended);

	if (err != -ENODATA && err != -EPERM && err != -EBADMSG)
		return err;
	if (m->kind != REKEYJOB_NEW)
		return 0; /* opening it says what is wrong */
	return refuse(m, err,
		      err == -ENODATA ? "an empty image: it has no header and no secret"
		      : err == -EPERM ? "no container"
				      : "its header is damaged or refused");
}

static vcf_err_t look(struct rekeyjob *m, bool *goes_on)
{
	auto_container struct container *c = NULL;
	auto_close int fd = -1;
	vcf_err_t err;
	bool mended;

	if (!find_file(m))
		return m->kind != REKEYJOB_NEW
			       ? 0
			       : refuse(m, -ENOENT, "no file of that name any more");
	fd = node_reopen_fd(m->sv, m->pathfd, O_RDONLY);
	err = fd < 0 ? fd : load(m, fd, &c, &mended);
	if (err || !c)
		return err;
	m->token = *container_token(c);
	m->from = keyset_get(m->sv, m->token.service);
	memcpy(m->uuid, container_subject(c)->uuid, UUID_LEN);
	if (m->kind == REKEYJOB_NEW) {
		err = check_new(m);
		*goes_on = !err;
	} else {
		*goes_on = m->kind == REKEYJOB_OWN ? is_wanted_own(m)
						   : is_wanted_complete(m);
	}
	return err;
}

static void step_look(struct job *job)
{
	struct rekeyjob *m = (struct rekeyjob *)job;
	bool goes_on = false;
	vcf_err_t err = look(m, &goes_on);

	if (goes_on)
		post(m, step_fetch);
	else
		finish(m, err);
}

/* --- FETCH --- */

static void site_ready(void *arg, vcf_err_t err)
{
	struct rekeyjob *m = arg;

	m->err = err;
	post(m, step_fetch);
}

static void fetched(void *arg, const struct keyservice_result *res)
{
	struct rekeyjob *m = arg;

	keyaudit_fetched(&m->audit, m->path, m->uuid, m->from->name, m->token.key_id,
			 res);
	m->err = res->err ? res->err : secret_dup(&m->old, res->secret);
	post(m, step_take);
}

static vcf_err_t fetch(struct rekeyjob *m)
{
	char site_id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	if (m->err || m->sv->stopping)
		return m->err ? m->err : -ECANCELED;
	if (m->token.derived && sitekey_is(m->from->site, NULL, m->token.key_id))
		return sitekey_get(m->from->site, &m->old, site_id, site_ready, m);
	keyaudit_opener(&m->audit); /* nobody; the time */
	err = keyservice_get(m->from->keys, m->token.key_id, fetched, m);
	return err ? err : -EINPROGRESS;
}

static void step_fetch(struct job *job)
{
	struct rekeyjob *m = (struct rekeyjob *)job;
	vcf_err_t err = fetch(m);

	if (!err)
		post(m, step_take);
	else if (err != -EINPROGRESS)
		finish(m, err);
}

/* --- COMMIT: the notes --- */

/* The end of the old secret, if it is the image's own, with the header that names it. */
static vcf_err_t note_old(struct rekeyjob *m, int fd)
{
	struct journal_entry intent = {.dev = m->dev, .ino = m->ino};
	auto_free unsigned char *hdr = NULL;
	ssize_t n;

	if (m->token.derived)
		return 0;
	hdr = malloc(CONTAINER_PEEK_LEN);
	if (!hdr)
		return -ENOMEM;
	n = io_pread_full(fd, hdr, CONTAINER_PEEK_LEN, 0);
	if (n != CONTAINER_PEEK_LEN)
		return n < 0 ? (vcf_err_t)n : -EIO;
	memcpy(intent.uuid, m->uuid, UUID_LEN);
	TEXT_CUT(intent.service, m->token.service);
	TEXT_CUT(intent.key_id, m->token.key_id);
	TEXT_CUT(intent.path, m->path);
	return deletion_begin(m->from->deletions, &intent, hdr, &m->deletion);
}

struct noting {
	struct rekeyjob *m;
	int fd;
};

static vcf_err_t note_both(void *arg)
{
	const struct noting *n = arg;
	struct rekeyjob *m = n->m;
	vcf_err_t err = note_old(m, n->fd);

	CRASHPOINT("rekeyjob-old-noted");
	return err ? err
		   : reserve_using(m->to->reserve, &m->fresh, m->dev, m->ino, m->path);
}

static void settle_new(struct rekeyjob *m, enum rekey_outcome outcome)
{
	if (outcome == REKEY_NEW)
		reserve_used(m->to->reserve, &m->fresh);
	else if (outcome == REKEY_OLD)
		reserve_put_back(m->to->reserve, &m->fresh);
	else /* its note stays `using`: the next start looks at the file */
		log_warn("%s: its header could neither be changed nor put back", m->path);
}

static void settle_old(struct rekeyjob *m, enum rekey_outcome outcome)
{
	const struct config *service = config_service(m->sv->cfg, m->from->name);
	struct deletion_queue *queue = m->from->deletions;

	if (!m->deletion || outcome == REKEY_DOUBT)
		return;
	if (outcome == REKEY_OLD) {
		deletion_cancel(queue, m->deletion);
		return;
	}
	deletion_gone(queue, m->deletion);
	if (m->now)
		deletion_hasten(queue, m->deletion);
	if (service && service->keep)
		m->res.old_kept = true;
	else if (service)
		m->res.old_due =
			time(NULL) + (m->now ? 0 : (time_t)service->destroy_delay_s);
}

/* --- COMMIT: the header --- */

/* Its deletion was not journalled as that of a container with this secret. */
static vcf_err_t check_name(const struct rekeyjob *m)
{
	struct stat st;

	if (fstatat(m->pathfd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	return st.st_nlink ? 0 : -ESTALE;
}

/* Where other nodes are: the header is locked again, and is the one that was changed in memory. */
static vcf_err_t is_still(const struct rekeyjob *m, const struct container *c, int fd)
{
	auto_container struct container *now = NULL;
	bool mended;
	vcf_err_t err;

	if (!m->sv->cfg->shared)
		return 0;
	err = nodelock_byte(fd, NODELOCK_HEADER, true, true);
	if (!err)
		err = container_load(&now, fd, m->path, &mended);
	if (err)
		return err;
	return memcmp(container_token(now)->mac, m->token.mac, TOKEN_MAC_LEN) == 0 &&
			       container_subject(now)->data_off ==
				       container_subject(c)->data_off
		       ? 0
		       : -EAGAIN;
}

static vcf_err_t write_header(struct rekeyjob *m, struct container *c, int fd,
			      enum rekey_outcome *outcome)
{
	auto_rekey struct rekey *r = NULL;
	struct rekey_params params = {.service = m->to->name,
				      .key_id = m->fresh.key_id,
				      .secret = m->fresh.secret,
				      .escrow = config_escrow(m->sv->cfg)};
	struct noting noting = {m, fd};
	vcf_err_t err;

	memcpy(params.uuid, m->fresh.uuid, UUID_LEN);
	err = container_rekey(&r, c, &params, m->path);
	if (!err && fdatasync(fd) < 0)
		err = -errno;
	if (err)
		return err;
	CRASHPOINT("promote-ready");
	nodelock_byte_release(fd, NODELOCK_HEADER); /* tree_lock comes first */
	SCOPED_LOCK(&m->sv->tree_lock);
	err = is_still(m, c, fd);
	if (!err)
		err = check_name(m);
	return err ? err : container_write_rekeyed(r, fd, note_both, &noting, outcome);
}

static vcf_err_t unlock(struct rekeyjob *m, struct container *c)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err;

	if (memcmp(container_subject(c)->uuid, m->uuid, UUID_LEN) != 0 ||
	    container_token(c)->derived != m->token.derived)
		return -ESTALE; /* not the one that LOOK saw */
	if (!m->token.derived)
		return container_unlock(c, m->old, m->path);
	err = token_derive_secret(&secret, m->old, container_subject(c)->uuid);
	return err ? err : container_unlock(c, secret, m->path);
}

/* What a server that died between the headers and the end has left. */
static vcf_err_t complete(struct rekeyjob *m, struct image_entry *e, struct container *c,
			  int fd)
{
	bool found = false;
	vcf_err_t err = container_wipe_unused(c, fd, &found);

	if (found)
		log_info("%s: what was left of an old key slot is overwritten", m->path);
	imagetable_rekeyed(m->sv->images, e, c, m->path);
	return err;
}

static void say_changed(struct rekeyjob *m, vcf_err_t err)
{
	bool own = m->kind == REKEYJOB_OWN;

	if (own)
		log_info("%s: has a secret of its own now, %s", m->path, m->fresh.key_id);
	else
		log_info("%s: has a new secret now, %s at %s", m->path, m->fresh.key_id,
			 m->to->name);
	keyaudit_assigned(&m->audit, m->path, own ? m->uuid : m->fresh.uuid, m->to->name,
			  m->fresh.key_id);
	if (err)
		log_warn(
			"%s: the change of its secret is not complete: %s; the next open "
			"completes it",
			m->path, strerror(-err));
}

static void tell_image(struct rekeyjob *m, const struct container *c, bool changed)
{
	m->res.is_image = true;
	m->res.changed = changed;
	m->res.old = m->token;
	m->res.token = *container_token(c);
	memcpy(m->res.uuid, container_subject(c)->uuid, UUID_LEN);
}

/* An unlocked header, nobody else's for now. */
static vcf_err_t change_loaded(struct rekeyjob *m, struct image_entry *e,
			       struct container *c, int fd, enum rekey_outcome *outcome)
{
	bool had_escrow = *container_escrow(c)->recipient;
	vcf_err_t err;

	if (m->changed_before) {
		err = complete(m, e, c, fd);
		if (!err)
			tell_image(m, c, false);
		return err;
	}
	err = write_header(m, c, fd, outcome);
	if (*outcome != REKEY_NEW)
		return err;
	imagetable_rekeyed(m->sv->images, e, c, m->path);
	tell_image(m, c, true);
	m->res.escrow_lost = had_escrow && !config_escrow(m->sv->cfg);
	say_changed(m, err);
	return 0;
}

/* The entry is ours: the header is read again, by now it may be another one. */
static vcf_err_t change(struct rekeyjob *m, struct image_entry *e,
			enum rekey_outcome *outcome)
{
	auto_close int fd = node_reopen_fd(m->sv, m->pathfd, O_RDWR);
	auto_container struct container *c = NULL;
	bool mended = false;
	vcf_err_t err;

	if (fd < 0)
		return fd;
	/* A command that changes the header, or another node; not all file systems can. */
	if (nodelock_try_header(fd, m->sv->cfg->shared) == -EAGAIN)
		return -EAGAIN;
	err = load(m, fd, &c, &mended);
	if (!c)
		return err;
	err = unlock(m, c);
	if (!err && mended)
		err = container_write_mended(c, fd);
	return err ? err : change_loaded(m, e, c, fd, outcome);
}

/* What says something about this image alone. */
static bool is_final(vcf_err_t err)
{
	return err == -EKEYREJECTED || err == -EBADMSG || err == -ESTALE ||
	       err == -ENOKEY || err == -EINVAL;
}

static vcf_err_t commit(struct rekeyjob *m)
{
	struct server *sv = m->sv;
	enum rekey_outcome outcome = REKEY_OLD;
	struct image_entry *e;
	vcf_err_t err = imagetable_rekey_begin(sv->images, m->dev, m->ino, m->uuid, &e);

	if (!err) {
		err = change(m, e, &outcome);
		imagetable_rekey_end(sv->images, e);
	}
	if (!m->changed_before)
		settle_new(m, outcome);
	CRASHPOINT("rekeyjob-new-settled");
	settle_old(m, outcome);
	m->res.final |= is_final(err);
	return err;
}

/* --- TAKE --- */

static void secret_ready(void *arg, vcf_err_t err)
{
	struct rekeyjob *m = arg;

	m->err = err;
	post(m, step_take);
}

static void step_take(struct job *job)
{
	struct rekeyjob *m = (struct rekeyjob *)job;
	vcf_err_t err = m->err ? m->err : m->sv->stopping ? -ECANCELED : 0;
	const struct reserve_wanted wanted = keyaudit_wanted(&m->audit, m->path);

	if (!err && !m->changed_before)
		err = reserve_take(m->to->reserve, &m->fresh, &wanted, secret_ready, m);
	if (!err)
		err = commit(m);
	if (err != -EINPROGRESS)
		finish(m, err);
}
