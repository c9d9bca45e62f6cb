/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/barbican_list.h"

#include <stdio.h>
#include <string.h>

#include "crypto/jsonget.h"
#include "crypto/keys/barbican_call.h"
#include "crypto/keys/barbican_parts.h"

enum {
	PAGE = 100, /* what Barbican gives at most, unless configured */
	PAGE_BYTES = 512 * 1024,
};

static vcf_err_t get_page(struct barbican *b, const char *filter, int64_t off,
			  struct json_object **reply, struct barbican_page *page,
			  struct helper_failure *f)
{
	char path[512];
	const struct barbican_call c = {
		.method = "GET", .path = path, .reply_max = PAGE_BYTES};
	struct http_reply r;
	vcf_err_t err;

	snprintf(path, sizeof(path),
		 "/v1/secrets?limit=%d&offset=%lld&sort=created:asc%s", PAGE,
		 (long long)off, filter);
	err = barbican_call(b, &c, &r, f);
	if (err)
		return err;
	if (r.status != 200)
		return barbican_fail(
			b, &r, "GET of the list of secrets",
			"listing needs the role creator or observer (member with the newer "
			"policies) in the project",
			f);
	*reply = http_json(&r);
	/* More than asked for would not fit into what is compared, and be passed over. */
	if (!*reply || barbican_page_parse(*reply, page) || page->cnt > PAGE)
		return barbican_fail_nonsense(b, "GET of the list of secrets", f);
	return 0;
}

/* Which records of a page go out, and those of the page before, which are not sent twice. */
struct listing {
	const char *label, *prefix; /* label: exactly; else the prefix */
	struct helper *h;
	char seen[2][PAGE][BARBICAN_ID_LEN + 1];
	size_t seen_cnt[2];
};

static bool was_seen(const struct listing *l, const char *id)
{
	for (size_t i = 0; i < l->seen_cnt[1]; i++) {
		if (strcmp(l->seen[1][i], id) == 0)
			return true;
	}
	return false;
}

static void send_record(struct listing *l, const struct barbican_record *r)
{
	if (l->label ? strcmp(r->label, l->label) != 0
		     : strncmp(r->label, l->prefix, strlen(l->prefix)) != 0)
		return;
	if (!was_seen(l, r->id))
		helper_item(l->h, r->id, r->label, r->created);
}

static void send_page(struct listing *l, const struct barbican_page *page)
{
	struct barbican_record r;

	memcpy(l->seen[1], l->seen[0], sizeof(l->seen[0]));
	l->seen_cnt[1] = l->seen_cnt[0];
	l->seen_cnt[0] = 0;
	for (size_t i = 0; i < page->cnt && i < PAGE; i++) {
		if (barbican_record_parse(json_object_array_get_idx(page->secrets, i),
					  &r))
			continue;
		send_record(l, &r);
		memcpy(l->seen[0][l->seen_cnt[0]++], r.id, sizeof(r.id));
	}
}

/*
 * All pages, the last one first, the oldest records last: what others delete meanwhile moves
 * records to pages that are still to come, so none is missed; what moves is seen twice at
 * most, on neighbouring pages. `next` of the replies is never followed: its host is
 * whatever the service believes.
 */
static vcf_err_t send_all(struct barbican *b, const char *filter, struct listing *l,
			  struct helper_failure *f)
{
	int64_t off = 0, step = 0;
	vcf_err_t err;

	for (;;) {
		auto_json struct json_object *reply = NULL;
		struct barbican_page page;

		err = get_page(b, filter, off, &reply, &page, f);
		if (err)
			return err;
		if (!step && page.cnt && page.total > (int64_t)page.cnt) {
			step = (int64_t)page
				       .cnt; /* its own limit may be lower than ours */
			off = (page.total - 1) / step * step;
			continue;
		}
		send_page(l, &page);
		if (off == 0)
			return 0;
		off -= step;
	}
}

vcf_err_t barbican_find(void *ctx, const char *label, struct helper *h,
			struct helper_failure *f)
{
	struct listing l = {.label = label, .h = h};
	struct barbican *b = ctx;

	lockbuf_reset(b->body); /* idle now, and it can escape */
	lockbuf_add_text(b->body, "&name=");
	lockbuf_add_url(b->body, label);
	return send_all(b, b->body->data, &l, f);
}

vcf_err_t barbican_list(void *ctx, const char *prefix, struct helper *h,
			struct helper_failure *f)
{
	struct listing l = {.prefix = prefix, .h = h};

	return send_all(ctx, "", &l, f);
}
