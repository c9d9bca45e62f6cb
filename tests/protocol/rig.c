/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/protocol/rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/deferred.h"
#include "util/log.h"

static void set(struct rig *r, const char *name, const char *value)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s=%s", name, value);
	ck_assert_int_eq(config_set(r->cfg, text), 0);
}

/* Makes a folder below the rig's and gives it to an option. */
static void set_folder(struct rig *r, const char *name, const char *folder)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", r->dir, folder);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	set(r, name, path);
}

/* The helper lies beside the test program. */
static void set_helper(struct rig *r)
{
	char path[800];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 100);
	char *slash;

	ck_assert_int_gt(len, 0);
	path[len] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash, 100, "/vmcryptfs-key-gate");
	set(r, "key-service.helper", path);
}

/*
 * The helper is taken as it is: in a user namespace the folders above it belong to nobody's user,
 * which the check of helpers rightly refuses.
 */
vcf_err_t __wrap_keyservice_find_program(char *dst, size_t room, const char *name);
vcf_err_t __wrap_keyservice_find_program(char *dst, size_t room, const char *name)
{
	return (size_t)snprintf(dst, room, "%s", name) < room ? 0 : -ENAMETOOLONG;
}

void rig_new(struct rig *r, const char *const *settings)
{
	char path[600];

	memset(r, 0, sizeof(*r));
	log_set_level(getenv("VCF_TEST_LOG") ? LOG_LEVEL_DBG : LOG_LEVEL_ERR);
	snprintf(r->dir, sizeof(r->dir), "%s/rig.XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(r->dir));
	ck_assert_int_eq(config_new(&r->cfg), 0);
	set_helper(r);
	set_folder(r, "mount.backing", "backing");
	set_folder(r, "mount.mountpoint", "mnt");
	set_folder(r, "mount.state-directory", "state");
	set_folder(r, "gate.directory", "keys");
	set(r, "mount.threads", "4");
	set(r, "key-service.reserve", "0");
	for (; settings && *settings; settings++)
		ck_assert_int_eq(config_set(r->cfg, *settings), 0);
	ck_assert_int_eq(config_finish(r->cfg, false), 0);
	snprintf(path, sizeof(path), "%s/backing", r->dir);
	r->rootfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(r->rootfd, 0);
}

/* The libraries keep the kernel's random sources open from their first use on. */
static bool is_random(const char *target)
{
	return strncmp(target, "/dev/urandom", 12) == 0 ||
	       strncmp(target, "/dev/random", 11) == 0;
}

static int count_fds(bool list)
{
	DIR *d = opendir("/proc/self/fd");
	char target[256] = "";
	struct dirent *e;
	int cnt = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof(target));

		if (len <= 0 || is_random(target))
			continue;
		cnt++;
		if (list)
			fprintf(stderr, "open: %s %.*s\n", e->d_name, (int)len, target);
	}
	closedir(d);
	return cnt;
}

int rig_open_fds(void)
{
	return count_fds(false);
}

static void serve(struct rig *r, int devfd)
{
	char journal[600], site[600];
	struct server_params p = {
		.cfg = r->cfg,
		.rootfd = r->rootfd,
		.devfd = devfd,
		.stream = true,
		.with_plaintext = r->with_plaintext,
		.journal_path = journal,
		.site_path = site,
	};

	snprintf(journal, sizeof(journal), "%s/state/journal", r->dir);
	snprintf(site, sizeof(site), "%s/state/site", r->dir);
	ck_assert_int_eq(server_new(&r->sv, &p), 0);
	ck_assert_int_eq(server_start(r->sv, NULL, NULL), 0);
}

void rig_up(struct rig *r)
{
	struct fuse_init_out out;
	int pair[2];

	r->fds = rig_open_fds();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	serve(r, pair[0]);
	r->c = fc_new(pair[1]);
	ck_assert_int_eq(fc_init(r->c, RIG_INIT_FLAGS, &out), 0);
}

