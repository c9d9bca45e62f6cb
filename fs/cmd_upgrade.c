/* SPDX-License-Identifier: GPL-2.0-or-later */
/* upgrade: asks a mount's keeper to let another program take over, and says how it went. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/control.h"
#include "fs/ctlsock.h"
#include "fs/exitcode.h"
#include "fs/jsonlines.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/clock.h"

enum {
	WAIT_MS = 120000,
	BUSY_MS = 20000, /* for a server that is being replaced, or another upgrade */
	PAUSE_MS = 200,
};

struct upgrade_args {
	const char *program, *runtime;
	char mountpoint[PATH_MAX];
};

static int fail(const char *what, vcf_err_t err)
{
	fprintf(stderr, "vmcryptfs upgrade: %s: %s\n", what, strerror(-err));
	return exit_code_of(err);
}

/* Its socket is there, but nobody would answer. */
static bool keeper_is_gone(const struct upgrade_args *a)
{
	struct json_object *status;
	bool gone;

	if (statusfile_read(&status, a->runtime, a->mountpoint))
		return false;
	gone = json_flag(status, "keeper_gone");
	json_object_put(status);
	return gone;
}

static int explain(vcf_err_t err)
{
	if (err == -EPIPE || err == -ECONNRESET) {
		fprintf(stderr,
			"vmcryptfs upgrade: the daemon refused the connection, or "
			"ended\n");
		return EXIT_FAILED;
	}
	if (err == -ETIMEDOUT || err == -ECONNREFUSED) {
		fprintf(stderr,
			"vmcryptfs upgrade: no keeper answers (%s): if the log says that "
			"it is gone, or 'vmcryptfs status' that the mount does not "
			"answer, umount and mount\n",
			strerror(-err));
		return EXIT_FAILED;
	}
	return fail("the daemon's control socket", err);
}

/* What stands in the way may pass at once: a server has just died, and another takes over. */
static vcf_err_t call(const struct upgrade_args *a, const char *socket, int program,
		      struct control *c)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	uint64_t until_ms = clock_now_ms() + BUSY_MS;

	for (;;) {
		vcf_err_t err;

		*c = (struct control){.kind = CONTROL_UPGRADE};
		snprintf(c->path, sizeof(c->path), "%s", a->program);
		err = ctlsock_call(socket, c, program, WAIT_MS);
		if (err || c->value != EXIT_BUSY || clock_now_ms() > until_ms)
			return err;
		nanosleep(&pause, NULL);
	}
}

static int ask(const struct upgrade_args *a, const char *socket, int program)
{
	struct control c;
	vcf_err_t err = call(a, socket, program, &c);

	if (err)
		return explain(err);
	if (c.value)
		fprintf(stderr, "vmcryptfs upgrade: %s: not upgraded to %s: %s\n",
			a->mountpoint, a->program, c.path);
	else
		printf("%s: %s\n", a->mountpoint, c.path);
	return c.value;
}

/* The keeper refuses it as well, but even to close such a file it would wait for the server. */
static bool lies_in_mount(int program)
{
	struct statx st;

	return statx(program, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 &&
	       mountpoint_is_our_device(st.stx_dev_major, st.stx_dev_minor);
}

static int upgrade(const struct upgrade_args *a)
{
	auto_close int program = open(a->program, O_RDONLY | O_CLOEXEC);
	char socket[PATH_MAX];
	vcf_err_t err;

	if (program < 0)
		return fail(a->program, -errno);
	if (lies_in_mount(program)) {
		fprintf(stderr,
			"vmcryptfs upgrade: %s: the program must not lie in a mount of "
			"vmcryptfs\n",
			a->program);
		return EXIT_REFUSED;
	}
	if (keeper_is_gone(a)) {
		fprintf(stderr,
			"vmcryptfs upgrade: %s: its keeper is gone: nobody can take over, "
			"the server goes on; when the guests allow it, umount and mount\n",
			a->mountpoint);
		return EXIT_FAILED;
	}
	err = statusfile_control(socket, sizeof(socket), a->runtime, a->mountpoint);
	if (!err)
		return ask(a, socket, program);
	fprintf(stderr,
		"vmcryptfs upgrade: %s: no socket of it in %s: %s; -r names its "
		"runtime-directory\n",
		a->mountpoint, a->runtime, strerror(-err));
	return exit_code_of(err);
}

int cmd_upgrade(int argc, char **argv)
{
	static const struct option longs[] = {
		{"binary", required_argument, NULL, 'b'},
		{NULL, 0, NULL, 0},
	};
	char own[PATH_MAX];
	struct upgrade_args a = {.program = realpath("/proc/self/exe", own),
				 .runtime = statusfile_default_directory()};
	int opt;

	while ((opt = getopt_long(argc, argv, "r:", longs, NULL)) != -1) {
		if (opt == 'b')
			a.program = optarg;
		else if (opt == 'r')
			a.runtime = optarg;
		else
			return command_usage("upgrade");
	}
	if (argc - optind != 1 || !a.program)
		return command_usage("upgrade");
	if (statusfile_resolve(argv[optind], a.mountpoint))
		return fail(argv[optind], -errno);
	if (mountpoint_is_ours(a.mountpoint) != 1) {
		fprintf(stderr, "vmcryptfs upgrade: %s: no vmcryptfs is mounted there\n",
			a.mountpoint);
		return EXIT_NOT_FOUND;
	}
	return upgrade(&a);
}
