/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/helpers.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include "crypto/keyservice.h"
#include "fs/control.h"
#include "fs/mountpoint.h"
#include "util/log.h"

static int find(const struct helpers *h, pid_t pid)
{
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		if (h->pids[i] == pid)
			return i;
	}
	return -1;
}

/*
 * Also of other daemons: in a namespace that shares nothing with the host's they would stay for ever.
 * Again until none is left: the list changes while it is read.
 */
static void leave_mount(void *arg, const char *mountpoint)
{
	unsigned int *cnt = arg;

	if (umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		(*cnt)++;
}

static void leave_mounts(void)
{
	unsigned int cnt;

	do {
		cnt = 0;
		if (mountpoint_each(leave_mount, &cnt))
			return;
	} while (cnt);
}

static void spawn(struct helpers *h, int sock, const struct control *asked)
{
	struct keyservice_program program = {
		.path = asked->path,
		.uid = asked->uid,
		.gid = asked->gid,
		.log_stderr = true,
		.leave_mounts = leave_mounts,
	};
	struct control c = {.kind = CONTROL_SPAWNED};
	struct keyservice_ends ends = {-1, -1, -1};
	int fds[3];
	int slot = find(h, 0);
	pid_t pid = 0;

	c.value = slot < 0 ? -EAGAIN : keyservice_spawn(NULL, &program, &ends, &pid);
	if (!c.value) {
		h->pids[slot] = pid;
		c.value = pid;
	}
	fds[0] = ends.to;
	fds[1] = ends.from;
	fds[2] = ends.err;
	if (control_send(sock, &c, fds, c.value > 0 ? 3 : 0))
		log_dbg("the server is gone");
	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

void helpers_serve(struct helpers *h, int sock)
{
	struct control c;

	if (control_recv(sock, &c, NULL, 0))
		return;
	if (c.kind == CONTROL_SPAWN)
		spawn(h, sock, &c);
	else if (c.kind == CONTROL_REAP && c.value > 0 && find(h, c.value) >= 0)
		kill(-c.value, SIGKILL); /* its session; SIGCHLD clears the slot */
}

void helpers_ended(struct helpers *h, pid_t pid)
{
	int i = find(h, pid);

	if (i >= 0)
		h->pids[i] = 0;
}

/* The record of a helper that the next server can use. */
static struct keyservice_helper *kept(struct session *s, pid_t pid)
{
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		struct keyservice_helper *r = &s->head->helpers[i];

		if (r->pid == pid && r->idle)
			return r;
	}
	return NULL;
}

void helpers_settle(struct helpers *h, struct session *s)
{
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		if (h->pids[i] && !kept(s, h->pids[i]))
			kill(-h->pids[i], SIGKILL);
	}
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		struct keyservice_helper *r = &s->head->helpers[i];

		if (r->pid && (!r->idle || find(h, r->pid) < 0))
			r->pid = 0;
	}
}

void helpers_drop(struct helpers *h, struct session *s)
{
	for (int i = 0; i < SESSION_HELPERS_MAX; i++)
		s->head->helpers[i].idle = 0;
	helpers_settle(h, s);
}

void helpers_end(struct helpers *h)
{
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		if (h->pids[i])
			kill(h->pids[i], SIGTERM);
	}
}
