/* SPDX-License-Identifier: GPL-2.0-or-later */
/* materialize and trim: holes of images that nobody has open. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/container_rekey.h"
#include "fs/cmd.h"
#include "fs/holes.h"
#include "fs/jsonlines.h"
#include "fs/nodelock.h"
#include "fs/offline.h"
#include "fs/tool.h"
#include "fs/toolkeys.h"
#include "util/log.h"

struct holes_args {
	struct tool tool;
	struct toolkeys keys;
	vcf_err_t (*one)(struct tool_file *f, struct offline_file *file,
			 const struct secret *secret);
};

static vcf_err_t fail(struct tool_file *f, vcf_err_t err, const char *what)
{
	if (err == -EINTR)
		return tool_fail(f, err,
				 "interrupted: %s; it is as it was to whoever "
				 "reads it",
				 what);
	if (err == -EBADMSG)
		return tool_fail(f, err, "its size says nothing: 'vmcryptfs repair'");
	return tool_fail(f, err, "%s: %s", what, strerror(-err));
}

static void say_bytes(struct tool_file *f, const char *name, uint64_t bytes)
{
	if (f->json)
		json_put_number(f->json, name, bytes);
}

/* What an earlier run, or another change, has left half done. */
static vcf_err_t tend_header(struct offline_file *file)
{
	vcf_err_t err = nodelock_byte(file->fd, NODELOCK_HEADER, true, true);

	if (err)
		log_dbg("no lock on the header: %s", strerror(-err));
	err = container_write_mended(file->c, file->fd);
	return err ? err : container_wipe_unused(file->c, file->fd, NULL);
}

/* The header says so once it is true, and never before. */
static vcf_err_t claim_no_holes(struct offline_file *file, const struct secret *secret)
{
	auto_rekey struct rekey *r = NULL;
	enum rekey_outcome outcome;
	vcf_err_t err = container_set_holes(&r, file->c, HOLES_NONE, secret, file->path);

	return err ? err : container_write_rekeyed(r, file->fd, NULL, NULL, &outcome);
}

static vcf_err_t materialize(struct tool_file *f, struct offline_file *file,
			     const struct secret *secret)
{
	bool had = container_token(file->c)->holes == HOLES_ZERO;
	uint64_t bytes = 0;
	vcf_err_t err = tend_header(file);

	if (err)
		return fail(f, err, "its header cannot be mended");
	err = holes_fill(file->c, file->fd, f, &bytes);
	if (err)
		return fail(f, err, "not all of its holes are filled");
	if (had)
		err = claim_no_holes(file, secret);
	if (err)
		return fail(f, err,
			    "its holes are filled, but its header does not say so");
	say_bytes(f, "filled", bytes);
	if (!had && !bytes)
		tool_say(f, "it has no holes");
	else
		tool_say(f, "%" PRIu64 " bytes of holes are encrypted zeros now", bytes);
	return 0;
}

static vcf_err_t trim(struct tool_file *f, struct offline_file *file,
		      const struct secret *secret)
{
	uint64_t bytes = 0;
	vcf_err_t err;

	if (container_token(file->c)->holes != HOLES_ZERO)
		return tool_fail(
			f, -EOPNOTSUPP,
			"refused: its token says that it has no holes, and other "
			"programs may rely on that");
	err = holes_punch(file->c, file->fd, f, &bytes);
	if (err)
		return fail(f, err, "not all of its zeros are holes");
	say_bytes(f, "punched", bytes);
	tool_say(f, "%" PRIu64 " bytes of zeros are holes now", bytes);
	return 0;
}

static vcf_err_t unlock(struct holes_args *a, struct tool_file *f,
			struct offline_file *file)
{
	auto_secret struct secret *secret = NULL;
	char why[CONTAINER_WHY_LEN], answer[TOOLKEYS_WHY_LEN];
	vcf_err_t err = container_load_why(&file->c, file->fd, why, NULL);

	if (err == -ENODATA) {
		tool_say(f, "an empty image: it has no header");
		return 0;
	}
	if (err)
		return tool_fail(f, err, "%s", *why ? why : offline_refusal(err));
	err = toolkeys_unlock(&a->keys, file->c, file->path, &secret, answer);
	if (err)
		return tool_fail(f, err, "%s", answer);
	return a->one(f, file, secret);
}

static vcf_err_t holes_one(void *arg, struct tool_file *f)
{
	auto_free struct tool_place *p = calloc(1, sizeof(*p));
	struct holes_args *a = arg;
	struct offline_file file;
	vcf_err_t err = p ? tool_place(&a->tool, f->path, p) : -ENOMEM;

	if (err)
		return err;
	err = offline_claim(&file, p->path, a->tool.runtime, true);
	if (err)
		return tool_fail(f, err, "%s", offline_refusal(err));
	err = unlock(a, f, &file);
	offline_close(&file);
	return err;
}

static int parse(struct holes_args *a, int argc, char **argv)
{
	static const struct option longs[] = {TOOL_LONG_OPTIONS, {NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1)
		code = tool_option(&a->tool, opt);
	if (code == EXIT_USAGE || (!code && (!a->tool.source.path || optind == argc)))
		return command_usage(a->tool.command);
	return code;
}

static int run(struct holes_args *a, int argc, char **argv)
{
	int code = parse(a, argc, argv);

	if (!code)
		code = tool_begin(&a->tool);
	if (!code)
		code = toolkeys_begin(&a->keys, a->tool.cfg, a->tool.command);
	if (!code)
		code = tool_run(&a->tool, argv + optind, (size_t)(argc - optind),
				holes_one, a);
	toolkeys_end(&a->keys);
	tool_end(&a->tool);
	return code;
}

int cmd_materialize(int argc, char **argv)
{
	struct holes_args a = {.tool = {.command = "materialize"}, .one = materialize};

	return run(&a, argc, argv);
}

int cmd_trim(int argc, char **argv)
{
	struct holes_args a = {.tool = {.command = "trim"}, .one = trim};

	return run(&a, argc, argv);
}
