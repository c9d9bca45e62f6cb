/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics: a process of its own that asks the mounts' status sockets and tells Prometheus. So the server
 * never listens on a network, no scrape can keep it busy, and who asks also hears of a mount that is not
 * there.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/metrics_address.h"
#include "fs/metrics_http.h"
#include "fs/metrics_text.h"
#include "fs/mountpoint.h"
#include "fs/status.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

enum {
	MOUNTS_MAX = 64,
	PATIENCE_S = 3,	 /* with a server: Prometheus itself gives up after ten */
	FRESH_MS = 1000, /* so long a page is good for the next one who asks */
	RETRY_MS = 50,	 /* while one server ends and the next one begins */
	RETRY_FOR_MS = 500,
};

struct exporter {
	const char *runtime;	  /* NULL: the default */
	char *own_runtime;	  /* of the configuration */
	char *mounts[MOUNTS_MAX]; /* none: those in mountinfo */
	size_t mount_cnt;
	char *listen, *file;
	uint64_t interval_s, image_limit;
	bool per_image;
	struct metrics_address address;
	char *page; /* of the last time */
	size_t page_len;
	uint64_t made_ms;
};

/* --- the page --- */

struct found {
	struct metrics_mount at[MOUNTS_MAX];
	size_t cnt;
};

static void add_mount(void *arg, const char *mountpoint)
{
	struct found *f = arg;

	if (f->cnt < MOUNTS_MAX)
		f->at[f->cnt++].mountpoint = strdup(mountpoint);
}

