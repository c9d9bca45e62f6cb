/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One image at a time goes through these steps, each on an executor; between two steps it belongs
 * to a callback of the key service, which posts it again:
 *
 *   LOOK    the path still leads to the inode, under an encrypt rule; its header says derived
 *   FETCH   the site secret, or the one that the header names
 *   TAKE    a secret from the reserve: last, since who holds one must not wait
 *   COMMIT  the entry is claimed (imagetable_rekey_begin); the header is loaded again, unlocked and
 *           made anew in memory; what guests wrote is synced, so that little is left to sync under
 *           tree_lock; there, with the name still there, it is written (container_rekey.h)
 *
 * A header that has its own secret already may be one that a server died in the middle of: then it
 * goes from FETCH to COMMIT, which mends it, wipes what is left of the old slot and tells the entry.
 *
 * An image that is not one leaves the list; after an error of the service or disk it goes to the
 * list's end and the whole list waits, for 1, 2, ... 60 seconds.
 *
 * Unlink and rename look at headers under tree_lock: they see the old one or the new one, and
 * journal the secret that is in it.
 */
#include "fs/promote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crypto/container_rekey.h"
#include "fs/imagetable.h"
#include "fs/keyaudit.h"
#include "fs/keyset.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "fs/sitekey.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/text.h"

enum { BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 60 * 1000 };

struct wish {
	struct wish *next;
	uint64_t dev, ino;
	char *path;
};

struct promotion {
	struct job job; /* must be first */
	struct promoter *p;
	uint64_t dev, ino;
	char path[STATE_PATH_MAX];
	int pathfd; /* O_PATH: keeps the inode from being another file's */
	vcf_err_t err;
	struct keyset *from, *to;     /* the services of its old secret and of its own */
	struct token token;	      /* as LOOK found it; */
	unsigned char uuid[UUID_LEN]; /* likewise */
	bool done;		      /* likewise: it has a secret of its own */
	struct secret *old;	      /* what opens it: its own, or the site's */
	struct reserved fresh;
	struct keyaudit audit;
};

struct promoter {
	struct server *sv;
	struct mutex lock;
	struct wish *first, **end;   /* (l) */
	size_t cnt;		     /* (l) */
	struct promotion *under_way; /* (l) */
	uint64_t not_before_ms;	     /* (l) monotonic */
	unsigned int backoff_ms;     /* (l) */
	bool looked_at_open;	     /* by ticks alone */
};

vcf_err_t promote_new(struct promoter **out, struct server *sv)
{
	struct promoter *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->sv = sv;
	p->end = &p->first;
	p->backoff_ms = BACKOFF_MIN_MS;
	mutex_init(&p->lock, RANK_PROMOTE);
	*out = p;
	return 0;
}

static void free_wish(struct wish *w)
{
	free(w->path);
	free(w);
}

/* --- the list --- */

static struct wish *take_first_locked(struct promoter *p)
{
	struct wish *w = p->first;

	p->first = w->next;
	if (!p->first)
		p->end = &p->first;
	p->cnt--;
	return w;
}

void promote_free(struct promoter *p)
{
	while (p->first)
		free_wish(take_first_locked(p));
	mutex_fini(&p->lock);
	free(p);
}

static struct wish *find_locked(struct promoter *p, uint64_t dev, uint64_t ino)
{
	struct wish *w = p->first;

	while (w && (w->dev != dev || w->ino != ino))
		w = w->next;
	return w;
}

static void set_path(struct wish *w, const char *path)
{
	char *copy = strdup(path);

	if (!copy)
		return; /* found again when it is opened */
	free(w->path);
	w->path = copy;
}

