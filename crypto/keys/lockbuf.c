/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/lockbuf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/secret.h"
#include "util/parse.h"

/* MAP_LOCKED's pages would all be touched at once. */
static vcf_err_t map_locked(char **out, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	vcf_err_t err;

	if (p == MAP_FAILED)
		return -errno;
	if (mlock2(p, len, MLOCK_ONFAULT) < 0) {
		err = -errno;
		munmap(p, len);
		return err;
	}
	madvise(p, len, MADV_DONTDUMP);
	madvise(p, len, MADV_WIPEONFORK);
	*out = p;
	return 0;
}

vcf_err_t lockbuf_new(struct lockbuf **out, size_t room)
{
	auto_free struct lockbuf *b = calloc(1, sizeof(*b));
	vcf_err_t err;

	if (!b)
		return -ENOMEM;
	err = map_locked(&b->data, room + 1);
	if (err)
		return err;
	b->room = room;
	*out = STEAL_PTR(&b);
	return 0;
}

void lockbuf_free(struct lockbuf *b)
{
	if (!b)
		return;
	lockbuf_reset(b);
	munmap(b->data, b->room + 1);
	free(b);
}

void lockbuf_reset(struct lockbuf *b)
{
	if (!b)
		return;
	secret_wipe(b->data, b->len);
	b->len = 0;
	b->full = false;
}

void lockbuf_add(struct lockbuf *b, const void *data, size_t len)
{
	if (b->full || len > b->room - b->len) {
		b->full = true;
		return;
	}
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void lockbuf_add_text(struct lockbuf *b, const char *text)
{
	lockbuf_add(b, text, strlen(text));
}

void lockbuf_add_base64(struct lockbuf *b, const void *data, size_t len)
{
	if (b->full || BASE64_LEN(len) > b->room - b->len) {
		b->full = true;
		return;
	}
	base64_encode(b->data + b->len, data, len); /* its NUL has room */
	b->len += BASE64_LEN(len);
}

void lockbuf_add_json(struct lockbuf *b, const char *text, size_t len)
{
	char escaped[8];

	lockbuf_add(b, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			lockbuf_add(b, "\\", 1);
		if (c >= 0x20 && c != 0x7f) {
			lockbuf_add(b, &text[i], 1);
			continue;
		}
		snprintf(escaped, sizeof(escaped), "\\u%04x", c);
		lockbuf_add_text(b, escaped);
	}
	lockbuf_add(b, "\"", 1);
}

void lockbuf_add_url(struct lockbuf *b, const char *text)
{
	char escaped[4];

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			     (c >= '0' && c <= '9') || strchr("-._~", c);

		snprintf(escaped, sizeof(escaped), plain ? "%c" : "%%%02X", c);
		lockbuf_add_text(b, escaped);
	}
}
