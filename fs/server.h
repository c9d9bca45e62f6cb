/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serving process: what all requests share, the worker threads and their request loop.
 *
 * Requests come from /dev/fuse, one a read(2), or from a stream socket framed by
 * fuse_in_header.len (tests: no mount, no privileges). Each worker reads into its own resident
 * buffer; READ and WRITE are executed by transfer.c, all else by libfuse's low-level session, whose
 * handlers are in ops_*.c.
 *
 * A request that must wait for a key is parked (deferred.h) and executed again, from its first
 * byte, by an executor thread when the key is there. FUSE_INTERRUPT is answered here, not by
 * libfuse.
 */
#ifndef VCF_FS_SERVER_H
#define VCF_FS_SERVER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "crypto/deletion.h"
#include "crypto/journal.h"
#include "crypto/keyservice.h"
#include "crypto/keytable.h"
#include "crypto/reserve.h"
#include "fs/config.h"
#include "fs/image.h"
#include "fs/rules.h"
#include "fs/session.h"
#include "fs/state.h"

struct fuse_session;
struct async;
struct deferred;
struct imagetable;
struct image_entry;
struct keyset;
struct promoter;
struct rekeyer;
struct turn;
struct turns;
struct wipewait;
struct parked;
struct proglocks;
struct server;

enum {
	SERVER_MAX_IO = SESSION_MAX_IO,
	SERVER_KEYS_MAX = SESSION_IMAGES_MAX, /* open images */
	SERVER_KEYSETS_MAX = 64,	      /* with those that reloads took away */
};
_Static_assert(IMAGE_WORKER_BUF(SERVER_MAX_IO) <= SESSION_IO_ROOM, "room for an answer");

/* The kernel sets this bit of `unique` in what FUSE_NOTIFY_RESEND brings back. */
#define SERVER_RESENT (1ull << 63)

/* One thread that executes requests: a FUSE worker or an executor. */
struct worker {
	struct server *sv;
	pthread_t thread;
	_Atomic bool started; /* others look while workers are being started */
	_Atomic bool running;
	struct session_slot *slot; /* what it tells a successor */
	unsigned char *map;	   /* the slot's buffers: the two below */
	bool locked;		   /* they stay in memory */
	unsigned char *req;	   /* so placed that a WRITE's payload is page-aligned */
	size_t req_len;		   /* room */
	struct image_worker io;
	uint64_t
		epoch; /* of the keys (server.key_epoch) when the cipher was last looked at */
	_Atomic uint64_t unique; /* of the request under way, 0: none */
	/* The unique for which FUSE_INTERRUPT came last before it parked; never reset, since an
	 * interrupt may come before the executor gets to the request. */
	_Atomic uint64_t interrupted;
	struct turn *turn;	/* of a worker; NULL: nobody's turn is asked for */
	struct parked *resumed; /* the parked request that is executed again, or NULL */
	_Atomic bool answering; /* its READ or WRITE is done */
	struct session_async *async; /* a completer's: the request under way, or NULL */
	uint32_t open_flags;	     /* FOPEN_ bits that libfuse has no field for */
};

/* The worker that runs on this thread. */
extern _Thread_local struct worker *current_worker;

struct server {
	const struct config *_Atomic cfg; /* exchanged by a reload; the old one stays */
	struct rules *_Atomic rules;	  /* likewise */
	struct reload_kept *kept;	  /* what reloads have brought and replaced */
	void (*on_reload)(void *arg); /* a reload is applied, no name was given since */
	void *on_reload_arg;
	struct rwlock names_lock; /* shared: a file gets a name; by a reload: none does */
	int rootfd;		  /* the backing directory */
	bool births_tell;	  /* it keeps birth times, by this machine's clock */
	int procfd;		  /* /proc/self/fd */
	int devfd;		  /* /dev/fuse or a stream socket */
	bool stream;		  /* devfd is a socket: a message comes in pieces, */
	pthread_mutex_t stream_in_lock, stream_out_lock; /* one at a time each way */
	double timeout_s;				 /* of attributes and entries */
	struct session *session;
	bool own_session; /* made by server_new() */
	_Atomic bool
		taking_over; /* requests of an earlier process are being executed again */
	struct state *state;
	struct image_entry **handle_entry; /* by handle slot */
	struct keytable *keys;
	struct imagetable *images;
	struct deferred *deferred;
	struct keyset *keysets[SERVER_KEYSETS_MAX]; /* keyset.h; [0]: the default one */
	_Atomic unsigned int keyset_cnt;
	bool keysets_at_work; /* those of the start: a reload's come beside them */
	keyservice_spawn_fn *spawn;
	keyservice_reap_fn *reap;
	void *spawn_arg;
	const char *site_path;
	struct journal *journal;
	struct promoter *promote;
	struct rekeyer *rekey;
	struct deletion_queue
		*deletions; /* of the default service; also by keyset_deletions() */
	struct proglocks *proglocks; /* where other nodes are; else NULL */
	struct wipewait *wipes; /* containers without a name that other nodes have open */
	struct mutex tree_lock; /* unlink, rename and the journal's steps around them */
	struct mutex device_lock; /* records of devices, and their claims */
	struct mutex walk_lock;	  /* one walk for the containers at a time */
	struct linked_moves
		*moves; /* (tree_lock) during a walk: what it may have missed */
	struct fuse_session *se;
	struct worker *workers;
	unsigned int worker_cnt;
	struct async *async; /* async.h; NULL: all requests stay with their workers */
	struct turns *turns;
	_Atomic uint64_t key_epoch; /* rises when a volume key is wiped */
	_Atomic bool stopping;
	_Atomic bool failed; /* the connection broke: no end that anybody asked for */
	sem_t ending;	     /* posted with `stopping` */
	_Atomic bool inited; /* FUSE_INIT was answered */
	void (*on_init)(void *arg);
	void *on_init_arg;
	time_t started_at;
	int keeper_pid;
	const char *config_path; /* for people; NULL: none */
};

