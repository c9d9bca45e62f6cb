/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SIGHUP stays blocked everywhere and is taken by sigwait(): no request is interrupted by it,
 * and one that comes before the thread listens is kept by the kernel.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/worker.h"
#include "fs/config_compare.h"
#include "fs/control.h"
#include "fs/reload.h"
#include "util/log.h"

struct reload_listener {
	struct server *sv;		 /* (c) */
	const struct config_source *src; /* (c) */
	int keeper_sock;		 /* (c) */
	pthread_t thread;		 /* (c) */
	_Atomic bool ending;
};

/* The log first: a refusal belongs into the file that has its name now. */
static vcf_err_t reload(struct reload_listener *l)
{
	struct config *fresh = NULL;
	vcf_err_t err;

	if (config_apply_log(l->sv->cfg))
		log_dbg("lines still go to the old file"); /* it was logged why */
	err = config_load_again(&fresh, l->src);
	if (!err)
		return reload_apply(l->sv, fresh);
	log_err("the configuration is not reloaded, the old settings stay: %s",
		err == -EINVAL ? "it is faulty" : strerror(-err));
	return err;
}

/* Of a success: by on_reload. */
static void tell_keeper(struct reload_listener *l, vcf_err_t err)
{
	struct control c = {.kind = CONTROL_RELOADED,
			    .value = err,
			    .digest = config_digest(l->sv->cfg)};

	if (control_send(l->keeper_sock, &c, NULL, 0))
		log_dbg("the keeper does not listen");
}

static void *listen_loop(void *arg)
{
	struct reload_listener *l = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	while (sigwait(&set, &sig) == 0 && !l->ending) {
		vcf_err_t err = reload(l);

		if (err)
			tell_keeper(l, err);
	}
	return NULL;
}

static void applied(void *arg)
{
	tell_keeper(arg, 0);
}

vcf_err_t reload_listen(struct reload_listener **out, struct server *sv,
			const struct config_source *src, int keeper_sock)
{
	struct reload_listener *l = calloc(1, sizeof(*l));
	vcf_err_t err;

	if (!l)
		return -ENOMEM;
	l->sv = sv;
	l->src = src;
	l->keeper_sock = keeper_sock;
	sv->on_reload_arg = l;
	sv->on_reload = applied;
	err = worker_start(&l->thread, listen_loop, l);
	if (err) {
		sv->on_reload = NULL;
		free(l);
		return err;
	}
	*out = l;
	return 0;
}

void reload_unlisten(struct reload_listener *l)
{
	l->ending = true;
	pthread_kill(l->thread, SIGHUP);
	pthread_join(l->thread, NULL);
	l->sv->on_reload = NULL;
	free(l);
}
