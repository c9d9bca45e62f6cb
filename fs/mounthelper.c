/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mounthelper.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/exitcode.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"

enum { ARGS_MAX = 2 * CONFIG_SOURCE_SETTINGS_MAX + 16, FAILED = 32, INVOCATION = 1 };

static const char *base_name(const char *program)
{
	const char *slash = strrchr(program, '/');

	return slash ? slash + 1 : program;
}

bool mounthelper_is_called(const char *program)
{
	const char *name = program ? base_name(program) : "";

	return strncmp(name, "mount.", 6) == 0 || strncmp(name, "umount.", 7) == 0;
}

static int status_of(int code)
{
	switch (code) {
	case EXIT_OK:
		return 0;
	case EXIT_USAGE:
	case EXIT_PERMISSION:
		return INVOCATION;
	default:
		return FAILED;
	}
}

/*
 * Options
 */

#define LIKE_VMCRYPTFS ""

/* A name that ends with '*' stands for all that begin so. */
static const struct {
	const char *name, *setting, *why; /* why: refused */
} known[] = {
	{"rw", LIKE_VMCRYPTFS, NULL},
	{"defaults", LIKE_VMCRYPTFS, NULL},
	{"auto", LIKE_VMCRYPTFS, NULL},
	{"noauto", LIKE_VMCRYPTFS, NULL},
	{"nofail", LIKE_VMCRYPTFS, NULL},
	{"_netdev", LIKE_VMCRYPTFS, NULL},
	{"user", LIKE_VMCRYPTFS, NULL},
	{"user=*", LIKE_VMCRYPTFS, NULL},
	{"nouser", LIKE_VMCRYPTFS, NULL},
	{"users", LIKE_VMCRYPTFS, NULL},
	{"owner", LIKE_VMCRYPTFS, NULL},
	{"group", LIKE_VMCRYPTFS, NULL},
	{"exec", LIKE_VMCRYPTFS, NULL},
	{"async", LIKE_VMCRYPTFS, NULL},
	{"atime", LIKE_VMCRYPTFS, NULL},
	{"noatime", LIKE_VMCRYPTFS, NULL},
	{"relatime", LIKE_VMCRYPTFS, NULL},
	{"comment=*", LIKE_VMCRYPTFS, NULL},
	{"x-*", LIKE_VMCRYPTFS, NULL},
	{"X-*", LIKE_VMCRYPTFS, NULL},
	{"suid", "mount.nosuid=no", NULL},
	{"nosuid", "mount.nosuid=yes", NULL},
	{"dev", "mount.nodev=no", NULL},
	{"nodev", "mount.nodev=yes", NULL},
	{"allow_other", "mount.allow-other=yes", NULL},
	{"default_permissions", "mount.default-permissions=yes", NULL},
	{"ro", NULL, "it is always mounted for reading and writing"},
	{"noexec", NULL, "not supported ('user' and 'users' imply it: add exec)"},
	{"sync", NULL, "not supported; programs use fsync(2) or O_SYNC"},
	{"remount*", NULL,
	 "settings change by SIGHUP (systemctl reload), the others by umount and mount"},
	{"bind", NULL, "bind mounts have no type"},
	{"rbind", NULL, "bind mounts have no type"},
};

static bool matches(const char *pattern, const char *option)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return strncmp(pattern, option, len - 1) == 0;
	return strcmp(pattern, option) == 0;
}

/* section.key=value */
static bool is_setting(const char *option)
{
	const char *dot = strchr(option, '.');
	const char *equal = strchr(option, '=');

	return dot && equal && dot > option && dot < equal;
}

vcf_err_t mounthelper_option(char setting[MOUNTHELPER_SETTING_MAX], const char *option,
			     const char **why)
{
	const char *text = NULL;

	*why = NULL;
	for (size_t i = 0; !text && i < sizeof(known) / sizeof(known[0]); i++) {
		if (!matches(known[i].name, option))
			continue;
		*why = known[i].why;
		text = known[i].setting;
		if (*why)
			return -EOPNOTSUPP;
	}
	if (!text && is_setting(option))
		text = option;
	if (!text || strlen(text) >= MOUNTHELPER_SETTING_MAX)
		return -EINVAL;
	memcpy(setting, text, strlen(text) + 1);
	return 0;
}

/*
 * mount
 */

struct call {
	const char *name; /* of the program, for messages */
	const char *source, *target;
	char *options;
	bool sloppy, fake, with_plaintext;
	char *args[ARGS_MAX]; /* of `vmcryptfs mount` */
	int cnt;
	struct config_source src; /* the same, to look at it first */
};

static char *constant(const char *text)
{
	return (char *)(uintptr_t)text; /* getopt does not write to it */
}

/* For an option of two words; what take_source() adds and the end have theirs. */
static bool has_room(const struct call *c)
{
	return c->cnt + 7 < ARGS_MAX;
}

static int add_setting(struct call *c, const char *setting)
{
	char *copy = strdup(setting); /* until the end of the program */

	if (!copy || !has_room(c) || config_source_setting(&c->src, copy)) {
		fprintf(stderr, "%s: too many options\n", c->name);
		return EXIT_FAILED;
	}
	c->args[c->cnt++] = constant("-o");
	c->args[c->cnt++] = copy;
	return EXIT_OK;
}

