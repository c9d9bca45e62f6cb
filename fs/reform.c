/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/reform.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/exitcode.h"
#include "fs/reform_impl.h"
#include "fs/replace.h"
#include "util/log.h"

static vcf_err_t reform_one(void *arg, struct tool_file *f)
{
	struct job j = {.r = arg, .f = f, .old.fd = -1};
	vcf_err_t err = tool_place(&j.r->tool, f->path, &j.place);

	if (!err)
		err = reform_open(&j);
	if (!err)
		err = reform_write(&j);
	container_free(j.c);
	offline_close(&j.old);
	return err == -EALREADY ? 0 : err;
}

static bool is_wanted(void *arg, const struct treescan_file *f)
{
	const struct reform *r = arg;

	if (!rules_is_image(f->cls) || f->err || replace_is_temp(f->path))
		return false;
	if (r->kind == REFORM_ENCRYPT)
		return f->st.st_size &&
		       (f->peek.kind == PEEK_PLAINTEXT ||
			(f->peek.kind == PEEK_EMPTY &&
			 !reform_may_be_creation(&f->peek, (uint64_t)f->st.st_size)));
	return f->peek.kind == PEEK_CONTAINER;
}

/* Where a derived rule covers one of them; newsecret_get() says what is wrong. */
static void make_sites(struct reform *r, char *const *paths, size_t cnt)
{
	const struct rules *rules = r->offline.rules;
	struct tool_place place;

	for (size_t i = 0; r->kind == REFORM_ENCRYPT && i < cnt; i++) {
		if (!tool_place(&r->tool, paths[i], &place) && *place.rel &&
		    rules_class(rules, place.rel) == CLASS_DERIVED &&
		    newsecret_make_site(&r->offline, rules_service(rules, place.rel)))
			log_dbg("%s: no secret of the site", place.rel);
	}
}

static int run_paths(struct reform *r, char *const *paths, size_t cnt)
{
	make_sites(r, paths, cnt);
	return tool_run(&r->tool, paths, cnt, reform_one, r);
}

static int run_found(struct reform *r)
{
	struct tool_list list;
	vcf_err_t err = tool_find(&r->tool, &list, is_wanted, r);
	int code;

	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", r->tool.command,
			r->tool.cfg->backing, strerror(-err));
		return exit_code_of(err);
	}
	code = run_paths(r, list.paths, list.cnt);
	tool_list_free(&list);
	return code;
}

static int run_offline(struct reform *r, int argc, char **argv)
{
	int code = offline_init_crypto();

	if (code)
		return code;
	code = offline_init(&r->offline, r->tool.command, r->tool.cfg, r->tool.runtime);
	if (!code)
		code = r->all ? run_found(r) : run_paths(r, argv, (size_t)argc);
	offline_fini(&r->offline);
	return code;
}

int reform_run(struct reform *r, int argc, char **argv)
{
	int code;

	if (!r->tool.source.path || (r->all ? argc > 0 : argc < 1)) {
		config_source_fini(&r->tool.source);
		return command_usage(r->tool.command);
	}
	code = tool_begin(&r->tool);
	if (!code)
		code = run_offline(r, argc, argv);
	tool_end(&r->tool);
	return code;
}