/* What a server is made of; all pointers stay the caller's and outlive it. */
struct server_params {
	const struct config *cfg;
	int rootfd; /* the backing directory, O_DIRECTORY; kept open by the caller */
	int devfd;  /* /dev/fuse or a connected SOCK_STREAM socket; the caller's */
	bool stream;
	bool with_plaintext; /* serve although plaintext lies under encrypt rules */
	const char *journal_path;
	const char *site_path; /* names the site secret; see sitekey.h */
	/*
	 * What an earlier server left, or an empty one; NULL: the server makes its own. One that
	 * served (head->serving > 0) is taken over: see takeover.h.
	 */
	struct session *session;
	keyservice_spawn_fn *spawn;
	keyservice_reap_fn *reap;
	void *spawn_arg;
};

/*
 * Checks everything that can be checked before the first request (helper, locked memory,
 * journal, plaintext below the mount), recovers deletions, starts the key service.
 * -errno with the reason logged; -EPERM: plaintext files were found and listed.
 */
NODISCARD vcf_err_t server_new(struct server **out, const struct server_params *p);

/*
 * Raises the limits of descriptors and locked memory as far as we may; before server_new(), and
 * before capabilities are dropped.
 */
void server_raise_limits(void);

/*
 * Starts the workers; on_init (may be NULL) is called once FUSE_INIT is answered, or, where a
 * session was taken over, once the requests that it left are executed.
 */
NODISCARD vcf_err_t server_start(struct server *sv, void (*on_init)(void *), void *arg);

/* Waits until the connection has ended (unmounted, peer closed) or server_stop(). */
void server_wait(struct server *sv);

/* Asks the workers to end after their present request; thread-safe, async-signal-safe. */
void server_stop(struct server *sv);

/* After server_wait(): ends everything, wipes all keys. */
void server_free(struct server *sv);

/*
 * Executes one request that lies in w->req (by workers and executors): notes it in the slot, and
 * forgets it when it is answered or parked.
 */
void server_execute(struct worker *w, size_t len);

/*
 * Puts a parked request into the worker's buffer, as if it had been read, and what is known of it
 * into its slot; a death leaves all or nothing.
 */
void worker_put_request(struct worker *w, const void *req,
			const struct session_parked *r);
/* Empties the buffer's header: the request is answered, or lies somewhere else. */
void worker_drop_request(struct worker *w);

/*
 * Does the kernel still wait for the answer to a request? Answered as the kernel would take an
 * interrupt's answer: it says ENOENT if there is no such request, and does nothing else.
 */
bool server_is_awaited(struct server *sv, uint64_t unique);

/*
 * A volume key was wiped from the table: the ciphers of idle workers forget it as well, at once;
 * busy ones when they have done their request.
 */
void server_forget_key(struct server *sv);
/* Called by workers and executors between two requests. */
void worker_forget_keys(struct worker *w);

/*
 * Gives a worker the buffers of a slot of the session and a cipher; best effort on locking. What
 * an earlier process left in the request buffer stays until the first request is read.
 */
NODISCARD vcf_err_t worker_init(struct worker *w, struct server *sv, unsigned int slot);
/* Locks the buffers: by worker_init(), but on a take-over by each thread for itself. */
void worker_lock(struct worker *w);
/* Wipes the buffers. */
void worker_fini(struct worker *w);

/* Sends an answer that libfuse does not make: an error, or 0 and len bytes of data. */
void server_reply(struct server *sv, uint64_t unique, vcf_err_t err, void *data,
		  size_t len);

#endif
