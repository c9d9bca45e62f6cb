/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount: unmounts and waits until the daemon has ended, so that its keys are gone.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/exitcode.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"

enum { WAIT_MS = 30000 };

/* A descriptor that becomes readable when the daemon ends; -1 if it cannot be found. */
static int daemon_pidfd(const char *runtime, const char *mountpoint)
{
	struct json_object *o = NULL;
	struct json_object *pid = NULL;
	int fd = -1;

	if (statusfile_read(&o, runtime, mountpoint))
		return -1;
	if (json_object_object_get_ex(o, "keeper_pid", &pid))
		fd = (int)syscall(SYS_pidfd_open, json_object_get_int(pid), 0);
	json_object_put(o);
	return fd;
}

static int wait_end(int pidfd, const char *path)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	if (pidfd < 0 || poll(&p, 1, WAIT_MS) == 1)
		return EXIT_OK;
	fprintf(stderr,
		"vmcryptfs umount: %s: unmounted, but the daemon has not ended yet\n",
		path);
	return EXIT_BUSY;
}

static int unmount(const char *path, const char *runtime, bool lazy)
{
	auto_close int pidfd = daemon_pidfd(runtime, path);
	int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0);

	if (umount2(path, flags) == 0)
		return lazy ? EXIT_OK : wait_end(pidfd, path);
	fprintf(stderr, "vmcryptfs umount: %s: %s%s\n", path, strerror(errno),
		errno == EBUSY
			? "; 'vmcryptfs status' lists the open images, 'fuser -vm' the programs"
			: "");
	if (errno == EBUSY)
		return EXIT_BUSY;
	return errno == EPERM ? EXIT_PERMISSION : EXIT_FAILED;
}

int cmd_umount(int argc, char **argv)
{
	const char *runtime = statusfile_default_directory();
	char path[PATH_MAX];
	bool lazy = false;
	int opt, ours;

	while ((opt = getopt(argc, argv, "lr:")) != -1) {
		if (opt == 'l')
			lazy = true;
		else if (opt == 'r')
			runtime = optarg;
		else
			return command_usage("umount");
	}
	if (argc - optind != 1) {
		return command_usage("umount");
	}
	/* Only the folder is resolved: a dead mount cannot be looked into. */
	if (statusfile_resolve(argv[optind], path)) {
		fprintf(stderr, "vmcryptfs umount: %s: %s\n", argv[optind],
			strerror(errno));
		return EXIT_NOT_FOUND;
	}
	ours = mountpoint_is_ours(path);
	if (ours != 1) {
		fprintf(stderr, "vmcryptfs umount: %s: no vmcryptfs is mounted there\n",
			path);
		return EXIT_NOT_FOUND;
	}
	return unmount(path, runtime, lazy);
}
