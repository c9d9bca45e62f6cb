/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/wipewait.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/keyset.h"
#include "fs/nodelock.h"
#include "util/log.h"

struct wait {
	struct wait *next;
	uint64_t deletion, data_off;
	int fd;
};

struct wipewait {
	struct server *sv;
	struct mutex lock;
	struct wait *first; /* (l) */
	unsigned int busy;  /* (l) ticks that are under way */
	bool stopped;	    /* (l) */
	pthread_cond_t idle;
};

vcf_err_t wipewait_new(struct wipewait **out, struct server *sv)
{
	struct wipewait *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->sv = sv;
	mutex_init(&w->lock, RANK_WIPEWAIT);
	pthread_cond_init(&w->idle, NULL);
	*out = w;
	return 0;
}

static struct wait *take_all(struct wipewait *w)
{
	SCOPED_LOCK(&w->lock);
	struct wait *all = w->first;

	w->first = NULL;
	return all;
}

static void put(struct wipewait *w, struct wait *one)
{
	SCOPED_LOCK(&w->lock);

	one->next = w->first;
	w->first = one;
}

void wipewait_free(struct wipewait *w)
{
	struct wait *one = take_all(w);

	while (one) {
		struct wait *next = one->next;

		close(one->fd);
		free(one);
		one = next;
	}
	pthread_cond_destroy(&w->idle);
	mutex_fini(&w->lock);
	free(w);
}

bool wipewait_needed(int fd)
{
	/* Whatever else is wrong, one that could not be asked may be using it. */
	return nodelock_byte(fd, NODELOCK_OPEN, true, false) != 0;
}

void wipewait_add(struct wipewait *w, uint64_t deletion, int fd, uint64_t data_off)
{
	struct wait *one = calloc(1, sizeof(*one));

	if (!one) {
		close(fd);
		deletion_gone(keyset_deletions(w->sv, deletion), deletion);
		return;
	}
	*one = (struct wait){.deletion = deletion, .data_off = data_off, .fd = fd};
	put(w, one);
	log_dbg("a deleted image is open on another node: its header stays until then");
}

static bool begin(struct wipewait *w)
{
	SCOPED_LOCK(&w->lock);

	w->busy += !w->stopped;
	return !w->stopped;
}

static void end(struct wipewait *w)
{
	SCOPED_LOCK(&w->lock);

	w->busy--;
	pthread_cond_broadcast(&w->idle);
}

void wipewait_stop(struct wipewait *w)
{
	SCOPED_LOCK(&w->lock);

	w->stopped = true;
	while (w->busy)
		mutex_wait(&w->lock, &w->idle);
}

void wipewait_tick(struct wipewait *w)
{
	struct wait *one;

	if (!begin(w))
		return;
	one = take_all(w);
	while (one) {
		struct wait *next = one->next;

		if (wipewait_needed(one->fd)) {
			put(w, one);
		} else {
			deletion_wipe(keyset_deletions(w->sv, one->deletion),
				      one->deletion, one->fd, one->data_off);
			close(one->fd);
			free(one);
		}
		one = next;
	}
	end(w);
}
