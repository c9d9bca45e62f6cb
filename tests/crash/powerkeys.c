/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/powerkeys.h"

#include <stdio.h>
#include <uuid/uuid.h>

#include "crypto/journal.h"

static void *more(void *list, size_t cnt, size_t *room, size_t len)
{
	if (cnt < *room)
		return list;
	*room = *room ? *room * 2 : 16;
	list = reallocarray(list, *room, len);
	if (!list)
		abort();
	return list;
}

/* --- the service's history --- */

static int base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) : 0;
}

static void decode(unsigned char dst[SECRET_LEN], const char *text)
{
	uint32_t bits = 0;
	size_t n = 0;

	for (size_t i = 0; text[i] && n < SECRET_LEN; i++) {
		bits = bits << 6 | (uint32_t)base64_digit(text[i]);
		if (i % 4 != 0)
			dst[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
	}
}

static struct key *find(struct keys *k, const char *id)
{
	for (size_t i = 0; i < k->cnt; i++)
		if (strcmp(k->list[i].id, id) == 0)
			return &k->list[i];
	k->list = more(k->list, k->cnt, &k->room, sizeof(*k->list));
	k->list[k->cnt] = (struct key){.asked = SIZE_MAX,
				       .created = SIZE_MAX,
				       .destroy_asked = SIZE_MAX,
				       .destroyed = SIZE_MAX};
	snprintf(k->list[k->cnt].id, sizeof(k->list[k->cnt].id), "%s", id);
	return &k->list[k->cnt++];
}

const struct key *keys_find(const struct keys *k, const char *id)
{
	for (size_t i = 0; i < k->cnt; i++)
		if (strcmp(k->list[i].id, id) == 0)
			return &k->list[i];
	return NULL;
}

/* tags: the id that a request was about; the service's tags count up. */
struct asked {
	unsigned long long tag;
	char id[64];
};

struct talk {
	struct asked *list;
	size_t cnt, room;
};

static void note_asked(struct talk *t, unsigned long long tag, const char *id)
{
	t->list = more(t->list, t->cnt, &t->room, sizeof(*t->list));
	t->list[t->cnt].tag = tag;
	snprintf(t->list[t->cnt++].id, sizeof(t->list->id), "%s", id);
}

static void one_line(struct keys *k, struct talk *t, const char *line, size_t at)
{
	char verb[16], a[64] = "", b[64] = "";
	unsigned long long tag;

	if (sscanf(line, "%llu %15s %63s %63s", &tag, verb, a, b) < 2)
		return;
	if (strcmp(verb, "new") == 0) {
		find(k, a)->asked = at;
		decode(find(k, a)->bytes, b);
	} else if (strcmp(verb, "created") == 0) {
		find(k, a)->created = at;
	} else if (strcmp(verb, "destroy") == 0) {
		find(k, a)->destroy_asked = at;
		note_asked(t, tag, a);
	} else if (strcmp(verb, "destroyed") == 0 || strcmp(verb, "gone") == 0) {
		for (size_t i = t->cnt; i--;)
			if (t->list[i].tag == tag)
				find(k, t->list[i].id)->destroyed = at;
	}
}

void keys_load(struct keys *k, const struct disk *d)
{
	struct talk t = {0};
	char line[512];

	*k = (struct keys){0};
	for (size_t i = 0; i < d->event_cnt; i++) {
		const struct record *r = d->events[i];
		const char *p = (const char *)r->data, *end = p + r->data_len, *lf;

		if (r->kind != RECORD_ASKED && r->kind != RECORD_ANSWERED)
			continue;
		while (p < end && (lf = memchr(p, '\n', (size_t)(end - p)))) {
			snprintf(line, sizeof(line), "%.*s", (int)(lf - p), p);
			one_line(k, &t, line, i);
			p = lf + 1;
		}
	}
	free(t.list);
}

bool key_surely(const struct key *k, size_t cut)
{
	return k->created < cut && k->destroy_asked >= cut;
}

bool key_perhaps(const struct key *k, size_t cut)
{
	return k->asked < cut && k->destroyed >= cut;
}

/* --- who answers for them --- */

void noted_add(struct noted *n, const char *id)
{
	n->ids = more(n->ids, n->cnt, &n->room, sizeof(*n->ids));
	snprintf(n->ids[n->cnt++], sizeof(*n->ids), "%s", id);
}

bool noted_has(const struct noted *n, const char *id)
{
	for (size_t i = 0; i < n->cnt; i++)
		if (strcmp(n->ids[i], id) == 0)
			return true;
	return false;
}

void noted_free(struct noted *n)
{
	free(n->ids);
	*n = (struct noted){0};
}

static int add_entry(void *arg, const struct journal_entry *e)
{
	char label[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(e->uuid, label);
	noted_add(arg, label);
	noted_add(arg, e->key_id);
	return 0;
}

int noted_journal(struct noted *n, const char *path)
{
	auto_journal struct journal *j = NULL;
	char damaged[4096];
	vcf_err_t err = journal_open(&j, path);

	if (!err)
		err = journal_each(j, add_entry, n);
	snprintf(damaged, sizeof(damaged), "%s.damaged", path);
	n->damaged = unlink(damaged) == 0;
	return err;
}

void noted_site(struct noted *n, const char *text)
{
	char label[64], id[64];

	if (sscanf(text, "%63s %63s", label, id) != 2)
		return;
	noted_add(n, label);
	noted_add(n, id);
}
