/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/oldsecret.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/text.h"

static vcf_err_t make_folders(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		int rc;

		*p = '\0';
		rc = mkdir(path, 0700);
		*p = '/';
		if (rc < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static vcf_err_t set_path(struct outfile *o, const char *output, const char *dir,
			  const char *from, const char *rel)
{
	const char *slash = strrchr(from, '/');
	const char *name = *rel ? rel : slash ? slash + 1 : from;

	if (output)
		return snprintf(o->path, PATH_MAX, "%s", output) >= PATH_MAX
			       ? -ENAMETOOLONG
			       : 0;
	if (snprintf(o->path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return make_folders(o->path);
}

static void folder_of(const char *path, char folder[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(folder, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	if (slash == path)
		memcpy(folder, "/", 2);
}

static vcf_err_t check_outside(const struct outfile *o, const char *backing)
{
	char folder[PATH_MAX], real[PATH_MAX], root[PATH_MAX];
	size_t len;

	folder_of(o->path, folder);
	if (!realpath(folder, real))
		return -errno;
	if (!backing || !realpath(backing, root))
		return 0;
	len = strlen(root);
	return strncmp(real, root, len) == 0 && (!real[len] || real[len] == '/') ? -EPERM
										 : 0;
}

static vcf_err_t make_file(struct outfile *o)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	struct stat st;

	o->fd = open(o->beside, flags, 0600);
	if (o->fd < 0 && errno == EEXIST && lstat(o->beside, &st) == 0 &&
	    S_ISREG(st.st_mode) && st.st_uid == geteuid() && unlink(o->beside) == 0)
		o->fd = open(o->beside, flags, 0600);
	CRASHPOINT("outfile-made");
	return o->fd < 0 ? -errno : 0;
}

vcf_err_t outfile_begin(struct outfile *o, const char *output, const char *dir,
			const char *from, const char *rel, const char *backing)
{
	struct stat st;
	vcf_err_t err;

	*o = (struct outfile){.fd = -1};
	err = set_path(o, output, dir, from, rel);
	if (!err)
		err = oldsecret_beside(o->beside, o->path);
	if (!err)
		err = check_outside(o, backing);
	if (!err && lstat(o->path, &st) == 0)
		err = -EEXIST;
	return err ? err : make_file(o);
}

static vcf_err_t sync_folder(const char *path)
{
	char folder[PATH_MAX];
	auto_close int fd = -1;

	folder_of(path, folder);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

vcf_err_t outfile_end(struct outfile *o)
{
	if (fsync(o->fd) < 0)
		return -errno;
	CRASHPOINT("outfile-synced");
	if (renameat2(AT_FDCWD, o->beside, AT_FDCWD, o->path, RENAME_NOREPLACE) < 0)
		return -errno;
	*o->beside = '\0';
	return sync_folder(o->path);
}

void outfile_fini(struct outfile *o)
{
	if (o->fd >= 0)
		close(o->fd);
	if (o->fd >= 0 && *o->beside)
		unlink(o->beside);
	o->fd = -1;
}
