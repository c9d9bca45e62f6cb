/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(rc));
	abort();
}

void worker_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr), "pthread_condattr_init");
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "condattr_setclock");
	must(pthread_cond_init(cond, &attr), "pthread_cond_init");
	must(pthread_condattr_destroy(&attr), "pthread_condattr_destroy");
}

void worker_wait(struct mutex *mu, pthread_cond_t *cond, uint64_t until_ms)
{
	struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
				 .tv_nsec = (long)(until_ms % 1000) * 1000000};
	int rc;

	if (until_ms == UINT64_MAX) {
		mutex_wait(mu, cond);
		return;
	}
	rc = pthread_cond_timedwait(cond, &mu->m, &until);
	if (rc != ETIMEDOUT)
		must(rc, "pthread_cond_timedwait");
}

vcf_err_t worker_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
	sigset_t blocked, old;
	int rc;

	sigfillset(&blocked);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&blocked, faults[i]);
	must(pthread_sigmask(SIG_SETMASK, &blocked, &old), "pthread_sigmask");
	rc = pthread_create(thread, NULL, run, arg);
	must(pthread_sigmask(SIG_SETMASK, &old, NULL), "pthread_sigmask");
	return -rc;
}
