/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Session state: all that one serving process leaves to the next. Three areas of memory, each
 * behind a descriptor of the shared table:
 *
 *   (a) tables    one sparse memfd, mapped once at its largest size: head, slots, parked, async,
 *                 images, their counters, nodes, handles. Offsets and numbers only, no pointers,
 *                 no locks.
 *   (b) buffers   one sparse memfd: for each slot the request that its thread reads and the buffer
 *                 of its I/O, then those of asynchronous transfers, then the bytes of parked
 *                 requests. Guests' data: locked and kept out
 *                 of cores by the server.
 *   (c) keys      crypto/keytable.h
 *
 * Commit rule: a record is published by one atomic store of its first field (0: free), last when it
 * is made and first when it goes. What must change together is written between
 * session_txn_begin() and _end(): a successor puts back what an unfinished one noted.
 *
 * A request is under way from the moment its header in area (b) is not zero until that is zeroed
 * again, after its answer. Whoever takes over asks the kernel whether it still waits for it
 * (takeover.h) and executes it again if so. Its slot says what the first run did that must not be
 * done twice.
 *
 * The keeper makes a session; a server inherits the mapping or, after an upgrade, its keeper maps
 * it anew from its descriptor. Tables grow by use; only their address space is fixed.
 *
 * Locking: none here. Tables: state.lock; a slot: its own thread; parked: deferred.lock; async:
 * whoever has taken the record (async.c); images: the entry's state_lock.
 */
#ifndef VCF_FS_SESSION_H
#define VCF_FS_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "build-config.h"
#include "crypto/keyservice.h"
#include "crypto/token.h"
#include "fs/iostat.h"
#include "util/cleanup.h"
#include "util/err.h"

#ifndef VCF_SESSION_VERSION /* a test builds a program with another one */
#define VCF_SESSION_VERSION 5
#endif

enum {
	SESSION_VERSION =
		VCF_SESSION_VERSION, /* of everything below; raised by any change of it */
	SESSION_WORKERS_MAX = 64,
	SESSION_EXECUTORS_MAX = 8,
	SESSION_COMPLETERS =
		1, /* they have slots, but no request lies in their buffers */
	SESSION_COMPLETER_SLOT = SESSION_WORKERS_MAX + SESSION_EXECUTORS_MAX,
	SESSION_SLOTS_MAX = SESSION_COMPLETER_SLOT + SESSION_COMPLETERS,
	SESSION_MARKS_MAX = 448,
	SESSION_INIT_MAX = 512,
	SESSION_HELPERS_MAX = 64,
	SESSION_PARKED_MAX = 8192,
	SESSION_IMAGES_MAX = 4096, /* keys */
	SESSION_NODES_MAX = 1 << 20,
	SESSION_HANDLES_MAX = 1 << 18,
	SESSION_DEVICES_MAX = 1024,
	SESSION_DEVICE_NAME = 48,
	SESSION_LOCKS_MAX = 4096, /* owners of programs' locks, each on one file */
	SESSION_KEEPER_FDS_MAX = 16,
	SESSION_MAX_IO = 1024 * 1024, /* libfuse 3.14's largest max_write */
	SESSION_PAGE_LEN = 4096,
	/* Before a WRITE's payload: fuse_in_header and fuse_write_in. */
	SESSION_REQ_HEAD_LEN = 80,
	SESSION_REQ_ROOM = SESSION_PAGE_LEN + SESSION_MAX_IO,
	SESSION_IO_ROOM = SESSION_MAX_IO + 4 * SESSION_PAGE_LEN,
	/* One slot of area (b). */
	SESSION_BUFFER_LEN = SESSION_PAGE_LEN + SESSION_REQ_ROOM + SESSION_IO_ROOM,
	SESSION_PARK_PAGES = 65536, /* 256 MiB */
	/* Requests whose transfer goes on without a thread: so many, each moving so much at most. */
	SESSION_ASYNC_MAX = 128,
	SESSION_ASYNC_IO = 32 * 1024,
	SESSION_ASYNC_LEN = SESSION_PAGE_LEN + 2 * SESSION_ASYNC_IO,
	SESSION_NAME_MAX = 255,
	SESSION_PATH_MAX = 4096,
};

