/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/imagetable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "fs/imagejob.h"
#include "fs/imagetable_impl.h"
#include "fs/node.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/text.h"

vcf_err_t imagetable_new(struct imagetable **out, struct server *sv)
{
	struct imagetable *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->sv = sv;
	mutex_init(&t->lock, RANK_IMAGE_TABLE);
	*out = t;
	return 0;
}

static void close_sentinel(struct image_entry *e)
{
	int fd = e->record ? atomic_exchange(&e->record->sentinel_fd, -1) : -1;

	if (fd >= 0)
		close(fd);
}

static void free_entry(struct server *sv, struct image_entry *e)
{
	imagetable_unpublish(sv->images, e);
	mutex_fini(&e->state_lock);
	free(e);
}

void imagetable_free(struct imagetable *t)
{
	for (size_t i = 0; i < TABLE_CNT; i++) {
		while (t->hash[i]) {
			struct image_entry *e = t->hash[i];

			t->hash[i] = e->next;
			free_entry(t->sv, e);
		}
	}
	mutex_fini(&t->lock);
	free(t);
}

static struct image_entry **chain_of(struct imagetable *t, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev * 31) * 0x9e3779b97f4a7c15ull;

	return &t->hash[h >> (64 - TABLE_BITS)];
}

static bool in_state(struct image_entry *e, enum image_state state)
{
	SCOPED_LOCK(&e->state_lock);

	return e->state == state;
}

static struct image_entry *find_locked(struct imagetable *t, uint64_t dev, uint64_t ino)
{
	struct image_entry *e = *chain_of(t, dev, ino);

	while (e && (e->detached || e->dev != dev || e->ino != ino))
		e = e->next;
	return e;
}

static struct image_entry *add_locked(struct imagetable *t, const struct node *n)
{
	struct image_entry **chain = chain_of(t, n->dev, n->ino);
	struct image_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->dev = n->dev;
	e->ino = n->ino;
	mutex_init(&e->state_lock, RANK_IMAGE_STATE);
	e->next = *chain;
	*chain = e;
	return e;
}

/* *lingers: it has a key, and no handle that would keep its inode alive. */
vcf_err_t imagetable_find_or_add(struct imagetable *t, const struct node *n,
				 struct image_entry **out, bool *lingers)
{
	SCOPED_LOCK(&t->lock);
	struct image_entry *e = find_locked(t, n->dev, n->ino);

	if (!e)
		e = add_locked(t, n);
	if (!e)
		return -ENOMEM;
	e->refs++;
	/* Where other nodes remove files, a number may be another file's as long as we have it open. */
	*lingers = (!e->opens || t->sv->cfg->shared) && !e->rekeying &&
		   in_state(e, IMAGE_READY);
	*out = e;
	return 0;
}

/* Is the file the container of that uuid? By its inode number alone it may be another one. */
vcf_err_t imagetable_compare_file(struct imagetable *t,
				  const unsigned char uuid[UUID_LEN],
				  const struct node *n, bool *same)
{
	auto_close int fd = node_reopen(t->sv, n, O_RDONLY);
	char text[UUID_TEXT_LEN + 1];
	struct peek peek;
	struct stat st;
	vcf_err_t err;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	err = size_peek_fd(&peek, fd, (uint64_t)st.st_size);
	if (err)
		return err;
	uuid_unparse_lower(uuid, text);
	*same = peek.kind == PEEK_CONTAINER && strcmp(peek.uuid_text, text) == 0;
	return 0;
}

static void detach(struct imagetable *t, struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	e->detached = true;
}

/*
 * Below the mount an image that nobody has open may be cut, or an older copy of it be put back: what
 * was known of its length would then make a write tear the file.
 */
static bool length_same(struct imagetable *t, struct image_entry *e, const struct node *n)
{
	return t->sv->cfg->shared || n->device || !in_state(e, IMAGE_READY) ||
	       image_length_same(e->image, n->fd);
}

static bool detach_closed(struct imagetable *t, struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	if (!e->opens)
		e->detached = true;
	return e->detached;
}

vcf_err_t imagetable_get(struct imagetable *t, const struct node *n,
			 struct image_entry **out)
{
	for (;;) {
		struct image_entry *e;
		bool lingers, same = true;
		vcf_err_t err = imagetable_find_or_add(t, n, &e, &lingers);

		if (err)
			return err;
		if (lingers)
			err = imagetable_compare_file(t, e->uuid, n, &same);
		if (!err && same && lingers && !length_same(t, e, n))
			same = !detach_closed(t, e);
		if (!err && same) {
			*out = e;
			return 0;
		}
		if (!same)
			detach(t, e);
		imagetable_put(t, e);
		if (err)
			return err;
	}
}

void imagetable_ref(struct imagetable *t, struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	e->refs++;
}

