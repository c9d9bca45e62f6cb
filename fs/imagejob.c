/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A job is a small state machine; `step` names what the executor does next. Between two steps
 * the job belongs to the key service's (or the reserve's) callback, which only notes the outcome
 * and posts the job again.
 *
 *   unlock:  LOAD -> (site secret | get) -> UNLOCK -> finish
 *   create:  TAKE -> (reserve | site secret) -> FORMAT -> finish, or LOAD: another node has
 *   close:   CLOSE -> finish
 */
#include "fs/imagejob.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "crypto/container_rekey.h"
#include "fs/device.h"
#include "fs/keyaudit.h"
#include "fs/keyset.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/promote.h"
#include "fs/sitekey.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

enum { LOADS_MAX = 3 };

struct imagejob {
	struct job job; /* must be first */
	struct server *sv;
	struct image_entry *e;
	int pathfd;		/* O_PATH of the file */
	struct keyset *service; /* where its secret is */
	struct keyaudit audit;
	enum file_class cls;
	bool device;
	char path[STATE_PATH_MAX];
	char context[TOKEN_CONTEXT_MAX + 1];
	vcf_err_t err;		  /* outcome of a wait */
	struct container *c;	  /* unlock */
	struct secret *secret;	  /* the image's own, or the site's where derived */
	struct reserved reserved; /* create, not derived */
	enum { CARRIED_NO, CARRIED_MAYBE, CARRIED_YES } carried; /* create: by a header */
	bool mended, unused; /* unlock: something is to be done to its header */
	unsigned int loads;  /* unlock */
	bool again;	     /* unlock: it is another header by now, and is loaded anew */
	bool bare;	     /* unlock: there is no header */
};

static void free_job(struct imagejob *j)
{
	if (j->pathfd >= 0)
		close(j->pathfd);
	container_free(j->c);
	secret_free(j->secret);
	secret_free(j->reserved.secret);
	free(j);
}

static void finish(struct imagejob *j, vcf_err_t err)
{
	struct server *sv = j->sv;
	struct image_entry *e = j->e;

	if (err && err != -ESTALE && err != -ECANCELED) /* no longer wanted */
		log_err("%s: cannot open: %s", j->path, strerror(-err));
	free_job(j);
	imagetable_finish(sv->images, e, err);
}

