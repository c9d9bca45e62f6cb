/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/park.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/crashpoint.h"
#include "util/log.h"

struct park {
	struct session *s;
	uint64_t used[SESSION_PARK_PAGES / 64]; /* pages */
	bool taken[SESSION_PARKED_MAX];
	uint32_t next_page, next_record; /* where to look first */
};

static bool page_used(const struct park *p, uint32_t page)
{
	return p->used[page / 64] & 1ull << (page % 64);
}

static void mark_pages(struct park *p, uint32_t page, uint32_t cnt, bool used)
{
	for (uint32_t i = page; i < page + cnt; i++) {
		if (used)
			p->used[i / 64] |= 1ull << (i % 64);
		else
			p->used[i / 64] &= ~(1ull << (i % 64));
	}
}

static bool pages_free(const struct park *p, uint32_t page, uint32_t cnt)
{
	for (uint32_t i = page; i < page + cnt; i++) {
		if (page_used(p, i))
			return false;
	}
	return true;
}

static uint32_t pages_of(size_t len)
{
	return (uint32_t)((len + SESSION_PAGE_LEN - 1) / SESSION_PAGE_LEN);
}

static bool record_sound(const struct park *p, const struct session_parked *r)
{
	return r->len >= sizeof(struct fuse_in_header) &&
	       r->len <= SESSION_REQ_HEAD_LEN + SESSION_REQ_ROOM &&
	       r->page_cnt == pages_of(r->len) && r->page < SESSION_PARK_PAGES &&
	       r->page_cnt <= SESSION_PARK_PAGES - r->page &&
	       pages_free(p, r->page, r->page_cnt);
}

vcf_err_t park_new(struct park **out, struct session *s)
{
	struct park *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->s = s;
	for (int i = 0; i < SESSION_PARKED_MAX; i++) {
		struct session_parked *r = &s->parked[i];

		if (!r->unique)
			continue;
		if (!record_sound(p, r)) {
			log_err("session state: parked request %llu is damaged and dropped",
				(unsigned long long)r->unique);
			r->unique = 0;
			s->head->dropped++;
			continue;
		}
		p->taken[i] = true;
		mark_pages(p, r->page, r->page_cnt, true);
	}
	*out = p;
	return 0;
}

void park_free(struct park *p)
{
	free(p);
}

/* The first run of free pages from `from` on; SESSION_PARK_PAGES: none. */
static uint32_t find_run(const struct park *p, uint32_t from, uint32_t cnt)
{
	uint32_t run = 0;

	for (uint32_t i = from; i < SESSION_PARK_PAGES; i++) {
		run = page_used(p, i) ? 0 : run + 1;
		if (run == cnt)
			return i + 1 - cnt;
	}
	return SESSION_PARK_PAGES;
}

static vcf_err_t find_pages(struct park *p, uint32_t cnt, uint32_t *page)
{
	*page = find_run(p, p->next_page, cnt);
	if (*page == SESSION_PARK_PAGES)
		*page = find_run(p, 0, cnt);
	if (*page == SESSION_PARK_PAGES)
		return -ENOMEM;
	p->next_page = *page + cnt < SESSION_PARK_PAGES ? *page + cnt : 0;
	return 0;
}

static vcf_err_t find_record(struct park *p, uint32_t *at)
{
	for (uint32_t i = 0; i < SESSION_PARKED_MAX; i++) {
		*at = (p->next_record + i) % SESSION_PARKED_MAX;
		if (p->taken[*at])
			continue;
		p->next_record = (*at + 1) % SESSION_PARKED_MAX;
		return 0;
	}
	return -ENOMEM;
}

vcf_err_t park_take(struct park *p, size_t len, struct session_parked **out)
{
	uint32_t cnt = pages_of(len);
	uint32_t page, at;
	vcf_err_t err = find_record(p, &at);

	if (!err)
		err = find_pages(p, cnt, &page);
	if (err)
		return err;
	p->taken[at] = true;
	mark_pages(p, page, cnt, true);
	*out = &p->s->parked[at];
	(*out)->page = page;
	(*out)->page_cnt = cnt;
	(*out)->len = (uint32_t)len;
	return 0;
}

static unsigned char *bytes_of(const struct park *p, const struct session_parked *r)
{
	return session_park_page(p->s, r->page);
}

void park_fill(struct park *p, struct session_parked *r, const void *req, uint64_t unique,
	       uint32_t faults, uint32_t intent)
{
	size_t len = (size_t)r->page_cnt * SESSION_PAGE_LEN;

	if (mlock(bytes_of(p, r), len) < 0)
		log_dbg("a parked request of %u bytes is not locked in memory", r->len);
	memcpy(bytes_of(p, r), req, r->len);
	r->faults = faults;
	r->intent = intent;
	CRASHPOINT("park-filled");
	atomic_store(&r->unique, unique);
	CRASHPOINT("park-published");
}

const void *park_data(const struct park *p, const struct session_parked *r)
{
	return bytes_of(p, r);
}

void park_wipe(struct park *p, struct session_parked *r)
{
	size_t len = (size_t)r->page_cnt * SESSION_PAGE_LEN;

	atomic_store(&r->unique, 0);
	explicit_bzero(bytes_of(p, r), len);
	munlock(bytes_of(p, r), len);
	madvise(bytes_of(p, r), len, MADV_REMOVE);
}

void park_give(struct park *p, struct session_parked *r)
{
	mark_pages(p, r->page, r->page_cnt, false);
	p->taken[r - p->s->parked] = false;
}
