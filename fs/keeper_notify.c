/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the keeper tells systemd (Type=notify):
 *
 *   READY=1      mounted, and the kernel's FUSE_INIT is answered; also the end of a reload
 *   RELOADING=1  SIGHUP has come
 *   STOPPING=1   the mount is to end, or has ended
 *   STATUS=      the generation and how many images have their key
 *   MAINPID=     with READY, and from an anchor that has become the keeper: heard only with
 *                NotifyAccess=all; the unit that we ship waits for such a mount instead (service.in)
 *   WATCHDOG=1   while this loop runs. Of the server only STATUS= tells: this loop replaces one that
 *                hangs (heartbeat.h), and where none can be started or one cannot be reaped (its disk
 *                hangs), ending the keeper would only take away who goes on once that is over
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/keeper_impl.h"
#include "util/clock.h"
#include "util/sdnotify.h"

enum { STATUS_TICK_MS = 5000 };

static unsigned int images_cnt(const struct session *s)
{
	unsigned int cnt = 0;

	for (size_t i = 0; i < SESSION_IMAGES_MAX; i++)
		cnt += s->images[i].generation != 0;
	return cnt;
}

static void describe(const struct keeper *k, char *dst, size_t room)
{
	uint32_t generation = k->session->head->generation;
	unsigned int cnt;

	if (k->state == STOPPING) {
		snprintf(dst, room, "stopping");
	} else if (!k->ready_ms) {
		snprintf(dst, room, "generation %u takes over", generation);
	} else {
		cnt = images_cnt(k->session);
		snprintf(dst, room, "generation %u serves, %u image%s with a key%s",
			 generation, cnt, cnt == 1 ? "" : "s",
			 k->session->head->draining ? ", draining" : "");
	}
}

/* Once in a while, and only what is new. */
static void tell_status(struct keeper *k, uint64_t now)
{
	char text[sizeof(k->told)];

	if (k->state != SERVING || now < k->status_ms)
		return;
	k->status_ms = now + STATUS_TICK_MS;
	describe(k, text, sizeof(text));
	if (strcmp(text, k->told) == 0)
		return;
	memcpy(k->told, text, sizeof(k->told));
	sdnotify_hint("STATUS=%s\n", text);
}

static void tell_watchdog(struct keeper *k, uint64_t now)
{
	uint64_t ms = sdnotify_watchdog_ms();

	if (!ms || now < k->watchdog_ms)
		return;
	k->watchdog_ms = now + ms;
	sdnotify_hint("WATCHDOG=1\n");
}

void keeper_notify_ready(struct keeper *k)
{
	describe(k, k->told, sizeof(k->told));
	sdnotify_send("READY=1\nMAINPID=%d\nSTATUS=%s\n", (int)getpid(), k->told);
}

void keeper_notify_reload(struct keeper *k)
{
	struct timespec now;

	if (k->state != SERVING)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	sdnotify_send("RELOADING=1\nMONOTONIC_USEC=%llu\n",
		      (unsigned long long)now.tv_sec * 1000000u +
			      (unsigned long long)now.tv_nsec / 1000u);
}

void keeper_notify_reloaded(struct keeper *k, bool done)
{
	if (k->state != SERVING)
		return;
	if (done)
		describe(k, k->told, sizeof(k->told));
	else
		snprintf(k->told, sizeof(k->told), "the reload was refused: see the log");
	sdnotify_send("READY=1\nSTATUS=%s\n", k->told);
	k->status_ms = clock_now_ms() + STATUS_TICK_MS;
}

void keeper_notify_stopping(void)
{
	sdnotify_send("STOPPING=1\nSTATUS=stopping\n");
}

void keeper_notify_moved(void)
{
	sdnotify_send("MAINPID=%d\n", (int)getpid());
}

void keeper_notify_tick(struct keeper *k)
{
	uint64_t now;

	if (!sdnotify_wanted())
		return;
	now = clock_now_ms();
	tell_status(k, now);
	tell_watchdog(k, now);
}

int keeper_notify_timeout_ms(const struct keeper *k)
{
	uint64_t now = clock_now_ms();

	if (!sdnotify_watchdog_ms())
		return -1;
	return k->watchdog_ms > now ? (int)(k->watchdog_ms - now) : 0;
}
