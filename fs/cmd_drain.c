/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drain: no new disks in a mount, and waits until nobody uses it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/control.h"
#include "fs/ctlsock.h"
#include "fs/exitcode.h"
#include "fs/holders.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/clock.h"
#include "util/parse.h"

enum { ANSWER_MS = 10000, POLL_MS = 500 };

struct drain_args {
	const char *runtime;
	char mountpoint[PATH_MAX];
	bool cancel, limited;
	uint64_t wait_s; /* where `limited` */
};

static int fail(const char *what, vcf_err_t err)
{
	fprintf(stderr, "vmcryptfs drain: %s: %s\n", what, strerror(-err));
	return exit_code_of(err);
}

static int ask_keeper(const struct drain_args *a)
{
	struct control c = {.kind = CONTROL_DRAIN, .value = !a->cancel};
	char socket[PATH_MAX];
	vcf_err_t err =
		statusfile_control(socket, sizeof(socket), a->runtime, a->mountpoint);

	if (!err)
		err = ctlsock_call(socket, &c, -1, ANSWER_MS);
	if (err)
		return fail("the daemon's control socket", err);
	if (c.value)
		fprintf(stderr, "vmcryptfs drain: %s: %s\n", a->mountpoint, c.path);
	return c.value;
}

static void pause_poll(void)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000l};

	nanosleep(&pause, NULL);
}

/* The list is shown at the beginning and where its length changes. */
static int wait_unused(const struct drain_args *a)
{
	uint64_t until = clock_now_ms() + a->wait_s * 1000;
	size_t shown = 0;

	for (;;) {
		struct holders h;
		vcf_err_t err = holders_find(&h, a->mountpoint);
		size_t cnt = h.cnt;

		if (err == -ENOENT)
			return EXIT_OK; /* unmounted meanwhile */
		if (err)
			return fail(a->mountpoint, err);
		if (cnt && cnt != shown) {
			printf("%s: %zu still use it, %zu of them guests:\n",
			       a->mountpoint, cnt, holders_guest_cnt(&h));
			holders_print(&h, "  ", stdout);
			fflush(stdout);
		}
		shown = cnt;
		holders_free(&h);
		if (!cnt)
			return EXIT_OK;
		if (a->limited && clock_now_ms() >= until)
			return EXIT_BUSY;
		pause_poll();
	}
}

static int drain(const struct drain_args *a)
{
	int code = ask_keeper(a);

	if (code)
		return code;
	if (a->cancel) {
		printf("%s: no longer draining\n", a->mountpoint);
		return EXIT_OK;
	}
	code = wait_unused(a);
	if (!code)
		printf("%s: drained: nobody uses it\n", a->mountpoint);
	else if (code == EXIT_BUSY)
		fprintf(stderr,
			"vmcryptfs drain: %s: still in use; it stays draining "
			"(--cancel)\n",
			a->mountpoint);
	return code;
}

static int parse(struct drain_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"wait", required_argument, NULL, 'w'},
		{"cancel", no_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "r:", longs, NULL)) != -1) {
		if (opt == 'c')
			a->cancel = true;
		else if (opt == 'r')
			a->runtime = optarg;
		else if (opt != 'w' || parse_duration(optarg, &a->wait_s))
			return EXIT_USAGE;
		else
			a->limited = true;
	}
	return argc - optind == 1 ? EXIT_OK : EXIT_USAGE;
}

int cmd_drain(int argc, char **argv)
{
	struct drain_args a = {.runtime = statusfile_default_directory()};

	if (parse(&a, argc, argv))
		return command_usage("drain");
	if (statusfile_resolve(argv[optind], a.mountpoint))
		return fail(argv[optind], -errno);
	if (mountpoint_is_ours(a.mountpoint) == 1)
		return drain(&a);
	fprintf(stderr, "vmcryptfs drain: %s: no vmcryptfs is mounted there\n",
		a.mountpoint);
	return EXIT_NOT_FOUND;
}