struct node {
	_Atomic uint64_t id; /* 0: free */
	int32_t fd;	     /* (c) O_PATH */
	uint32_t gen;	     /* of the slot: counts its uses, also while it is free */
	uint32_t parent; /* (l) slot of the folder last seen to hold it; root: itself */
	uint32_t refs;	 /* (l) children whose `parent` this is, and handles; made anew */
	uint32_t mode;	 /* (c) S_IFMT part of the inode behind it */
	uint32_t device; /* (c) number of its session_device, from 1 on; 0: it is none */
	uint64_t nlookup;  /* (l) */
	uint64_t dev, ino; /* (c) */
	uint64_t
		domain; /* (c) hash of group and context: names of other domains get other nodes */
	_Atomic uint32_t
		cls; /* enum file_class; changes only between encrypt and derived */
	_Atomic uint32_t
		peek_kind; /* PEEK_CONTAINER: the three below are valid; else unknown */
	/* Valid once peek_kind says so; several may store them, all the same. */
	_Atomic uint32_t sector_len;
	_Atomic uint32_t header_blocks; /* 512-byte blocks that the header takes */
	_Atomic uint64_t data_off;
	char name[SESSION_NAME_MAX + 1]; /* (l) last seen name */
};
_Static_assert(sizeof(struct node) == 344, "part of SESSION_VERSION");

enum handle_kind { HANDLE_DIR, HANDLE_PLAIN, HANDLE_IMAGE };
enum { HANDLE_DIRECT = 1 /* FOPEN_DIRECT_IO */, HANDLE_O_DIRECT = 2 };

struct handle {
	_Atomic uint64_t id; /* 0: free */
	uint32_t node;	     /* (c) slot */
	uint32_t kind;	     /* (c) */
	int32_t fd;	     /* (c) backing */
	int32_t direct_fd;   /* (c) O_DIRECT twin or -1 */
	uint32_t align;	     /* (c) what direct_fd wants */
	uint32_t flags;	     /* (c) HANDLE_ flags */
	uint32_t gen;	     /* as a node's */
	uint32_t reserved;
};
_Static_assert(sizeof(struct handle) == 40, "part of SESSION_VERSION");

/* A block device that appears as a file: what that shows. */
struct session_device {
	_Atomic uint32_t used; /* 0: this one and those behind it are free */
	_Atomic uint32_t mode, uid, gid;
	char name[SESSION_DEVICE_NAME];
};
_Static_assert(sizeof(struct session_device) == 64, "part of SESSION_VERSION");

/* An unlocked image: the record of the same number in the key table has its key. */
struct session_image {
	_Atomic uint32_t generation; /* that of the key; 0: free */
	uint32_t sector_len;	     /* this and the next: (c) */
	uint64_t data_off;
	uint64_t dev, ino;
	/*
	 * While the backing file grows: the plaintext size before, + 1; else 0. Set and cleared
	 * under image.size_lock; a growth that was cut short is taken back by the successor.
	 */
	_Atomic uint64_t grow_from;
	_Atomic uint64_t nodeid;
	/*
	 * Never fsync'ed but in a replay: the kernel tells each open file of an error once. -1: none.
	 * Of a device: it also claims that (device.h).
	 */
	_Atomic int32_t sentinel_fd;
	uint32_t escrow; /* as in image_entry */
	unsigned char uuid[UUID_LEN];
	struct token token;
	char path[256]; /* last seen, for people */
};

/* The counters of the image of the same number; apart, so that walks over images do not touch them. */
struct session_iostat {
	struct iostat way[IOSTAT_WAYS];
};

/*
 * What a thread is doing. `unique` tells to which request the rest belongs: another one's is as
 * good as zero.
 */
