/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The record of a power-loss run: one file, mapped by all who write to it, which holds in one
 * order what the daemon changed below (record.c) and what the workload did above (powerwork.c).
 *
 * The writer of a change holds the lock over the change and its record, so the order in the
 * file is the order in which things happened.
 */
#ifndef VCF_TESTS_RECORD_H
#define VCF_TESTS_RECORD_H

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum record_kind {
	RECORD_ROOT = 1, /* ino: a folder whose content counts; text: "back" or "state" */
	RECORD_CREATE,	 /* dir, ino; text: name. Also fifos and the like */
	RECORD_MKDIR,
	RECORD_SYMLINK, /* text: name, target */
	RECORD_LINK,
	RECORD_RENAME, /* dir, dir2, ino, off: the replaced one or 0, cnt: flags; 2 names */
	RECORD_UNLINK, /* also rmdir */
	RECORD_WRITE,  /* ino, off, data */
	RECORD_SUBMIT, /* the same, asynchronously; cnt: its name until RECORD_DONE */
	RECORD_DONE,   /* ino, cnt; value: how many bytes */
	RECORD_SIZE,   /* ino, off: the new size */
	RECORD_ALLOC,  /* ino, off, cnt, value: fallocate's mode */
	RECORD_FSYNC,
	RECORD_FDATASYNC,
	RECORD_ASKED,	 /* a line to a key helper */
	RECORD_ANSWERED, /* and one from it */
	RECORD_BEGIN,	 /* the workload: data is a struct work_op */
	RECORD_END,	 /* its outcome: value, and ino of what it made */
};

struct record {
	uint32_t len; /* with data, a multiple of 8 */
	uint32_t kind;
	uint64_t ino, dir, dir2, off, cnt;
	int32_t value;
	uint32_t data_len;
	unsigned char data[];
};

struct record_file {
	_Atomic uint32_t lock;
	_Atomic uint64_t end;
};

enum { RECORD_START = 4096 };
#define RECORD_ROOM ((uint64_t)1 << 31)

static inline struct record_file *record_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd >= 0) {
		p = mmap(NULL, RECORD_ROOM, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, fd, 0);
		close(fd);
	}
	return p == MAP_FAILED ? NULL : p;
}

static inline void record_lock(struct record_file *f)
{
	while (atomic_exchange(&f->lock, 1))
		sched_yield();
}

static inline void record_unlock(struct record_file *f)
{
	atomic_store(&f->lock, 0);
}

/* The lock is held. `more` (may be NULL) follows the first data. */
static inline void record_append(struct record_file *f, const struct record *head,
				 const void *data, size_t len, const void *more,
				 size_t more_len)
{
	uint64_t end = atomic_load(&f->end);
	struct record *r;

	if (!end)
		end = RECORD_START;
	if (end + sizeof(*r) + len + more_len + 8 > RECORD_ROOM)
		abort();
	r = (void *)((char *)f + end);
	memcpy(r, head, sizeof(*r));
	r->data_len = (uint32_t)(len + more_len);
	r->len = (uint32_t)((sizeof(*r) + r->data_len + 7) / 8 * 8);
	if (len)
		memcpy(r->data, data, len);
	if (more_len)
		memcpy(r->data + len, more, more_len);
	atomic_store(&f->end, end + r->len);
}

/*
 * What the workload does. Folders and files have numbers of its own; 0 is the root folder. A
 * name is (folder, text).
 */
enum work_kind {
	WORK_CREATE, /* file, folder, name; len: WORK_PLAIN or 0 */
	WORK_MKDIR,
	WORK_WRITE, /* file, off, len, seed */
	WORK_QUEUED, /* the same, inside the file, with others under way that it does not meet */
	WORK_TRUNCATE,
	WORK_PUNCH,
	WORK_ZERO,
	WORK_ALLOC,
	WORK_ALLOC_KEEP,
	WORK_FSYNC,
	WORK_FDATASYNC,
	WORK_RENAME, /* file (or folder) from folder/name to folder2/name2 */
	WORK_UNLINK, /* file, folder, name; also rmdir */
	WORK_FSYNC_FOLDER,
};

enum { WORK_PLAIN = 1, WORK_NAME_MAX = 31 };

struct work_op {
	uint32_t kind, id, folder, folder2;
	uint64_t off, len, seed;
	char name[WORK_NAME_MAX + 1], name2[WORK_NAME_MAX + 1];
};

/* The bytes that a write brings; hardly any is zero. */
static inline void work_fill(unsigned char *dst, uint64_t len, uint64_t off,
			     uint64_t seed)
{
	for (uint64_t i = 0; i < len; i++) {
		uint64_t x = (seed + (off + i) / 8) * 0x9e3779b97f4a7c15u;

		x ^= x >> 29;
		x *= 0xbf58476d1ce4e5b9u;
		dst[i] = (unsigned char)(x >> (8 * ((off + i) % 8)));
	}
}

static inline uint64_t work_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

#endif