static struct json_object *ask(const char *runtime, const char *mountpoint)
{
	const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000l};
	struct json_object *o = NULL;
	char path[PATH_MAX];

	if (mountpoint_socket(path, sizeof(path), runtime, mountpoint))
		return NULL;
	for (int waited = 0; waited < RETRY_FOR_MS; waited += RETRY_MS) {
		vcf_err_t err = status_read(&o, path, PATIENCE_S);

		if (!err)
			return o;
		if ((err != -ENOENT && err != -ECONNREFUSED && err != -ECONNRESET) ||
		    mountpoint_is_ours(mountpoint) != 1)
			return NULL;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void look(struct exporter *x, struct metrics_mount *m)
{
	uint64_t began = clock_now_ns();

	m->status = ask(x->runtime, m->mountpoint);
	m->seconds = (double)(clock_now_ns() - began) / 1e9;
	m->mounted = mountpoint_is_ours(m->mountpoint) == 1;
}

static void make_page(struct exporter *x)
{
	struct found f = {0};
	struct metrics_view v = {
		.mounts = f.at, .per_image = x->per_image, .image_limit = x->image_limit};
	FILE *to;

	for (size_t i = 0; i < x->mount_cnt; i++)
		add_mount(&f, x->mounts[i]);
	if (!x->mount_cnt && mountpoint_each(add_mount, &f))
		f.cnt = 0;
	for (size_t i = 0; i < f.cnt; i++)
		look(x, &f.at[i]);
	v.mount_cnt = f.cnt;
	free(x->page);
	x->page = NULL;
	to = open_memstream(&x->page, &x->page_len);
	if (to) {
		metrics_write(to, &v);
		fclose(to);
	}
	for (size_t i = 0; i < f.cnt; i++) {
		json_object_put(f.at[i].status);
		free((char *)(uintptr_t)f.at[i].mountpoint);
	}
	x->made_ms = clock_now_ms();
}

static char *page(void *arg, size_t *len)
{
	struct exporter *x = arg;

	if (!x->page || clock_now_ms() - x->made_ms > FRESH_MS)
		make_page(x);
	*len = x->page_len;
	return x->page ? strndup(x->page, x->page_len) : NULL;
}

/* --- the text file --- */

/* Whoever reads it finds the old one or the new one, whole. */
static vcf_err_t write_file(struct exporter *x)
{
	auto_free char *tmp = NULL;
	auto_close int fd = -1;
	vcf_err_t err;

	if (asprintf(&tmp, "%s.new", x->file) < 0) {
		tmp = NULL;
		return -ENOMEM;
	}
	make_page(x);
	if (!x->page)
		return -ENOMEM;
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	err = fchmod(fd, 0644) < 0 ? -errno : io_write_full(fd, x->page, x->page_len);
	if (!err && rename(tmp, x->file) < 0)
		err = -errno;
	if (err)
		unlink(tmp);
	return err;
}

/* Said once, until it goes again. */
static void tell_file(struct exporter *x, vcf_err_t err, vcf_err_t *last)
{
	if (err && err != *last)
		fprintf(stderr, "vmcryptfs metrics: %s: %s\n", x->file, strerror(-err));
	*last = err;
}

/* --- the loop --- */

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void loop(struct exporter *x, int listen_fd, int signal_fd)
{
	struct pollfd p[] = {{.fd = signal_fd, .events = POLLIN},
			     {.fd = listen_fd, .events = POLLIN}};
	uint64_t next = clock_now_ms();
	vcf_err_t last = 0;

	for (;;) {
		uint64_t now = clock_now_ms();
		int wait = -1;

		if (x->file && now >= next) {
			tell_file(x, write_file(x), &last);
			next = now + x->interval_s * 1000;
		}
		now = clock_now_ms();
		if (x->file)
			wait = next > now ? (int)(next - now) : 0;
		if (poll(p, 2, wait) < 0 && errno != EINTR)
			return;
		if (p[0].revents)
			return;
		if (p[1].revents)
			metrics_http_serve(listen_fd, page, x);
	}
}

static int serve(struct exporter *x)
{
	auto_close int listen_fd = x->listen ? metrics_address_listen(&x->address) : -1;
	auto_close int signal_fd = open_signals();

	if (x->listen && listen_fd < 0) {
		fprintf(stderr, "vmcryptfs metrics: %s: %s\n", x->listen,
			strerror(-listen_fd));
		return exit_code_of(listen_fd);
	}
	if (signal_fd < 0)
		return EXIT_FAILED;
	loop(x, listen_fd, signal_fd);
	if (x->listen)
		metrics_address_leave(&x->address);
	if (x->file)
		unlink(x->file); /* what nobody writes any more is no metric */
	return EXIT_OK;
}

static int once(struct exporter *x)
{
	make_page(x);
	if (!x->page)
		return EXIT_FAILED;
	fwrite(x->page, 1, x->page_len, stdout);
	return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

static int list(void)
{
	for (size_t i = 0; i < metrics_family_cnt; i++)
		printf("%s\t%s\t%s\n", metrics_families[i].name, metrics_families[i].type,
		       metrics_families[i].help);
	return EXIT_OK;
}

/* --- the command line --- */

static void set(char **to, const char *text)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
}

/* [metrics] of a mount's configuration, of which nothing else is kept: it may have secrets. */
static int read_config(struct exporter *x, const char *path)
{
	struct config_source src = {0};
	auto_config struct config *cfg = NULL;
	char resolved[PATH_MAX];
	vcf_err_t err = config_source_file(&src, path);

	if (!err)
		err = config_load(&cfg, &src);
	config_source_fini(&src);
	if (err)
		return EXIT_CONFIG;
	set(&x->own_runtime, cfg->runtime_directory);
	if (!x->runtime)
		x->runtime = x->own_runtime;
	set(&x->listen, cfg->metrics_listen);
	set(&x->file, cfg->metrics_file);
	x->interval_s = cfg->metrics_interval_s;
	x->image_limit = cfg->metrics_image_limit;
	x->per_image = cfg->metrics_per_image;
	/* As mountinfo has it; the mount itself is never touched, it may hang. */
	set(&x->mounts[0],
	    statusfile_resolve(cfg->mountpoint, resolved) ? cfg->mountpoint : resolved);
	x->mount_cnt = 1;
	return EXIT_OK;
}

static int take_mountpoints(struct exporter *x, char **names)
{
	char path[PATH_MAX];

	for (x->mount_cnt = 0; *names && x->mount_cnt < MOUNTS_MAX; names++) {
		if (statusfile_resolve(*names, path)) {
			fprintf(stderr, "vmcryptfs metrics: %s: %s\n", *names,
				strerror(errno));
			return EXIT_NOT_FOUND;
		}
		set(&x->mounts[x->mount_cnt++], path);
	}
	return EXIT_OK;
}

static int check(struct exporter *x)
{
	vcf_err_t err = x->listen ? metrics_address_parse(&x->address, x->listen) : 0;

	if (err) {
		fprintf(stderr, "vmcryptfs metrics: listen = %s: %s\n", x->listen,
			metrics_address_error(err));
		return EXIT_CONFIG;
	}
	if (x->file && *x->file != '/') {
		fprintf(stderr,
			"vmcryptfs metrics: file = %s: must be an absolute path\n",
			x->file);
		return EXIT_CONFIG;
	}
	return EXIT_OK;
}

struct args {
	const char *listen, *file, *config;
	bool once, list, per_image;
};

static bool parse_args(struct args *a, struct exporter *x, int argc, char **argv)
{
	static const struct option longs[] = {
		{"listen", required_argument, NULL, 'l'},
		{"file", required_argument, NULL, 'f'},
		{"per-image", no_argument, NULL, 'p'},
		{"once", no_argument, NULL, '1'},
		{"list", no_argument, NULL, 'L'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:r:", longs, NULL)) != -1) {
		switch (opt) {
		case 'l':
			a->listen = optarg;
			break;
		case 'f':
			a->file = optarg;
			break;
		case 'p':
			a->per_image = true;
			break;
		case '1':
			a->once = true;
			break;
		case 'L':
			a->list = true;
			break;
		case 'c':
			a->config = optarg;
			break;
		case 'r':
			x->runtime = optarg;
			break;
		default:
			return false;
		}
	}
	return true;
}

static int prepare(struct exporter *x, const struct args *a, char **names)
{
	int code = a->config ? read_config(x, a->config) : EXIT_OK;

	if (!code && *names)
		code = take_mountpoints(x, names);
	if (a->listen)
		set(&x->listen, a->listen);
	if (a->file)
		set(&x->file, a->file);
	if (!x->runtime)
		x->runtime = statusfile_default_directory();
	x->per_image |= a->per_image;
	return code ? code : check(x);
}

static void fini(struct exporter *x)
{
	for (size_t i = 0; i < MOUNTS_MAX; i++)
		free(x->mounts[i]);
	free(x->listen);
	free(x->file);
	free(x->own_runtime);
	free(x->page);
}

int cmd_metrics(int argc, char **argv)
{
	struct exporter x = {.interval_s = 15, .image_limit = 100};
	struct args a = {0};
	int code;

	if (!parse_args(&a, &x, argc, argv))
		return command_usage("metrics");
	if (a.list)
		return list();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	code = prepare(&x, &a, argv + optind);
	if (!code && !a.once && !x.listen && !x.file) {
		fprintf(stderr,
			"vmcryptfs metrics: where to? listen and file of [metrics] "
			"are not set; --once prints\n");
		code = EXIT_CONFIG;
	}
	if (!code)
		code = a.once ? once(&x) : serve(&x);
	fini(&x);
	return code;
}
