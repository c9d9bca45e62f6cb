/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A background thread that sleeps until a time or until it is told: what the reserve and
 * the deletion queue have in common.
 */
#ifndef VCF_CRYPTO_WORKER_H
#define VCF_CRYPTO_WORKER_H

#include <pthread.h>
#include <stdint.h>

#include "util/err.h"
#include "util/lock.h"

/* A condition whose timed waits follow the monotonic clock. */
void worker_cond_init(pthread_cond_t *cond);

/* Waits on cond until it is signalled or until_ms has come; UINT64_MAX: no limit. May
 * return early. mu is held before and after. */
void worker_wait(struct mutex *mu, pthread_cond_t *cond, uint64_t until_ms);

/* Starts a thread with all signals blocked but those that a fault of its own raises. */
NODISCARD vcf_err_t worker_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
