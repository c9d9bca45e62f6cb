/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mount itself. Over a folder it is mount(2). Where a dead mount of ours is to be replaced, the
 * new one is made aside and slipped beneath it (MOVE_MOUNT_BENEATH, Linux 6.5), and only then the
 * dead one goes: nobody ever sees the folder below. On older kernels that is seen for some
 * microseconds, and the guard (guard.h) is what keeps files out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/log.h"

#ifndef MOVE_MOUNT_BENEATH /* glibc 2.36 */
#define MOVE_MOUNT_BENEATH 0x200
#endif

static vcf_err_t mount_plainly(const struct config *cfg, int devfd)
{
	char options[256];
	unsigned long flags = (cfg->nosuid ? MS_NOSUID : 0) | (cfg->nodev ? MS_NODEV : 0);

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", devfd, geteuid(),
		 getegid(), cfg->allow_other ? ",allow_other" : "",
		 cfg->default_permissions ? ",default_permissions" : "");
	if (mount(cfg->backing, cfg->mountpoint, MOUNTPOINT_TYPE, flags, options) < 0)
		return -errno;
	return 0;
}

static vcf_err_t set_number(int fs, const char *key, unsigned int number)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", number);
	return fsconfig(fs, FSCONFIG_SET_STRING, key, text, 0) < 0 ? -errno : 0;
}

static vcf_err_t set_text(int fs, const char *key, const char *text)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, text, 0) < 0 ? -errno : 0;
}

static vcf_err_t set_flag(int fs, const char *key, bool on)
{
	if (!on)
		return 0;
	return fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

static vcf_err_t configure(int fs, const struct config *cfg, int devfd)
{
	vcf_err_t err = set_text(fs, "source", cfg->backing);

	if (!err)
		err = set_text(fs, "subtype", strchr(MOUNTPOINT_TYPE, '.') + 1);
	if (!err)
		err = set_number(fs, "fd", (unsigned int)devfd);
	if (!err)
		err = set_text(fs, "rootmode", "40000");
	if (!err)
		err = set_number(fs, "user_id", geteuid());
	if (!err)
		err = set_number(fs, "group_id", getegid());
	if (!err)
		err = set_flag(fs, "allow_other", cfg->allow_other);
	if (!err)
		err = set_flag(fs, "default_permissions", cfg->default_permissions);
	return err;
}

/* A mount that is nowhere yet: its descriptor. -errno; the device is not touched then. */
static int make_aside(const struct config *cfg, int devfd)
{
	auto_close int fs = fsopen("fuse", FSOPEN_CLOEXEC);
	unsigned int attr = (cfg->nosuid ? MOUNT_ATTR_NOSUID : 0) |
			    (cfg->nodev ? MOUNT_ATTR_NODEV : 0);
	vcf_err_t err = fs < 0 ? -errno : configure(fs, cfg, devfd);
	int fd;

	if (!err && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		err = -errno;
	if (err)
		return err;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attr);
	return fd < 0 ? -errno : fd;
}

static vcf_err_t detach(const char *path)
{
	return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

static vcf_err_t put(int fd, const char *path, unsigned int how)
{
	if (move_mount(fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH | how) < 0)
		return -errno;
	return 0;
}

static vcf_err_t replace(const struct config *cfg, int devfd)
{
	const char *path = cfg->mountpoint;
	auto_close int fd = make_aside(cfg, devfd);
	vcf_err_t err;

	log_info("%s: the daemon of an earlier mount is gone; replacing it", path);
	if (fd >= 0 && put(fd, path, MOVE_MOUNT_BENEATH) == 0)
		return detach(path);
	log_dbg("%s: the dead mount is detached first", path);
	err = detach(path);
	if (err)
		return err;
	return fd < 0 ? mount_plainly(cfg, devfd) : put(fd, path, 0);
}

vcf_err_t mountpoint_mount(const struct config *cfg, int devfd)
{
	vcf_err_t err = mountpoint_is_free(cfg->mountpoint);

	if (err)
		return err;
	if (mountpoint_is_ours(cfg->mountpoint) == 1)
		return replace(cfg, devfd);
	return mount_plainly(cfg, devfd);
}
