/* SPDX-License-Identifier: GPL-2.0-or-later */
/* find and list: Locate gives ids alone, what they are has to be asked one by one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/kmip_parts.h"

enum {
	PAGE = 100, /* ids in one reply: the longest ones still fit */
	LIST_MAX = 1000000,
};

/* --- lists of ids --- */

struct ids {
	char **id;
	size_t cnt, room;
	size_t seen; /* with those that no header of ours can hold */
};

static void free_ids(struct ids *l)
{
	for (size_t i = 0; i < l->cnt; i++)
		free(l->id[i]);
	free(l->id);
}
#define auto_ids __attribute__((cleanup(free_ids)))

static vcf_err_t add_id(struct ids *l, const char *id)
{
	if (l->cnt == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		char **more = realloc(l->id, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->id = more;
		l->room = room;
	}
	l->id[l->cnt] = strdup(id);
	return l->id[l->cnt] ? (l->cnt++, 0) : -ENOMEM;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is made while pages are read moves others to the next page: they come twice. */
static void sort_ids(struct ids *l)
{
	size_t kept = 0;

	if (l->cnt)
		qsort(l->id, l->cnt, sizeof(*l->id), compare_ids);
	for (size_t i = 0; i < l->cnt; i++) {
		if (kept && strcmp(l->id[kept - 1], l->id[i]) == 0)
			free(l->id[i]);
		else
			l->id[kept++] = l->id[i];
	}
	l->cnt = kept;
}

static vcf_err_t take_ids(struct keys *k, struct kmip_reply *r, struct ids *l,
			  struct helper_failure *f)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	while ((err = kmip_next_id(r, id)) == 0 || err == -EINVAL) {
		if (++l->seen > LIST_MAX)
			return kmip_fail_reply(k, "Locate has no end", f);
		if (!err && add_id(l, id))
			return helper_fail(f, KEY_UNAVAILABLE, "no memory for all ids");
	}
	return err == -ENODATA ? 0
			       : kmip_fail_reply(k, "Locate has a malformed reply", f);
}

/* One Locate; there are servers for which nothing found is an error. */
static vcf_err_t locate(struct keys *k, const struct kmip_call *call, struct ids *l,
			struct helper_failure *f)
{
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, call, &r, f);

	if (err && r.reason == KMIP_ITEM_NOT_FOUND)
		return 0;
	return err ? err : take_ids(k, &r, l, f);
}

static vcf_err_t locate_name(struct keys *k, const char *label, int n, struct ids *l,
			     struct helper_failure *f)
{
	char name[KMIP_NAME_MAX + 1];
	struct kmip_call call = {.op = KMIP_LOCATE, .name = name, .max = PAGE};

	kmip_name(name, k->prefix, label, n);
	return locate(k, &call, l, f);
}

/* Whole: the server has no offset (before 1.3), or pays no heed to it. */
static bool unpaged(const struct keys *k, const struct ids *l, size_t last, size_t before)
{
	if (k->client.version.major == 1 && k->client.version.minor < 3)
		return true;
	return before && before < l->cnt && strcmp(l->id[last], l->id[before]) == 0;
}

static vcf_err_t locate_all(struct keys *k, struct ids *l, struct helper_failure *f)
{
	struct kmip_call call = {.op = KMIP_LOCATE, .max = PAGE};
	size_t last = 0, before = 0;

	for (;;) {
		size_t seen = l->seen;
		vcf_err_t err = locate(k, &call, l, f);

		if (err || l->seen == seen || !call.max)
			return err;
		if (unpaged(k, l, last, before)) {
			call.max = call.offset = 0;
			continue;
		}
		last = before;
		before = l->cnt;
		call.offset = (int32_t)l->seen;
	}
}

vcf_err_t kmip_name_exists(struct keys *k, const char *label, int n, bool *exists,
			   struct helper_failure *f)
{
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err = locate_name(k, label, n, &l, f);

	*exists = !err && l.seen > 0;
	return err;
}

/* --- find and list --- */

/* whole: the label must be `want`, else begin so. What has gone meanwhile is passed over. */
static vcf_err_t send_item(struct keys *k, const char *id, const char *want, bool whole,
			   struct helper *h, struct helper_failure *f)
{
	struct kmip_attributes a;
	char created[32] = "-";
	vcf_err_t err = kmip_attributes_of(k, id, &a, f);

	if (err)
		return f->kind == KEY_NOTFOUND ? 0 : err;
	if (!*a.label || kmip_is_destroyed(&a) ||
	    strncmp(a.label, want, strlen(want)) != 0 ||
	    (whole && strcmp(a.label, want) != 0))
		return 0;
	if (a.initial_date >= 0)
		helper_format_time(created, (time_t)a.initial_date);
	if (!keyproto_created_valid(created))
		snprintf(created, sizeof(created), "-");
	helper_item(h, id, a.label, created);
	return 0;
}

/* What is not ours to look at is not ours; but if that is all there is, a right is missing. */
static vcf_err_t send_items(struct keys *k, struct ids *l, const char *want, bool whole,
			    struct helper *h, struct helper_failure *f)
{
	vcf_err_t err = 0;
	size_t denied = 0;

	sort_ids(l);
	for (size_t i = 0; !err && i < l->cnt; i++) {
		err = send_item(k, l->id[i], want, whole, h, f);
		if (err && !whole && f->kind == KEY_DENIED && ++denied < l->cnt)
			err = 0;
	}
	return err;
}

vcf_err_t kmip_find(void *ctx, const char *label, struct helper *h,
		    struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err = 0;

	kmip_begin_verb(k);
	for (int n = 1; !err && n <= KMIP_NAMES; n++)
		err = locate_name(k, label, n, &l, f);
	return err ? err : send_items(k, &l, label, true, h, f);
}

/* The whole of it may take longer than any one request. */
vcf_err_t kmip_list(void *ctx, const char *prefix, struct helper *h,
		    struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err;

	k->client.deadline_ms = UINT64_MAX;
	err = locate_all(k, &l, f);
	return err ? err : send_items(k, &l, prefix, false, h, f);
}
