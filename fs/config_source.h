/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a mount's configuration came from, so that it can be read again (SIGHUP): a file or the
 * quick form's two folders, and the -o settings on top of it. Paths are absolute: the daemon
 * changes its directory.
 */
#ifndef VCF_FS_CONFIG_SOURCE_H
#define VCF_FS_CONFIG_SOURCE_H

#include <stddef.h>

#include "fs/config.h"
#include "util/err.h"

enum { CONFIG_SOURCE_SETTINGS_MAX = 256 };

struct config_source {
	char *path;		    /* of the file; NULL: the quick form */
	char *backing, *mountpoint; /* the quick form's */
	const char *settings[CONFIG_SOURCE_SETTINGS_MAX]; /* in order; the caller's */
	size_t setting_cnt;
};

/* Each once, on a zeroed source. -errno if a path cannot be resolved (nothing is logged). */
NODISCARD vcf_err_t config_source_file(struct config_source *src, const char *path);
NODISCARD vcf_err_t config_source_backing(struct config_source *src, const char *path);
NODISCARD vcf_err_t config_source_mountpoint(struct config_source *src, const char *path);

/* One "section.key=value"; -E2BIG. */
NODISCARD vcf_err_t config_source_setting(struct config_source *src, const char *setting);

void config_source_fini(struct config_source *src);

/* Reads, sets and checks; faults are logged. 0, -ENOENT (no such file), -EINVAL, -errno. */
NODISCARD vcf_err_t config_load(struct config **out, const struct config_source *src);

/*
 * One name for one folder: mountinfo, the journal and the status socket know it by that. *path
 * is replaced. What a dead mount covers cannot be looked at: then only the folder above is
 * resolved. -errno.
 */
NODISCARD vcf_err_t config_resolve(char **path);

/* The same as config_load() for a mount that is served: paths as they were resolved at mount. */
NODISCARD vcf_err_t config_load_again(struct config **out,
				      const struct config_source *src);

/* Log settings of this process: the level, and the file, which is opened anew. -errno. */
void config_apply_level(const struct config *cfg);
NODISCARD vcf_err_t config_apply_log(const struct config *cfg);

/*
 * For the keeper, after a server has accepted a reload: cfg gets the values that are there now,
 * and the log settings are applied. -EAGAIN if they are not those of `digest` any more
 * (config_digest()), or as config_load(); then nothing changes.
 */
NODISCARD vcf_err_t config_follow(struct config *cfg, const struct config_source *src,
				  uint64_t digest);

/* Does the source still say what cfg (finished, paths resolved) does? -EAGAIN: it does not. */
NODISCARD vcf_err_t config_is_current(const struct config *cfg,
				      const struct config_source *src);

#endif