/* Without a name its content may have been wiped meanwhile. */
static bool has_gone(int pathfd)
{
	struct stat st;

	return fstatat(pathfd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink == 0;
}

static void finish_unlock(struct imagejob *j, vcf_err_t err)
{
	if (err && has_gone(j->pathfd)) {
		log_info("%s: cannot open, and has no name: %s", j->path, strerror(-err));
		err = -ESTALE; /* the kernel looks the name up again */
	} else if (err && j->bare) {
		log_err("%s: no LUKS header: it is destroyed, or the file is plaintext",
			j->path);
	}
	finish(j, err);
}

static void post(struct imagejob *j, void (*step)(struct job *))
{
	j->job.run = step;
	deferred_post(j->sv->deferred, &j->job);
}

/* Where the table is full, an image that nobody uses any more makes room. */
static vcf_err_t put_key(struct server *sv, const struct container *c,
			 struct key_ref *ref)
{
	vcf_err_t err;

	do {
		err = keytable_put(sv->keys, container_subject(c)->uuid,
				   container_token(c)->kcv, container_volume_key(c), ref);
	} while (err == -ENFILE && imagetable_evict(sv->images));
	return err;
}

/* The claim of a device lasts as long as somebody has the image open. */
static void keep_claim(struct imagejob *j, int *claim)
{
	int old;

	if (*claim < 0)
		return;
	old = atomic_exchange(&j->e->record->sentinel_fd, STEAL_FD(claim));
	if (old >= 0)
		close(old);
}

/*
 * Puts the key into the table and the image into the entry. The entry is BUSY: nobody looks.
 * claim: of a device, or -1.
 */
static vcf_err_t publish(struct imagejob *j, const struct container *c, uint64_t clen,
			 int *claim)
{
	const struct token_subject *s = container_subject(c);
	struct image_params ip = {
		.geom = {.data_off = s->data_off,
			 .sector_len = s->sector_len,
			 .device = j->device},
		.shared = j->sv->cfg->shared,
		.punch_zeros = nodelock_fuse_below() && !j->device,
		.holes_zero = container_token(c)->holes == HOLES_ZERO,
		.keys = j->sv->keys,
	};
	struct image *im;
	vcf_err_t err = put_key(j->sv, c, &ip.key);

	if (err)
		return err;
	CRASHPOINT("key-put");
	if (!ip.shared) /* else it is not ours alone to take back */
		ip.grow_from = &j->sv->session->images[ip.key.slot].grow_from;
	err = image_new(&im, &ip, clen);
	if (err) {
		keytable_del(j->sv->keys, ip.key);
		return err;
	}
	imagetable_set_escrow(j->e, c);
	imagetable_publish(j->sv->images, j->e, im, s, container_token(c), ip.key);
	keep_claim(j, claim);
	return 0;
}

/* Against other nodes, until fd is closed or given back; on an executor, which may wait. */
static vcf_err_t lock_header(const struct imagejob *j, int fd, bool exclusive)
{
	return j->sv->cfg->shared ? nodelock_byte(fd, NODELOCK_HEADER, exclusive, true)
				  : 0;
}

/* A derived image's secret comes from what was fetched (the site's). */
static vcf_err_t derive(struct secret **secret, const unsigned char uuid[UUID_LEN])
{
	auto_secret struct secret *site = STEAL_PTR(secret);

	return token_derive_secret(secret, site, uuid);
}

/*
 * Loads the header once more, for a change of it. NULL: it is another one by now, or a command changes
 * it (offline.c locks the file), and nothing may be written: the key service may have taken a minute
 * since the first look. Else it stays so until fd is closed.
 */
static struct container *load_again(const struct imagejob *j, int fd, bool *mended)
{
	auto_container struct container *now = NULL;
	const struct token *was = container_token(j->c), *is;

	if (nodelock_try_header(fd, j->sv->cfg->shared) == -EAGAIN ||
	    container_load(&now, fd, j->path, mended))
		return NULL;
	is = container_token(now);
	if (memcmp(container_subject(now)->uuid, container_subject(j->c)->uuid,
		   UUID_LEN) != 0 ||
	    is->keyslot != was->keyslot || is->generation != was->generation ||
	    memcmp(is->mac, was->mac, sizeof(is->mac)) != 0)
		return NULL;
	return STEAL_PTR(&now);
}

/* What a change of its secret that was cut short has left of the old one; best effort. */
static void wipe_remains(const struct imagejob *j, struct container *c, int fd)
{
	bool found = false;
	vcf_err_t err = container_wipe_unused(c, fd, &found);

	if (err)
		log_warn("%s: what is left of an old key slot cannot be overwritten: %s",
			 j->path, strerror(-err));
	else if (found)
		log_info("%s: what was left of an old key slot is overwritten", j->path);
}

/* A damaged copy is written anew, and remains go. */
static vcf_err_t tend_header(struct imagejob *j)
{
	auto_container struct container *now = NULL;
	auto_close int fd = -1;
	bool mended = false;
	vcf_err_t err = 0;

	if (!j->mended && !j->unused)
		return 0;
	fd = node_reopen_fd(j->sv, j->pathfd, O_RDWR);
	if (fd < 0)
		return j->mended ? fd : 0;
	now = load_again(j, fd, &mended);
	if (!now)
		return 0;
	if (mended) {
		log_warn("%s: one copy of the header was damaged and is written anew",
			 j->path);
		err = container_write_mended(now, fd);
	}
	if (!err)
		wipe_remains(j, now, fd);
	return err;
}

/*
 * A command may have changed the secret while we waited for the old one: that is no reason to refuse
 * the file.
 */
static bool has_changed(const struct imagejob *j, int fd)
{
	auto_container struct container *now = NULL;

	return !container_load(&now, fd, j->path, NULL) &&
	       memcmp(container_token(now)->mac, container_token(j->c)->mac,
		      TOKEN_MAC_LEN) != 0;
}

static vcf_err_t open_container(struct imagejob *j, int fd)
{
	vcf_err_t err = container_unlock_file(j->c, fd, j->secret, NULL);

	/* Without a name its header may be half wiped: finish_unlock() tells. */
	if ((err != -EKEYREJECTED && err != -EBADMSG) || has_gone(j->pathfd))
		return err;
	j->again = j->loads < LOADS_MAX && has_changed(j, fd);
	/* The second time for the line in the log. */
	return j->again ? err : container_unlock_file(j->c, fd, j->secret, j->path);
}

static vcf_err_t unlock(struct imagejob *j)
{
	auto_close int fd = -1;
	auto_close int claim = -1;
	uint64_t clen;
	vcf_err_t err;

	if (j->err)
		return j->err;
	if (j->device) {
		claim = device_claim_fd(j->sv, j->pathfd, j->path);
		if (claim < 0)
			return claim;
	}
	fd = node_reopen_fd(j->sv, j->pathfd, O_RDONLY);
	if (fd < 0)
		return fd;
	err = lock_header(j, fd, false);
	if (!err)
		err = io_file_len(fd, &clen);
	if (!err && container_token(j->c)->derived)
		err = derive(&j->secret, container_subject(j->c)->uuid);
	if (!err)
		err = open_container(j, fd);
	nodelock_byte_release(fd, NODELOCK_HEADER);
	if (!err)
		err = tend_header(j);
	if (!err && container_token(j->c)->derived && j->cls == CLASS_ENCRYPT)
		promote_want(j->sv->promote, j->e->dev, j->e->ino, j->path);
	return err ? err : publish(j, j->c, clen, &claim);
}

static void step_load(struct job *job);

static void step_unlock(struct job *job)
{
	struct imagejob *j = (struct imagejob *)job;
	vcf_err_t err = unlock(j);

	if (!j->again) {
		finish_unlock(j, err);
		return;
	}
	j->again = false;
	container_free(STEAL_PTR(&j->c));
	secret_free(STEAL_PTR(&j->secret));
	post(j, step_load);
}

static void fetched(void *arg, const struct keyservice_result *res)
{
	struct imagejob *j = arg;

	j->err = res->err;
	keyaudit_fetched(&j->audit, j->path, container_subject(j->c)->uuid,
			 j->service->name, container_token(j->c)->key_id, res);
	if (res->err)
		log_err("%s: key service: %s %s", j->path, strerror(-res->err),
			res->text);
	else
		j->err = secret_dup(&j->secret, res->secret);
	post(j, step_unlock);
}

static void step_site(struct job *job);

static void site_ready(void *arg, vcf_err_t err)
{
	struct imagejob *j = arg;

	j->err = err;
	post(j, step_site);
}

/* The site secret if the token names ours; else the one it names, by id. */
static vcf_err_t fetch(struct imagejob *j)
{
	const struct token *t = container_token(j->c);
	char site_id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	if (j->err)
		return j->err;
	if (t->derived && sitekey_is(j->service->site, NULL, t->key_id)) {
		err = sitekey_get(j->service->site, &j->secret, site_id, site_ready, j);
		if (!err)
			post(j, step_unlock);
		return err;
	}
	j->audit.start_ms = clock_now_ms();
	err = keyservice_get(j->service->keys, t->key_id, fetched, j);
	return err ? err : -EINPROGRESS;
}

static void step_site(struct job *job)
{
	struct imagejob *j = (struct imagejob *)job;
	vcf_err_t err = fetch(j);

	if (err && err != -EINPROGRESS)
		finish_unlock(j, err);
}

static vcf_err_t check_token(struct imagejob *j)
{
	const struct token *t = container_token(j->c);

	j->service = keyset_get(j->sv, t->service);
	if (!j->service) {
		log_err("%s: its key service '%s' is not configured: add a section "
			"[service %s]",
			j->path, t->service, t->service);
		return -ENOKEY;
	}
	/* Asked before the key is fetched: the service hears nothing of a moved container. */
	if (strcmp(t->context, j->context) != 0) {
		log_err("%s: the container belongs to instance '%s', not '%s'; was it "
			"moved "
			"below the mount?",
			j->path, t->context, j->context);
		return -EBADMSG;
	}
	return 0;
}

/* Why it is refused is logged unless it has no name any more, and is being wiped. */
static vcf_err_t load_header(struct imagejob *j, int fd)
{
	vcf_err_t err = container_load(&j->c, fd, NULL, &j->mended);

	j->bare = err == -EPERM;
	if (err != -EBADMSG || has_gone(j->pathfd))
		return err;
	return container_load(&j->c, fd, j->path, &j->mended);
}

static vcf_err_t load(struct imagejob *j)
{
	auto_close int fd = node_reopen_fd(j->sv, j->pathfd, O_RDONLY);
	vcf_err_t err;

	if (fd < 0)
		return fd;
	if (j->sv->stopping)
		return -ECANCELED;
	err = lock_header(j, fd, false);
	if (err)
		return err;
	err = load_header(j, fd);
	if (err)
		return err;
	j->loads++;
	j->unused = container_has_unused(j->c);
	/* A host boots, and a thousand wait here for their keys. */
	container_drop_header(j->c);
	err = check_token(j);
	return err ? err : fetch(j);
}

static void step_load(struct job *job)
{
	struct imagejob *j = (struct imagejob *)job;
	vcf_err_t err = load(j);

	if (err && err != -EINPROGRESS)
		finish_unlock(j, err);
}

static vcf_err_t before_magic(void *arg)
{
	struct imagejob *j = arg;

	if (j->cls == CLASS_DERIVED)
		return 0;
	return reserve_using(j->service->reserve, &j->reserved, j->e->dev, j->e->ino,
			     j->path);
}

/* Fills what the new container needs. -EINPROGRESS: step_take will be posted again. */
static vcf_err_t take_secret(struct imagejob *j, struct container_params *p,
			     struct token *t, void (*ready)(void *, vcf_err_t))
{
	const struct reserve_wanted wanted = keyaudit_wanted(&j->audit, j->path);
	vcf_err_t err;

	if (j->cls == CLASS_DERIVED) {
		t->derived = true;
		uuid_generate_random(p->uuid);
		err = sitekey_get(j->service->site, &j->secret, t->key_id, ready, j);
		return err ? err : derive(&j->secret, p->uuid);
	}
	err = reserve_take(j->service->reserve, &j->reserved, &wanted, ready, j);
	if (err)
		return err;
	memcpy(p->uuid, j->reserved.uuid, UUID_LEN);
	memcpy(t->key_id, j->reserved.key_id, sizeof(t->key_id));
	return secret_dup(&j->secret, j->reserved.secret);
}

/* PEEK_DAMAGED also where it cannot be read. */
static enum peek_kind peek_kind_of(int fd)
{
	struct peek peek;
	struct stat st;

	if (fstat(fd, &st) < 0 || size_peek_fd(&peek, fd, (uint64_t)st.st_size))
		return PEEK_DAMAGED;
	return peek.kind;
}

/* After a failure: nothing of a header is in the file, nor can come back after a crash. */
static bool surely_empty(int fd)
{
	return peek_kind_of(fd) == PEEK_EMPTY && fdatasync(fd) == 0;
}

/*
 * What was never written reads as noise, unless the device itself zeroes all of it now: that is
 * asked for where its section says so, for it may hold old data behind its zeros.
 */
static vcf_err_t clear_device(struct imagejob *j, int fd, const struct token *t)
{
	uint64_t len;
	vcf_err_t err;

	if (!j->device || t->holes != HOLES_ZERO)
		return 0;
	err = io_file_len(fd, &len);
	if (!err && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      CONTAINER_DATA_OFF, (off_t)(len - CONTAINER_DATA_OFF)) < 0)
		err = -errno;
	if (err == -EOPNOTSUPP)
		log_err("%s: discard = yes, but its device cannot zero itself", j->path);
	return err;
}