struct session_slot {
	_Atomic uint64_t unique; /* of the request under way; stays until the next one */
	_Atomic uint64_t busy;	 /* the same, but 0 between requests */
	_Atomic uint64_t began_ms;   /* CLOCK_MONOTONIC */
	_Atomic int32_t tid;	     /* of the thread */
	_Atomic uint32_t faults;     /* how often this request's own thread crashed */
	_Atomic uint32_t intent;     /* SLOT_INTENT: the change may have been made */
	_Atomic uint32_t forget_cnt; /* FORGETs: how many are done */
	_Atomic uint32_t mark_cnt;   /* lookups that were counted for the answer */
	_Atomic int32_t fsync_err;   /* -errno that fsync(2) has reported */
	_Atomic uint64_t handle;     /* that was made, or is about to be published */
	_Atomic uint64_t made_ino;   /* intent: the inode that is moved */
	_Atomic uint64_t
		gone_ino; /* intent: the inode that is replaced or swapped, 0: none */
	uint64_t made_dev, gone_dev;
	/* intent: CLOCK_REALTIME_COARSE, ns: what was born before is not this request's; 0: all is */
	_Atomic uint64_t intent_ns;
	_Atomic uint64_t
		append_at; /* shared: where this O_APPEND write goes, + 1; 0: not known */
	_Atomic uint64_t
		waits; /* for a lock of another node (nodelock.h); of the thread */
	uint64_t reserved[1];
	struct iostat
		io[IOSTAT_WAYS]; /* of this thread and its predecessors, of all images */
	uint64_t marks[SESSION_MARKS_MAX]; /* nodeids */
};
_Static_assert(sizeof(struct session_slot) == 4120, "part of SESSION_VERSION");

/* A request that waits, its bytes in area (b). */
struct session_parked {
	_Atomic uint64_t unique; /* 0: free */
	uint32_t page, page_cnt; /* behind the slots' buffers */
	uint32_t len;
	uint32_t faults;
	uint32_t intent;
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct session_parked) == 40, "part of SESSION_VERSION");

/*
 * A READ or WRITE whose transfer is under way while its thread does something else (async.h); its
 * bytes are in area (b): the request as in a slot's buffer, then the buffer of its I/O.
 */
struct session_async {
	_Atomic uint64_t unique;   /* 0: free */
	_Atomic uint64_t began_ms; /* CLOCK_MONOTONIC */
	uint32_t len;
	_Atomic uint32_t faults; /* as in a slot */
};
_Static_assert(sizeof(struct session_async) == 24, "part of SESSION_VERSION");

/* An owner of locks on a file, and the descriptor that has them (proglock.h). */
struct session_lock {
	_Atomic uint32_t used; /* 0: free */
	int32_t fd;
	uint64_t nodeid, owner;
	uint64_t handle; /* by which it locked last */
	uint32_t pid, reserved;
};
_Static_assert(sizeof(struct session_lock) == 40, "part of SESSION_VERSION");

/* What must go together: see session_txn_begin(). */
struct session_txn {
	_Atomic uint32_t active;
	uint32_t slot, node;
	uint32_t old_mark_cnt, old_forget_cnt;
	uint32_t reserved;
	uint64_t old_nlookup;
};

enum session_fd {
	SESSION_FD_TABLES,
	SESSION_FD_BUFFERS,
	SESSION_FD_KEYS,
	SESSION_FD_BACKING,
	SESSION_FD_DEVICE,
	SESSION_FD_PROGRAM, /* the executable that serves */
	SESSION_FD_AUDIT,   /* the ring of audit lines */
	SESSION_FD_LIFE,    /* of the server that was started last: lifesign.h */
	SESSION_FD_CNT = 8
};

