/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check-config and check-tree: looking before mounting; nothing is changed. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/kdf.h"
#include "fs/cmd.h"
#include "fs/config.h"
#include "fs/device_config.h"
#include "fs/treescan.h"
#include "util/log.h"

/* --- check-config ------------------------------------------------------------------ */

/* The -o settings count more than the file, so they are gone through once more behind it.
 */
static vcf_err_t apply_settings(struct config *c, int argc, char **argv,
				const char *letters, const struct option *longs)
{
	vcf_err_t err = 0;
	int opt;

	optind = 0; /* glibc: start anew */
	while ((opt = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (opt == 'o' && config_set(c, optarg))
			err = -EINVAL;
	}
	return err;
}

/* What the configuration names may still be made, or be of another machine: no fault of it. */
static void warn_of_this_machine(const struct config *c, const char *path)
{
	const char *const folders[] = {c->backing, c->mountpoint};
	char program[PATH_MAX];

	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		if (folders[i] && access(folders[i], F_OK) < 0 && errno == ENOENT)
			log_warn("%s: a mount would be refused on this machine: %s: %s",
				 path, folders[i], strerror(errno));
	}
	if (keyservice_find_program(program, sizeof(program), c->helper))
		log_warn(
			"%s: a mount would be refused on this machine: its key helper is "
			"missing or cannot be trusted",
			path);
}

int cmd_check_config(int argc, char **argv)
{
	auto_config struct config *c = NULL;
	bool verbose = false;
	const char *path;
	vcf_err_t errs[3];
	int opt;

	while ((opt = getopt(argc, argv, "vo:")) != -1) {
		if (opt == '?')
			return command_usage("check-config");
		verbose |= opt == 'v';
	}
	if (optind != argc - 1)
		return command_usage("check-config");
	path = argv[optind];
	if (config_new(&c))
		return EXIT_FAILED;
	errs[0] = config_read(c, path);
	errs[1] = apply_settings(c, argc, argv, "vo:", NULL);
	if (errs[0] && errs[0] != -EINVAL)
		return exit_code_of(errs[0]);
	errs[2] = config_finish(c, false);
	if (errs[0] || errs[1] || errs[2])
		return EXIT_CONFIG;
	if (verbose)
		config_print(c, stdout);
	printf("%s%s: ok\n", verbose ? "; " : "", path);
	warn_of_this_machine(c, path);
	return EXIT_OK;
}

/* --- check-tree -------------------------------------------------------------------- */

enum what { EMPTY, CONTAINER, PLAINTEXT, DAMAGED, UNREADABLE, PLAIN_FILE, WHAT_CNT };

static const char *const what_names[WHAT_CNT] = {
	"empty", "container", "PLAINTEXT", "DAMAGED", "UNREADABLE", "file",
};

struct tree_report {
	bool list_all;
	uint64_t cnt[CLASS_PASSTHROUGH + 1][WHAT_CNT];
};

static enum what what_is(const struct treescan_file *f)
{
	static const enum what kinds[] = {
		[PEEK_EMPTY] = EMPTY,
		[PEEK_CONTAINER] = CONTAINER,
		[PEEK_PLAINTEXT] = PLAINTEXT,
		[PEEK_DAMAGED] = DAMAGED,
	};

	if (!rules_is_image(f->cls))
		return PLAIN_FILE;
	return f->err ? UNREADABLE : kinds[f->peek.kind];
}