/* Frees the entry if nobody needs it: no reference, and no key or a useless one. */
static void put_locked(struct imagetable *t, struct image_entry *e)
{
	struct image_entry **link;

	if (--e->refs)
		return;
	e->idle_since = clock_now_s();
	if (!e->detached && !in_state(e, IMAGE_COLD))
		return;
	for (link = chain_of(t, e->dev, e->ino); *link != e; link = &(*link)->next)
		;
	*link = e->next;
	free_entry(t->sv, e);
}

void imagetable_put(struct imagetable *t, struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	put_locked(t, e);
}

static void set_nodeid(struct image_entry *e, uint64_t nodeid)
{
	SCOPED_LOCK(&e->state_lock);

	e->nodeid = nodeid;
}

vcf_err_t imagetable_opened(struct imagetable *t, struct image_entry *e, uint64_t nodeid,
			    bool unlinked, bool *direct)
{
	SCOPED_LOCK(&t->lock);

	if (unlinked && !e->opens)
		e->detached = true;
	if (e->detached)
		return -ESTALE;
	*direct = *direct || e->directs;
	e->refs++;
	e->opens++;
	e->directs += *direct;
	set_nodeid(e, nodeid);
	return 0;
}

bool imagetable_is_open(struct imagetable *t, const struct image_entry *e)
{
	SCOPED_LOCK(&t->lock);

	return e->opens > 0;
}

uint64_t imagetable_closed(struct imagetable *t, struct image_entry *e, bool direct)
{
	SCOPED_LOCK(&t->lock);
	uint64_t deletion = 0;

	e->opens--;
	e->directs -= direct;
	if (!e->opens) {
		deletion = e->deletion;
		e->deletion = 0;
		e->detached |= deletion != 0;
		close_sentinel(e);
	}
	put_locked(t, e);
	return deletion;
}

/* Nobody has it open: its key goes with the last request that still looks at it. */
static void drop_locked(struct imagetable *t, struct image_entry *e)
{
	e->detached = true;
	e->refs++;
	put_locked(t, e);
}

bool imagetable_defer_deletion(struct imagetable *t, uint64_t dev, uint64_t ino,
			       uint64_t deletion)
{
	SCOPED_LOCK(&t->lock);
	struct image_entry *e = find_locked(t, dev, ino);

	if (e && e->opens) {
		e->deletion = deletion;
		return true;
	}
	if (e)
		drop_locked(t, e);
	return false;
}

bool imagetable_size(struct imagetable *t, uint64_t dev, uint64_t ino, uint64_t *plen)
{
	struct image_entry *e;
	bool ready;

	mutex_lock(&t->lock);
	e = find_locked(t, dev, ino);
	if (e && !e->opens)
		e = NULL; /* by its inode number alone it may be another file's */
	if (e)
		e->refs++;
	mutex_unlock(&t->lock);
	if (!e)
		return false;
	ready = in_state(e, IMAGE_READY);
	if (ready)
		*plen = image_size(e->image);
	imagetable_put(t, e);
	return ready;
}

bool imagetable_measured(struct imagetable *t, uint64_t dev, uint64_t ino, uint64_t clen,
			 uint64_t *plen)
{
	struct image_entry *e;
	bool ready = false;

	mutex_lock(&t->lock);
	e = find_locked(t, dev, ino);
	if (e)
		e->refs++;
	mutex_unlock(&t->lock);
	if (!e)
		return false;
	if (in_state(e, IMAGE_READY) && !image_measured(e->image, clen)) {
		*plen = image_size(e->image);
		ready = true;
	}
	imagetable_put(t, e);
	return ready;
}

bool imagetable_is_busy(struct imagetable *t, uint64_t dev, uint64_t ino)
{
	SCOPED_LOCK(&t->lock);
	struct image_entry *e = find_locked(t, dev, ino);

	return e && in_state(e, IMAGE_BUSY);
}

/* Tenant B must not reach tenant A's disk: the container says whose it is. */
static vcf_err_t check_context(struct imagetable *t, struct image_entry *e,
			       struct node *n)
{
	char path[STATE_PATH_MAX];
	char context[TOKEN_CONTEXT_MAX + 1];
	vcf_err_t err = state_path(t->sv->state, n, path);

	if (err)
		return err;
	rules_context(t->sv->rules, path, context);
	if (strcmp(context, e->token.context) == 0)
		return 0;
	log_err("%s: the container belongs to instance '%s', not '%s'; was it moved "
		"below the "
		"mount?",
		path, e->token.context, context);
	return -EBADMSG;
}

/*
 * Nobody had it open when its last name went: what an O_PATH descriptor or an event of fanotify
 * leads to has no header.
 */
