/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/turns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

enum {
	TICK_MS = 2,
	LONE_TICK_MS = 10, /* each tick makes the scheduler spread threads anew */
	QUIET_TICK_MS = 10,
	QUIET_TICKS = 25, /* without a request: the watch ends */
	STAT_CPU = 39,	  /* field of /proc/TID/stat: proc(5) */
};

static unsigned int count_reading(const struct turns *t)
{
	unsigned int cnt = 0;

	for (unsigned int i = 0; i < t->limits.workers; i++)
		cnt += t->of[i].reading;
	return cnt;
}

static uint64_t count_taken(const struct turns *t)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < t->limits.workers; i++)
		sum += atomic_load_explicit(&t->of[i].taken, memory_order_relaxed);
	return sum;
}

static bool is_queued(const struct turns *t)
{
	struct pollfd p = {.fd = t->sv->devfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && p.revents & POLLIN;
}

/* Brings parked workers back up to the level. */
static void fill_up(struct turns *t)
{
	unsigned int cnt = t->serving;

	while (cnt < t->level) {
		if (atomic_compare_exchange_weak(&t->serving, &cnt, cnt + 1))
			sem_post(&t->parked);
	}
}

/*
 * The lone worker
 */

int turns_parse_cpu(const char *stat)
{
	const char *p = strrchr(stat, ')'); /* the name may have blanks and parentheses */

	for (int field = 2; p && field < STAT_CPU; field++)
		p = strchr(p + 1, ' ');
	return p ? atoi(p + 1) : -1;
}

static int cpu_of(uint32_t tid)
{
	char path[64], text[1024];
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/task/%u/stat", tid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	return turns_parse_cpu(text);
}

static bool allowed(const struct turns *t, cpu_set_t *set, int cpu)
{
	return sched_getaffinity(t->watcher_tid, sizeof(*set), set) == 0 && cpu >= 0 &&
	       cpu < CPU_SETSIZE && CPU_ISSET(cpu, set);
}

/* Also by the watcher, so `bound' stays: the worker may be about to bind itself. */
static void unbind(const struct turns *t, const struct turn *tn, int tid)
{
	cpu_set_t set;

	if (sched_getaffinity(t->watcher_tid, sizeof(set), &set) < 0 ||
	    sched_setaffinity(tid, sizeof(set), &set) < 0)
		log_dbg("a worker stays on processor %d: %s", tn->cpu, strerror(errno));
}

/* A caller that is found elsewhere was woken there because we held this processor. */
static void follow(struct turns *t, struct worker *w)
{
	struct turn *tn = w->turn;
	const struct fuse_in_header *in = (const void *)w->req;
	int cpu = in->pid && t->watcher_tid ? cpu_of(in->pid) : -1;
	cpu_set_t set;

	if ((tn->bound && cpu == tn->cpu) || !allowed(t, &set, cpu))
		return;
	tn->yields = tn->bound && t->may_yield;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	tn->cpu = cpu;
	tn->bound = true;
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		log_dbg("processor %d: %s", cpu, strerror(errno));
}

static void set_policy(int tid, int policy)
{
	const struct sched_param none = {0};

	if (sched_setscheduler(tid, policy, &none) < 0)
		log_dbg("scheduling policy %d: %s", policy, strerror(errno));
}

void turns_answer_begins(struct turn *tn)
{
	if (!tn || !tn->yields)
		return;
	tn->yielding = true;
	set_policy(0, SCHED_IDLE);
}

void turns_answer_ends(struct turn *tn)
{
	if (!tn || !tn->yielding)
		return;
	set_policy(0, SCHED_OTHER);
	tn->yielding = false;
}

static void *try_idle(void *arg)
{
	bool *can = arg;
	const struct sched_param none = {0};

	*can = sched_getscheduler(0) == SCHED_OTHER &&
	       sched_setscheduler(0, SCHED_IDLE, &none) == 0 &&
	       sched_setscheduler(0, SCHED_OTHER, &none) == 0;
	return NULL;
}

/* Only a thread that is not needed any more can find out: without the right it stays there. */
static bool can_yield(void)
{
	pthread_t thread;
	bool can = false;

	if (pthread_create(&thread, NULL, try_idle, &can))
		return false;
	pthread_join(thread, NULL);
	return can;
}

static void end_lone(struct turns *t)
{
	t->lone = NULL;
	t->level = t->width.level;
	fill_up(t);
}

static void act(struct turns *t, struct worker *w, int what)
{
	if (what & PACE_ENTER) {
		w->turn->yields = false;
		t->lone = w->turn;
		t->level = 1;
	}
	if (what & PACE_LEAVE)
		end_lone(t);
	if (what & PACE_LOOK)
		follow(t, w);
}

static void sample(struct turns *t, struct worker *w)
{
	bool calm;

	if (t->lone && t->lone != w->turn)
		return; /* its last request before it parks */
	calm = count_reading(t) + 1 >= t->serving && !is_queued(t);
	if (atomic_flag_test_and_set(&t->held))
		return;
	act(t, w, pace_sample(&t->pace, clock_now_ns(), count_taken(t), calm));
	atomic_flag_clear(&t->held);
}

/*
 * Workers
 */

static bool must_park(const struct turns *t, const struct turn *tn)
{
	const struct turn *lone = t->lone;

	return lone ? lone != tn : t->serving > t->level;
}

/* True if it is counted out. The last one stays, whatever the others do meanwhile. */
static bool count_out(struct turns *t)
{
	unsigned int cnt = t->serving;

	while (cnt > t->level && cnt > 1) {
		if (atomic_compare_exchange_weak(&t->serving, &cnt, cnt - 1))
			return true;
	}
	return false;
}

static void begin_watch(struct turns *t)
{
	if (!atomic_exchange(&t->watching, true))
		sem_post(&t->watch);
}

/* A signal may have ended its read(2) while all others are busy: then nobody would read. */
static void park(struct turns *t, struct worker *w)
{
	if (!count_out(t))
		return;
	if (!t->watching && !count_reading(t))
		begin_watch(t);
	xts_forget(w->io.xts);
	while (!t->sv->stopping && sem_wait(&t->parked) < 0)
		continue; /* a signal */
}

bool turns_enter(struct worker *w)
{
	struct turns *t = w->sv->turns;
	struct turn *tn = w->turn;

	if (tn->bound && t->lone != tn) {
		unbind(t, tn, 0);
		tn->bound = tn->yields = false;
	}
	if (must_park(t, tn))
		park(t, w);
	tn->reading = true;
	return !t->sv->stopping;
}

void turns_leave(struct worker *w, bool got)
{
	struct turns *t = w->sv->turns;
	struct turn *tn = w->turn;
	uint64_t taken = atomic_load_explicit(&tn->taken, memory_order_relaxed);

	/* In one order with the watcher's look at it after the watch has ended. */
	tn->reading = false;
	if (!got || !t->adapts)
		return;
	atomic_store_explicit(&tn->taken, taken + 1, memory_order_relaxed);
	if (!t->watching && !count_reading(t))
		begin_watch(t);
	if (t->nears && taken % PACE_SAMPLE_CNT == 0)
		sample(t, w);
}

/*
 * The watcher
 */

/* What it saw last. */
struct seen {
	uint64_t taken, slept;
	uint64_t used_ns, at_ns;
	unsigned int quiet; /* ticks */
};

/* Of all threads but this one, which sleeps once a tick. */
static uint64_t count_slept(void)
{
	struct rusage all, own;

	if (getrusage(RUSAGE_SELF, &all) < 0 || getrusage(RUSAGE_THREAD, &own) < 0)
		return 0;
	return (uint64_t)(all.ru_nvcsw - own.ru_nvcsw);
}

/* In per cent of one processor, since the last look. */
static unsigned int count_used(struct seen *seen)
{
	uint64_t now_ns = clock_now_ns(), used_ns = clock_used_ns();
	uint64_t used = used_ns - seen->used_ns, since = now_ns - seen->at_ns;

	seen->used_ns = used_ns;
	seen->at_ns = now_ns;
	return since ? (unsigned int)(used * 100 / since) : 0;
}

static struct seen look(const struct turns *t)
{
	return (struct seen){.taken = count_taken(t),
			     .slept = count_slept(),
			     .used_ns = clock_used_ns(),
			     .at_ns = clock_now_ns()};
}

/* A lone worker does not get on, or has nothing to do: it may run anywhere again. */
static void rescue(struct turns *t)
{
	for (unsigned int i = 0; i < t->limits.workers; i++) {
		const struct turn *tn = &t->of[i];
		int tid = t->sv->workers[i].slot->tid;

		if (tn->bound)
			unbind(t, tn, tid);
		if (tn->yielding)
			set_policy(tid, SCHED_OTHER);
	}
}

static void tick(struct turns *t, struct seen *seen)
{
	struct pace_load load = {
		.queued = is_queued(t),
		.reading = count_reading(t),
		.taken = count_taken(t) - seen->taken,
		.slept = count_slept() - seen->slept,
		.used = count_used(seen),
	};

	seen->taken += load.taken;
	seen->slept += load.slept;
	seen->quiet = load.taken ? 0 : seen->quiet + 1;
	if (!load.taken && (t->lone || (load.queued && !load.reading)))
		rescue(t);
	if (atomic_flag_test_and_set(&t->held))
		return;
	if (!t->lone) {
		t->level = pace_width(&t->width, &t->limits, &load);
		fill_up(t);
	} else if (!load.taken) {
		pace_given_up(&t->pace, clock_now_ns(), load.queued);
		end_lone(t);
	}
	atomic_flag_clear(&t->held);
}

static int tick_ms(const struct turns *t, const struct seen *seen)
{
	if (t->lone)
		return LONE_TICK_MS;
	return seen->quiet > 5 ? QUIET_TICK_MS : TICK_MS;
}

/* All is idle, or those that are busy have been so for long and nobody waits. */
static void watch(struct turns *t)
{
	struct seen seen = look(t);

	while (!t->sv->stopping) {
		const struct timespec pause = {.tv_nsec = tick_ms(t, &seen) * 1000000l};

		nanosleep(&pause, NULL);
		tick(t, &seen);
		if (seen.quiet >= QUIET_TICKS && count_reading(t))
			break;
	}
}

/* Those who are not needed park after their next request. */
static void narrow(struct turns *t)
{
	if (atomic_flag_test_and_set(&t->held))
		return;
	t->width = (struct pace_width){.level = PACE_BASE};
	if (!t->lone)
		t->level = PACE_BASE;
	atomic_flag_clear(&t->held);
}

static void *watcher(void *arg)
{
	struct turns *t = arg;

	t->watcher_tid = gettid();
	while (!t->sv->stopping) {
		if (sem_wait(&t->watch) < 0)
			continue; /* a signal */
		do {
			t->watching = true;
			watch(t);
			narrow(t);
			t->watching = false;
		} while (!t->sv->stopping && !count_reading(t));
	}
	return NULL;
}

vcf_err_t turns_start(struct turns *t)
{
	int rc;

	if (!t->adapts)
		return 0;
	t->may_yield = t->nears && can_yield();
	rc = pthread_create(&t->watcher, NULL, watcher, t);
	t->watcher_started = !rc;
	return -rc;
}

void turns_stop(struct turns *t)
{
	if (!t->watcher_started)
		return;
	sem_post(&t->watch);
	pthread_join(t->watcher, NULL);
	t->watcher_started = false;
}

static unsigned int count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0
		       ? 1
		       : (unsigned int)CPU_COUNT(&set);
}

vcf_err_t turns_new(struct turns **out, struct server *sv)
{
	struct turns *t = aligned_alloc(_Alignof(struct turns), sizeof(*t));

	if (!t)
		return -ENOMEM;
	memset(t, 0, sizeof(*t));
	t->sv = sv;
	t->adapts = !sv->stream && sv->worker_cnt > 1;
	t->nears = t->adapts && sv->cfg->near_caller;
	t->limits = (struct pace_limits){sv->worker_cnt, count_cpus()};
	t->serving = sv->worker_cnt;
	t->width.level = t->adapts ? PACE_BASE : sv->worker_cnt;
	t->level = t->width.level;
	sem_init(&t->parked, 0, 0);
	sem_init(&t->watch, 0, 0);
	atomic_flag_clear(&t->held);
	for (unsigned int i = 0; i < sv->worker_cnt; i++)
		sv->workers[i].turn = &t->of[i];
	*out = t;
	return 0;
}

void turns_free(struct turns *t)
{
	sem_destroy(&t->parked);
	sem_destroy(&t->watch);
	free(t);
}
