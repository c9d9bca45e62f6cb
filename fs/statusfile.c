/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/statusfile.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ctlsock.h"
#include "fs/mountpoint.h"
#include "fs/status.h"
#include "util/cleanup.h"

const char *statusfile_default_directory(void)
{
	const char *dir = getenv("VMCRYPTFS_RUNTIME_DIRECTORY");

	return dir && *dir ? dir : "/run/vmcryptfs";
}

vcf_err_t statusfile_read(struct json_object **out, const char *runtime,
			  const char *mountpoint)
{
	char path[PATH_MAX];
	vcf_err_t err = mountpoint_socket(path, sizeof(path), runtime, mountpoint);

	return err ? err : status_read(out, path, STATUS_PATIENCE_S);
}

vcf_err_t statusfile_control(char *dst, size_t room, const char *runtime,
			     const char *mountpoint)
{
	char link[PATH_MAX], path[PATH_MAX];
	vcf_err_t err = mountpoint_socket(link, sizeof(link), runtime, mountpoint);

	if (err)
		return err;
	if (!realpath(link, path))
		return -errno;
	return ctlsock_path(dst, room, path);
}

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

vcf_err_t statusfile_read_all(struct json_object **out, const char *runtime)
{
	DIR *dir __attribute__((cleanup(close_dir))) = opendir(runtime);
	struct json_object *all = json_object_new_array();
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		struct json_object *o = NULL;
		char path[PATH_MAX];
		size_t len = strlen(d->d_name);

		if (len < 5 || strcmp(d->d_name + len - 5, ".sock") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", runtime, d->d_name);
		if (status_read(&o, path, STATUS_PATIENCE_S) == 0)
			json_object_array_add(all, o);
	}
	*out = all;
	return 0;
}

static vcf_err_t resolve(const char *path, char dst[PATH_MAX], int depth);

/* Follows a last component that is a symlink; readlink(2) does not touch what it leads to. */
static vcf_err_t follow(char dst[PATH_MAX], int depth)
{
	char target[PATH_MAX], joined[PATH_MAX];
	ssize_t n = readlink(dst, target, sizeof(target) - 1);

	if (n < 0 || depth > 8)
		return 0;
	target[n] = '\0';
	*strrchr(dst, '/') = '\0';
	if (snprintf(joined, sizeof(joined), "%s%s%s", *target == '/' ? "" : dst,
		     *target == '/' ? "" : "/", target) >= (int)sizeof(joined))
		return -ENAMETOOLONG;
	return resolve(joined, dst, depth + 1);
}

static vcf_err_t resolve(const char *path, char dst[PATH_MAX], int depth)
{
	auto_free char *copy = strdup(path);
	auto_free char *dir = NULL;
	char *slash;
	size_t len = copy ? strlen(copy) : 0;

	if (!copy)
		return -ENOMEM;
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	dir = realpath(!slash ? "." : *copy ? copy : "/", NULL);
	if (!dir)
		return -errno;
	if (snprintf(dst, PATH_MAX, "%s/%s", strcmp(dir, "/") ? dir : "",
		     slash ? slash + 1 : copy) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return -ENAMETOOLONG;
	}
	return follow(dst, depth);
}

vcf_err_t statusfile_resolve(const char *path, char dst[PATH_MAX])
{
	return resolve(path, dst, 0);
}