/* The file, or a device, which is claimed meanwhile. */
static int open_empty(struct imagejob *j)
{
	return j->device ? device_claim_fd(j->sv, j->pathfd, j->path)
			 : node_reopen_fd(j->sv, j->pathfd, O_RDWR);
}

/* Once the header is locked against other nodes. */
static vcf_err_t must_be_empty(const struct imagejob *j, int fd)
{
	enum peek_kind kind = peek_kind_of(fd);

	if (kind == PEEK_EMPTY)
		return 0;
	if (j->sv->cfg->shared && kind == PEEK_CONTAINER)
		return -EALREADY; /* another node was faster */
	return -EBUSY;		  /* somebody wrote below the mount meanwhile */
}

static vcf_err_t write_new(struct imagejob *j, const struct container *c, int fd)
{
	return j->device ? container_write_device(c, fd, before_magic, j)
			 : container_write_new(c, fd, before_magic, j);
}

static vcf_err_t publish_new(struct imagejob *j, const struct container *c, int *fd)
{
	uint64_t clen = container_subject(c)->data_off;
	vcf_err_t err = 0;
	int none = -1;

	if (!j->device)
		return publish(j, c, clen, &none);
	err = io_file_len(*fd, &clen);
	return err ? err : publish(j, c, clen, fd);
}

