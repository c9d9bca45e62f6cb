/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting the server together and taking it apart. The order of taking apart matters: first no
 * more requests, then no more jobs that ask for keys, then the key service (whose callbacks post
 * the last jobs), then the executors that run those, then the keys.
 */
#include "fs/server.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/containerid.h"
#include "crypto/kdf.h"
#include "fs/async.h"
#include "fs/deferred.h"
#include "fs/device.h"
#include "fs/imagetable.h"
#include "fs/keyaudit.h"
#include "fs/keyset.h"
#include "fs/linked.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/proglock.h"
#include "fs/promote.h"
#include "fs/rekeyer.h"
#include "fs/reload.h"
#include "fs/takeover.h"
#include "fs/turns.h"
#include "fs/wipewait.h"
#include "util/crashpoint.h"
#include "util/fence.h"
#include "util/log.h"
#include "util/sysfilter.h"

enum { EXECUTORS = 4, WORKERS_MIN = 4, WORKERS_MAX = SESSION_WORKERS_MAX };
_Static_assert((int)EXECUTORS <= (int)SESSION_EXECUTORS_MAX, "each has a slot");

static unsigned int pick_workers(const struct config *cfg)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cfg->threads)
		return cfg->threads > WORKERS_MAX ? WORKERS_MAX
						  : (unsigned int)cfg->threads;
	cpus *= 4; /* a worker blocks in the disk's I/O */
	if (cpus < WORKERS_MIN)
		return WORKERS_MIN;
	return cpus > WORKERS_MAX ? WORKERS_MAX : (unsigned int)cpus;
}

/* As far as we may: without CAP_SYS_RESOURCE the hard limit is the end. */
static void raise_limit(int which, rlim_t wanted)
{
	struct rlimit lim, own;

	if (getrlimit(which, &own) < 0)
		return;
	lim.rlim_max = own.rlim_max < wanted ? wanted : own.rlim_max;
	lim.rlim_cur = lim.rlim_max;
	own.rlim_cur = own.rlim_max;
	if (setrlimit(which, &lim) < 0 && setrlimit(which, &own) < 0)
		log_dbg("setrlimit: %s", strerror(errno));
}

void server_raise_limits(void)
{
	bool root = geteuid() == 0;

	raise_limit(RLIMIT_NOFILE, root ? 1048576 : 0);
	raise_limit(RLIMIT_MEMLOCK, root ? RLIM_INFINITY : 0);
}

/* A death in between leaves either, and the sweep closes the other one. */
static void swap_fd(int *named, int fd)
{
	int old = *named;

	*named = fd;
	close(old);
}

static vcf_err_t start_keytable(struct server *sv, bool *hidden)
{
	int *fd = &sv->session->head->fds[SESSION_FD_KEYS];
	size_t dropped;
	vcf_err_t err;

	*hidden = true; /* it was said once */
	if (sv->taking_over) {
		err = keytable_attach(&sv->keys, *fd, SERVER_KEYS_MAX, &dropped);
		if (!err)
			swap_fd(fd, keytable_fd(sv->keys));
		if (!err && dropped)
			log_err("%zu volume keys were damaged and dropped; their images are "
				"unlocked again",
				dropped);
		return err;
	}
	err = keytable_new(&sv->keys, SERVER_KEYS_MAX, hidden);
	if (!err)
		*fd = keytable_fd(sv->keys);
	return err;
}

static void say_fences(const struct server *sv)
{
	if (sv->taking_over || sysfilter_is_off() || fence_available())
		return;
	log_info(
		"this kernel has no Landlock: key helpers may open whatever their user may");
}

static vcf_err_t init_crypto(struct server *sv)
{
	bool hidden;
	vcf_err_t err = secret_arena_init();

	if (!err)
		err = crypto_init();
	if (!err)
		err = container_init();
	if (!err)
		err = start_keytable(sv, &hidden);
	if (!err && !hidden)
		log_info("memfd_secret is not available: volume keys lie in locked "
			 "memory that "
			 "root can read");
	if (!err)
		say_fences(sv);
	return err;
}

/*
 * A header that a killed daemon wrote may not be on the disk yet: it must not come to be lost after
 * the note of its secret was closed.
 */
