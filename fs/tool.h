/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the commands on images share (encrypt, convert, verify, rekey, ...): their common options,
 * the files named or found, several of them at a time, progress, and what became of each.
 *
 * A command fills a struct tool from its options, calls tool_begin(), then tool_run() with a function
 * for one file, which runs on one of `parallel` threads, then tool_end().
 *
 * Outcomes go to standard output, a line each, complaints to standard error. With --json everything
 * about files is on standard output, one object a line:
 *
 *   {"event":"progress","files_done":N,"files":N,"done":BYTES,"total":BYTES}   every second
 *   {"event":"file","path":TEXT,"result":"ok"|"failed","code":EXIT-CODE,"text":TEXT, ...}
 *
 * Without, progress is a bar while standard error is a terminal, else a line there every 10 seconds.
 *
 * SIGINT and SIGTERM: no file is begun any more, and tool_interrupted() tells the functions at work.
 */
#ifndef VCF_FS_TOOL_H
#define VCF_FS_TOOL_H

#include <getopt.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/config_source.h"
#include "fs/treescan.h"
#include "util/err.h"

enum { TOOL_PARALLEL_MAX = 64 };

struct tool {
	const char *command;
	struct config_source source;
	struct config *cfg; /* tool_begin() */
	const char
		*runtime; /* where daemons are asked; tool_begin(): the configuration's */
	unsigned int parallel; /* 0: one file after the other */
	bool json;
};

/* getopt_long's, to go in front of a command's own; their values are above all characters. */
enum { TOOL_OPT_PARALLEL = 0x1000, TOOL_OPT_JSON, TOOL_OPT_OWN };
#define TOOL_SHORT_OPTIONS "c:o:r:"
#define TOOL_LONG_OPTIONS                                                                \
	{"parallel", required_argument, NULL, TOOL_OPT_PARALLEL},                        \
	{                                                                                \
		"json", no_argument, NULL, TOOL_OPT_JSON                                 \
	}

/*
 * Takes one of these options (opt and optarg as getopt_long gave them). EXIT_OK, or an exit code with
 * a message; EXIT_USAGE for any other option.
 */
NODISCARD int tool_option(struct tool *t, int opt);

/* Reads the configuration, if one was named. EXIT_OK, or an exit code with a message. */
NODISCARD int tool_begin(struct tool *t);
void tool_end(struct tool *t);

/* Where a file named by its user lies. */
struct tool_place {
	char path[PATH_MAX];	   /* in the backing folder, or where it was named */
	char mountpoint[PATH_MAX]; /* of the mount that it was named in; "": none */
	char name[PATH_MAX];	   /* below that */
	char rel[PATH_MAX];	   /* below cfg's backing folder; "": it is not there */
};

/*
 * Follows the name to the backing folder, where it leads into a mount. What is a symbolic link there
 * is not followed, unless it leads to a block device (/dev/VG/LV). -ENOENT: out->path is where it would
 * be, "" without its folder; -EXDEV: the backing folder of that mount is hidden by it; -errno.
 */
NODISCARD vcf_err_t tool_place(const struct tool *t, const char *path,
			       struct tool_place *out);

/* One file under way; of one thread. */
struct tool_file {
	struct tool *tool;
	const char *path; /* as it was named, or found */
	_Atomic uint64_t done, total;
	struct json_object *json; /* for more members; NULL without --json */
	char text[1024];
};

/* Bytes; from time to time. */
void tool_progress(struct tool_file *f, uint64_t done, uint64_t total);
bool tool_interrupted(void);

/* What is said of the file in the end; the last call counts. */
void tool_say(struct tool_file *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As tool_say(); returns err. */
NODISCARD vcf_err_t tool_fail(struct tool_file *f, vcf_err_t err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Calls one(arg, f) for each path. Its error: without words by tool_fail() what errno means is said.
 * Returns EXIT_OK, or the exit code of the first that failed.
 */
NODISCARD int tool_run(struct tool *t, char *const *paths, size_t cnt,
		       vcf_err_t (*one)(void *arg, struct tool_file *f), void *arg);

struct tool_list {
	char **paths;
	size_t cnt, room;
};
/*
 * The regular files of the configuration's backing folder that wanted(arg, file) says yes to, in the
 * order of the walk. -errno; a folder that cannot be read is one.
 */
NODISCARD vcf_err_t tool_find(struct tool *t, struct tool_list *out,
			      bool (*wanted)(void *arg, const struct treescan_file *f),
			      void *arg);
/* One more; the text is copied. */
NODISCARD vcf_err_t tool_list_add(struct tool_list *l, const char *path);
void tool_list_free(struct tool_list *l);

#endif
