/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/anchor.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

enum {
	READY_MS = 2000,
	TICK_MS = 50,
	START_MS = 10000, /* until a server starts */
	PATIENCE_MS =
		40000, /* until one serves, of the new program or the old one again */
	SERVER_END_MS = 60000,
};

/*
 * What lies in memory only must not get into swap while nobody else has it locked. Only what is
 * there already: the areas are sparse. Best effort, as the buffers are for the server.
 */
static void hold_area(int fd)
{
	struct stat st;
	void *map;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0)
		return;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd,
		   0);
	if (map == MAP_FAILED)
		return;
	madvise(map, (size_t)st.st_size, MADV_DONTDUMP);
	if (mlock2(map, (size_t)st.st_size, MLOCK_ONFAULT) < 0)
		log_dbg("anchor: %s", "memory cannot be locked");
}

static bool ended_within(int pidfd, int wait_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, wait_ms) > 0;
}

static uint64_t patience(const struct session *s, uint32_t generation)
{
	return s->head->generation == generation ? START_MS : PATIENCE_MS;
}

/* Until the keeper is dead; does not return when it serves. */
static void watch(const struct session *s, int keeper, uint32_t serving)
{
	uint64_t begun = clock_now_ms();
	uint32_t generation = s->head->generation;
	bool killed = false;

	while (!ended_within(keeper, TICK_MS)) {
		if (s->head->serving != serving)
			_exit(0);
		if (killed || clock_now_ms() - begun < patience(s, generation))
			continue;
		killed = true;
		log_err("the new program neither serves nor gives up: it is ended");
		syscall(SYS_pidfd_send_signal, keeper, SIGKILL, NULL, 0);
	}
	if (s->head->serving != serving)
		_exit(0); /* it served, then the keeper died: as at any other time */
}

/* It is not our child; its number stays its own until its new parent has seen its end. */
static void end_server(const struct session *s)
{
	pid_t pid = s->head->server_pid;
	auto_close int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (fd < 0)
		return;
	syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	if (!ended_within(fd, SERVER_END_MS))
		log_err("the server (pid %d) does not end", (int)pid);
}

static void be_anchor(const struct session *s, pid_t keeper_pid, int ready,
		      uint32_t serving)
{
	auto_close int keeper = (int)syscall(SYS_pidfd_open, keeper_pid, 0);
	uint64_t one = 1;

	if (keeper < 0 || getppid() != keeper_pid)
		_exit(1);
	hold_area(s->head->fds[SESSION_FD_BUFFERS]);
	if (keytable_pin(s->head->fds[SESSION_FD_KEYS]))
		log_dbg("anchor: %s", "the keys' memory cannot be locked");
	if (write(ready, &one, sizeof(one)) < 0)
		_exit(1);
	watch(s, keeper, serving);
	end_server(s);
}

pid_t anchor_start(const struct session *s)
{
	auto_close int ready = eventfd(0, EFD_CLOEXEC);
	uint32_t serving = s->head->serving;
	pid_t keeper = getpid();
	long pid;

	if (ready < 0)
		return -errno;
	pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		int fd = STEAL_FD(&ready); /* the keeper closes it, in this table */

		be_anchor(s, keeper, fd, serving);
		return 0;
	}
	if (ended_within(ready, READY_MS))
		return (pid_t)pid;
	kill((pid_t)pid, SIGKILL);
	return -ETIMEDOUT;
}