struct session_head {
	uint64_t magic;
	uint32_t version;
	uint32_t lens[10];	     /* of the records: another layout is refused */
	_Atomic uint32_t generation; /* of the server that was started last */
	_Atomic uint32_t serving;    /* the last one that began to serve; 0: none did */
	_Atomic uint32_t deaths;     /* ends of servers that nobody asked for */
	_Atomic uint32_t hangs;	     /* of these: ended by the keeper */
	_Atomic uint32_t upgrades;
	_Atomic uint32_t last_signal, last_in_flight; /* of the last death */
	_Atomic uint32_t log_level; /* asked for at run time, + 1; 0: as configured */
	_Atomic int32_t server_pid, keeper_pid;
	_Atomic uint32_t stopping;   /* the mount is to end */
	_Atomic uint32_t draining;   /* no new disks: drain.h */
	_Atomic uint32_t filtered;   /* the keeper has these sysfilter_keeper_rules() */
	_Atomic uint32_t replayed;   /* requests that were executed again */
	_Atomic uint32_t resent;     /* ... that only FUSE_NOTIFY_RESEND brought back */
	_Atomic uint32_t poisoned;   /* ... that were answered EIO at their third crash */
	_Atomic uint32_t dropped;    /* records that were not sound */
	_Atomic uint64_t async_done; /* transfers that no worker waited for */
	_Atomic uint32_t init_len;
	_Atomic uint64_t death_ms;   /* of the last death, CLOCK_MONOTONIC */
	_Atomic uint64_t beat_ms;    /* CLOCK_MONOTONIC */
	_Atomic uint64_t stalled_ms; /* since when nobody serves, 0: somebody does */
	_Atomic uint32_t stalls;
	_Atomic uint64_t stall_sum_us, stall_max_us,
		stall_last_us;	     /* from a death to the next serving */
	_Atomic int64_t mounted_at;  /* seconds of the epoch */
	int32_t fds[SESSION_FD_CNT]; /* -1: none */
	int32_t keeper_fds
		[SESSION_KEEPER_FDS_MAX]; /* what else the keeper needs; -1: none */
	_Atomic uint32_t node_high, handle_high; /* slots that were ever used */
	struct session_txn txn;
	unsigned char init[SESSION_INIT_MAX]; /* FUSE_INIT as the kernel sent it */
	struct keyservice_helper
		helpers[SESSION_HELPERS_MAX]; /* which outlive the server */
};

struct session {
	size_t map_len;
	struct session_head *head;
	struct session_slot *slots;
	struct session_parked *parked;
	struct session_async *async;
	struct session_image *images;
	struct session_iostat *iostats; /* of each image */
	struct node *nodes;
	struct handle *handles;
	struct session_device *devices;
	struct session_lock *locks;
	unsigned char *buffers; /* area (b), NULL until session_map_buffers() */
};

/* Makes areas (a) and (b), empty. -errno. */
NODISCARD vcf_err_t session_new(struct session **out);

/* Maps area (a) of another program's session. -EPROTO: it has another version or layout. */
NODISCARD vcf_err_t session_attach(struct session **out, int tables_fd);

/* Unmaps; with `close_fds` the areas go as well. */
void session_free(struct session *s, bool close_fds);

/* Maps area (b); best effort on its properties is the caller's. -errno. */
NODISCARD vcf_err_t session_map_buffers(struct session *s);

/* The buffers of slot i, of an asynchronous and of a parked request; area (b) is mapped. */
unsigned char *session_buffer(const struct session *s, unsigned int slot);
unsigned char *session_async_buffer(const struct session *s, unsigned int i);
unsigned char *session_park_page(const struct session *s, uint32_t page);

/* Requests under way, as the slots say: for the keeper, which does not map area (b). */
unsigned int session_in_flight(const struct session *s);

/* Of these: asynchronous ones. A transfer has its record from before its start to after its end. */
unsigned int session_async_cnt(const struct session *s);

/* Is there a request that a thread has read and not begun? Reads headers only, without a mapping. */
bool session_has_unbegun(const struct session *s);

/*
 * Closes every descriptor from 3 on that the session does not name: nodes, handles, images'
 * sentinels, programs' locks, helpers, fds, keeper_fds. For the keeper, between two servers. -ENOMEM.
 */
NODISCARD vcf_err_t session_sweep(const struct session *s);

/* Calls fn for each descriptor that the session names. */
void session_each_fd(const struct session *s, void (*fn)(void *arg, int fd), void *arg);

/* False in a build that shows what the notes cost; its server cannot be replaced. */
#define SESSION_NOTES VCF_SESSION_NOTES

/* Notes what is about to change: node's nlookup and slot's counts; slot may be NULL. */
void session_txn_begin(struct session *s, const struct node *n,
		       const struct session_slot *slot);
void session_txn_end(struct session *s);
/* Puts an unfinished one back. Nobody else uses the tables. */
void session_txn_undo(struct session *s);

#endif
