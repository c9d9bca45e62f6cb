/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verify: are these containers sound? Nothing is changed and nobody is kept out. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/cmd.h"
#include "fs/device_config.h"
#include "fs/jsonlines.h"
#include "fs/tool.h"
#include "fs/toolkeys.h"
#include "fs/verify.h"
#include "util/io.h"
#include "util/text.h"

struct verify_args {
	struct tool tool;
	struct toolkeys keys;
	struct rules *rules;
	bool all, full;
};

/* The kinds, texts and ways out, one after the other; the error of the first one. */
static vcf_err_t report(struct tool_file *f, const struct verify *v)
{
	struct json_object *list = f->json ? json_object_new_array() : NULL;
	char *end = f->text, *limit = f->text + sizeof(f->text);

	for (size_t i = 0; i < v->cnt; i++) {
		const struct verify_fault *fault = &v->faults[i];
		bool last = i + 1 == v->cnt || fault[1].kind != fault->kind;
		const char *way = verify_way_out(fault->kind);

		if (end < limit)
			end += snprintf(end, (size_t)(limit - end), "%s%s%s%s%s",
					i ? "; " : "", fault->text, last ? " (" : "",
					last ? way : "", last ? ")" : "");
		if (list) {
			struct json_object *o = json_object_new_object();

			json_put_text(o, "kind", verify_name(fault->kind));
			json_put_shown(o, "text", fault->text);
			json_put_text(o, "way_out", way);
			json_object_array_add(list, o);
		}
	}
	if (list)
		json_object_object_add(f->json, "faults", list);
	return v->cnt ? verify_err(v->faults[0].kind) : 0;
}

static const char *sound_text(const struct verify *v, bool full)
{
	if (v->peek.kind == PEEK_EMPTY)
		return "an empty image: it has no header yet";
	return full ? "sound, and all of it can be read" : "sound";
}

/* Header and size say where the data is. */
static bool may_read(const struct verify *v)
{
	return v->peek.kind == PEEK_CONTAINER && v->len >= v->peek.data_off;
}

static vcf_err_t verify_open(struct verify_args *a, struct tool_file *f, struct verify *v)
{
	vcf_err_t err;

	verify_file(v);
	err = a->full && may_read(v) ? verify_read(v, f) : 0;
	if (err)
		return err;
	if (f->json && a->full)
		json_put_number(f->json, "unreadable", v->unreadable);
	err = report(f, v);
	if (!err)
		tool_say(f, "%s", sound_text(v, a->full));
	return err;
}

static bool is_passthrough(const struct verify_args *a, const char *rel)
{
	return *rel && rules_class(a->rules, rel) == CLASS_PASSTHROUGH;
}

static vcf_err_t verify_place(struct verify_args *a, struct tool_file *f,
			      const struct tool_place *p)
{
	auto_free struct verify *v = calloc(1, sizeof(*v));
	auto_close int fd = io_open_file(AT_FDCWD, p->path, O_RDONLY | O_NONBLOCK, true);
	const struct config *device;
	struct stat st;

	if (!v)
		return -ENOMEM;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	device = S_ISBLK(st.st_mode) ? device_by_rdev(a->tool.cfg, st.st_rdev) : NULL;
	*v = (struct verify){.keys = &a->keys,
			     .rules = a->rules,
			     .path = p->path,
			     .rel = device ? device->device_name : p->rel,
			     .fd = fd};
	if (is_passthrough(a, v->rel)) {
		tool_say(f, "passthrough by the rules: there is nothing to verify");
		return 0;
	}
	return verify_open(a, f, v);
}

static vcf_err_t verify_one(void *arg, struct tool_file *f)
{
	auto_free struct tool_place *p = calloc(1, sizeof(*p));
	struct verify_args *a = arg;
	vcf_err_t err = p ? tool_place(&a->tool, f->path, p) : -ENOMEM;

	if (err == -EXDEV)
		return tool_fail(f, err,
				 "the mount covers its own backing folder; verify it "
				 "after unmounting");
	return err ? err : verify_place(a, f, p);
}

static bool is_wanted(void *arg, const struct treescan_file *f)
{
	return f->err || rules_is_image(f->cls);
}

/* Those of the folder, and the devices. */
static int verify_all(struct verify_args *a)
{
	const struct config *cfg = a->tool.cfg;
	struct tool_list list;
	vcf_err_t err = tool_find(&a->tool, &list, is_wanted, NULL);
	int code;

	for (size_t i = 0; !err && i < cfg->device_cnt; i++)
		err = tool_list_add(&list, cfg->devices[i]->device_path);
	code = (int)exit_code_of(err);
	if (err)
		fprintf(stderr, "vmcryptfs verify: %s: %s\n", cfg->backing,
			strerror(-err));
	else
		code = tool_run(&a->tool, list.paths, list.cnt, verify_one, a);
	tool_list_free(&list);
	return code;
}

static int run(struct verify_args *a, int argc, char **argv)
{
	int code = tool_begin(&a->tool);

	if (!code && config_make_rules(a->tool.cfg, &a->rules))
		code = EXIT_CONFIG;
	if (!code)
		code = toolkeys_begin(&a->keys, a->tool.cfg, "verify");
	if (!code && a->all)
		code = verify_all(a);
	else if (!code)
		code = tool_run(&a->tool, argv + optind, (size_t)(argc - optind),
				verify_one, a);
	toolkeys_end(&a->keys);
	rules_free(a->rules);
	return code;
}

static int parse(struct verify_args *a, int argc, char **argv)
{
	enum { ALL = TOOL_OPT_OWN, FULL };
	static const struct option longs[] = {TOOL_LONG_OPTIONS,
					      {"all", no_argument, NULL, ALL},
					      {"full", no_argument, NULL, FULL},
					      {NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1) {
		if (opt == ALL)
			a->all = true;
		else if (opt == FULL)
			a->full = true;
		else
			code = tool_option(&a->tool, opt);
	}
	if (code == EXIT_USAGE ||
	    (!code && (!a->tool.source.path || a->all != (optind == argc))))
		return command_usage("verify");
	return code;
}

int cmd_verify(int argc, char **argv)
{
	struct verify_args a = {.tool = {.command = "verify"}};
	int code = parse(&a, argc, argv);

	if (!code)
		code = run(&a, argc, argv);
	tool_end(&a.tool);
	return code;
}
