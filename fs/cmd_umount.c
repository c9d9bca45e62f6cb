/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * umount: unmounts and waits until the daemon has ended, so that its keys are gone. Refuses while
 * somebody uses the mount, and says who.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/exitcode.h"
#include "fs/holders.h"
#include "fs/jsonlines.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"

enum { WAIT_MS = 30000 };

enum how { PLAIN, LAZY, FORCE };

/* The keeper's pid; 0 if it cannot be found, or has gone: the number may be another's by now. */
static pid_t keeper_of(const char *runtime, const char *mountpoint)
{
	struct json_object *o = NULL;
	pid_t found = 0;

	if (statusfile_read(&o, runtime, mountpoint))
		return 0;
	if (!json_flag(o, "keeper_gone"))
		found = (pid_t)json_number(o, "keeper_pid");
	json_object_put(o);
	return found;
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

/* Also those in other mount namespaces, for whom umount(2) would not refuse. */
static bool is_used(const char *path)
{
	struct holders h;
	bool used;

	if (holders_find(&h, path))
		return false;
	used = h.cnt > 0;
	if (used) {
		fprintf(stderr,
			"vmcryptfs umount: %s: %s: %zu use it, %zu of them guests; "
			"'vmcryptfs drain' waits for them, --force ends their files:\n",
			path, strerror(EBUSY), h.cnt, holders_guest_cnt(&h));
		holders_print(&h, "  ", stderr);
	}
	holders_free(&h);
	return used;
}

static int fail(const char *path, int error)
{
	fprintf(stderr, "vmcryptfs umount: %s: %s%s\n", path, strerror(error),
		error == EBUSY ? "; 'vmcryptfs status' lists who uses it" : "");
	if (error == EBUSY)
		return EXIT_BUSY;
	return error == EPERM ? EXIT_PERMISSION : EXIT_FAILED;
}

static int unmount(const char *path, const char *runtime, enum how how)
{
	pid_t keeper = how == LAZY ? 0 : keeper_of(runtime, path);
	auto_close int pidfd = keeper > 0 ? (int)syscall(SYS_pidfd_open, keeper, 0) : -1;

	if (how == PLAIN && is_used(path))
		return EXIT_BUSY;
	if (umount2(path, UMOUNT_NOFOLLOW | (how == PLAIN ? 0 : MNT_DETACH)) < 0)
		return fail(path, errno);
	if (how == FORCE && pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	return how == LAZY ? EXIT_OK : wait_end(pidfd, path);
}

static int parse(int argc, char **argv, enum how *how, const char **runtime)
{
	static const struct option longs[] = {
		{"lazy", no_argument, NULL, 'l'},
		{"force", no_argument, NULL, 'f'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "lfr:", longs, NULL)) != -1) {
		if (opt == 'l')
			*how = LAZY;
		else if (opt == 'f')
			*how = FORCE;
		else if (opt == 'r')
			*runtime = optarg;
		else
			return EXIT_USAGE;
	}
	return argc - optind == 1 ? EXIT_OK : EXIT_USAGE;
}

int cmd_umount(int argc, char **argv)
{
	const char *runtime = statusfile_default_directory();
	char path[PATH_MAX];
	enum how how = PLAIN;

	if (parse(argc, argv, &how, &runtime))
		return command_usage("umount");
	/* Only the folder is resolved: a dead mount cannot be looked into. */
	if (statusfile_resolve(argv[optind], path)) {
		fprintf(stderr, "vmcryptfs umount: %s: %s\n", argv[optind],
			strerror(errno));
		return EXIT_NOT_FOUND;
	}
	if (mountpoint_is_ours(path) != 1) {
		fprintf(stderr, "vmcryptfs umount: %s: no vmcryptfs is mounted there\n",
			path);
		return EXIT_NOT_FOUND;
	}
	return unmount(path, runtime, how);
}