static vcf_err_t write_header(struct imagejob *j, const struct container_params *p,
			      const struct token *t)
{
	auto_container struct container *c = NULL;
	auto_close int fd = open_empty(j);
	vcf_err_t err;

	if (fd < 0)
		return fd;
	err = lock_header(j, fd, true);
	if (!err)
		err = must_be_empty(j, fd);
	if (!err)
		err = clear_device(j, fd, t);
	if (!err)
		err = container_format(&c, p, t, j->secret);
	if (err)
		return err;
	err = write_new(j, c, fd);
	if (!err)
		j->carried = CARRIED_YES;
	else if (!surely_empty(fd))
		j->carried = CARRIED_MAYBE;
	return err ? err : publish_new(j, c, &fd);
}

/*
 * The secret goes back only if no header can have it: it brings its container's uuid along, and
 * two containers of one uuid would share their end. In doubt its note stays `using`, which the
 * next start settles.
 */
static void settle_secret(struct imagejob *j)
{
	if (j->carried == CARRIED_YES)
		keyaudit_assigned(&j->audit, j->path, j->reserved.uuid, j->service->name,
				  j->reserved.key_id);
	if (j->carried == CARRIED_YES)
		reserve_used(j->service->reserve, &j->reserved);
	else if (j->carried == CARRIED_NO)
		reserve_put_back(j->service->reserve, &j->reserved);
	else
		log_warn("%s: its header could neither be written nor taken back",
			 j->path);
}

