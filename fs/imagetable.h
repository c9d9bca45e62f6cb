/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The images in use, one entry a backing inode, and the way of each to its key.
 *
 * States of an entry (state_lock):
 *   COLD   no key here. Either the file is empty (no header, no secret yet), or nobody needs it.
 *   BUSY   a job is under way: unlock (read header, fetch secret, open slot, check MAC, kcv and
 *          context), create (take a secret, write a header), close, or another secret (promote).
 *          Requests that need the outcome are parked in `waiters`.
 *   READY  entry.image exists; its key is in the key table.
 * READY -> COLD by a close job when nobody has used it for `linger` seconds: the plaintext page
 * cache is invalidated, then the key wiped.
 *
 * Who holds a reference may use entry->image without a lock once imagetable_prepare() said 0:
 * a close job starts only with no references.
 *
 * An entry that lingers holds no descriptor, so its inode may be freed and its number used for
 * a new file. Such an entry is detached: no request finds it any more, and it goes, with its
 * key, with its last reference.
 *
 * Lock order: table lock, then an entry's state_lock; neither across I/O or a fetch.
 */
#ifndef VCF_FS_IMAGETABLE_H
#define VCF_FS_IMAGETABLE_H

#include "crypto/container.h"
#include "fs/deferred.h"
#include "fs/image.h"
#include "fs/server.h"

enum image_state { IMAGE_COLD, IMAGE_BUSY, IMAGE_READY };

struct image_entry {
	uint64_t dev, ino;	  /* (c) */
	struct image_entry *next; /* (t) hash chain; (t) = the table's lock */
	unsigned int refs;	  /* (t) handles, requests under way, jobs */
	unsigned int opens;	  /* (t) handles */
	unsigned int directs;	  /* (t) handles with FOPEN_DIRECT_IO */
	uint64_t deletion; /* (t) the deletion to finish with the last handle, 0: none */
	bool lost; /* (c) open when a server died, and its key could not be taken over */
	bool detached; /* (t) its file is gone, or is another container now */
	bool rekeying; /* (t) its header is being written by somebody who holds its inode */
	time_t idle_since; /* (t) monotonic */
	struct mutex state_lock;
	enum image_state state; /* (s) = state_lock */
	struct parked *waiters; /* (s) */
	/* (s) set, after all that is below; constant while READY and referenced */
	struct image *_Atomic image;
	struct key_ref key;	      /* (s) */
	struct token token;	      /* (s) of the container; mac and kcv included */
	unsigned char uuid[UUID_LEN]; /* (s) */
	uint32_t sector_len;	      /* (s) */
	uint32_t
		escrow; /* (s) imagetable_escrow_mark() of the container's escrow token */
	uint64_t data_off; /* (s) */
	uint64_t nodeid;   /* (s) a node of it, for the page cache */
	char path[256];	   /* (s) last seen, for people */
	/* (s) while there is an image: what a successor finds */
	struct session_image *_Atomic record;
	struct iostat *io; /* (s) its counters; as `image` */
};

struct imagetable;

NODISCARD vcf_err_t imagetable_new(struct imagetable **out, struct server *sv);
/* Wipes all keys. Nobody uses the table any more. */
void imagetable_free(struct imagetable *t);

/*
 * Finds or makes the entry of a node's inode and takes a reference. One that lingers is compared
 * with the file's header first. -ENOMEM; -errno of the file.
 */
NODISCARD vcf_err_t imagetable_get(struct imagetable *t, const struct node *n,
				   struct image_entry **out);
/* One more reference to an entry that the caller has one to, or has set BUSY. */
void imagetable_ref(struct imagetable *t, struct image_entry *e);
void imagetable_put(struct imagetable *t, struct image_entry *e);

/* Has anybody a handle of it? */
bool imagetable_is_open(struct imagetable *t, const struct image_entry *e);

/*
 * A handle comes or goes; a handle holds a reference. imagetable_closed() gives the reference back
 * and returns the deletion that the last handle has to finish, or 0.
 *
 * nodeid    by which the kernel knows the file now
 * unlinked  the file had no name when the caller looked, with the descriptor open
 * *direct   asked for; set where another handle is direct, for then every new one has to be
 * -ESTALE   the last name went while nobody had it open: its content is, or is being, wiped
 */
NODISCARD vcf_err_t imagetable_opened(struct imagetable *t, struct image_entry *e,
				      uint64_t nodeid, bool unlinked, bool *direct);
NODISCARD uint64_t imagetable_closed(struct imagetable *t, struct image_entry *e,
				     bool direct);
enum image_need {
	IMAGE_NEED_OPEN,   /* the key of the container, if there is one */
	IMAGE_NEED_HEADER, /* a container: made now if the file is empty */
};

