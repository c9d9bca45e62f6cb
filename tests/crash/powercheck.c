/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts a record (record.h) at many places, builds what a disk may hold then (powerdisk.h), and
 * looks whether all that was promised is there (powermodel.h):
 *
 *   - names lead to their old or their new file, its bytes and size are old or new ones
 *   - every container opens with its secret, which is at the service; an unfinished one is empty
 *   - the journal is whole, and every secret at the service is in it, in a container, or the
 *     site's
 *   - some of the outcomes are mounted: the daemon starts, gives the same content, and recovers
 *
 * usage: powercheck [-n REPLAYS] [-s SEED] [-m EVERY] [-o NUMBER] [-f FOLDER -t FOLDER]
 *                   RECORD FOLDER PROGRAM [MOUNT-ARGUMENT...]
 *   -n how many outcomes; -m every EVERYth is mounted; -o only this one, which stays in FOLDER
 *   -f, -t the backing and the state folder that were recorded: compared with the whole replay
 *   FOLDER: {back,state,keys,mnt,run}, which the mount arguments name
 */
#include "tests/crash/powercheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "util/io.h"
#include "util/log.h"

enum { REORDERINGS = 2 }; /* at each cut, beside the prefix */

void violation(struct check *c, const char *fmt, ...)
{
	va_list ap;

	printf("VIOLATION: replay %zu (%s, cut at event %zu): ", c->number, c->what,
	       c->cut);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	c->violations++;
}

