/* SPDX-License-Identifier: GPL-2.0-or-later */
/* shred: images and their secrets are destroyed at once, with a receipt (shred.h). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/shred.h"
#include "util/cleanup.h"
#include "util/io.h"

struct shred_run {
	struct tool tool;
	struct shred shred;
	struct tool_list done; /* completed for an earlier run */
	const char *receipts;  /* NULL: standard output */
	int receipt_fd;
	bool yes, resuming;
};

/* --- receipts --- */

static vcf_err_t write_receipt(void *arg, struct json_object *receipt)
{
	const struct shred_run *r = arg;
	const char *text =
		json_object_to_json_string_ext(receipt, JSON_C_TO_STRING_PLAIN);
	auto_free char *line = NULL;
	vcf_err_t err;
	int len;

	if (!r->receipts && r->tool.json && !r->resuming)
		return 0; /* it is a part of what is said of the file */
	if (!r->receipts)
		return printf("%s\n", text) < 0 || fflush(stdout) == EOF ? -EIO : 0;
	len = asprintf(&line, "%s\n", text);
	if (len < 0)
		return -ENOMEM;
	err = io_write_full(r->receipt_fd, line, (size_t)len);
	if (!err && fsync(r->receipt_fd) < 0 && errno != EINVAL) /* a pipe */
		err = -errno;
	return err;
}

static int open_receipts(struct shred_run *r)
{
	if (!r->receipts)
		return EXIT_OK;
	r->receipt_fd =
		open(r->receipts, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (r->receipt_fd >= 0)
		return EXIT_OK;
	fprintf(stderr, "vmcryptfs shred: %s: %s\n", r->receipts, strerror(errno));
	return (int)exit_code_of(-errno);
}

/* --- files --- */

/* One that is gone, because this run has completed what an earlier one began. */
static bool is_done(const struct shred_run *r, const struct tool_place *place)
{
	for (size_t i = 0; i < r->done.cnt; i++) {
		if (strcmp(r->done.paths[i], place->path) == 0)
			return true;
	}
	return false;
}

static const char *refusal(vcf_err_t err)
{
	switch (err) {
	case -ELOOP:
		return "a symbolic link";
	case -EXDEV:
		return "the mount hides its own backing folder: give the name below the mount";
	default:
		return strerror(-err);
	}
}

static vcf_err_t shred_one(void *arg, struct tool_file *f)
{
	struct shred_run *r = arg;
	auto_free struct tool_place *place = calloc(1, sizeof(*place));
	vcf_err_t err = place ? tool_place(&r->tool, f->path, place) : -ENOMEM;

	if ((!err || err == -ENOENT) && is_done(r, place))
		return err ? 0
			   : tool_fail(f, -EEXIST,
				       "completed; what has its name now was written "
				       "since, and stays: shred again if that is meant");
	if (err)
		return tool_fail(f, err, "%s", refusal(err));
	return shred_file(&r->shred, f, place);
}

/* --- the command --- */

static int run(struct shred_run *r, char **paths, size_t cnt)
{
	vcf_err_t err;
	int code;

	r->resuming = true;
	err = shred_resume(&r->shred, &r->done);
	r->resuming = false;
	code = tool_run(&r->tool, paths, cnt, shred_one, r);

	return err ? (int)exit_code_of(err) : code;
}

static int begin(struct shred_run *r)
{
	int code = offline_init_crypto();

	if (!code)
		code = tool_begin(&r->tool);
	if (!code)
		code = open_receipts(r);
	if (code)
		return code;
	return offline_init(&r->shred.offline, "shred", r->tool.cfg, r->tool.runtime);
}

static int take_option(struct shred_run *r, int opt)
{
	switch (opt) {
	case TOOL_OPT_OWN:
		r->yes = true;
		return EXIT_OK;
	case TOOL_OPT_OWN + 1:
		r->receipts = optarg;
		return EXIT_OK;
	case TOOL_OPT_OWN + 2:
		r->shred.keep_file = true;
		return EXIT_OK;
	default:
		return tool_option(&r->tool, opt);
	}
}

static int parse(struct shred_run *r, int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"yes", no_argument, NULL, TOOL_OPT_OWN},
		{"receipt", required_argument, NULL, TOOL_OPT_OWN + 1},
		{"keep-file", no_argument, NULL, TOOL_OPT_OWN + 2},
		{NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1)
		code = take_option(r, opt);
	if (code)
		return code == EXIT_USAGE ? command_usage("shred") : code;
	if (optind == argc || !r->tool.source.path)
		return command_usage("shred");
	if (r->yes)
		return EXIT_OK;
	fprintf(stderr, "vmcryptfs shred: nobody can undo it: --yes says that it is "
			"meant\n");
	return EXIT_USAGE;
}

int cmd_shred(int argc, char **argv)
{
	struct shred_run r = {.tool = {.command = "shred"}, .receipt_fd = -1};
	int code = parse(&r, argc, argv);

	r.shred.receipt = write_receipt;
	r.shred.receipt_arg = &r;
	if (!code)
		code = begin(&r);
	if (!code)
		code = run(&r, argv + optind, (size_t)(argc - optind));
	if (r.shred.offline.cfg)
		offline_fini(&r.shred.offline);
	tool_list_free(&r.done);
	if (r.receipt_fd >= 0)
		close(r.receipt_fd);
	tool_end(&r.tool);
	return code;
}
