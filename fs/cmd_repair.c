/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repair: what can be mended of containers that nobody has open. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/jsonlines.h"
#include "fs/offline.h"
#include "fs/repair.h"
#include "fs/tool.h"
#include "util/io.h"

struct repair_args {
	struct tool tool;
	struct toolkeys keys;
	bool dry_run;
};

static vcf_err_t mend(const struct repair_args *a, struct tool_file *f, struct repair *r)
{
	char plan[700];
	vcf_err_t err;

	if (!r->c || !repair_is_needed(r)) {
		tool_say(f, "there is nothing to mend");
		return 0;
	}
	repair_describe(r, plan, sizeof(plan));
	if (f->json)
		json_put_flag(f->json, "changed", !a->dry_run);
	if (a->dry_run) {
		tool_say(f, "would be done: %s", plan);
		return 0;
	}
	err = repair_do(r);
	if (err)
		return tool_fail(f, err, "%s; to be done, and safe to try again: %s",
				 strerror(-err), plan);
	if (f->json && *r->kept)
		json_put_shown(f->json, "kept", r->kept);
	tool_say(f, "done: %s%s%.200s", plan, *r->kept ? "; kept: " : "", r->kept);
	return 0;
}

static vcf_err_t repair_open(struct repair_args *a, struct tool_file *f,
			     const struct offline_file *file)
{
	auto_free struct repair *r = calloc(1, sizeof(*r));
	char why[REPAIR_WHY_LEN];
	vcf_err_t err;

	if (!r)
		return -ENOMEM;
	*r = (struct repair){.keys = &a->keys, .path = file->path, .fd = file->fd};
	err = repair_plan(r, why);
	if (!err)
		err = mend(a, f, r);
	else
		err = tool_fail(f, err, "cannot be mended: %s",
				*why ? why : strerror(-err));
	repair_fini(r);
	return err;
}

static vcf_err_t repair_one(void *arg, struct tool_file *f)
{
	auto_free struct tool_place *p = calloc(1, sizeof(*p));
	struct repair_args *a = arg;
	struct offline_file file;
	vcf_err_t err = p ? tool_place(&a->tool, f->path, p) : -ENOMEM;

	if (err)
		return err;
	err = offline_claim(&file, p->path, a->tool.runtime, !a->dry_run);
	if (err)
		return tool_fail(f, err, "%s", offline_refusal(err));
	err = repair_open(a, f, &file);
	offline_close(&file);
	return err;
}

static int parse(struct repair_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"dry-run", no_argument, NULL, TOOL_OPT_OWN},
		{NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1) {
		if (opt == TOOL_OPT_OWN)
			a->dry_run = true;
		else
			code = tool_option(&a->tool, opt);
	}
	if (code == EXIT_USAGE || (!code && (!a->tool.source.path || optind == argc)))
		return command_usage("repair");
	return code;
}

int cmd_repair(int argc, char **argv)
{
	struct repair_args a = {.tool = {.command = "repair"}};
	int code = parse(&a, argc, argv);

	if (!code)
		code = tool_begin(&a.tool);
	if (!code)
		code = toolkeys_begin(&a.keys, a.tool.cfg, "repair");
	if (!code)
		code = tool_run(&a.tool, argv + optind, (size_t)(argc - optind),
				repair_one, &a);
	toolkeys_end(&a.keys);
	tool_end(&a.tool);
	return code;
}
