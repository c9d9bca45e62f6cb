/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fs/session.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

struct heartbeat {
	struct session *session;
	int keeper_fd; /* -1: none, or its death was told */
	int stop_fd;   /* eventfd */
	uint64_t limit_ms;
	pthread_t thread;
};

/* The state letter stands behind the name, which may itself have parentheses: proc(5). */
static bool held_by_disk(int tid)
{
	char path[64], text[512];
	auto_close int fd = -1;
	const char *end;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] == 'D';
}

static bool is_late(const struct session_slot *slot, uint64_t now, uint64_t limit_ms)
{
	uint64_t busy = slot->busy;
	uint64_t began = slot->began_ms;

	return busy && began <= now && now - began >= limit_ms && slot->busy == busy;
}

/*
 * No thread waits in the kernel for an asynchronous transfer, but others may wait for it, for its
 * sectors. It is the disk that is late as long as completers take what it has done.
 */
static bool held_by_transfer(const struct session *s, uint64_t now, uint64_t limit_ms)
{
	for (int i = SESSION_COMPLETER_SLOT; i < SESSION_SLOTS_MAX; i++) {
		if (is_late(&s->slots[i], now, limit_ms))
			return false;
	}
	for (int i = 0; i < SESSION_ASYNC_MAX; i++) {
		const struct session_async *r = &s->async[i];
		uint64_t unique = r->unique;
		uint64_t began = r->began_ms;

		if (unique && began <= now && now - began >= limit_ms &&
		    r->unique == unique)
			return true;
	}
	return false;
}

bool heartbeat_alive(const struct session *s, uint64_t now_ms, uint64_t limit_ms,
		     bool (*held)(int tid))
{
	bool late = false;

	for (int i = 0; i < SESSION_SLOTS_MAX; i++) {
		if (!is_late(&s->slots[i], now_ms, limit_ms))
			continue;
		if (s->slots[i].waits || held(s->slots[i].tid))
			return true;
		late = true;
	}
	return !late || held_by_transfer(s, now_ms, limit_ms);
}

uint64_t heartbeat_silent_ms(struct heartbeat_watch *w, const struct session *s,
			     uint64_t tick_ms)
{
	uint64_t now = clock_now_ms();
	uint64_t beat = s->head->beat_ms;
	uint64_t passed = now - w->checked_ms;

	w->checked_ms = now;
	if (beat != w->beat_ms)
		w->silent_ms = 0;
	else
		w->silent_ms += passed < 2 * tick_ms ? passed : tick_ms;
	w->beat_ms = beat;
	return w->silent_ms;
}

static int pause_ms(const struct heartbeat *hb)
{
	if (!hb->limit_ms)
		return -1;
	return hb->limit_ms < 4000 ? (int)(hb->limit_ms / 4) : 1000;
}

static void *beat(void *arg)
{
	struct heartbeat *hb = arg;

	for (;;) {
		uint64_t now = clock_now_ms();
		struct pollfd p[] = {{.fd = hb->stop_fd, .events = POLLIN},
				     {.fd = hb->keeper_fd, .events = POLLIN}};

		if (hb->limit_ms &&
		    heartbeat_alive(hb->session, now, hb->limit_ms, held_by_disk))
			hb->session->head->beat_ms = now;
		if (poll(p, 2, pause_ms(hb)) < 0)
			continue; /* a signal */
		if (p[0].revents)
			return NULL;
		if (p[1].revents) {
			hb->keeper_fd = -1;
			log_warn("the keeper is gone: this mount is served without "
				 "supervision");
		}
	}
}

static void dispose(struct heartbeat *hb)
{
	if (hb->stop_fd >= 0)
		close(hb->stop_fd);
	free(hb);
}

DEFINE_AUTO(half_made, struct heartbeat *, dispose)

vcf_err_t heartbeat_start(struct heartbeat **out, struct session *session, int keeper_fd,
			  unsigned int limit_s)
{
	struct heartbeat *hb __attribute__((cleanup(cleanup_half_made))) =
		calloc(1, sizeof(*hb));
	int rc;

	if (!hb)
		return -ENOMEM;
	hb->session = session;
	hb->keeper_fd = keeper_fd;
	hb->limit_ms = (uint64_t)limit_s * 1000;
	hb->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (hb->stop_fd < 0)
		return -errno;
	rc = pthread_create(&hb->thread, NULL, beat, hb);
	if (rc)
		return -rc;
	*out = STEAL_PTR(&hb);
	return 0;
}

void heartbeat_stop(struct heartbeat *hb)
{
	uint64_t one = 1;

	if (write(hb->stop_fd, &one, sizeof(one)) < 0)
		log_dbg("heartbeat: %s", strerror(errno));
	pthread_join(hb->thread, NULL);
	dispose(hb);
}
