/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk whose power fails: what may be left of a record (record.h) that was cut off.
 *
 * Operations are applied in the record's order. At any moment a part of them is durable:
 *
 *   fsync of a file      all of the file; the operations on names up to the last that concerns it
 *   fdatasync of a file  all of the file; the operations on names up to its creation
 *   fsync of a folder    the operations on names up to the last that concerns it
 *
 * Of the others a state may have lost (as ext4 in ordered mode and xfs may lose them):
 *
 *   names        any number of the last ones, each of the two trees for itself
 *   sizes, holes any number of the last ones of each file
 *   data         any write, in part by pages, and by 512 bytes where the page had blocks before.
 *                One that moves the end of its file is whole wherever the end is moved.
 *
 * An asynchronous write counts as done from the report of its end on (no sync before that covers it);
 * of one that is under way any part may be there.
 *
 * A write that follows a lost change of size or a lost hole at the same place is lost with it:
 * its blocks are new ones, which only the journal makes part of the file.
 */
#ifndef VCF_TESTS_POWERDISK_H
#define VCF_TESTS_POWERDISK_H

#include "tests/crash/record.h"

enum { PAGE_LEN = 4096, TREES = 2, TREE_BACK = 0, TREE_STATE = 1 };

struct page {
	unsigned int refs;
	uint64_t hash;
	unsigned char bytes[PAGE_LEN];
};

/* A file's bytes; pages are shared between contents and never changed. NULL: a hole. */
struct content {
	uint64_t size;
	size_t cnt;
	struct page **pages;
};

struct content content_clone(const struct content *c);
void content_free(struct content *c);
void content_read(const struct content *c, void *dst, uint64_t off, uint64_t len);
/* Of the pages in [0, len). */
uint64_t content_hash(const struct content *c, uint64_t len);

enum object_kind { OBJECT_FILE, OBJECT_FOLDER, OBJECT_SYMLINK };

/* A file or folder; one that gets a freed inode's number is another one. */
struct object {
	uint64_t ino;
	enum object_kind kind;
	int tree;
	const char *target;
	struct content durable, now;
	const struct record **pending; /* of now, but not surely of the disk */
	size_t pending_cnt, pending_room;
	uint64_t *size_before;	      /* of each pending one */
	const struct record **flying; /* asynchronous writes under way */
	size_t flying_cnt, flying_room;
	size_t created_by, last_by; /* 1 + index of operations on names, 0: none */
};

struct name {
	const struct object *folder, *object;
	const char *text;
};

struct names {
	struct name *list;
	size_t cnt, room;
};

/* An operation on names, with its objects found. */
struct name_op {
	const struct record *r;
	struct object *folder, *folder2, *object;
};

struct tree {
	struct object *root;
	struct name_op *ops;
	size_t cnt, room, durable_cnt;
	struct names durable, now;
};

struct disk {
	const struct record **events;
	size_t event_cnt;
	size_t *object_of; /* by event; index in objects, for END the one it names */
	struct object **objects;
	size_t object_cnt, object_room;
	size_t done; /* events applied */
	struct tree trees[TREES];
};

void disk_load(struct disk *d, const struct record_file *f);
/* Applies events up to (not with) number `to`. */
void disk_advance(struct disk *d, size_t to);

/* One outcome. */
struct outcome {
	struct names names[TREES];
	const struct content **contents; /* by index of object */
	struct content *own;		 /* those of them that were made for it */
	size_t cnt;
	size_t lost;   /* operations that are not, or not whole, in it */
	size_t flying; /* asynchronous writes that were under way */
};

/* Everything up to now. */
void outcome_prefix(struct outcome *o, const struct disk *d);
void outcome_random(struct outcome *o, const struct disk *d, uint64_t *random);
void outcome_free(struct outcome *o);

/* NULL: there is none. */
const struct object *names_find(const struct names *n, const struct object *folder,
				const char *text);
size_t disk_index(const struct disk *d, const struct object *o);

#endif