static bool is_wiped(const struct node *n)
{
	struct stat st;

	return fstatat(n->fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink == 0;
}

/* Does the request have to wait, or can the file on disk tell the answer at once? */
static vcf_err_t look_at_file(struct imagetable *t, struct node *n, enum image_need need,
			      bool *wait, bool *create)
{
	struct peek peek;
	struct stat st;
	vcf_err_t err;

	if (fstatat(n->fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	err = node_peek(t->sv, n, &st, &peek);
	if (err)
		return err;
	*create = peek.kind == PEEK_EMPTY;
	*wait = peek.kind == PEEK_CONTAINER || need == IMAGE_NEED_HEADER;
	err = peek.kind == PEEK_PLAINTEXT ? -EPERM
	      : peek.kind == PEEK_DAMAGED ? -EBADMSG
					  : 0;
	return err && is_wiped(n) ? -ESTALE : err;
}

static void log_refusal(struct imagetable *t, struct node *n, vcf_err_t err)
{
	char path[STATE_PATH_MAX];

	if (state_path(t->sv->state, n, path))
		return;
	if (err == -EPERM && n->device)
		log_err("%s: its device holds something else than a container, which is never "
			"overwritten; if nothing on it is wanted: blkdiscard --zeroout "
			"--length 2MiB DEVICE",
			path);
	else if (err == -EPERM)
		log_err("%s: plaintext under an encrypt rule is never read; move it "
			"aside below the mount and copy it back through it; or, if it was "
			"an image, its header is destroyed: restore that",
			path);
	else if (err == -EBADMSG)
		log_err("%s: damaged container; 'vmcryptfs info' says more, a backup helps",
			path);
}

static vcf_err_t park_locked(struct imagetable *t, struct image_entry *e)
{
	struct parked *p;
	vcf_err_t err = deferred_park(t->sv->deferred, current_worker, &p);

	if (err)
		return err;
	p->next = e->waiters;
	e->waiters = p;
	return -EINPROGRESS;
}

/* COLD: parks the request and starts the job; somebody else may have been faster. */
static vcf_err_t wait_for_job(struct imagetable *t, struct image_entry *e, struct node *n,
			      bool create)
{
	vcf_err_t err;
	bool start;

	mutex_lock(&e->state_lock);
	if (e->state == IMAGE_READY) {
		mutex_unlock(&e->state_lock);
		return -EAGAIN;
	}
	err = park_locked(t, e);
	start = err == -EINPROGRESS && e->state == IMAGE_COLD;
	if (start)
		e->state = IMAGE_BUSY;
	mutex_unlock(&e->state_lock);
	if (start) {
		vcf_err_t job_err = imagejob_start(t->sv, e, n, create);

		if (job_err) {
			imagetable_ref(t, e); /* finish gives one back */
			imagetable_finish(t, e, job_err);
		}
	}
	return err;
}

vcf_err_t imagetable_prepare(struct imagetable *t, struct image_entry *e, struct node *n,
			     enum image_need need)
{
	struct parked *resumed = current_worker->resumed;
	bool wait, create;
	vcf_err_t err;

	if (resumed && resumed->err)
		return resumed->err;
	do {
		enum image_state state;

		mutex_lock(&e->state_lock);
		state = e->state;
		mutex_unlock(&e->state_lock);
		if (state == IMAGE_READY)
			return check_context(t, e, n);
		wait = true;
		create = false;
		err = state == IMAGE_COLD ? look_at_file(t, n, need, &wait, &create) : 0;
		if (err)
			log_refusal(t, n, err);
		if (err || !wait)
			return err;
		err = wait_for_job(t, e, n, create);
	} while (err == -EAGAIN);
	return err;
}

void imagetable_finish(struct imagetable *t, struct image_entry *e, vcf_err_t err)
{
	struct parked *p;

	mutex_lock(&e->state_lock);
	e->state = e->image ? IMAGE_READY : IMAGE_COLD;
	p = e->waiters;
	e->waiters = NULL;
	mutex_unlock(&e->state_lock);
	while (p) {
		struct parked *next = p->next;

		deferred_resume(t->sv->deferred, p, err);
		p = next;
	}
	imagetable_put(t, e);
}

void imagetable_publish(struct imagetable *t, struct image_entry *e, struct image *im,
			const struct token_subject *s, const struct token *token,
			struct key_ref key)
{
	SCOPED_LOCK(&e->state_lock);
	struct session_image *r = &t->sv->session->images[key.slot];

	e->key = key;
	e->token = *token;
	memcpy(e->uuid, s->uuid, UUID_LEN);
	e->sector_len = s->sector_len;
	e->data_off = s->data_off;
	r->sector_len = s->sector_len;
	r->data_off = s->data_off;
	r->dev = e->dev;
	r->ino = e->ino;
	r->nodeid = e->nodeid;
	if (!r->generation) { /* else it is taken over */
		r->grow_from = 0;
		r->sentinel_fd = -1;
		memset(&t->sv->session->iostats[key.slot], 0,
		       sizeof(struct session_iostat));
	}
	memcpy(r->uuid, s->uuid, UUID_LEN);
	r->token = *token;
	r->escrow = e->escrow;
	TEXT_CUT(r->path, e->path);
	CRASHPOINT("image-ready");
	atomic_store(&r->generation, key.generation);
	CRASHPOINT("image-published");
	e->io = t->sv->session->iostats[key.slot].way;
	e->record = r;
	e->image = im; /* last: whoever sees it uses the record */
}

void imagetable_unpublish(struct imagetable *t, struct image_entry *e)
{
	if (e->record) {
		close_sentinel(e);
		atomic_store(&e->record->generation, 0);
	}
	e->record = NULL;
	if (e->image)
		image_free(e->image);
	e->image = NULL;
	CRASHPOINT("image-unpublished");
	if (!e->key.generation)
		return;
	keytable_del(t->sv->keys, e->key);
	server_forget_key(t->sv);
	e->key = (struct key_ref){0};
}

void imagetable_keep_sentinel(struct imagetable *t, struct image_entry *e,
			      const struct node *n)
{
	struct session_image *r = e->record;
	int none = -1, fd;

	if (!r || n->device || r->sentinel_fd >= 0) /* a device has its claim for that */
		return;
	fd = node_reopen(t->sv, n, O_RDONLY);
	CRASHPOINT("sentinel-opened");
	if (fd >= 0 && !atomic_compare_exchange_strong(&r->sentinel_fd, &none, fd))
		close(fd);
}

/* As its service's section says; at least the second that the clock may be off. */
static time_t linger_of(const struct imagetable *t, const struct image_entry *e)
{
	const struct config *cfg = t->sv->cfg;
	const struct config *service = config_service(cfg, e->token.service);
	time_t linger = (time_t)(service ? service : cfg)->linger_s;

	return linger ? linger : 1;
}

/*
 * The next idle entry (lingers: whose time is over), set BUSY and referenced for its close job;
 * NULL if there is none.
 */
static struct image_entry *take_idle(struct imagetable *t, bool lingers)
{
	time_t now = clock_now_s();
	SCOPED_LOCK(&t->lock);

	for (size_t i = 0; i < TABLE_CNT; i++) {
		for (struct image_entry *e = t->hash[i]; e; e = e->next) {
			SCOPED_LOCK(&e->state_lock);

			if (e->refs || e->state != IMAGE_READY ||
			    e->idle_since > now - (lingers ? linger_of(t, e) : 0))
				continue;
			e->state = IMAGE_BUSY;
			e->refs++;
			return e;
		}
	}
	return NULL;
}

void imagetable_sweep(struct imagetable *t)
{
	struct image_entry *e;

	while ((e = take_idle(t, true))) {
		vcf_err_t err = imagejob_close(t->sv, e);

		if (err) {
			log_err("%s: cannot close: %s", e->path, strerror(-err));
			imagetable_finish(t, e, 0);
			return;
		}
	}
}

bool imagetable_evict(struct imagetable *t)
{
	struct image_entry *e = take_idle(t, false);

	if (!e)
		return false;
	imagejob_drop_key(t->sv, e);
	imagetable_finish(t, e, 0);
	return true;
}

/* As take_idle(), of one file; *out NULL: it has no key that stays. */
static vcf_err_t take_one(struct imagetable *t, uint64_t dev, uint64_t ino,
			  struct image_entry **out)
{
	SCOPED_LOCK(&t->lock);
	struct image_entry *e = find_locked(t, dev, ino);

	*out = NULL;
	if (!e)
		return 0;
	if (e->opens)
		return -EBUSY;
	SCOPED_LOCK(&e->state_lock);

	/* BUSY: whoever waits for its key meets the command's lock, or what the command has made. */
	if (e->state != IMAGE_READY)
		return 0;
	if (e->refs)
		return -EAGAIN;
	e->state = IMAGE_BUSY;
	e->refs++;
	*out = e;
	return 0;
}

vcf_err_t imagetable_forget(struct imagetable *t, uint64_t dev, uint64_t ino)
{
	struct image_entry *e;
	vcf_err_t err = take_one(t, dev, ino, &e);

	if (err || !e)
		return err;
	imagejob_drop_key(t->sv, e);
	imagetable_finish(t, e, 0);
	return 0;
}

void imagetable_each(struct imagetable *t,
		     void (*fn)(void *arg, const struct image_entry *e), void *arg)
{
	SCOPED_LOCK(&t->lock);

	for (size_t i = 0; i < TABLE_CNT; i++) {
		for (struct image_entry *e = t->hash[i]; e; e = e->next) {
			SCOPED_LOCK(&e->state_lock);

			if (e->state == IMAGE_READY)
				fn(arg, e);
		}
	}
}
