/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose turn it is: which workers read requests and which are parked, and where a lone caller's
 * worker runs (pace.h has the decisions).
 *
 *   parked    waits for its turn; holds no request and no key
 *   reading   waits for a request in read(2)
 *   busy      has one
 *
 * Who serves may be too few while all of them sleep or hang: a watcher looks every few milliseconds
 * from when the last reader took a request until the load is gone, and then sleeps as well.
 *
 * The lone worker is bound to the caller's processor. A caller that may run anywhere would be
 * woken on an idle processor, since the worker that wakes it still runs on this one; so such a
 * worker answers as SCHED_IDLE, which makes its processor count as idle, and is SCHED_OTHER again
 * before it does anything else. The watcher undoes both for a worker that does not get on, because
 * others want its processor.
 *
 * Nothing here outlives the process. A stream (tests) has all workers and no watcher.
 * Locking: atomics; `held` is only ever tried.
 */
#ifndef VCF_FS_TURNS_H
#define VCF_FS_TURNS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/pace.h"
#include "fs/session.h"
#include "util/err.h"

struct server;
struct worker;

/* One worker's part, on cache lines of its own. */
struct turn {
	_Alignas(64) _Atomic bool reading;
	_Atomic bool yielding; /* answers as SCHED_IDLE just now */
	_Atomic bool
		bound; /* to a processor; undone by itself, maybe before by the watcher */
	bool yields;   /* its answers do so */
	int cpu;       /* that it is bound to */
	_Atomic uint64_t taken; /* requests */
};

struct turns {
	struct server *sv;
	bool adapts; /* else all workers serve */
	bool nears;  /* lone callers are looked for */
	struct pace_limits limits;
	_Atomic unsigned int level;   /* how many may serve, */
	_Atomic unsigned int serving; /* how many do: not parked */
	_Atomic(struct turn *) lone;  /* alone, or NULL */
	sem_t parked;		      /* a post for each that is to serve again */
	atomic_flag held;	      /* by who decides: width, pace */
	struct pace_width width;
	struct pace_lone pace;
	bool may_yield; /* SCHED_IDLE can be left again */
	pthread_t watcher;
	bool watcher_started;
	_Atomic int watcher_tid; /* its processors are those that the process may use */
	sem_t watch;		 /* a post begins the watch */
	_Atomic bool watching;	 /* until the load is gone */
	struct turn of[SESSION_WORKERS_MAX];
};

/* For the workers of sv; before they start. -ENOMEM. */
NODISCARD vcf_err_t turns_new(struct turns **out, struct server *sv);
/* No worker runs any more. */
void turns_free(struct turns *t);

/* Starts and ends the watcher; turns_stop() once sv->stopping is set. */
NODISCARD vcf_err_t turns_start(struct turns *t);
void turns_stop(struct turns *t);

/* Before each read(2): parks until it is the worker's turn. False: sv->stopping. */
bool turns_enter(struct worker *w);
/* After it; `got`: a request, which lies in the buffer. */
void turns_leave(struct worker *w, bool got);

/* Around the write of an answer. */
void turns_answer_begins(struct turn *tn);
void turns_answer_ends(struct turn *tn);

/* --- parts, for tests --- */

/* The processor that a thread ran on last, from the text of /proc/TID/stat; -1: not to be found. */
int turns_parse_cpu(const char *stat);

#endif
