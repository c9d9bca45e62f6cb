/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the request loop adapts to its load: pure decisions, turns.c carries them out.
 *
 * Width: how many workers serve. The kernel wakes those that read in turn, the one that has waited
 * longest first, so each worker more than needed makes caches colder and switches more frequent.
 * More are wanted when requests wait while nobody reads: as many as there are processors if the
 * workers compute, all if they sleep in the disk's I/O (or hang). Sleeping alone does not tell:
 * writers of one file on tmpfs sleep for each other. So what counts is that they leave processors
 * unused that they could have.
 *
 * Lone callers: one that waits for each request before it sends the next is best served by one
 * worker on its own processor, since neither has work while the other has: on another processor
 * each wakes the other from idle, which costs more than the request. Tried when the load looks so,
 * kept while a request takes less time than before.
 *
 *            calm samples, and the pause is over              (PACE_ENTER)
 *      OFF --------------------------------------------------> ON
 *          <--------------------------------------------------
 *            requests queue, come rarely, or take no less     (PACE_LEAVE)
 */
#ifndef VCF_FS_PACE_H
#define VCF_FS_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PACE_BASE =
		2, /* workers that serve at least, so that one reads while one is busy */
	PACE_SPARE_TICKS =
		16, /* one less after so many in a row that found one too many */
	/* Per cent of the processors that the workers can have, used by them: */
	PACE_SLEEP_PERCENT = 50, /* less: they sleep */
	PACE_WORK_PERCENT = 75,	 /* more: they compute */
};

struct pace_width {
	unsigned int level;
	unsigned int spare; /* ticks in a row */
};

struct pace_limits {
	unsigned int workers, cpus;
};

/* What was seen since the last tick. */
struct pace_load {
	bool queued;	      /* a request waits now */
	unsigned int reading; /* workers that wait for one now */
	uint64_t taken;	      /* requests */
	uint64_t slept;	      /* voluntary context switches */
	unsigned int used;    /* processors that this process used, in per cent of one */
};

/* The width from now on; p->level is to be >= 1 at the first call. */
unsigned int pace_width(struct pace_width *p, const struct pace_limits *lim,
			const struct pace_load *load);

enum {
	PACE_SAMPLE_CNT = 16,  /* a sample is due after so many requests */
	PACE_CALM_SAMPLES = 8, /* in a row, to enter */
	PACE_SETTLE_SAMPLES =
		4, /* not judged: workers and callers change their processor */
	PACE_WINDOW_SAMPLES = 16,  /* judged together */
	PACE_LOOK_SAMPLES = 64,	   /* the caller's processor is looked at anew */
	PACE_SLOW_NS = 200 * 1000, /* a request's time from which on it does not matter */
	PACE_LEFT_NS = 20 * 1000000,   /* pause after requests queued */
	PACE_PAUSE_NS = 100 * 1000000, /* after it did not pay; doubled each time */
};
#define PACE_PAUSE_MAX_NS (3200ull * 1000000)

/* Answers of pace_sample(). */
enum { PACE_ENTER = 1, PACE_LEAVE = 2, PACE_LOOK = 4 };

/* Zeroed: OFF. */
struct pace_lone {
	bool on;
	unsigned int samples; /* OFF: calm ones in a row; ON: since the window began */
	unsigned int queued;  /* ON: samples in a row */
	unsigned int looks;   /* ON: samples since the last look */
	uint64_t since_ns, since_cnt; /* the window's begin */
	uint64_t last_ns, last_cnt;   /* the sample before */
	uint64_t before_ns;	      /* a request's time without */
	uint64_t not_before_ns, pause_ns;
};

/*
 * A sample after some requests.
 *
 * now_ns  of a clock that does not jump
 * cnt     requests so far
 * calm    nobody else serves a request and none waits
 */
int pace_sample(struct pace_lone *p, uint64_t now_ns, uint64_t cnt, bool calm);

/* ON is left from outside: no request was taken for a while; `queued`: although one waits. */
void pace_given_up(struct pace_lone *p, uint64_t now_ns, bool queued);

#endif