static int take_option(struct call *c, const char *option)
{
	char setting[MOUNTHELPER_SETTING_MAX];
	const char *why;
	vcf_err_t err;

	if (strcmp(option, "with-plaintext") == 0) {
		c->with_plaintext = true;
		return EXIT_OK;
	}
	err = mounthelper_option(setting, option, &why);
	if (!err)
		return *setting ? add_setting(c, setting) : EXIT_OK;
	if (err == -EINVAL && c->sloppy)
		return EXIT_OK;
	fprintf(stderr, "%s: %s: option '%.*s': %s\n", c->name, c->target,
		(int)strcspn(option, "="), option,
		why ? why : "unknown; those of the configuration are section.key=value");
	return EXIT_USAGE;
}

static int take_options(struct call *c)
{
	char *rest = c->options;
	char *option;
	int code = EXIT_OK;

	while (!code && (option = strsep(&rest, ",")))
		code = *option ? take_option(c, option) : EXIT_OK;
	return code;
}

/* A folder is a backing folder, with the configuration in the options. */
static int take_source(struct call *c)
{
	struct stat st;
	vcf_err_t err;

	if (stat(c->source, &st) < 0) {
		fprintf(stderr, "%s: %s: %s\n", c->name, c->source, strerror(errno));
		return EXIT_NOT_FOUND;
	}
	if (c->with_plaintext)
		c->args[c->cnt++] = constant("--with-plaintext");
	c->args[c->cnt++] = constant("--");
	c->args[c->cnt++] = constant(c->source);
	if (!S_ISDIR(st.st_mode))
		return config_source_file(&c->src, c->source) ? EXIT_FAILED : EXIT_OK;
	c->args[c->cnt++] = constant(c->target);
	err = config_source_backing(&c->src, c->source);
	if (!err)
		err = config_source_mountpoint(&c->src, c->target);
	return err ? exit_code_of(err) : EXIT_OK;
}

/* Is that which is mounted there the same? `mount -a` goes by the source, which is another name. */
static bool is_mounted(const char *target, const char *backing)
{
	struct mountpoint_info m;
	struct statx st;

	if (statx(AT_FDCWD, target, AT_STATX_DONT_SYNC, STATX_MNT_ID, &st) < 0 ||
	    mountpoint_by_id(&m, st.stx_mnt_id))
		return false;
	return m.ours && strcmp(m.point, target) == 0 && strcmp(m.source, backing) == 0 &&
	       mountpoint_is_free(target) == -EBUSY;
}

/* -1: go on. */
static int check(struct call *c)
{
	auto_config struct config *cfg = NULL;
	char target[PATH_MAX];

	if (config_load_again(&cfg, &c->src))
		return EXIT_CONFIG; /* it was said why */
	if (statusfile_resolve(c->target, target) ||
	    strcmp(target, cfg->mountpoint) != 0) {
		fprintf(stderr, "%s: %s is mounted on %s, by its configuration\n",
			c->name, c->source, cfg->mountpoint);
		return EXIT_CONFIG;
	}
	if (c->fake)
		return EXIT_OK;
	if (is_mounted(target, cfg->backing)) {
		printf("%s: %s is mounted already\n", c->name, target);
		return EXIT_OK;
	}
	return -1;
}

static int run_mount(struct call *c)
{
	int code;

	c->args[c->cnt++] = constant("mount");
	code = take_options(c);
	if (!code)
		code = take_source(c);
	if (!code)
		code = check(c);
	if (code >= 0)
		return code;
	c->args[c->cnt] = NULL;
	optind = 0; /* anew */
	return cmd_mount(c->cnt, c->args);
}

static int usage(const char *name)
{
	fprintf(stderr,
		"usage: %s SOURCE TARGET [-sfnv] [-t TYPE] [-o OPTION,...]\n"
		"It is for mount(8); SOURCE is a configuration or a backing folder.\n",
		name);
	return INVOCATION;
}

static int mount_helper(int argc, char **argv)
{
	struct call c = {.name = base_name(argv[0])};
	int opt, code;

	prctl(PR_SET_NAME, "vmcryptfs"); /* the daemon's name in ps and in logs */
	while ((opt = getopt(argc, argv, "sfnvt:o:")) != -1) {
		if (opt == 's')
			c.sloppy = true;
		else if (opt == 'f')
			c.fake = true;
		else if (opt == 'o')
			c.options = optarg;
		else if (!strchr("nvt", opt))
			return usage(c.name);
	}
	if (argc - optind != 2)
		return usage(c.name);
	c.source = argv[optind];
	c.target = argv[optind + 1];
	code = run_mount(&c);
	config_source_fini(&c.src);
	return status_of(code);
}

static int umount_helper(int argc, char **argv)
{
	char *args[4] = {constant("umount")};
	int opt, cnt = 1;

	while ((opt = getopt(argc, argv, "lfrnvt:")) != -1) {
		if (opt == 'l' || opt == 'f')
			args[1] = constant(opt == 'l' ? "-l" : "-f");
		else if (!strchr("rnvt", opt))
			return INVOCATION;
	}
	if (argc - optind != 1)
		return INVOCATION;
	cnt += args[1] != NULL;
	args[cnt++] = argv[optind];
	optind = 0;
	return status_of(cmd_umount(cnt, args));
}

int mounthelper_run(int argc, char **argv)
{
	return *base_name(argv[0]) == 'u' ? umount_helper(argc, argv)
					  : mount_helper(argc, argv);
}
