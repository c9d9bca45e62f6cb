/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/proglock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/deferred.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "util/crashpoint.h"
#include "util/log.h"

enum { WAIT_MIN_MS = 2, WAIT_MAX_MS = 50 };

/*
 * fd is a copy, for this wait alone: the owner's own may be closed meanwhile, and its number
 * another file's.
 */
struct wait {
	struct wait *next;
	struct parked *p;
	uint64_t unique;
	int fd;
	struct flock fl;
	bool interrupted; /* (l) */
};

struct proglocks {
	struct server *sv;
	struct session_lock *table;
	uint32_t high; /* (l) records that were ever used by us */
	struct mutex lock;
	pthread_cond_t wake;
	struct wait *waits, **end; /* (l) */
	bool told, stopping;	   /* (l) */
	pthread_t thread;
	bool started;
};

/* --- the table --- */

static struct session_lock *find_locked(struct proglocks *pl, uint64_t nodeid,
					uint64_t owner)
{
	for (uint32_t i = 0; i < pl->high; i++) {
		struct session_lock *r = &pl->table[i];

		if (r->used && r->nodeid == nodeid && r->owner == owner)
			return r;
	}
	return NULL;
}

static struct session_lock *free_locked(struct proglocks *pl)
{
	for (uint32_t i = 0; i < SESSION_LOCKS_MAX; i++) {
		if (pl->table[i].used)
			continue;
		if (i >= pl->high)
			pl->high = i + 1;
		return &pl->table[i];
	}
	return NULL;
}

/* fd is taken over where it becomes the owner's. */
static vcf_err_t add_locked(struct proglocks *pl, const struct proglock_who *who, int *fd)
{
	struct session_lock *r = free_locked(pl);

	if (!r)
		return -ENOLCK;
	r->fd = STEAL_FD(fd);
	r->nodeid = who->nodeid;
	r->owner = who->owner;
	r->handle = who->handle;
	r->pid = who->pid;
	CRASHPOINT("lock-filled");
	atomic_store(&r->used, 1);
	CRASHPOINT("lock-listed");
	return 0;
}

static int copy_locked(struct session_lock *r, const struct proglock_who *who)
{
	int copy = fcntl(r->fd, F_DUPFD_CLOEXEC, 3);

	r->handle = who->handle;
	r->pid = who->pid;
	return copy < 0 ? -errno : copy;
}

/* A copy of the owner's descriptor. -ENOENT: it has none. */
static int owner_fd(struct proglocks *pl, const struct proglock_who *who)
{
	SCOPED_LOCK(&pl->lock);
	struct session_lock *r = find_locked(pl, who->nodeid, who->owner);

	return r ? copy_locked(r, who) : -ENOENT;
}

/* The same; the owner gets one if it has none. A file without a name may open no more: only then. */
static int owner_fd_made(struct proglocks *pl, const struct proglock_who *who)
{
	auto_close int fd = -1;
	int copy = owner_fd(pl, who);
	struct session_lock *r;
	vcf_err_t err = 0;

	if (copy != -ENOENT)
		return copy;
	fd = nodelock_reopen(who->fd);
	if (fd < 0)
		return fd;
	SCOPED_LOCK(&pl->lock);
	r = find_locked(pl, who->nodeid, who->owner); /* somebody may have been faster */
	if (!r)
		err = add_locked(pl, who, &fd);
	if (err)
		return err;
	return copy_locked(find_locked(pl, who->nodeid, who->owner), who);
}

static bool is_of(const struct session_lock *r, uint64_t nodeid, uint64_t owner,
		  uint64_t handle)
{
	if (!r->used)
		return false;
	return handle ? r->handle == handle : r->nodeid == nodeid && r->owner == owner;
}

