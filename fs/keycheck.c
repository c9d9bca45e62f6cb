/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keycheck.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "util/clock.h"
#include "util/log.h"

enum { WAIT_MS = 3000, STEP_MS = 10, LOST_MAX = 2 };

/* Shared with the callback, which may come after the wait was given up. */
struct ping {
	_Atomic int refs;
	_Atomic bool done;
	vcf_err_t err;
	char text[128];
};

static void ping_put(struct ping *p)
{
	if (atomic_fetch_sub(&p->refs, 1) == 1)
		free(p);
}

static void ping_done(void *arg, const struct keyservice_result *res)
{
	struct ping *p = arg;

	p->err = res->err;
	strncpy(p->text, res->text, sizeof(p->text) - 1);
	p->done = true;
	ping_put(p);
}

/* Names a service in the log, where it is not the only one. */
struct who {
	char text[TOKEN_SERVICE_MAX + 16];
};

static struct who who(const char *name)
{
	struct who w = {""};

	if (strcmp(name, CONFIG_SERVICE_DEFAULT) != 0)
		snprintf(w.text, sizeof(w.text), "[service %s]: ", name);
	return w;
}

/* Until it is answered, the helper did not start, or until_ms. */
static vcf_err_t await(struct keyservice *ks, struct ping *p, const char *name,
		       uint64_t until_ms)
{
	const struct timespec step = {.tv_nsec = STEP_MS * 1000000};
	struct keyservice_status st;

	while (!p->done && clock_now_ms() < until_ms) {
		nanosleep(&step, NULL);
		keyservice_get_status(ks, &st);
		if (st.restarts < LOST_MAX || p->done)
			continue;
		log_err("%sthe key helper does not start: %s", who(name).text,
			st.last_error);
		return -ENOTCONN;
	}
	return 0;
}

static vcf_err_t watch(struct keyservice *ks, struct ping *p, const char *name,
		       uint64_t until_ms)
{
	vcf_err_t err = await(ks, p, name, until_ms);

	if (err)
		return err;
	if (!p->done)
		log_warn("%sthe key service has not answered yet; images open when it "
			 "does",
			 who(name).text);
	else if (p->err)
		log_warn("%sthe key service answers: %s %s", who(name).text,
			 strerror(-p->err), p->text);
	return 0;
}

static vcf_err_t begin(struct keyservice *ks, struct ping **out)
{
	struct ping *p = calloc(1, sizeof(*p));
	vcf_err_t err;

	if (!p)
		return -ENOMEM;
	p->refs = 2;
	err = keyservice_ping(ks, ping_done, p);
	if (err)
		free(p);
	else
		*out = p;
	return err;
}

vcf_err_t keycheck_start(struct keyservice *const *all, const char *const *names,
			 size_t cnt)
{
	struct ping *pings[CONFIG_SERVICES_MAX] = {NULL};
	uint64_t until_ms = clock_now_ms() + WAIT_MS; /* for all of them */
	vcf_err_t err = 0;

	for (size_t i = 0; i < cnt && !err; i++)
		err = begin(all[i], &pings[i]);
	for (size_t i = 0; i < cnt && pings[i]; i++) {
		if (!err)
			err = watch(all[i], pings[i], names[i], until_ms);
		ping_put(pings[i]);
	}
	return err;
}

vcf_err_t keycheck_helper(struct keyservice *ks, const char *name)
{
	struct ping *p = NULL;
	vcf_err_t err = begin(ks, &p);

	if (err)
		return err;
	err = await(ks, p, name, clock_now_ms() + WAIT_MS);
	ping_put(p);
	return err;
}

static void warn_of_folder(const char *dir, int rootfd)
{
	struct stat keys, root;

	if (!dir || stat(dir, &keys) < 0 || fstat(rootfd, &root) < 0)
		return;
	if (keys.st_dev == root.st_dev)
		log_warn("%s: the keys lie on the file system that they protect", dir);
	else if (major(keys.st_dev)) /* 0: in memory or on the network */
		log_warn("%s: the keys lie on a disk of this machine: whoever has the "
			 "disk has "
			 "them",
			 dir);
}

void keycheck_warn(const struct config *cfg, const struct config *service, int rootfd)
{
	const char *name = config_helper_name(service);

	if (strcmp(name, "file") == 0)
		warn_of_folder(config_service_value(cfg, service, "directory"), rootfd);
	else if (strcmp(name, "static") == 0)
		log_warn("the static key helper protects nothing from whoever reads the "
			 "configuration, and no secret can be destroyed");
}