/* A name may hold what a terminal would obey. */
static void print_visible(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static int report_file(void *arg, const struct treescan_file *f)
{
	struct tree_report *r = arg;
	enum what what = what_is(f);

	r->cnt[f->cls][what]++;
	if (!r->list_all && (what == EMPTY || what == CONTAINER || what == PLAIN_FILE))
		return 0;
	printf("%-11s  %-10s  ", rules_class_name(f->cls), what_names[what]);
	print_visible(f->path);
	if (f->err)
		printf(": %s", strerror(-f->err));
	putchar('\n');
	return 0;
}

static int report_device(void *arg, const struct device_look *l)
{
	static const char *const kinds[] = {
		[PEEK_EMPTY] = "empty",
		[PEEK_CONTAINER] = "container",
		[PEEK_PLAINTEXT] = "something else",
		[PEEK_DAMAGED] = "DAMAGED",
	};

	(void)arg;
	printf("device       %-10s  %s = %s\n",
	       l->err ? strerror(-l->err) : kinds[l->peek.kind], l->name, l->path);
	return 0;
}

static uint64_t sum(const struct tree_report *r, enum what what)
{
	return r->cnt[CLASS_ENCRYPT][what] + r->cnt[CLASS_DERIVED][what];
}

static int report_sums(const struct tree_report *r)
{
	for (int cls = CLASS_ENCRYPT; cls <= CLASS_PASSTHROUGH; cls++) {
		const char *comma = "";

		printf("%s: ", rules_class_name((enum file_class)cls));
		for (int what = 0; what < WHAT_CNT; what++) {
			if (!r->cnt[cls][what])
				continue;
			printf("%s%" PRIu64 " %s", comma, r->cnt[cls][what],
			       what_names[what]);
			comma = ", ";
		}
		puts(*comma ? "" : "none");
	}
	if (sum(r, PLAINTEXT)) {
		puts("There are files in the clear where images should be; a mount is "
		     "refused while they exist. Move them\naside and copy them back through the mount, or exempt them with a passthrough rule,\n"
		     "or restore their headers, if they were images: these are destroyed then.");
		return EXIT_REFUSED;
	}
	return sum(r, DAMAGED) + sum(r, UNREADABLE) ? EXIT_FAILED : EXIT_OK;
}

/* True if what one sees at the path is the plaintext view of a mount of ours. */
static bool is_our_mount(const char *path)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char real[PATH_MAX];
	const struct mntent *m;
	bool found = false;

	if (!mounts)
		return false;
	if (!realpath(path, real))
		*real = '\0';
	while (!found && (m = getmntent(mounts)))
		found = strcmp(m->mnt_dir, real) == 0 &&
			strcmp(m->mnt_type, "fuse.vmcryptfs") == 0;
	endmntent(mounts);
	return found;
}

static int check_tree(const struct config *c, bool list_all)
{
	auto_close int root = open(c->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_rules struct rules *rules = NULL;
	struct tree_report report = {.list_all = list_all};
	vcf_err_t err = root < 0 ? -errno : 0;

	if (!err && is_our_mount(c->backing)) {
		log_err("%s: is a mounted view; its backing folder cannot be seen there",
			c->backing);
		return EXIT_BUSY;
	}
	if (config_make_rules(c, &rules))
		return EXIT_CONFIG;
	if (crypto_init()) /* for the headers' checksums */
		return EXIT_FAILED;
	if (!err)
		err = treescan(root, rules, report_file, &report);
	if (err) {
		log_err("%s: %s", c->backing, strerror(-err));
		return exit_code_of(err);
	}
	if (device_each(c, report_device, NULL))
		return EXIT_FAILED;
	return report_sums(&report);
}

static vcf_err_t set_backing(struct config *c, const char *path)
{
	free(c->backing);
	c->backing = strdup(path);
	return c->backing ? 0 : -ENOMEM;
}

int cmd_check_tree(int argc, char **argv)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"list-all", no_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	auto_config struct config *c = NULL;
	const char *path = NULL;
	bool list_all = false;
	vcf_err_t err = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "c:lo:", longs, NULL)) != -1) {
		if (opt == '?')
			return command_usage("check-tree");
		if (opt == 'c')
			path = optarg;
		list_all |= opt == 'l';
	}
	if (argc - optind != !path)
		return command_usage("check-tree");
	if (config_new(&c))
		return EXIT_FAILED;
	if (path)
		err = config_read(c, path);
	if (err && err != -EINVAL)
		return exit_code_of(err);
	if (apply_settings(c, argc, argv, "c:lo:", longs) || err)
		return EXIT_CONFIG;
	if (path ? config_finish(c, false) : set_backing(c, argv[optind]))
		return EXIT_CONFIG;
	return check_tree(c, list_all);
}
