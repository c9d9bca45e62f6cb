/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check-mount and guard: what keeps plaintext off the disk while nothing is mounted. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/exitcode.h"
#include "fs/guard.h"
#include "fs/mountcheck.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/parse.h"

enum { TIMEOUT_S = 10, TIMEOUT_MAX_S = 3600 };

static int check(const char *path, bool quiet, uint64_t timeout_s)
{
	struct mountcheck c;
	vcf_err_t err = mountcheck(&c, path, (int)timeout_s * 1000);

	if (err) {
		fprintf(stderr, "vmcryptfs check-mount: %s\n", strerror(-err));
		return EXIT_FAILED;
	}
	if (!quiet && c.code)
		fprintf(stderr, "vmcryptfs check-mount: %s: %s\n", path, c.text);
	else if (!quiet)
		printf("%s: %s\n", path, c.text);
	return c.code;
}

int cmd_check_mount(int argc, char **argv)
{
	uint64_t timeout_s = TIMEOUT_S;
	bool quiet = false;
	int opt;

	while ((opt = getopt(argc, argv, "qt:")) != -1) {
		if (opt == 'q')
			quiet = true;
		else if (opt != 't' || parse_duration(optarg, &timeout_s) || !timeout_s ||
			 timeout_s > TIMEOUT_MAX_S)
			return command_usage("check-mount");
	}
	if (argc - optind != 1)
		return command_usage("check-mount");
	return check(argv[optind], quiet, timeout_s);
}

static int fail(const char *path, vcf_err_t err)
{
	const char *why = "";

	if (err == -ENOTTY || err == -EOPNOTSUPP)
		why = ": its file system knows no immutable folders";
	else if (err == -EBUSY)
		why = ": the mount lies over another file system's; umount first";
	fprintf(stderr, "vmcryptfs guard: %s: %s%s\n", path, strerror(-err), why);
	return exit_code_of(err);
}

static int show(const char *path, int fd)
{
	enum guard_state state = guard_look(fd);

	printf("%s: guard %s\n", path, guard_text(state));
	return guard_holds(state) ? EXIT_OK : EXIT_BARE;
}

enum wish { SHOW, ON, OFF };

static int guard(const char *path, enum wish wish)
{
	auto_close int fd = guard_open(path);
	vcf_err_t err = fd < 0 ? fd : 0;

	if (!err && wish == ON)
		err = guard_set(fd);
	else if (!err && wish == OFF)
		err = guard_clear(fd);
	if (err)
		return fail(path, err);
	if (wish == OFF) {
		printf("%s: guard off: files that are made there are in the clear\n",
		       path);
		return EXIT_OK;
	}
	return show(path, fd);
}

int cmd_guard(int argc, char **argv)
{
	static const struct option longs[] = {
		{"on", no_argument, NULL, ON},
		{"off", no_argument, NULL, OFF},
		{NULL, 0, NULL, 0},
	};
	enum wish wish = SHOW;
	char path[PATH_MAX];
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if ((opt != ON && opt != OFF) || wish != SHOW)
			return command_usage("guard");
		wish = (enum wish)opt;
	}
	if (argc - optind != 1)
		return command_usage("guard");
	if (statusfile_resolve(argv[optind], path))
		return fail(argv[optind], -errno);
	return guard(path, wish);
}
