/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What keyservice.c (calls, start and end) and keyservice_loop.c (the thread) share. The queue
 * (keyqueue.h) and the figures for the status have locks; the helpers and all else marked (t)
 * belong to the service's thread.
 */
#ifndef VCF_CRYPTO_KEYSERVICE_IMPL_H
#define VCF_CRYPTO_KEYSERVICE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "crypto/keybreaker.h"
#include "crypto/keyconfig.h"
#include "crypto/keynegative.h"
#include "crypto/keyqueue.h"
#include "crypto/keysaid.h"
#include "crypto/keyservice.h"
#include "crypto/keyservice_child.h"
#include "util/histogram.h"
#include "util/lock.h"

enum health { HEALTH_IDLE, HEALTH_OK, HEALTH_FAILING };

/* A configuration with strings of ours. */
struct settings {
	struct keyservice_config cfg;
	struct settings *next; /* older ones that a helper still has */
};

struct keyservice {
	keyservice_spawn_fn *spawn;	/* (c) */
	keyservice_reap_fn *reap;	/* (c) */
	void *spawn_arg;		/* (c) */
	bool log_stderr;		/* (c) */
	struct keyservice_helper *kept; /* (c) */
	unsigned int kept_cnt;		/* (c) */
	struct settings *settings;	/* (t) never NULL once the thread runs */
	_Atomic unsigned int timeout_s;
	struct keyqueue queue;
	int wake; /* (c) eventfd */
	pthread_t thread;
	bool joined;					   /* by shutdown */
	struct keychild *children[KEYCONFIG_CHILDREN_MAX]; /* (t) */
	unsigned int child_cnt;				   /* (t) */
	unsigned int streak;	     /* (t) helpers lost since the last answer */
	unsigned int unstarted;	     /* (t) helpers in a row that were never ready */
	uint64_t start_ms;	     /* (t) no helper is started before */
	uint64_t stagger_ms;	     /* (t) no further helper is started before */
	uint64_t tag;		     /* (t) */
	struct keybreaker breaker;   /* (t) */
	struct keyjob *probe;	     /* (t) while PROBING: the ping */
	bool probe_sent;	     /* (t) */
	struct keynegative negative; /* (t) */
	struct keysaid_limit said;   /* (t) */
	struct mutex lock;	     /* of what follows */
	enum health health;	     /* (l) */
	unsigned int caps;	     /* (l) of the helper that answered last */
	unsigned int running;	     /* (l) */
	uint64_t restarts;	     /* (l) */
	enum keybreaker_state shown; /* (l) the breaker's */
	uint64_t opened;	     /* (l) how often it opened */
	char last_error[128];	     /* (l) */
	time_t success, failure;     /* (l) of the epoch, the last one */
	struct histogram took;	     /* of answers; the thread counts */
	char helper[64];	     /* (l) the base name of the program */
	struct settings *fresh;	     /* (l) to be taken up, or NULL */
};

void keyservice_settings_free(struct settings *s);

/* Of the loop; before the thread runs, or in it. */

/* Takes up `fresh`. */
void keyservice_take_settings(struct keyservice *ks);
void keyservice_drop_child(struct keyservice *ks, unsigned int i);
/* The number of helpers, for the status. */
void keyservice_note_running(struct keyservice *ks);

/* The thread; arg is the service. */
void *keyservice_loop(void *arg);

#endif
