/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who uses a mount, in whatever mount namespace: open files, mapped ones, working directories; loop
 * devices and mounts on files of it. Found in /proc by the file system's device number, without a
 * request to its server. A process that waits for a server that hangs while it holds the lock of its
 * own memory (a page of a mapped file) is waited for all the same. Processes of others only root can
 * look into.
 */
#ifndef VCF_FS_HOLDERS_H
#define VCF_FS_HOLDERS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "util/err.h"

enum { HOLDER_FILES_MAX = 16, HOLDER_NAME_MAX = 128 };

struct holder {
	pid_t pid;		     /* 0: the kernel */
	char program[32];	     /* "loop0", "mount" */
	char guest[HOLDER_NAME_MAX]; /* of a QEMU: its name; "" */
	char uuid[40];
	char *files[HOLDER_FILES_MAX]; /* relative to the mount; "." for its root */
	size_t file_cnt;	       /* all of them */
};

struct holders {
	struct holder *all;
	size_t cnt;
};

/* -ENOENT: no mount of ours is there; -errno. */
NODISCARD vcf_err_t holders_find(struct holders *out, const char *mountpoint);
void holders_free(struct holders *h);

size_t holders_guest_cnt(const struct holders *h);

/* A line for each, behind `indent`. */
void holders_print(const struct holders *h, const char *indent, FILE *to);

/* For the log of a mount that ends all the same: guests are warned of. */
void holders_log(const struct holders *h, const char *mountpoint);

/* An array: pid, program, guest, guest_uuid, files, file_count. */
struct json_object *holders_json(const struct holders *h);

/* --- parts, for tests --- */

/* The guest's name and uuid in the arguments of a QEMU, each ended by a zero byte. */
void holders_parse_guest(struct holder *h, const char *args, size_t len);

#endif
