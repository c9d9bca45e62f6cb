/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keynegative.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct keynegative_entry *entry_of(struct keynegative *n, const char *id)
{
	for (size_t i = 0; i < KEYNEGATIVE_CNT; i++) {
		if (strcmp(n->entries[i].id, id) == 0)
			return &n->entries[i];
	}
	return NULL;
}

void keynegative_note(struct keynegative *n, const char *id, vcf_err_t err,
		      const char *text, uint64_t now_ms)
{
	struct keynegative_entry *e;

	if ((err != -ENOKEY && err != -EKEYREJECTED) || !*id)
		return;
	e = entry_of(n, id);
	if (!e) {
		e = &n->entries[n->next];
		n->next = (n->next + 1) % KEYNEGATIVE_CNT;
	}
	snprintf(e->id, sizeof(e->id), "%s", id);
	snprintf(e->text, sizeof(e->text), "%.*s", KEYNEGATIVE_TEXT_MAX, text);
	e->err = err;
	e->until_ms = now_ms + KEYNEGATIVE_MS;
}

const struct keynegative_entry *keynegative_find(const struct keynegative *n,
						 const char *id, uint64_t now_ms)
{
	for (size_t i = 0; i < KEYNEGATIVE_CNT && *id; i++) {
		const struct keynegative_entry *e = &n->entries[i];

		if (e->until_ms > now_ms && strcmp(e->id, id) == 0)
			return e;
	}
	return NULL;
}

void keynegative_forget(struct keynegative *n, const char *id)
{
	struct keynegative_entry *e;

	if (!id)
		memset(n, 0, sizeof(*n));
	else if (*id && (e = entry_of(n, id)))
		e->id[0] = '\0';
}