static int take_locked(struct proglocks *pl, uint64_t nodeid, uint64_t owner,
		       uint64_t handle)
{
	for (uint32_t i = 0; i < pl->high; i++) {
		struct session_lock *r = &pl->table[i];
		int fd = r->fd;

		if (!is_of(r, nodeid, owner, handle))
			continue;
		atomic_store(&r->used, 0);
		pl->told = true;
		pthread_cond_signal(&pl->wake);
		return fd;
	}
	return -1;
}

static void drop(struct proglocks *pl, uint64_t nodeid, uint64_t owner, uint64_t handle)
{
	int fd;

	do {
		mutex_lock(&pl->lock);
		fd = take_locked(pl, nodeid, owner, handle);
		mutex_unlock(&pl->lock);
		CRASHPOINT("lock-dropped");
		if (fd >= 0 && nodelock_fcntl(fd, F_UNLCK, 0, 0, false))
			log_dbg("locks of a program go with their descriptor");
		if (fd >= 0)
			close(fd);
	} while (fd >= 0);
}

void proglock_flushed(struct proglocks *pl, uint64_t nodeid, uint64_t owner)
{
	drop(pl, nodeid, owner, 0);
}

void proglock_released(struct proglocks *pl, uint64_t handle)
{
	drop(pl, 0, 0, handle);
}

/* --- waiting --- */

static vcf_err_t wait_for(struct proglocks *pl, int fd, const struct flock *fl)
{
	auto_free struct wait *w = calloc(1, sizeof(*w));
	vcf_err_t err;

	if (!w)
		return -ENOMEM;
	*w = (struct wait){.fl = *fl, .unique = current_worker->unique};
	w->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (w->fd < 0)
		return -errno;
	err = deferred_park(pl->sv->deferred, current_worker, &w->p);
	if (err) {
		close(w->fd);
		return err;
	}
	mutex_lock(&pl->lock);
	/* One that came before it was listed; of those that were left nobody knows. */
	w->interrupted =
		!pl->sv->taking_over && deferred_was_interrupted(pl->sv->deferred, w->p);
	*pl->end = w;
	pl->end = &w->next;
	pl->told = true;
	pthread_cond_signal(&pl->wake);
	mutex_unlock(&pl->lock);
	STEAL_PTR(&w);
	return -EINPROGRESS;
}

bool proglock_interrupt(struct proglocks *pl, uint64_t unique)
{
	SCOPED_LOCK(&pl->lock);

	for (struct wait *w = pl->waits; w; w = w->next) {
		if ((w->unique & ~SERVER_RESENT) != (unique & ~SERVER_RESENT))
			continue;
		w->interrupted = true;
		pl->told = true;
		pthread_cond_signal(&pl->wake);
		return true;
	}
	return false;
}

static struct wait *take_waits(struct proglocks *pl)
{
	SCOPED_LOCK(&pl->lock);
	struct wait *all = pl->waits;

	pl->waits = NULL;
	pl->end = &pl->waits;
	return all;
}

static bool is_interrupted(struct proglocks *pl, struct wait *w)
{
	SCOPED_LOCK(&pl->lock);

	return w->interrupted;
}

/* Executed again it finds that it has the lock already, or the error. */
static void end_wait(struct proglocks *pl, struct wait *w, vcf_err_t err)
{
	deferred_resume(pl->sv->deferred, w->p, err);
	close(w->fd);
	free(w);
}

static vcf_err_t try_one(struct proglocks *pl, struct wait *w)
{
	vcf_err_t err = nodelock_fcntl(w->fd, w->fl.l_type, (uint64_t)w->fl.l_start,
				       (uint64_t)w->fl.l_len, false);

	return err == -EAGAIN && is_interrupted(pl, w) ? -EINTR : err;
}

static bool try_all(struct proglocks *pl)
{
	bool some = false;

	mutex_lock(&pl->lock);
	for (struct wait **at = &pl->waits; *at;) {
		struct wait *w = *at;
		vcf_err_t err;

		mutex_unlock(&pl->lock);
		err = try_one(pl, w);
		mutex_lock(&pl->lock);
		if (err == -EAGAIN) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		if (!*at)
			pl->end = at;
		some = true;
		mutex_unlock(&pl->lock);
		end_wait(pl, w, err);
		mutex_lock(&pl->lock);
	}
	mutex_unlock(&pl->lock);
	return some;
}

