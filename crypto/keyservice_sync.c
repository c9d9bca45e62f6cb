/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The waiting calls, on top of the others. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keyservice.h"

/* A semaphore, for it may be destroyed while sem_post() is still returning. */
struct wait {
	sem_t over;
	vcf_err_t err;
	struct keyservice_sync *out;
};

static void wait_init(struct wait *w, struct keyservice_sync *out)
{
	memset(out, 0, sizeof(*out));
	sem_init(&w->over, 0, 0);
	w->err = 0;
	w->out = out;
}

static void wait_done(void *arg, const struct keyservice_result *res)
{
	struct wait *w = arg;

	snprintf(w->out->id, sizeof(w->out->id), "%s", res->id);
	snprintf(w->out->text, sizeof(w->out->text), "%s", res->text);
	w->err = res->err;
	if (!w->err && res->secret)
		w->err = secret_dup(&w->out->secret, res->secret);
	sem_post(&w->over);
}

/* err: of the call that queued it. */
static vcf_err_t wait_end(struct wait *w, vcf_err_t err)
{
	if (!err) {
		while (sem_wait(&w->over) < 0)
			; /* EINTR */
		err = w->err;
	}
	sem_destroy(&w->over);
	return err;
}

vcf_err_t keyservice_get_sync(struct keyservice *ks, const char *id,
			      struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_get(ks, id, wait_done, &w));
}

vcf_err_t keyservice_new_sync(struct keyservice *ks, const char *label,
			      const struct secret *secret, struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_new_secret(ks, label, secret, wait_done, &w));
}

vcf_err_t keyservice_find_sync(struct keyservice *ks, const char *label,
			       struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_find(ks, label, wait_done, &w));
}

vcf_err_t keyservice_list_sync(struct keyservice *ks, const char *prefix,
			       keyservice_item_fn *item, void *item_arg,
			       struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_list(ks, prefix, item, item_arg, wait_done, &w));
}

vcf_err_t keyservice_destroy_sync(struct keyservice *ks, const char *id,
				  const char *label, struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_destroy(ks, id, label, wait_done, &w));
}

vcf_err_t keyservice_ping_sync(struct keyservice *ks, struct keyservice_sync *out)
{
	struct wait w;

	wait_init(&w, out);
	return wait_end(&w, keyservice_ping(ks, wait_done, &w));
}