/* The file may have lost its last name before it was a container. */
static vcf_err_t check_name(struct imagejob *j, const unsigned char uuid[UUID_LEN])
{
	vcf_err_t err;

	if (j->carried != CARRIED_YES)
		return 0;
	err = removal_of_new(j->sv, j->pathfd, j->path, uuid);
	if (err && err != -ESTALE && err != -ECANCELED) /* no longer wanted */
		j->carried = CARRIED_MAYBE; /* not journalled: the next start has to */
	return err;
}

static void secret_ready(void *arg, vcf_err_t err);

static enum token_holes holes_of_device(const struct config *cfg, const char *name)
{
	const struct config *d = config_device(cfg, name);

	return d && d->device_discard ? HOLES_ZERO : HOLES_NONE;
}

static vcf_err_t create(struct imagejob *j)
{
	const struct config *cfg = j->sv->cfg; /* one: a reload may exchange it */
	struct container_params p = {.format = cfg->format,
				     .sector_len = (uint32_t)cfg->sector_size,
				     .escrow = config_escrow(cfg)};
	struct token t = {.holes = HOLES_ZERO, .generation = 1};
	vcf_err_t err, err2;

	if (j->err || j->sv->stopping)
		return j->err ? j->err : -ECANCELED;
	if (!j->service) /* else the wait for its secret is over */
		j->service = keyset_get(j->sv, rules_service(j->sv->rules, j->path));
	if (!j->service)
		return -ENOKEY; /* just taken away by a reload */
	if (j->device)
		t.holes = holes_of_device(cfg, j->path);
	TEXT_CUT(t.service, j->service->name);
	memcpy(t.context, j->context, sizeof(t.context));
	err = take_secret(j, &p, &t, secret_ready);
	if (err)
		return err;
	err = write_header(j, &p, &t);
	err2 = check_name(j, p.uuid);
	if (j->cls != CLASS_DERIVED)
		settle_secret(j);
	return err ? err : err2;
}