static void pause_locked(struct proglocks *pl, unsigned int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&pl->wake, &pl->lock.m, &until);
}

static void *wait_loop(void *arg)
{
	struct proglocks *pl = arg;
	unsigned int ms = WAIT_MIN_MS;

	mutex_lock(&pl->lock);
	while (!pl->stopping) {
		if (!pl->waits)
			mutex_wait(&pl->lock, &pl->wake);
		else if (!pl->told)
			pause_locked(pl, ms);
		ms = pl->told ? WAIT_MIN_MS : ms < WAIT_MAX_MS / 2 ? 2 * ms : WAIT_MAX_MS;
		pl->told = false;
		mutex_unlock(&pl->lock);
		try_all(pl);
		mutex_lock(&pl->lock);
	}
	mutex_unlock(&pl->lock);
	return NULL;
}

/* --- requests --- */

/* Beyond the end of any file are our own locks. */
static vcf_err_t clip(struct flock *fl)
{
	const off_t end = (off_t)NODELOCK_BASE;

	if (fl->l_start == end && fl->l_len == 1) /* flock(2)'s */
		return 0;
	if (fl->l_start < 0 || fl->l_start >= end || fl->l_len < 0)
		return -EOVERFLOW;
	if (!fl->l_len || fl->l_len > end - fl->l_start)
		fl->l_len = end - fl->l_start;
	return 0;
}

struct flock proglock_flock_range(short type)
{
	return (struct flock){.l_type = type,
			      .l_whence = SEEK_SET,
			      .l_start = (off_t)(NODELOCK_BASE + NODELOCK_FLOCK),
			      .l_len = 1};
}

static void tell_waiters(struct proglocks *pl)
{
	SCOPED_LOCK(&pl->lock);

	pl->told = true;
	pthread_cond_signal(&pl->wake);
}

vcf_err_t proglock_set(struct proglocks *pl, const struct proglock_who *who,
		       const struct flock *fl, bool wait)
{
	struct flock own = *fl;
	vcf_err_t err = clip(&own);
	auto_close int fd = -1;

	if (err)
		return err;
	fd = own.l_type == F_UNLCK ? owner_fd(pl, who) : owner_fd_made(pl, who);
	if (fd == -ENOENT)
		return 0; /* it has none */
	if (fd < 0)
		return fd;
	err = nodelock_fcntl(fd, own.l_type, (uint64_t)own.l_start, (uint64_t)own.l_len,
			     false);
	CRASHPOINT("lock-set");
	if (own.l_type != F_WRLCK)
		tell_waiters(pl);
	return err == -EAGAIN && wait ? wait_for(pl, fd, &own) : err;
}

/* A copy of the descriptor of the first owner at or after *i, and who that was. */
static int next_owner(struct proglocks *pl, uint64_t nodeid, uint32_t *i, uint32_t *pid)
{
	SCOPED_LOCK(&pl->lock);

	for (; *i < pl->high; (*i)++) {
		struct session_lock *r = &pl->table[*i];

		if (!r->used || r->nodeid != nodeid)
			continue;
		*pid = r->pid;
		(*i)++;
		return fcntl(r->fd, F_DUPFD_CLOEXEC, 3);
	}
	return -1;
}

/* Whom a lock does not keep from the same range has it. 0: another node's, or it is several's. */
static pid_t pid_of(struct proglocks *pl, uint64_t nodeid, const struct flock *hit)
{
	uint32_t i = 0, pid;
	int fd;

	while ((fd = next_owner(pl, nodeid, &i, &pid)) >= 0) {
		struct flock fl = *hit;
		int rc;

		fl.l_type = hit->l_type == F_WRLCK ? F_RDLCK : F_WRLCK;
		fl.l_pid = 0;
		rc = fcntl(fd, F_OFD_GETLK, &fl);
		close(fd);
		if (rc == 0 && fl.l_type == F_UNLCK)
			return (pid_t)pid;
	}
	return 0;
}

