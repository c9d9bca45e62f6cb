/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keyrecords.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void clear(struct keyrecords *r)
{
	for (size_t i = 0; i < r->cnt; i++) {
		free(r->list[i].id);
		free(r->list[i].label);
		free(r->list[i].created);
	}
	r->cnt = 0;
}

static bool make_room(struct keyrecords *r)
{
	size_t room = r->room ? 2 * r->room : 256;
	void *p;

	if (r->cnt < r->room)
		return true;
	p = reallocarray(r->list, room, sizeof(*r->list));
	if (!p)
		return false;
	r->list = p;
	r->room = room;
	return true;
}

static void add(void *arg, const struct keyservice_item *item)
{
	struct keyrecords *r = arg;
	struct keyrecord *k;

	if (!item) {
		clear(r); /* a new try */
		return;
	}
	if (!make_room(r)) {
		r->short_of_memory = true;
		return;
	}
	k = &r->list[r->cnt++];
	k->id = strdup(item->id);
	k->label = strdup(item->label);
	k->created = strdup(item->created);
	r->short_of_memory |= !k->id || !k->label || !k->created;
}

static int by_id(const void *a, const void *b)
{
	const struct keyrecord *x = a, *y = b;

	return strcmp(x->id, y->id);
}

vcf_err_t keyrecords_fetch(struct keyrecords *r, struct keyservice *ks,
			   const char *prefix, struct keyservice_sync *out)
{
	vcf_err_t err = keyservice_list_sync(ks, prefix, add, r, out);

	if (!err && r->short_of_memory)
		err = -ENOMEM;
	if (!err && r->cnt)
		qsort(r->list, r->cnt, sizeof(*r->list), by_id);
	return err;
}

const struct keyrecord *keyrecords_find(const struct keyrecords *r, const char *id)
{
	const struct keyrecord probe = {.id = (char *)(uintptr_t)id};

	return r->cnt ? bsearch(&probe, r->list, r->cnt, sizeof(probe), by_id) : NULL;
}

void keyrecords_fini(struct keyrecords *r)
{
	clear(r);
	free(r->list);
}
