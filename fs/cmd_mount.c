/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount: reads the configuration, starts the keeper, waits until the mount answers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/config.h"
#include "fs/exitcode.h"
#include "fs/keeper.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/log.h"

struct mount_args {
	struct config *cfg;
	bool foreground;
	bool with_plaintext;
	bool quick; /* BACKING MOUNTPOINT */
};

enum { OPT_WITH_PLAINTEXT = 256 };

/*
 * One name for one folder: mountinfo, the journal and the status socket know it by that. What a
 * dead mount covers cannot be looked at: then only the folder above is resolved. -errno.
 */
static vcf_err_t canonical(char **out, const char *path)
{
	char above[PATH_MAX];
	char *full = realpath(path, NULL);

	if (!full && errno == ENOTCONN && statusfile_resolve(path, above) == 0)
		full = strdup(above);
	if (!full)
		return -errno;
	free(*out);
	*out = full;
	return 0;
}

static int read_config(struct config *cfg, const char *path)
{
	vcf_err_t err = config_read(cfg, path);

	return err == -ENOENT ? EXIT_NOT_FOUND : err ? EXIT_CONFIG : EXIT_OK;
}

/* Options may come before and after the names: they are applied last. */
static int parse_names(struct mount_args *a, int cnt, char **names)
{
	if (cnt == 1)
		return read_config(a->cfg, names[0]);
	if (cnt != 2) {
		fprintf(stderr,
			"vmcryptfs mount: give CONFIG, or BACKING and MOUNTPOINT\n");
		return EXIT_USAGE;
	}
	a->quick = true;
	for (int i = 0; i < 2; i++) {
		vcf_err_t err =
			canonical(i ? &a->cfg->mountpoint : &a->cfg->backing, names[i]);

		if (!err)
			continue;
		fprintf(stderr, "vmcryptfs mount: %s: %s\n", names[i], strerror(-err));
		return EXIT_NOT_FOUND;
	}
	return EXIT_OK;
}

static int refuse_secret(void)
{
	fprintf(stderr,
		"vmcryptfs mount: a secret on the command line is everybody's to read; "
		"put it into a configuration file of mode 0600\n");
	return EXIT_CONFIG;
}

static int parse(struct mount_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"with-plaintext", no_argument, NULL, OPT_WITH_PLAINTEXT},
		{NULL, 0, NULL, 0},
	};
	const char *settings[256];
	size_t cnt = 0;
	int opt, code;

	while ((opt = getopt_long(argc, argv, "fo:", longs, NULL)) != -1) {
		if (opt == 'f')
			a->foreground = true;
		else if (opt == OPT_WITH_PLAINTEXT)
			a->with_plaintext = true;
		else if (opt == 'o' && strncmp(optarg, "static.secret", 13) == 0)
			return refuse_secret();
		else if (opt == 'o' && cnt < 256)
			settings[cnt++] = optarg;
		else
			return EXIT_USAGE;
	}
	code = parse_names(a, argc - optind, argv + optind);
	for (size_t i = 0; !code && i < cnt; i++) {
		if (config_set(a->cfg, settings[i]))
			code = EXIT_CONFIG;
	}
	if (!code && config_finish(a->cfg, a->quick))
		code = EXIT_CONFIG;
	return code;
}

/* What lies there is hidden by the mount: perhaps guests' disks that nobody encrypted. */
static void warn_not_empty(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	size_t cnt = 0;

	while (dir && (d = readdir(dir)))
		cnt += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	if (cnt)
		log_warn("%s: the mount hides %zu entries that lie there in the clear",
			 path, cnt);
}

static int check_mountpoint(struct config *cfg)
{
	vcf_err_t err = canonical(&cfg->mountpoint, cfg->mountpoint);
	struct stat st;

	if (!err)
		err = mountpoint_clean_stale(cfg->mountpoint);
	if (!err)
		err = canonical(&cfg->backing, cfg->backing);
	if (err == -EBUSY) {
		log_err("%s: a vmcryptfs is mounted there already", cfg->mountpoint);
		return EXIT_BUSY;
	}
	if (err || stat(cfg->mountpoint, &st) < 0 || stat(cfg->backing, &st) < 0) {
		log_err("%s on %s: %s", cfg->backing, cfg->mountpoint,
			strerror(err ? -err : errno));
		return EXIT_NOT_FOUND;
	}
	if (strcmp(cfg->mountpoint, cfg->backing) != 0)
		warn_not_empty(cfg->mountpoint);
	return EXIT_OK;
}

/* Locks between nodes are not there yet: two daemons over one folder would destroy data. */
static int check_supported(const struct config *cfg)
{
	if (!cfg->shared)
		return EXIT_OK;
	log_err("shared = yes is not supported by this version");
	return EXIT_CONFIG;
}

static void set_log(const struct config *cfg)
{
	static const char *const levels[] = {"err", "warn", "info", "dbg"};

	for (int i = 0; i < 4; i++) {
		if (cfg->log_level && strcmp(cfg->log_level, levels[i]) == 0)
			log_set_level((enum log_level)i);
	}
}

/* The parent: waits for the byte that the keeper sends once it knows. */
static int wait_ready(int fd)
{
	unsigned char code;
	ssize_t n;

	do {
		n = read(fd, &code, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? code : EXIT_FAILED;
}

static int run_background(struct keeper_params *kp)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_err("cannot start: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (pid) {
		close(fds[1]);
		return wait_ready(fds[0]);
	}
	close(fds[0]);
	setsid();
	kp->ready_fd = fds[1];
	exit(keeper_run(kp));
}

static int start(struct mount_args *a)
{
	struct keeper_params kp = {
		.cfg = a->cfg,
		.foreground = a->foreground,
		.with_plaintext = a->with_plaintext,
		.ready_fd = -1,
	};
	vcf_err_t err = a->cfg->log_file ? log_set_file(a->cfg->log_file) : 0;

	if (err) {
		log_err("%s: %s", a->cfg->log_file, strerror(-err));
		return EXIT_CONFIG;
	}
	if (a->foreground)
		return keeper_run(&kp);
	if (a->cfg->log_file)
		log_tee();
	else
		log_set_target(LOG_TO_BOTH);
	if (chdir("/") < 0)
		log_dbg("chdir /: %s", strerror(errno));
	return run_background(&kp);
}

int cmd_mount(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct mount_args a = {0};
	int code;

	if (config_new(&cfg))
		return EXIT_FAILED;
	a.cfg = cfg;
	code = parse(&a, argc, argv);
	if (code == EXIT_USAGE)
		return command_usage("mount");
	if (code)
		return code;
	set_log(cfg);
	code = check_supported(cfg);
	if (!code)
		code = check_mountpoint(cfg);
	return code ? code : start(&a);
}