static vcf_err_t settle_headers(struct server *sv)
{
	auto_close int fd = -1;

	if (!journal_count(sv->journal, JOURNAL_USING))
		return 0;
	fd = openat(sv->rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		return -errno;
	return 0;
}

/* Everything that needs to know what lies below: recovery, and the refusal of plaintext. */
static vcf_err_t settle_tree(struct server *sv, const struct server_params *p)
{
	struct linked l = {0};
	vcf_err_t err = device_check_names(sv, sv->cfg);

	if (!err)
		err = settle_headers(sv);
	if (!err)
		device_settle(sv);
	if (!err)
		err = linked_scan(&l, sv, p->with_plaintext);

	if (!err && l.plaintext_cnt && !p->with_plaintext) {
		log_err("plaintext under encrypt rules, %zu in all: move it aside and "
			"copy it back through the mount, or exempt it with a passthrough "
			"rule, or, if they were images, restore their headers; --with-plaintext "
			"serves the others",
			l.plaintext_cnt);
		err = -EPERM;
	}
	if (!err)
		err = keysets_recover(sv, &l);
	linked_fini(&l);
	return err;
}

static vcf_err_t start_keys(struct server *sv, const struct server_params *p)
{
	vcf_err_t err = keyaudit_start(sv);

	if (!err)
		err = journal_open(&sv->journal, p->journal_path);

	if (!err)
		err = keysets_start(sv, p);
	if (err)
		return err;
	/* Who takes over has no time for a walk, and knows from the session what it needs. */
	return sv->taking_over ? keysets_recover(sv, NULL) : settle_tree(sv, p);
}

static void tick(struct server *sv)
{
	promote_tick(sv->promote); /* it looks at images before they are closed */
	imagetable_sweep(sv->images);
	deferred_tick(sv->deferred);
	wipewait_tick(sv->wipes);
}

static vcf_err_t start_tables(struct server *sv, const struct server_params *p)
{
	struct rules *rules = NULL;
	vcf_err_t err = config_make_rules(p->cfg, &rules);

	sv->rules = rules;
	if (!err)
		err = state_new(&sv->state, sv->session, p->rootfd);
	if (!err)
		err = imagetable_new(&sv->images, sv);
	if (!err)
		err = deferred_new(&sv->deferred, sv, EXECUTORS, tick);
	if (!err)
		err = promote_new(&sv->promote, sv);
	if (!err)
		err = rekeyer_new(&sv->rekey, sv);
	if (!err)
		err = wipewait_new(&sv->wipes, sv);
	if (err)
		return err;
	sv->handle_entry = mmap(NULL, STATE_HANDLES_MAX * sizeof(*sv->handle_entry),
				PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sv->handle_entry == MAP_FAILED) {
		sv->handle_entry = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* Locked buffers are worth more than many threads, but a few threads there must be. */
static bool enough_workers(struct server *sv, unsigned int cnt)
{
	if (sv->workers[cnt].locked || sv->taking_over)
		return false;
	if (cnt == 0)
		log_warn("request buffers cannot be locked in memory: guests' data may "
			 "get into "
			 "swap; raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)");
	return cnt >= WORKERS_MIN;
}

static vcf_err_t start_workers(struct server *sv)
{
	vcf_err_t err;

	err = session_map_buffers(sv->session);
	if (err)
		return err;
	sv->worker_cnt = pick_workers(sv->cfg);
	sv->workers = calloc(sv->worker_cnt, sizeof(*sv->workers));
	if (!sv->workers)
		return -ENOMEM;
	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		err = worker_init(&sv->workers[i], sv, i);
		if (err)
			return err;
		if (!enough_workers(sv, i))
			continue;
		worker_fini(&sv->workers[i]);
		sv->worker_cnt = i;
	}
	log_dbg("%u worker threads", sv->worker_cnt);
	err = turns_new(&sv->turns, sv);
	return err ? err : deferred_start(sv->deferred);
}

static ssize_t no_read(int fd, void *buf, size_t len, void *userdata)
{
	(void)fd;
	(void)buf;
	(void)len;
	(void)userdata;
	errno = ENOSYS; /* requests are read by the workers */
	return -1;
}

static vcf_err_t start_session(struct server *sv)
{
	static const struct fuse_custom_io io = {.writev = ops_writev, .read = no_read};
	char name[] = "vmcryptfs";
	char *argv[] = {name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int rc;

	sv->se = fuse_session_new(&args, &ops_table, sizeof(ops_table), sv);
	fuse_opt_free_args(&args);
	if (!sv->se)
		return -ENOMEM;
	rc = fuse_session_custom_io(sv->se, &io, sv->devfd);
	if (rc < 0)
		return rc;
	return sv->taking_over ? takeover_init(sv) : 0;
}

static void do_nothing(int sig)
{
	(void)sig;
}

static void set_signals(void)
{
	struct sigaction wake = {
		.sa_handler = do_nothing}; /* no SA_RESTART: it must interrupt */
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGUSR1, &wake, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore,
		  NULL); /* a write beyond RLIMIT_FSIZE is EFBIG for the caller */
}

static vcf_err_t fill_server(struct server *sv, const struct server_params *p)
{
	vcf_err_t err;

	set_signals();
	server_guard();
	sv->procfd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sv->procfd < 0) {
		log_err("/proc is needed: %s", strerror(errno));
		return -errno;
	}
	err = start_tables(sv, p);
	if (!err)
		err = init_crypto(sv);
	if (!err)
		err = start_keys(sv, p);
	if (!err)
		err = start_workers(sv);
	if (!err)
		err = start_session(sv);
	if (!err && sv->cfg->shared)
		err = proglocks_new(&sv->proglocks, sv);
	return err || !sv->taking_over ? err : takeover_images(sv);
}

static vcf_err_t find_session(struct server *sv)
{
	vcf_err_t err = 0;

	sv->own_session = !sv->session;
	if (sv->own_session)
		err = session_new(&sv->session);
	else
		sv->taking_over = sv->session->head->serving > 0;
	if (sv->taking_over)
		CRASHPOINT_TAKEN_OVER();
	return err;
}

/* Those that are known to: others may take the time from a server, or from nowhere. */
static bool births_tell(int rootfd)
{
	struct statfs fs;
	struct statx sx;

	if (fstatfs(rootfd, &fs) < 0 ||
	    statx(rootfd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0 ||
	    !(sx.stx_mask & STATX_BTIME))
		return false;
	return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
	       fs.f_type == BTRFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC;
}

vcf_err_t server_new(struct server **out, const struct server_params *p)
{
	struct server *sv = calloc(1, sizeof(*sv));
	vcf_err_t err;

	if (!sv)
		return -ENOMEM;
	sv->cfg = p->cfg;
	containerid_set_site(p->cfg->site);
	sv->session = p->session;
	sv->rootfd = p->rootfd;
	sv->births_tell = births_tell(p->rootfd);
	nodelock_begin(p->rootfd);
	sv->devfd = p->devfd;
	sv->stream = p->stream;
	sv->spawn = p->spawn;
	sv->reap = p->reap;
	sv->spawn_arg = p->spawn_arg;
	sv->site_path = p->site_path;
	sv->procfd = -1;
	sv->timeout_s = p->cfg->shared ? 0 : 1;
	sv->started_at = time(NULL);
	pthread_mutex_init(&sv->stream_in_lock, NULL);
	pthread_mutex_init(&sv->stream_out_lock, NULL);
	mutex_init(&sv->tree_lock, RANK_TREE);
	mutex_init(&sv->device_lock, RANK_DEVICE);
	mutex_init(&sv->walk_lock, RANK_WALK);
	rwlock_init(&sv->names_lock, RANK_NAMES);
	sem_init(&sv->ending, 0, 0);
	err = find_session(sv);
	if (!err)
		err = fill_server(sv, p);
	if (err) {
		if (!sv->taking_over) /* else all of it is for the next try of another process */
			server_free(sv);
		return err;
	}
	*out = sv;
	return 0;
}

/* No new key is asked for, and whoever waits is told. */
static void stop_keys(struct server *sv)
{
	if (sv->deferred)
		deferred_quiesce(sv->deferred);
	if (sv->wipes)
		wipewait_stop(sv->wipes);
	keysets_stop(sv);
	if (sv->deferred)
		deferred_stop(sv->deferred);
	keysets_free(sv);
	if (sv->journal)
		journal_close(sv->journal);
}

static void free_workers(struct server *sv)
{
	if (sv->turns) {
		turns_stop(sv->turns);
		turns_free(sv->turns);
	}
	sv->turns = NULL;
	async_free(sv);
	for (unsigned int i = 0; sv->workers && i < sv->worker_cnt; i++)
		worker_fini(&sv->workers[i]);
	free(sv->workers);
	sv->workers = NULL;
	sv->worker_cnt = 0; /* images go after the workers, and still look for them */
}

void server_free(struct server *sv)
{
	sv->stopping = true;
	if (sv->proglocks)
		proglocks_free(STEAL_PTR(&sv->proglocks), true);
	stop_keys(sv);
	if (sv->se)
		fuse_session_destroy(sv->se);
	if (sv->deferred)
		deferred_free(sv->deferred);
	free_workers(sv);
	if (sv->promote)
		promote_free(sv->promote);
	if (sv->rekey)
		rekeyer_free(sv->rekey);
	if (sv->wipes)
		wipewait_free(sv->wipes);
	if (sv->images)
		imagetable_free(sv->images);
	if (sv->keys)
		keytable_free(sv->keys);
	if (sv->state)
		state_free(sv->state);
	if (sv->handle_entry)
		munmap(sv->handle_entry, STATE_HANDLES_MAX * sizeof(*sv->handle_entry));
	if (sv->rules)
		rules_free(sv->rules);
	keyaudit_stop(sv);
	reload_free_kept(sv);
	if (sv->procfd >= 0)
		close(sv->procfd);
	if (sv->session && sv->own_session)
		session_free(sv->session, true);
	sem_destroy(&sv->ending);
	mutex_fini(&sv->walk_lock);
	mutex_fini(&sv->device_lock);
	mutex_fini(&sv->tree_lock);
	rwlock_fini(&sv->names_lock);
	pthread_mutex_destroy(&sv->stream_in_lock);
	pthread_mutex_destroy(&sv->stream_out_lock);
	free(sv);
}
