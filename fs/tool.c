/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/exitcode.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/parse.h"
#include "util/text.h"

/* --- options --- */

int tool_option(struct tool *t, int opt)
{
	vcf_err_t err = 0;
	uint64_t n = 0;

	if (opt == 'c' && !t->source.path)
		err = config_source_file(&t->source, optarg);
	else if (opt == 'o')
		err = config_source_setting(&t->source, optarg);
	else if (opt == 'r')
		t->runtime = optarg;
	else if (opt == TOOL_OPT_JSON)
		t->json = true;
	else if (opt == TOOL_OPT_PARALLEL)
		err = parse_u64(optarg, 1, TOOL_PARALLEL_MAX, &n);
	else
		return EXIT_USAGE;
	if (n)
		t->parallel = (unsigned int)n;
	if (!err)
		return EXIT_OK;
	fprintf(stderr, "vmcryptfs %s: %s: %s\n", t->command, optarg, strerror(-err));
	return opt == TOOL_OPT_PARALLEL ? EXIT_USAGE : (int)exit_code_of(err);
}

int tool_begin(struct tool *t)
{
	if ((t->source.path || t->source.setting_cnt) && config_load(&t->cfg, &t->source))
		return EXIT_CONFIG; /* said */
	if (!t->runtime && t->cfg)
		t->runtime = t->cfg->runtime_directory;
	return EXIT_OK;
}

void tool_end(struct tool *t)
{
	config_free(STEAL_PTR(&t->cfg));
	config_source_fini(&t->source);
}

/* --- where a file lies --- */

/* What follows `folder` in path, without the slash; NULL: it is not below. */
static const char *below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	if (strncmp(path, folder, len) != 0)
		return NULL;
	if (len && folder[len - 1] == '/') /* "/" */
		return path + len;
	return path[len] == '/' ? path + len + 1 : NULL;
}

static vcf_err_t join(char dst[PATH_MAX], const char *folder, const char *name)
{
	const char *slash = *folder && folder[strlen(folder) - 1] != '/' ? "/" : "";

	return snprintf(dst, PATH_MAX, "%s%s%s", folder, slash, name) >= PATH_MAX
		       ? -ENAMETOOLONG
		       : 0;
}

/* The folder is resolved, the last component is taken as it is. */
static vcf_err_t resolve(const char *path, char dst[PATH_MAX])
{
	char folder[PATH_MAX], real[PATH_MAX];
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EISDIR;
	if (strlen(path) >= sizeof(folder))
		return -ENAMETOOLONG;
	TEXT_CUT(folder, slash ? path : ".");
	if (slash)
		folder[slash == path ? 1 : slash - path] = '\0';
	if (!realpath(folder, real))
		return -errno;
	return join(dst, real, name);
}

static vcf_err_t leave_mount(struct tool_place *p)
{
	char point[PATH_MAX], backing[PATH_MAX], shown[PATH_MAX];
	struct mountpoint_info info;
	struct statx stx;
	const char *rel;
	vcf_err_t err = mountpoint_of(p->path, point, sizeof(point));

	if (err)
		return err == -ENOENT ? 0 : err;
	rel = below(p->path, point);
	if (statx(AT_FDCWD, point, AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) < 0)
		return -errno;
	err = mountpoint_by_id(&info, stx.stx_mnt_id);
	if (err)
		return err;
	TEXT_CUT(backing, info.source);
	if (!rel || mountpoint_of(backing, shown, sizeof(shown)) == 0)
		return rel ? -EXDEV : -EISDIR;
	TEXT_CUT(p->mountpoint, point);
	TEXT_CUT(p->name, rel); /* which lies in p->path */
	return join(p->path, backing, p->name);
}

static bool follow_to_device(char path[PATH_MAX])
{
	char real[PATH_MAX];
	struct stat st;

	if (!realpath(path, real) || lstat(real, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	text_cut(path, PATH_MAX, real);
	return true;
}

vcf_err_t tool_place(const struct tool *t, const char *path, struct tool_place *out)
{
	auto_free struct tool_place *p = calloc(1, sizeof(*p));
	char backing[PATH_MAX];
	const char *rel = NULL;
	struct stat st;
	vcf_err_t err;

	if (!p)
		return -ENOMEM;
	err = resolve(path, p->path);
	if (!err)
		err = leave_mount(p);
	if (!err && lstat(p->path, &st) < 0)
		err = -errno;
	if (err == -ENOENT)
		*out = *p;
	if (err)
		return err;
	if (S_ISLNK(st.st_mode) && !follow_to_device(p->path))
		return -ELOOP;
	if (t->cfg && t->cfg->backing && realpath(t->cfg->backing, backing))
		rel = below(p->path, backing);
	if (rel)
		TEXT_CUT(p->rel, rel);
	*out = *p;
	return 0;
}

/* --- files found by the rules --- */

struct finding {
	struct tool_list *list;
	const char *backing;
	bool (*wanted)(void *arg, const struct treescan_file *f);
	void *arg;
};

static vcf_err_t make_room(struct tool_list *l)
{
	size_t room = l->room ? 2 * l->room : 256;
	char **more;

	if (l->cnt < l->room)
		return 0;
	more = realloc(l->paths, room * sizeof(*more));
	if (!more)
		return -ENOMEM;
	l->paths = more;
	l->room = room;
	return 0;
}

vcf_err_t tool_list_add(struct tool_list *l, const char *path)
{
	vcf_err_t err = make_room(l);

	if (err)
		return err;
	l->paths[l->cnt] = strdup(path);
	if (!l->paths[l->cnt])
		return -ENOMEM;
	l->cnt++;
	return 0;
}

static int found(void *arg, const struct treescan_file *f)
{
	struct finding *s = arg;
	char path[PATH_MAX];
	vcf_err_t err;

	if (!s->wanted(s->arg, f))
		return 0;
	err = join(path, s->backing, f->path);
	return err ? err : tool_list_add(s->list, path);
}

vcf_err_t tool_find(struct tool *t, struct tool_list *out,
		    bool (*wanted)(void *arg, const struct treescan_file *f), void *arg)
{
	auto_close int root = open(t->cfg->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct rules *rules;
	struct finding s = {out, t->cfg->backing, wanted, arg};
	vcf_err_t err;

	*out = (struct tool_list){0};
	if (root < 0)
		return -errno;
	err = config_make_rules(t->cfg, &rules);
	if (err)
		return err;
	err = treescan_all(root, rules, found, &s);
	rules_free(rules);
	if (err)
		tool_list_free(out);
	return err;
}

void tool_list_free(struct tool_list *l)
{
	for (size_t i = 0; i < l->cnt; i++)
		free(l->paths[i]);
	free(l->paths);
	*l = (struct tool_list){0};
}