static void add_locked(struct promoter *p, uint64_t dev, uint64_t ino, const char *path)
{
	struct wish *w = find_locked(p, dev, ino);

	if (w) {
		set_path(w, path);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return;
	w->dev = dev;
	w->ino = ino;
	w->path = strdup(path);
	if (!w->path) {
		free(w);
		return;
	}
	*p->end = w;
	p->end = &w->next;
	p->cnt++;
}

static void step_look(struct job *job);

/* Starts the first one, if none is under way and it is time. */
static void start_locked(struct promoter *p)
{
	struct promotion *m;
	struct wish *w;

	if (p->under_way || !p->first || p->sv->stopping ||
	    clock_now_ms() < p->not_before_ms)
		return;
	m = calloc(1, sizeof(*m));
	if (!m)
		return; /* the next tick tries again */
	w = take_first_locked(p);
	m->p = p;
	m->dev = w->dev;
	m->ino = w->ino;
	m->pathfd = -1;
	TEXT_CUT(m->path, w->path);
	free_wish(w);
	p->under_way = m;
	m->job.run = step_look;
	deferred_post(p->sv->deferred, &m->job);
}

void promote_want(struct promoter *p, uint64_t dev, uint64_t ino, const char *path)
{
	const struct config *cfg = p->sv->cfg;

	if (!cfg->promote)
		return;
	SCOPED_LOCK(&p->lock);

	add_locked(p, dev, ino, path);
	start_locked(p);
}

static bool waits(struct promoter *p, uint64_t dev, uint64_t ino)
{
	SCOPED_LOCK(&p->lock);
	const struct promotion *m = p->under_way;

	return find_locked(p, dev, ino) || (m && m->dev == dev && m->ino == ino);
}

void promote_renamed(struct promoter *p, const struct stat *st, const char *from,
		     const char *to)
{
	const struct rules *r = p->sv->rules;

	if (!S_ISREG(st->st_mode) || rules_class(r, to) != CLASS_ENCRYPT)
		return;
	if (rules_class(r, from) == CLASS_DERIVED || waits(p, st->st_dev, st->st_ino))
		promote_want(p, st->st_dev, st->st_ino, to);
}

size_t promote_count(struct promoter *p)
{
	SCOPED_LOCK(&p->lock);

	return p->cnt + (p->under_way != NULL);
}

/* --- one image --- */

static void free_promotion(struct promotion *m)
{
	if (m->pathfd >= 0)
		close(m->pathfd);
	secret_free(m->old);
	secret_free(m->fresh.secret);
	free(m);
}

/* The image leaves, with err -EAGAIN for a moment; other errors make all of them wait. */
static void finish(struct promotion *m, vcf_err_t err)
{
	struct promoter *p = m->p;

	if (err && err != -EAGAIN && err != -ECANCELED)
		log_info("%s: has no secret of its own yet: %s; it is tried again",
			 m->path, strerror(-err));
	mutex_lock(&p->lock);
	p->under_way = NULL;
	/* one that is there has a later path */
	if (err && !find_locked(p, m->dev, m->ino))
		add_locked(p, m->dev, m->ino, m->path);
	if (!err)
		p->backoff_ms = BACKOFF_MIN_MS;
	if (err)
		p->not_before_ms = clock_now_ms() +
				   (err == -EAGAIN ? BACKOFF_MIN_MS / 2 : p->backoff_ms);
	if (err && err != -EAGAIN && p->backoff_ms < BACKOFF_MAX_MS)
		p->backoff_ms *= 2;
	start_locked(p);
	mutex_unlock(&p->lock);
	free_promotion(m);
}

static void post(struct promotion *m, void (*step)(struct job *))
{
	m->job.run = step;
	deferred_post(m->p->sv->deferred, &m->job);
}

/* Is there still the name that it was known by? */
static bool find_file(struct promotion *m)
{
	struct server *sv = m->p->sv;
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	struct stat st;

	if (rules_class(sv->rules, m->path) != CLASS_ENCRYPT)
		return false;
	m->pathfd = (int)syscall(SYS_openat2, sv->rootfd, m->path, &how, sizeof(how));
	return m->pathfd >= 0 && fstatat(m->pathfd, "", &st, AT_EMPTY_PATH) == 0 &&
	       S_ISREG(st.st_mode) && st.st_dev == m->dev && st.st_ino == m->ino;
}

/* The container of an encrypt path that has no secret of its own, or has come to it? */
static bool is_wanted(struct promotion *m, const struct container *c)
{
	const struct config *cfg = m->p->sv->cfg;
	const struct token *t = container_token(c);
	char context[TOKEN_CONTEXT_MAX + 1];

	rules_context(m->p->sv->rules, m->path, context);
	m->from = keyset_get(m->p->sv, t->service);
	m->to = keyset_get(m->p->sv, rules_service(m->p->sv->rules, m->path));
	return (t->derived || t->generation > 1) && cfg->promote && m->from && m->to &&
	       strcmp(t->context, context) == 0;
}

/* 0 with *c NULL: there is nothing to do. */
static vcf_err_t load(struct promotion *m, int fd, struct container **c, bool *mended)
{
	vcf_err_t err = container_load(c, fd, m->path, mended);

	if (err == -ENODATA || err == -EPERM || err == -EBADMSG)
		return 0; /* opening it says what is wrong */
	if (err || is_wanted(m, *c))
		return err;
	container_free(STEAL_PTR(c));
	return 0;
}

static void step_take(struct job *job);
static void step_fetch(struct job *job);

static void step_look(struct job *job)
{
	struct promotion *m = (struct promotion *)job;
	auto_container struct container *c = NULL;
	auto_close int fd = -1;
	vcf_err_t err = 0;
	bool mended;

	if (find_file(m)) {
		fd = node_reopen_fd(m->p->sv, m->pathfd, O_RDONLY);
		err = fd < 0 ? fd : load(m, fd, &c, &mended);
	}
	if (!c) {
		finish(m, err);
		return;
	}
	m->token = *container_token(c);
	m->done = !m->token.derived;
	memcpy(m->uuid, container_subject(c)->uuid, UUID_LEN);
	post(m, step_fetch);
}

static void site_ready(void *arg, vcf_err_t err)
{
	struct promotion *m = arg;

	m->err = err;
	post(m, step_fetch);
}

static void fetched(void *arg, const struct keyservice_result *res)
{
	struct promotion *m = arg;

	keyaudit_fetched(&m->audit, m->path, m->uuid, m->from->name, m->token.key_id,
			 res);
	m->err = res->err ? res->err : secret_dup(&m->old, res->secret);
	post(m, step_take);
}

static vcf_err_t fetch(struct promotion *m)
{
	struct server *sv = m->p->sv;
	char site_id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	if (m->err || sv->stopping)
		return m->err ? m->err : -ECANCELED;
	if (m->token.derived && sitekey_is(m->from->site, NULL, m->token.key_id))
		return sitekey_get(m->from->site, &m->old, site_id, site_ready, m);
	keyaudit_opener(&m->audit); /* nobody; the time */
	err = keyservice_get(m->from->keys, m->token.key_id, fetched, m);
	return err ? err : -EINPROGRESS;
}

static void step_fetch(struct job *job)
{
	struct promotion *m = (struct promotion *)job;
	vcf_err_t err = fetch(m);

	if (!err)
		post(m, step_take);
	else if (err != -EINPROGRESS)
		finish(m, err);
}

static vcf_err_t note_using(void *arg)
{
	struct promotion *m = arg;

	return reserve_using(m->to->reserve, &m->fresh, m->dev, m->ino, m->path);
}

/* Its deletion was not journalled as that of a container with this secret. */
static vcf_err_t check_name(const struct promotion *m)
{
	struct stat st;

	if (fstatat(m->pathfd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	return st.st_nlink ? 0 : -ESTALE;
}

/* Where other nodes are: the header is locked again, and is the one that was changed in memory. */
static vcf_err_t is_still(const struct promotion *m, const struct container *c, int fd)
{
	auto_container struct container *now = NULL;
	bool mended;
	vcf_err_t err;

	if (!m->p->sv->cfg->shared)
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

static vcf_err_t write_header(struct promotion *m, struct container *c, int fd,
			      enum rekey_outcome *outcome)
{
	auto_rekey struct rekey *r = NULL;
	struct rekey_params params = {.service = m->to->name,
				      .key_id = m->fresh.key_id,
				      .secret = m->fresh.secret,
				      .escrow = config_escrow(m->p->sv->cfg)};
	vcf_err_t err;

	memcpy(params.uuid, m->fresh.uuid, UUID_LEN);
	err = container_rekey(&r, c, &params, m->path);
	if (!err && fdatasync(fd) < 0)
		err = -errno;
	if (err)
		return err;
	CRASHPOINT("promote-ready");
	nodelock_byte_release(fd, NODELOCK_HEADER); /* tree_lock comes first */
	SCOPED_LOCK(&m->p->sv->tree_lock);
	err = is_still(m, c, fd);
	if (!err)
		err = check_name(m);
	return err ? err : container_write_rekeyed(r, fd, note_using, m, outcome);
}

static vcf_err_t unlock(struct promotion *m, struct container *c)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err;

	if (container_token(c)->derived == m->done)
		return -ESTALE; /* not the one that LOOK saw */
	if (m->done)
		return container_unlock(c, m->old, m->path);
	err = token_derive_secret(&secret, m->old, container_subject(c)->uuid);
	return err ? err : container_unlock(c, secret, m->path);
}

/* What a server that died between the headers and the end has left. */
static vcf_err_t complete(struct promotion *m, struct image_entry *e, struct container *c,
			  int fd)
{
	bool found = false;
	vcf_err_t err = container_wipe_unused(c, fd, &found);

	if (found)
		log_info("%s: what was left of an old key slot is overwritten", m->path);
	imagetable_rekeyed(m->p->sv->images, e, c, m->path);
	return err;
}

/* The entry is ours: the header is read again, by now it may be another one. */
static vcf_err_t change(struct promotion *m, struct image_entry *e,
			enum rekey_outcome *outcome)
{
	auto_close int fd = node_reopen_fd(m->p->sv, m->pathfd, O_RDWR);
	auto_container struct container *c = NULL;
	bool mended = false;
	vcf_err_t err;

	if (fd < 0)
		return fd;
	/* A command that changes the header, or another node; not all file systems can. */
	if (nodelock_try_header(fd, m->p->sv->cfg->shared) == -EAGAIN)
		return -EAGAIN;
	err = load(m, fd, &c, &mended);
	if (!c)
		return err;
	err = unlock(m, c);
	if (!err && mended)
		err = container_write_mended(c, fd);
	if (!err && m->done)
		return complete(m, e, c, fd);
	if (!err)
		err = write_header(m, c, fd, outcome);
	if (*outcome != REKEY_NEW)
		return err;
	imagetable_rekeyed(m->p->sv->images, e, c, m->path);
	log_info("%s: has a secret of its own now, %s", m->path, m->fresh.key_id);
	keyaudit_assigned(&m->audit, m->path, m->uuid, m->to->name, m->fresh.key_id);
	if (err)
		log_warn(
			"%s: the change of its secret is not complete: %s; the next open "
			"completes it",
			m->path, strerror(-err));
	return 0;
}

static void settle_secret(struct promotion *m, enum rekey_outcome outcome)
{
	if (outcome == REKEY_NEW)
		reserve_used(m->to->reserve, &m->fresh);
	else if (outcome == REKEY_OLD)
		reserve_put_back(m->to->reserve, &m->fresh);
	else /* its note stays `using`: the next start looks at the file */
		log_warn("%s: its header could neither be changed nor put back", m->path);
}

/* What says something about this image alone: it leaves the list. */
static bool is_final(vcf_err_t err)
{
	return err == -EKEYREJECTED || err == -EBADMSG || err == -ESTALE ||
	       err == -ENOKEY || err == -EINVAL;
}

static vcf_err_t commit(struct promotion *m)
{
	struct server *sv = m->p->sv;
	enum rekey_outcome outcome = REKEY_OLD;
	struct image_entry *e;
	vcf_err_t err = imagetable_rekey_begin(sv->images, m->dev, m->ino, m->uuid, &e);

	if (!err) {
		err = change(m, e, &outcome);
		imagetable_rekey_end(sv->images, e);
	}
	if (!m->done)
		settle_secret(m, outcome);
	return is_final(err) ? 0 : err;
}

static void secret_ready(void *arg, vcf_err_t err)
{
	struct promotion *m = arg;

	m->err = err;
	post(m, step_take);
}

static void step_take(struct job *job)
{
	struct promotion *m = (struct promotion *)job;
	struct server *sv = m->p->sv;
	vcf_err_t err = m->err ? m->err : sv->stopping ? -ECANCELED : 0;
	const struct reserve_wanted wanted = keyaudit_wanted(&m->audit, m->path);

	if (!err && !m->done)
		err = reserve_take(m->to->reserve, &m->fresh, &wanted, secret_ready, m);
	if (!err)
		err = commit(m);
	if (err != -EINPROGRESS)
		finish(m, err);
}

/* --- images that are open when a server takes over --- */

struct open_image {
	uint64_t dev, ino, nodeid;
};

struct open_images {
	struct open_image *list;
	size_t cnt, room;
};

static void note_open(void *arg, const struct image_entry *e)
{
	struct open_images *o = arg;

	if (e->token.derived && o->cnt < o->room)
		o->list[o->cnt++] = (struct open_image){
			.dev = e->dev, .ino = e->ino, .nodeid = e->nodeid};
}

static void look_at_open(struct promoter *p)
{
	struct server *sv = p->sv;
	struct open_images o = {.room = keytable_count(sv->keys)};
	char path[STATE_PATH_MAX];

	o.list = calloc(o.room + 1, sizeof(*o.list));
	if (!o.list)
		return;
	imagetable_each(sv->images, note_open, &o);
	for (size_t i = 0; i < o.cnt; i++) {
		struct node *n = state_node(sv->state, o.list[i].nodeid);

		if (n && state_path(sv->state, n, path) == 0 &&
		    rules_class(sv->rules, path) == CLASS_ENCRYPT)
			promote_want(p, o.list[i].dev, o.list[i].ino, path);
	}
	free(o.list);
}

void promote_tick(struct promoter *p)
{
	const struct config *cfg = p->sv->cfg;

	if (cfg->promote && !p->looked_at_open && !p->sv->taking_over) {
		p->looked_at_open = true;
		look_at_open(p);
	}
	SCOPED_LOCK(&p->lock);

	start_locked(p);
}