void die(const char *what)
{
	fprintf(stderr, "powercheck: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- all of them --- */

struct plan {
	size_t limit, every, only; /* SIZE_MAX: all */
	uint64_t seed;
};

static void look_at(struct check *c, const struct plan *p, const struct outcome *o,
		    const char *what)
{
	bool only = p->only == c->number;

	c->o = o;
	c->what = what;
	if (p->only == SIZE_MAX || only) {
		c->replays++;
		c->flying += o->flying;
		check_outcome(c);
		if (only || (p->every && c->number % p->every == p->every - 1))
			check_mounted(c);
	}
	c->number++;
}

static void replay_at(struct check *c, const struct plan *p, size_t cut)
{
	struct outcome o;

	disk_advance(&c->disk, cut);
	c->cut = cut;
	outcome_prefix(&o, &c->disk);
	look_at(c, p, &o, "prefix");
	outcome_free(&o);
	c->prefixes++;
	for (int i = 0; i < REORDERINGS; i++) {
		c->random = p->seed ^ (c->number * 0x9e3779b97f4a7c15u);
		outcome_random(&o, &c->disk, &c->random);
		look_at(c, p, &o, "reordering");
		outcome_free(&o);
		c->reorderings++;
	}
}

/* Before and after each sync, after each acknowledgement of one; and some others. */
static bool is_boundary(const struct disk *d, size_t cut)
{
	const struct record *before = cut ? d->events[cut - 1] : NULL;
	const struct record *next = cut < d->event_cnt ? d->events[cut] : NULL;

	if (next && (next->kind == RECORD_FSYNC || next->kind == RECORD_FDATASYNC))
		return true;
	if (before && before->kind == RECORD_END) {
		const struct work_op *op = (const void *)before->data;

		return op->kind == WORK_FSYNC || op->kind == WORK_FDATASYNC ||
		       op->kind == WORK_FSYNC_FOLDER;
	}
	return before &&
	       (before->kind == RECORD_FSYNC || before->kind == RECORD_FDATASYNC);
}

static void replay_all(struct check *c, const struct plan *p)
{
	uint64_t random = p->seed, boundaries = 0, others = 0;
	uint64_t wanted = p->limit / (REORDERINGS + 1);

	for (size_t cut = 0; cut <= c->disk.event_cnt; cut++)
		boundaries += is_boundary(&c->disk, cut);
	others = c->disk.event_cnt + 1 - boundaries;
	for (size_t cut = 0; cut <= c->disk.event_cnt; cut++) {
		bool boundary = is_boundary(&c->disk, cut);
		uint64_t share = boundary ? wanted * 3 / 4 : wanted - wanted * 3 / 4;
		uint64_t all = boundary ? boundaries : others;

		if (work_random(&random) % (all ? all : 1) < share)
			replay_at(c, p, cut);
	}
}

/* --- is the record whole? --- */

static void compare_tree(struct check *c, int tree, const struct object *folder,
			 const char *path)
{
	const struct names *n = &c->disk.trees[tree].now;
	char below[2048];
	DIR *dir = opendir(path);
	size_t there = 0, noted = 0;
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		there += *e->d_name != '.';
	if (dir)
		closedir(dir);
	for (size_t i = 0; i < n->cnt; i++) {
		const struct name *entry = &n->list[i];
		const struct content *now = &entry->object->now;
		auto_close int fd = -1;
		unsigned char *a, *b;
		ssize_t len;

		if (entry->folder != folder)
			continue;
		noted++;
		snprintf(below, sizeof(below), "%s/%s", path, entry->text);
		if (entry->object->kind == OBJECT_FOLDER)
			compare_tree(c, tree, entry->object, below);
		if (entry->object->kind != OBJECT_FILE)
			continue;
		a = calloc(1, now->size + 1);
		b = calloc(1, now->size + 1);
		fd = open(below, O_RDONLY | O_CLOEXEC);
		len = fd < 0 || !a || !b ? -1 : io_pread_full(fd, a, now->size + 1, 0);
		content_read(now, b, 0, now->size);
		if (len != (ssize_t)now->size || memcmp(a, b, now->size))
			violation(c, "the record misses a change of %s", below);
		free(a);
		free(b);
	}
	if (there != noted)
		violation(c, "the record misses names in %s", path);
}

/* At its end nothing is lost, and all is as the last operation left it. */
static void check_end(struct check *c, const char *const folders[TREES])
{
	struct outcome o;

	disk_advance(&c->disk, c->disk.event_cnt);
	c->cut = c->disk.event_cnt;
	for (size_t i = 0; i < c->model.file_cnt; i++)
		for (size_t k = 0; k < c->model.files[i].cnt; k++)
			c->model.files[i].versions[k].acked = 0;
	for (size_t i = 0; i < c->model.name_cnt; i++)
		c->model.names[i].bindings[c->model.names[i].cnt - 1].acked = 0;
	outcome_prefix(&o, &c->disk);
	c->o = &o;
	c->what = "the end";
	check_outcome(c);
	outcome_free(&o);
	for (int i = 0; i < TREES; i++)
		if (folders[i])
			compare_tree(c, i, c->disk.trees[i].root, folders[i]);
}

static void init(struct check *c, const char *record)
{
	struct record_file *f = record_map(record);
	bool hidden;

	if (!f)
		die(record);
	log_set_level(LOG_LEVEL_ERR);
	if (secret_arena_init() || crypto_init() || container_init() ||
	    keytable_new(&c->table, HEADERS_MAX, &hidden) || xts_new(&c->xts))
		die("cannot start");
	disk_load(&c->disk, f);
	model_load(&c->model, &c->disk);
	keys_load(&c->keys, &c->disk);
}

int main(int argc, char **argv)
{
	static struct check c;
	struct plan p = {.limit = 600, .every = 25, .only = SIZE_MAX, .seed = 1};
	const char *folders[TREES] = {NULL};
	int opt;

	while ((opt = getopt(argc, argv, "+n:s:m:o:f:t:")) != -1) {
		if (opt == 'n')
			p.limit = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			p.seed = strtoull(optarg, NULL, 0);
		else if (opt == 'm')
			p.every = strtoul(optarg, NULL, 0);
		else if (opt == 'o')
			p.only = strtoul(optarg, NULL, 0);
		else if (opt == 'f')
			folders[TREE_BACK] = optarg;
		else if (opt == 't')
			folders[TREE_STATE] = optarg;
		else
			return 2;
	}
	if (argc - optind < 3)
		return 2;
	c.only = p.only != SIZE_MAX;
	init(&c, argv[optind]);
	snprintf(c.folder, sizeof(c.folder), "%s", argv[optind + 1]);
	c.mount = argv + optind + 2;
	replay_all(&c, &p);
	check_end(&c, folders);
	printf("%zu events, %zu syncs acknowledged, %zu contents compared\n",
	       c.disk.event_cnt, c.model.acks, c.compared);
	printf("%zu asynchronous writes under way where the power failed\n", c.flying);
	printf("%zu replays (%zu prefixes, %zu reorderings, %zu mounted), %zu violations\n",
	       c.replays, c.prefixes, c.reorderings, c.mounted, c.violations);
	return c.violations != 0;
}
