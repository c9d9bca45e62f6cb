/* SPDX-License-Identifier: GPL-2.0-or-later */
/* header backup, header restore: what opens an image, apart from it. */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/header.h"
#include "fs/jsonlines.h"
#include "fs/mountpoint.h"
#include "util/text.h"

struct header_args {
	struct tool tool;
	struct toolkeys keys;
	struct header_job job;
	bool restore;
	const char *file, *image; /* as they were named */
	struct tool_place place;
};

static int complain(const char *name, int code, const char *why)
{
	fprintf(stderr, "vmcryptfs header: %s: %s\n", name, why);
	return code;
}

/* Beside images it would be taken for one. */
static int check_output(const struct header_args *a)
{
	char folder[PATH_MAX], real[PATH_MAX + 2], point[PATH_MAX];
	const char *backing = a->tool.cfg->backing;
	auto_free char *top = realpath(backing, NULL);
	size_t len = top ? strlen(top) : 0;

	TEXT_CUT(folder, a->file);
	if (!realpath(dirname(folder), real))
		return complain(a->file, (int)exit_code_of(-errno), strerror(errno));
	if (top && strncmp(real, top, len) == 0 && (real[len] == '/' || !real[len]))
		return complain(a->file, EXIT_REFUSED,
				"it would be an image of the mount there");
	strcat(real, "/");
	if (mountpoint_of(real, point, sizeof(point)) == 0)
		return complain(a->file, EXIT_REFUSED,
				"in a mount it would be encrypted: nothing would open it "
				"without the image");
	return EXIT_OK;
}

static int restore(struct header_args *a)
{
	struct offline_file f;
	vcf_err_t err = offline_claim(&f, a->place.path, a->tool.runtime, true);
	int code;

	if (err) {
		TEXT_CUT(a->job.text, offline_refusal(err));
		return (int)exit_code_of(err);
	}
	a->job.path = f.path;
	code = header_restore(&a->job, &f);
	offline_close(&f);
	return code;
}

static void report(const struct header_args *a, int code)
{
	struct json_object *o;

	if (!a->tool.json) {
		fprintf(code ? stderr : stdout, "%s%s: %s\n",
			code ? "vmcryptfs header: " : "", a->image, a->job.text);
		return;
	}
	o = json_object_new_object();
	json_put_text(o, "event", "file");
	json_put_shown(o, "path", a->image);
	json_put_text(o, "result", code ? "failed" : "ok");
	json_put_number(o, "code", (uint64_t)code);
	json_put_shown(o, "text", a->job.text);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

static int run(struct header_args *a)
{
	int code = tool_begin(&a->tool);
	vcf_err_t err;

	if (!code && !a->restore)
		code = check_output(a);
	if (!code)
		code = toolkeys_begin(&a->keys, a->tool.cfg, "header");
	if (code)
		return code;
	err = tool_place(&a->tool, a->image, &a->place);
	if (err)
		return complain(a->image, (int)exit_code_of(err), strerror(-err));
	a->job.keys = &a->keys;
	a->job.path = a->place.path;
	a->job.backup = a->file;
	code = a->restore ? restore(a) : header_backup(&a->job);
	report(a, code);
	return code;
}

static int take_words(struct header_args *a, char **words, int cnt)
{
	if (!a->tool.source.path || cnt != (a->restore ? 2 : 1) ||
	    !a->file != a->restore || (a->job.uuid && !a->restore))
		return EXIT_USAGE;
	if (a->restore)
		a->file = *words++;
	a->image = *words;
	return EXIT_OK;
}

static int parse(struct header_args *a, int argc, char **argv)
{
	enum { OUTPUT = TOOL_OPT_OWN, FORCE };
	static const struct option longs[] = {
		{"json", no_argument, NULL, TOOL_OPT_JSON},
		{"output", required_argument, NULL, OUTPUT},
		{"force-with-uuid", required_argument, NULL, FORCE},
		{NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1) {
		if (opt == OUTPUT)
			a->file = optarg;
		else if (opt == FORCE)
			a->job.uuid = optarg;
		else
			code = tool_option(&a->tool, opt);
	}
	if (!code)
		code = take_words(a, argv + optind, argc - optind);
	return code == EXIT_USAGE ? command_usage("header") : code;
}

int cmd_header(int argc, char **argv)
{
	auto_free struct header_args *a = calloc(1, sizeof(*a));
	int code;

	if (!a)
		return EXIT_FAILED;
	a->tool.command = "header";
	if (argc < 2 ||
	    (strcmp(argv[1], "backup") != 0 && strcmp(argv[1], "restore") != 0))
		return command_usage("header");
	a->restore = strcmp(argv[1], "restore") == 0;
	code = parse(a, argc - 1, argv + 1);
	if (!code)
		code = run(a);
	toolkeys_end(&a->keys);
	tool_end(&a->tool);
	return code;
}
