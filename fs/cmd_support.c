/* SPDX-License-Identifier: GPL-2.0-or-later */
/* support: one archive with what a developer asks for first, and no secret. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/jsonlines.h"
#include "fs/mask.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "fs/support.h"
#include "fs/tarfile.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/parse.h"

enum { LOG_LINES = 2000, LOG_LINES_MAX = 1000000 };

struct args {
	const char *file, *config, *runtime;
	struct support s;
	char mountpoint[PATH_MAX];
	unsigned int mount_cnt; /* where none was named */
};

static int fail(const char *what, vcf_err_t err)
{
	fprintf(stderr, "vmcryptfs support: %s: %s\n", what, strerror(-err));
	return exit_code_of(err);
}

/* --- the archive --- */

static void add_part(FILE *tar, const char *folder, const struct support_part *part,
		     const struct support *s, time_t now)
{
	auto_free char *text = NULL;
	auto_free char *clean = NULL;
	size_t len = 0, clean_len = 0;
	FILE *to = open_memstream(&text, &len);
	char name[100];

	if (!to)
		return;
	part->write(to, s);
	if (fclose(to))
		return;
	to = open_memstream(&clean, &clean_len);
	if (!to)
		return;
	mask_text(to, text);
	if (fclose(to))
		return;
	snprintf(name, sizeof(name), "%s/%s", folder, part->name);
	tarfile_add(tar, name, clean, clean_len, now);
}

static vcf_err_t make_archive(char **out, size_t *len, const struct support *s,
			      const char *folder, time_t now)
{
	FILE *tar = open_memstream(out, len);

	if (!tar)
		return -ENOMEM;
	for (size_t i = 0; i < support_part_cnt; i++) {
		if (!s->anonymous || !support_parts[i].named)
			add_part(tar, folder, &support_parts[i], s, now);
	}
	tarfile_end(tar);
	return fclose(tar) ? -ENOMEM : 0;
}

static void __attribute__((noreturn)) be_gzip(int in, int out)
{
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	close_range(3, ~0u, 0);
	execlp("gzip", "gzip", "-c", (char *)NULL);
	_exit(127);
}

static vcf_err_t write_gzipped(int fd, const char *data, size_t len)
{
	int fds[2], status;
	vcf_err_t err;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		be_gzip(fds[0], fd);
	close(fds[0]);
	err = pid < 0 ? -errno : io_write_full(fds[1], data, len);
	close(fds[1]);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && !err && status)
		err = -EIO; /* no gzip, or the disk is full */
	return err;
}

static bool wants_gzip(const char *file)
{
	size_t len = strlen(file);

	return (len > 3 && strcmp(file + len - 3, ".gz") == 0) ||
	       (len > 4 && strcmp(file + len - 4, ".tgz") == 0);
}

static vcf_err_t save(const char *file, const char *data, size_t len)
{
	auto_close int fd =
		open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	vcf_err_t err;

	if (fd < 0)
		return -errno;
	err = wants_gzip(file) ? write_gzipped(fd, data, len)
			       : io_write_full(fd, data, len);
	if (err)
		unlink(file);
	return err;
}

static int bundle(struct args *a)
{
	auto_free char *data = NULL;
	char folder[64], own[80];
	time_t now = time(NULL);
	size_t len = 0;
	struct tm tm;
	vcf_err_t err;

	strftime(folder, sizeof(folder), "vmcryptfs-support-%Y%m%d-%H%M%S",
		 gmtime_r(&now, &tm));
	if (!a->file) {
		snprintf(own, sizeof(own), "%s.tar", folder);
		a->file = own;
	}
	signal(SIGPIPE, SIG_IGN);
	err = make_archive(&data, &len, &a->s, folder, now);
	if (!err)
		err = save(a->file, data, len);
	if (err)
		return fail(a->file, err);
	printf("%s\n", a->file);
	if (!a->s.anonymous)
		fprintf(stderr,
			"It has names of images, paths and key ids (--anonymous "
			"leaves them out), no secrets. Look through it before it goes "
			"to others.\n");
	return EXIT_OK;
}

/* --- what it is about --- */

/* Faults are part of what there is to see: what could be read is shown. */
static void read_config(struct support *s, const char *path)
{
	if (!*path || config_new(&s->cfg))
		return;
	if (config_read(s->cfg, path))
		fprintf(stderr, "vmcryptfs support: %s: is read in part only\n", path);
}

static void note_mount(void *arg, const char *mountpoint)
{
	struct args *a = arg;

	a->mount_cnt++;
	snprintf(a->mountpoint, sizeof(a->mountpoint), "%s", mountpoint);
}

static int collect(struct args *a)
{
	struct support *s = &a->s;

	if (a->config)
		read_config(s, a->config);
	if (!*a->mountpoint && s->cfg && s->cfg->mountpoint &&
	    statusfile_resolve(s->cfg->mountpoint, a->mountpoint))
		snprintf(a->mountpoint, sizeof(a->mountpoint), "%s", s->cfg->mountpoint);
	if (!*a->mountpoint && mountpoint_each(note_mount, a))
		a->mountpoint[0] = '\0';
	if (a->mount_cnt > 1) {
		fputs("vmcryptfs support: there are several mounts: name one\n", stderr);
		return EXIT_USAGE;
	}
	if (*a->mountpoint && statusfile_read(&s->status, a->runtime, a->mountpoint))
		s->status = NULL;
	if (s->status && !s->cfg)
		read_config(s, json_text(s->status, "config"));
	s->mountpoint = *a->mountpoint ? a->mountpoint : NULL;
	return EXIT_OK;
}

static bool parse_args(struct args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"anonymous", no_argument, NULL, 'a'},
		{"log-lines", required_argument, NULL, 'l'},
		{NULL, 0, NULL, 0},
	};
	uint64_t lines = LOG_LINES;
	int opt;

	while ((opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		if (opt == 'a')
			a->s.anonymous = true;
		else if (opt == 'c')
			a->config = optarg;
		else if (opt == 'o')
			a->file = optarg;
		else if (opt == 'r')
			a->runtime = optarg;
		else if (opt != 'l' || parse_u64(optarg, 1, LOG_LINES_MAX, &lines))
			return false;
	}
	a->s.log_lines = (size_t)lines;
	return argc - optind <= 1;
}

int cmd_support(int argc, char **argv)
{
	struct args a = {.runtime = statusfile_default_directory()};
	int code;

	if (!parse_args(&a, argc, argv))
		return command_usage("support");
	if (argv[optind] && statusfile_resolve(argv[optind], a.mountpoint))
		return fail(argv[optind], -errno);
	code = collect(&a);
	if (!code)
		code = bundle(&a);
	json_object_put(a.s.status);
	config_free(a.s.cfg);
	return code;
}