/* Our secret is where it came from; the container that another node has made is opened. */
static void open_others(struct imagejob *j)
{
	secret_free(STEAL_PTR(&j->secret));
	j->reserved = (struct reserved){.secret = NULL};
	j->service = NULL;
	post(j, step_load);
}

static void step_create(struct job *job)
{
	struct imagejob *j = (struct imagejob *)job;
	vcf_err_t err = create(j);

	if (err == -EALREADY)
		open_others(j);
	else if (err != -EINPROGRESS)
		finish(j, err);
}

static void secret_ready(void *arg, vcf_err_t err)
{
	struct imagejob *j = arg;

	j->err = err;
	post(j, step_create);
}

static vcf_err_t new_job(struct imagejob **out, struct server *sv, struct image_entry *e)
{
	struct imagejob *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->sv = sv;
	j->e = e;
	j->pathfd = -1;
	*out = j;
	return 0;
}

static vcf_err_t describe(struct imagejob *j, const struct node *n)
{
	vcf_err_t err = state_path(j->sv->state, n, j->path);

	if (err)
		return err;
	/* The node may know derived or encrypt from before a reload. */
	j->cls = rules_class(j->sv->rules, j->path);
	if (!rules_is_image(j->cls))
		j->cls = (enum file_class)n->cls;
	j->device = n->device;
	rules_context(j->sv->rules, j->path, j->context);
	j->pathfd = fcntl(n->fd, F_DUPFD_CLOEXEC, 3);
	return j->pathfd < 0 ? -errno : 0;
}

vcf_err_t imagejob_start(struct server *sv, struct image_entry *e, const struct node *n,
			 bool make)
{
	struct imagejob *j;
	vcf_err_t err = new_job(&j, sv, e);

	if (err)
		return err;
	err = describe(j, n);
	if (err) {
		free_job(j);
		return err;
	}
	keyaudit_opener(&j->audit);
	imagetable_ref(sv->images, e);
	mutex_lock(&e->state_lock);
	e->nodeid = n->id;
	TEXT_CUT(e->path, j->path);
	mutex_unlock(&e->state_lock);
	post(j, make ? step_create : step_load);
	return 0;
}

void imagejob_drop_key(struct server *sv, struct image_entry *e)
{
	int rc = fuse_lowlevel_notify_inval_inode(sv->se, e->nodeid, 0, 0);

	if (rc && rc != -ENOENT && rc != -ENOSYS)
		log_dbg("%s: page cache not dropped: %s", e->path, strerror(-rc));
	mutex_lock(&e->state_lock);
	imagetable_unpublish(sv->images, e);
	mutex_unlock(&e->state_lock);
}

static void step_close(struct job *job)
{
	struct imagejob *j = (struct imagejob *)job;

	imagejob_drop_key(j->sv, j->e);
	finish(j, 0);
}

vcf_err_t imagejob_close(struct server *sv, struct image_entry *e)
{
	struct imagejob *j;
	vcf_err_t err = new_job(&j, sv, e);

	if (!err)
		post(j, step_close);
	return err;
}