vcf_err_t proglock_get(struct proglocks *pl, const struct proglock_who *who,
		       struct flock *fl)
{
	auto_close int copy = owner_fd(pl, who);
	struct flock own = *fl;
	vcf_err_t err = clip(&own);

	if (err)
		return err;
	own.l_pid = 0;
	if (fcntl(copy >= 0 ? copy : who->fd, F_OFD_GETLK, &own) < 0)
		return -errno;
	if (own.l_type == F_UNLCK) {
		fl->l_type = F_UNLCK;
		return 0;
	}
	*fl = own;
	fl->l_pid = pid_of(pl, who->nodeid, &own);
	if (own.l_start + own.l_len == (off_t)NODELOCK_BASE)
		fl->l_len = 0;
	return 0;
}

/* --- life --- */

enum lock_fd { FD_OF_NODE, FD_UNKNOWN, FD_OF_OTHERS };

/* A file system that does not answer now (NFS: EIO, ESTALE) proves nothing. */
static enum lock_fd whose_fd(const struct session_lock *r, const struct node *n)
{
	struct stat st;

	if (fstat(r->fd, &st) < 0)
		return errno == EBADF ? FD_OF_OTHERS : FD_UNKNOWN;
	if (!n)
		return FD_UNKNOWN;
	return st.st_dev == n->dev && st.st_ino == n->ino ? FD_OF_NODE : FD_OF_OTHERS;
}

/* A descriptor that proves to be another file's is not ours to close. */
static void take_over(struct proglocks *pl)
{
	for (uint32_t i = 0; i < SESSION_LOCKS_MAX; i++) {
		struct session_lock *r = &pl->table[i];
		struct node *n = r->used ? state_node(pl->sv->state, r->nodeid) : NULL;
		enum lock_fd whose = r->used ? whose_fd(r, n) : FD_UNKNOWN;

		if (!r->used)
			continue;
		pl->high = i + 1;
		if (n && state_handle(pl->sv->state, r->handle) && whose != FD_OF_OTHERS)
			continue;
		log_info("a program's locks went with its file");
		atomic_store(&r->used, 0);
		if (whose == FD_OF_NODE)
			close(r->fd);
	}
}

vcf_err_t proglocks_new(struct proglocks **out, struct server *sv)
{
	struct proglocks *pl = calloc(1, sizeof(*pl));
	pthread_condattr_t attr;
	vcf_err_t err;

	if (!pl)
		return -ENOMEM;
	pl->sv = sv;
	pl->table = sv->session->locks;
	pl->end = &pl->waits;
	mutex_init(&pl->lock, RANK_PROGLOCK);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pl->wake, &attr);
	pthread_condattr_destroy(&attr);
	take_over(pl);
	err = -pthread_create(&pl->thread, NULL, wait_loop, pl);
	pl->started = !err;
	if (err)
		proglocks_free(pl, false);
	else
		*out = pl;
	return err;
}

void proglocks_free(struct proglocks *pl, bool drop_all)
{
	struct wait *w;

	mutex_lock(&pl->lock);
	pl->stopping = true;
	pthread_cond_signal(&pl->wake);
	mutex_unlock(&pl->lock);
	if (pl->started)
		pthread_join(pl->thread, NULL);
	w = take_waits(pl);
	while (w) { /* the requests stay parked, for whoever comes next */
		struct wait *next = w->next;

		close(w->fd);
		free(w);
		w = next;
	}
	for (uint32_t i = 0; drop_all && i < pl->high; i++) {
		if (atomic_exchange(&pl->table[i].used, 0))
			close(pl->table[i].fd);
	}
	pthread_cond_destroy(&pl->wake);
	mutex_fini(&pl->lock);
	free(pl);
}
