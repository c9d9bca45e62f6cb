/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * victims: processes that are killed in the middle of whatever they do. Nothing is known of their
 * files afterwards but that they can be removed; what they held must not stay with the server
 * (the harness counts). A process of its own starts and kills them, forked before any thread.
 */
#include "torture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VICTIMS = 3, FILES = 4 };

struct spawner {
	pid_t pid;
	int sock; /* its end tells it to stop; then it says how many victims saw an error */
};

struct verdict {
	uint32_t killed, failed, last_errno;
};

/* What the victim before it left may be there or not; any other error ends it. */
static void must(long r)
{
	if (r < 0 && errno != ENOENT && errno != EEXIST)
		_exit(errno);
}

static _Noreturn void be_victim(struct worker *w, int slot)
{
	char name[NAME_LEN], other[NAME_LEN], folder[NAME_LEN], buf[5000];
	int fd;

	snprintf(folder, sizeof(folder), "folder%d", slot);
	memset(buf, 'v', sizeof(buf));
	for (;;) {
		snprintf(name, sizeof(name), "v%d-%u", slot,
			 (unsigned int)below(w, FILES));
		snprintf(other, sizeof(other), "v%d-%u", slot,
			 (unsigned int)below(w, FILES));
		fd = openat(w->dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		must(fd);
		must(pwrite(fd, buf, sizeof(buf), (off_t)below(w, 20000)));
		must(pread(fd, buf, sizeof(buf), 0));
		if (below(w, 3) == 0)
			must(renameat(w->dir, name, w->dir, other));
		else
			must(unlinkat(w->dir, name, 0));
		must(mkdirat(w->dir, folder, 0700));
		must(unlinkat(w->dir, folder, AT_REMOVEDIR));
		must(close(fd));
	}
}

static void kill_one(struct worker *w, struct verdict *v)
{
	pid_t pids[VICTIMS];
	int status;

	for (int i = 0; i < VICTIMS; i++) {
		w->rng += 1000003;
		pids[i] = fork();
		if (pids[i] == 0)
			be_victim(w, i);
	}
	nap_ms(1 + (unsigned int)below(w, 40));
	for (int i = 0; i < VICTIMS; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < VICTIMS; i++) {
		waitpid(pids[i], &status, 0);
		v->killed++;
		if (!WIFEXITED(status))
			continue;
		v->failed++;
		v->last_errno = (uint32_t)WEXITSTATUS(status);
	}
}

static _Noreturn void spawn(struct worker *w, int sock)
{
	struct verdict v = {0};
	char end;

	for (int i = 3; i < 1024; i++)
		if (i != w->dir && i != sock)
			close(i);
	while (recv(sock, &end, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
		kill_one(w, &v);
	_exit(write(sock, &v, sizeof(v)) != sizeof(v));
}

static void victims_init(struct worker *w)
{
	struct spawner *s = xalloc(sizeof(*s));
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	s->sock = pair[0];
	s->pid = fork();
	if (s->pid < 0)
		die("fork");
	if (s->pid == 0)
		spawn(w, pair[1]);
	close(pair[1]);
	w->model = s;
}

static void victims_step(struct worker *w)
{
	nap_ms(100);
}

static void victims_finish(struct worker *w, FILE *manifest)
{
	struct spawner *s = w->model;
	struct verdict v = {0};
	char name[NAME_LEN];

	shutdown(s->sock, SHUT_WR);
	if (OP(w, read(s->sock, &v, sizeof(v))) != sizeof(v))
		failed(w, "the one who kills is gone");
	waitpid(s->pid, NULL, 0);
	close(s->sock);
	fprintf(stderr, "torture: %u processes were killed\n", v.killed);
	errno = (int)v.last_errno;
	if (v.failed)
		failed(w, "%u victims saw an error, the last one", v.failed);
	for (int i = 0; i < VICTIMS * FILES; i++) {
		snprintf(name, sizeof(name), "v%d-%d", i / FILES, i % FILES);
		if (OP(w, unlinkat(w->dir, name, 0)) < 0 && errno != ENOENT)
			failed(w, "unlink of %s", name);
		snprintf(name, sizeof(name), "folder%d", i / FILES);
		if (OP(w, unlinkat(w->dir, name, AT_REMOVEDIR)) < 0 && errno != ENOENT)
			failed(w, "rmdir of %s", name);
	}
}

const struct kind kind_victims = {"victims", 1, victims_init, victims_step,
				  victims_finish};
