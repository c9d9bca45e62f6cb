/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the workload was promised: for each name and each file, what may be found after a cut.
 *
 * Positions are numbers of events. Of a name: what it led to when an fsync that covers it had
 * returned, or after any later operation that had begun. Of a file's bytes and size: those when
 * an fsync or fdatasync of it had returned, or after any later operation that had begun; where
 * one of these sizes ends before a byte, also zero (format.md, "Sizes").
 */
#ifndef VCF_TESTS_POWERMODEL_H
#define VCF_TESTS_POWERMODEL_H

#include "tests/crash/powerdisk.h"

struct version {
	size_t begin, end; /* of the operation that made it; end SIZE_MAX: never */
	size_t acked;	   /* from here on it is the oldest allowed, SIZE_MAX: never */
	uint64_t size;
	unsigned char *bytes;
	/* Of a WORK_QUEUED what it wrote; len 0: of others, which are alone at their time. */
	uint64_t off, len;
	/*
	 * The sizes on the way there: multiples of via_unit in (via_from, via_to]. A write
	 * comes from the kernel in pieces that end with pages; a shrink cuts off the sectors
	 * before it makes the marker.
	 */
	uint64_t via_unit, via_from, via_to;
};

struct file {
	uint32_t id;
	bool plain;
	bool ever_written; /* has a container, perhaps */
	size_t object;	   /* index in the disk, SIZE_MAX: its creation never returned */
	struct version *versions;
	size_t cnt, room;
};

/* What a name leads to from `begin` on. */
struct binding {
	size_t begin, end, acked;
	uint32_t id;   /* 0: nothing */
	size_t synced; /* version of the file that a rename-over makes durable + 1 */
};

struct model_name {
	uint32_t folder;
	const char *text;
	struct binding *bindings;
	size_t cnt, room;
};

struct model {
	struct file *files; /* and folders */
	size_t file_cnt, file_room;
	struct model_name *names;
	size_t name_cnt, name_room;
	size_t acks; /* fsyncs that returned */
};

void model_load(struct model *m, const struct disk *d);
struct file *model_file(struct model *m, uint32_t id);

/* The oldest binding that is allowed at the cut. */
size_t model_oldest_binding(const struct model_name *n, size_t cut);
/* The last one up to which all are acknowledged. */
size_t model_oldest_version(const struct file *f, size_t cut);

/*
 * Are these bytes allowed? `oldest`, and all later versions that had begun at the cut.
 * NULL if they are, else why not (static text; *where is the offset).
 */
const char *model_judge(const struct file *f, size_t oldest, size_t cut,
			const unsigned char *bytes, uint64_t size, uint64_t *where);

#endif
