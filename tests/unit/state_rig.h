/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables over a folder of its own: f0, f1, ... are files in it, d0, d1, ... folders. No mount, no
 * server; the kernel is the test.
 */
#ifndef VCF_TESTS_STATE_RIG_H
#define VCF_TESTS_STATE_RIG_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/state.h"
#include "tests/unit/unit.h"
#include "util/log.h"

enum { SRIG_FILES = 8, SRIG_FOLDERS = 3, SRIG_FDS_MAX = 4096 };

struct srig {
	char dir[4200];
	int rootfd;
	struct session *s;
	struct state *st;
	bool was_open[SRIG_FDS_MAX];
};

static inline bool srig_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static inline int srig_open_cnt(void)
{
	int cnt = 0;

	for (int fd = 0; fd < SRIG_FDS_MAX; fd++)
		cnt += srig_is_open(fd);
	return cnt;
}

static inline void srig_files(struct srig *r)
{
	char name[16];

	for (int i = 0; i < SRIG_FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(openat(r->rootfd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	for (int i = 0; i < SRIG_FOLDERS; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		ck_assert_int_eq(mkdirat(r->rootfd, name, 0700), 0);
	}
}

/* What is logged goes to a file. */
static inline const char *srig_log(void)
{
	static char path[4200];

	if (!*path && !getenv("VCF_TEST_LOG")) {
		snprintf(path, sizeof(path), "%s/log", unit_tmpdir());
		ck_assert_int_eq(log_set_file(path), 0);
	}
	return path;
}

static inline off_t srig_logged(void)
{
	struct stat sb;

	return stat(srig_log(), &sb) < 0 ? 0 : sb.st_size;
}

/* The rig is large: it is the caller's, static. */
static inline void srig_start(struct srig *r)
{
	srig_log();
	for (int fd = 0; fd < SRIG_FDS_MAX; fd++)
		r->was_open[fd] = srig_is_open(fd);
	snprintf(r->dir, sizeof(r->dir), "%s/state.XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(r->dir));
	r->rootfd = open(r->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(r->rootfd, 0);
	srig_files(r);
	ck_assert_int_eq(session_new(&r->s), 0);
	ck_assert_int_eq(state_new(&r->st, r->s, r->rootfd), 0);
}

/* The process dies and the next one takes over. */
static inline vcf_err_t srig_next(struct srig *r)
{
	state_leave(r->st);
	r->st = NULL;
	return state_new(&r->st, r->s, r->rootfd);
}

/* What the sweep would close. */
static inline void srig_sweep(struct srig *r)
{
	for (int fd = 3; fd < SRIG_FDS_MAX; fd++) {
		if (!r->was_open[fd] && srig_is_open(fd))
			close(fd);
	}
}

static inline void srig_end(struct srig *r)
{
	if (r->st)
		state_free(r->st);
	session_free(r->s, true);
	close(r->rootfd);
	for (int fd = 0; fd < SRIG_FDS_MAX; fd++)
		ck_assert_msg(srig_is_open(fd) == r->was_open[fd], "descriptor %d", fd);
}

/* Not check's: its notes of where a test is would mix with those of a killed process. */
static inline void srig_must(bool ok)
{
	if (!ok)
		abort();
}

/* Finds or makes the node of a file, seen as parent/name. */
static inline vcf_err_t srig_try(struct srig *r, const char *file, struct node *parent,
				 const char *name, struct session_slot *slot,
				 struct node **out)
{
	struct node proto = {.cls = CLASS_ENCRYPT};
	struct node_key key = {0};
	struct stat sb;
	bool used = false;
	vcf_err_t err;

	proto.fd = openat(r->rootfd, file, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	srig_must(proto.fd >= 0);
	srig_must(fstat(proto.fd, &sb) == 0);
	proto.mode = sb.st_mode & S_IFMT;
	key.dev = sb.st_dev;
	key.ino = sb.st_ino;
	err = state_node_lookup(r->st, &key, &proto, parent, name, slot, out, &used);
	if (err || !used)
		close(proto.fd);
	return err;
}

static inline struct node *srig_lookup(struct srig *r, const char *file,
				       struct node *parent, const char *name,
				       struct session_slot *slot)
{
	struct node *n;

	srig_must(srig_try(r, file, parent, name, slot, &n) == 0);
	return n;
}

static inline struct node *srig_get(struct srig *r, const char *file)
{
	return srig_lookup(r, file, state_root(r->st), file, NULL);
}

static inline uint64_t srig_open(struct srig *r, struct node *n,
				 struct session_slot *slot)
{
	struct handle proto = {.kind = HANDLE_PLAIN, .direct_fd = -1};
	char path[40];
	uint64_t id;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", n->fd);
	proto.fd = open(path, O_RDONLY | O_CLOEXEC);
	srig_must(proto.fd >= 0);
	if (S_ISDIR(n->mode))
		proto.kind = HANDLE_DIR;
	srig_must(state_handle_add(r->st, &proto, n, slot, &id) == 0);
	return id;
}

static inline void srig_counts(struct srig *r, size_t want_nodes, size_t want_handles)
{
	size_t nodes, handles;

	state_counts(r->st, &nodes, &handles);
	ck_assert_uint_eq(nodes, want_nodes);
	ck_assert_uint_eq(handles, want_handles);
}

#endif