void rig_down(struct rig *r)
{
	int devfd = r->sv->devfd;

	ck_assert_uint_eq(fc_strays(r->c), 0);
	fc_close(r->c);
	server_wait(r->sv);
	server_free(r->sv);
	r->sv = NULL;
	fc_free(r->c);
	r->c = NULL;
	close(devfd);
	if (count_fds(false) != r->fds)
		count_fds(true);
	ck_assert_int_eq(rig_open_fds(), r->fds);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void rig_free(struct rig *r)
{
	config_free(r->cfg);
	close(r->rootfd);
	nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void rig_start(struct rig *r, const char *const *settings)
{
	rig_new(r, settings);
	rig_up(r);
}

void rig_end(struct rig *r)
{
	rig_down(r);
	rig_free(r);
}

/* Made beside and moved into place, so that the helper never sees half of it. */
void rig_gate(struct rig *r, const char *text)
{
	char path[600], tmp[600];
	FILE *f;

	snprintf(path, sizeof(path), "%s/keys/gate", r->dir);
	snprintf(tmp, sizeof(tmp), "%s/keys/gate.new", r->dir);
	if (!text) {
		unlink(path);
		return;
	}
	f = fopen(tmp, "we");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "%s\n", text);
	fclose(f);
	ck_assert_int_eq(rename(tmp, path), 0);
}

int rig_asked(struct rig *r)
{
	char path[600];
	int c, lines = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/keys/asked", r->dir);
	f = fopen(path, "re");
	while (f && (c = fgetc(f)) != EOF)
		lines += c == '\n';
	if (f)
		fclose(f);
	return lines;
}

void rig_kill_helpers(struct rig *r)
{
	char path[600];
	long pid;
	FILE *f;

	snprintf(path, sizeof(path), "%s/keys/pids", r->dir);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fscanf(f, "%ld", &pid) == 1)
		kill((pid_t)pid, SIGKILL);
	fclose(f);
	unlink(path); /* a pid is used once: it may come to be another's */
}

const char *rig_backing(struct rig *r, const char *name)
{
	static char path[900];

	snprintf(path, sizeof(path), "%s/backing/%s", r->dir, name);
	return path;
}

size_t rig_nodes(struct rig *r)
{
	size_t nodes, handles;

	state_counts(r->sv->state, &nodes, &handles);
	return nodes;
}

size_t rig_handles(struct rig *r)
{
	size_t nodes, handles;

	state_counts(r->sv->state, &nodes, &handles);
	return handles;
}

void rig_sleep_ms(int ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&ts, NULL);
}

void rig_wait_parked(struct rig *r, size_t cnt)
{
	for (int i = 0; i < 10000 && deferred_parked_cnt(r->sv->deferred) != cnt; i++)
		rig_sleep_ms(1);
	ck_assert_uint_eq(deferred_parked_cnt(r->sv->deferred), cnt);
}

void rig_pattern(unsigned char *buf, size_t len, unsigned int seed)
{
	uint32_t x = seed * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		buf[i] = (unsigned char)(x >> 24);
	}
}

uint64_t rig_image(struct rig *r, uint64_t parent, const char *name, size_t len)
{
	unsigned char *data = malloc(len + 1);
	struct fuse_open_out open;
	uint64_t nodeid;

	ck_assert_ptr_nonnull(data);
	rig_pattern(data, len, 1);
	ck_assert_int_eq(fc_create(r->c, parent, name, O_RDWR, &nodeid, &open), 0);
	if (len)
		ck_assert_int_eq(fc_write(r->c, nodeid, open.fh, 0, data, (uint32_t)len),
				 0);
	ck_assert_int_eq(fc_release(r->c, nodeid, open.fh), 0);
	free(data);
	return nodeid;
}

void rig_check_empty(struct rig *r)
{
	struct fuse_attr attr;

	/* FORGET has no answer: it is done when the tables say so. */
	for (int i = 0; i < 2000 && rig_nodes(r) != 1; i++)
		rig_sleep_ms(1);
	ck_assert_int_eq(fc_getattr(r->c, ROOT, &attr), 0);
	ck_assert_uint_eq(rig_nodes(r), 1);
	ck_assert_uint_eq(rig_handles(r), 0);
}