/*
 * Makes the entry ready for the current request.
 * 0            e->image is usable, or (IMAGE_NEED_OPEN) the file is empty and e->image NULL
 * -EINPROGRESS the request was parked and will be executed again: answer nothing
 * -EPERM       plaintext
 * -EBADMSG     damaged, MAC, context of another instance
 * -ENOKEY, -EKEYREJECTED, -ETIMEDOUT, -EDQUOT   as the key service says
 * -ESTALE      its last name went meanwhile
 * -EINTR, -errno
 */
NODISCARD vcf_err_t imagetable_prepare(struct imagetable *t, struct image_entry *e,
				       struct node *n, enum image_need need);

/* P of an image that is READY and in use; false if it is not. */
bool imagetable_size(struct imagetable *t, uint64_t dev, uint64_t ino, uint64_t *plen);

/*
 * Of a device's image, in use or not, whose device has that size now: P, as far as it is READY; false
 * if it is not.
 */
bool imagetable_measured(struct imagetable *t, uint64_t dev, uint64_t ino, uint64_t clen,
			 uint64_t *plen);

/*
 * The last link went: remember the deletion until the last handle is closed.
 * Returns false if no handle is open: the caller finishes it now; the entry is detached.
 */
bool imagetable_defer_deletion(struct imagetable *t, uint64_t dev, uint64_t ino,
			       uint64_t deletion);

/* Is a job under way that may be writing the file's header? */
bool imagetable_is_busy(struct imagetable *t, uint64_t dev, uint64_t ino);

/* Closes entries that were idle for `linger` seconds; called once a second. */
void imagetable_sweep(struct imagetable *t);

/* Closes one idle entry now, however short it was idle, on a job's thread. False: there is none. */
bool imagetable_evict(struct imagetable *t);

/*
 * The key of a file that nobody has open goes now, for a command that has locked the file against
 * opens. -EBUSY: it is in use; -EAGAIN: some request looks at it just now.
 */
NODISCARD vcf_err_t imagetable_forget(struct imagetable *t, uint64_t dev, uint64_t ino);

/*
 * Takes over: entries for the open handles and for the session's images, whose keys are in the key
 * table. An image that cannot be made of its file is closed; what is open is unlocked again when it
 * is used. No other thread.
 */
NODISCARD vcf_err_t imagetable_take_over(struct imagetable *t);

/* Of the key that an escrow token is for ("": none, 0): tells one from another, for counting. */
uint32_t imagetable_escrow_mark(const char *recipient);
void imagetable_set_escrow(struct image_entry *e, const struct container *c);

/* For jobs, on a BUSY entry: the image exists, or does no longer. */
void imagetable_publish(struct imagetable *t, struct image_entry *e, struct image *im,
			const struct token_subject *s, const struct token *token,
			struct key_ref key);
void imagetable_unpublish(struct imagetable *t, struct image_entry *e);

/*
 * Before an fsync of an image: there is an open file of it that nobody ever syncs, so that a
 * successor who repeats the fsync hears of an error that was told to the dead. pathfd: of it.
 */
void imagetable_keep_sentinel(struct imagetable *t, struct image_entry *e,
			      const struct node *n);

/* Calls fn for a copy-safe view of each entry with a key, table lock held: fn must be short. */
void imagetable_each(struct imagetable *t,
		     void (*fn)(void *arg, const struct image_entry *e), void *arg);

/*
 * The container of that inode and uuid is about to get another secret; the caller holds a descriptor
 * of it and from here to imagetable_rekey_end() its header. -EAGAIN: a job is under way, not now;
 * -ENOMEM.
 */
NODISCARD vcf_err_t imagetable_rekey_begin(struct imagetable *t, uint64_t dev,
					   uint64_t ino,
					   const unsigned char uuid[UUID_LEN],
					   struct image_entry **out);
/* The file, which has that path now, has the new header. */
void imagetable_rekeyed(struct imagetable *t, struct image_entry *e,
			const struct container *c, const char *path);
void imagetable_rekey_end(struct imagetable *t, struct image_entry *e);

/*
 * For jobs: ends BUSY. 0 with e->image set: READY; else COLD. All waiters go on with err. Gives the
 * job's reference back.
 */
void imagetable_finish(struct imagetable *t, struct image_entry *e, vcf_err_t err);

/* Is the file the container of that uuid? By its inode number alone it may be another one. -errno. */
NODISCARD vcf_err_t imagetable_compare_file(struct imagetable *t,
					    const unsigned char uuid[UUID_LEN],
					    const struct node *n, bool *same);

#endif
