/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log-level: how much a mount logs, while it is at work. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/control.h"
#include "fs/ctlsock.h"
#include "fs/jsonlines.h"
#include "fs/loglevel.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"

enum { WAIT_MS = 10000 };

static int fail(const char *what, const char *why, int code)
{
	fprintf(stderr, "vmcryptfs log-level: %s: %s\n", what, why);
	return code;
}

static int show(const char *runtime, const char *mountpoint)
{
	struct json_object *o = NULL;
	vcf_err_t err = statusfile_read(&o, runtime, mountpoint);
	const char *asked;

	if (err)
		return fail(mountpoint, "no vmcryptfs answers for it", EXIT_NOT_FOUND);
	asked = json_text(o, "log_level");
	printf("%s\n", *asked ? asked : "configured");
	json_object_put(o);
	return EXIT_OK;
}

static int ask(const char *runtime, const char *mountpoint, int level)
{
	struct control c = {.kind = CONTROL_LOG_LEVEL, .value = level};
	char ctl[PATH_MAX];
	vcf_err_t err = statusfile_control(ctl, sizeof(ctl), runtime, mountpoint);

	if (!err)
		err = ctlsock_call(ctl, &c, -1, WAIT_MS);
	if (err)
		return fail(mountpoint, strerror(-err), exit_code_of(err));
	if (c.value)
		return fail(mountpoint, c.path, c.value);
	printf("%s: %s\n", mountpoint, c.path);
	return EXIT_OK;
}

int cmd_log_level(int argc, char **argv)
{
	const char *runtime = statusfile_default_directory();
	char path[PATH_MAX];
	int opt, level = -1;

	while ((opt = getopt(argc, argv, "r:")) != -1) {
		if (opt != 'r')
			return command_usage("log-level");
		runtime = optarg;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return command_usage("log-level");
	if (argc - optind == 2) {
		level = loglevel_parse(argv[optind + 1]);
		if (level < 0)
			return command_usage("log-level");
	}
	if (statusfile_resolve(argv[optind], path))
		return fail(argv[optind], strerror(errno), EXIT_NOT_FOUND);
	return level < 0 ? show(runtime, path) : ask(runtime, path, level);
}
