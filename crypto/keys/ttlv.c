/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/ttlv.h"

#include <errno.h>
#include <string.h>

static size_t padded(size_t len)
{
	return (len + 7) / 8 * 8;
}

static void put_be32(unsigned char *dst, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		dst[i] = (unsigned char)(v >> (24 - 8 * i));
}

static uint64_t get_be(const unsigned char *src, size_t len)
{
	uint64_t v = 0;

	while (len--)
		v = v << 8 | *src++;
	return v;
}

/* --- writing --- */

void ttlv_writer_init(struct ttlv_writer *w, void *buf, size_t room)
{
	*w = (struct ttlv_writer){.buf = buf, .room = room};
}

/* An item's header and room for its value, zeroed; NULL if it does not fit. */
static unsigned char *put_item(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type,
			       size_t len)
{
	unsigned char *at = w->buf + w->len;

	if (w->failed || len > w->room ||
	    w->room - w->len < TTLV_HEADER_LEN + padded(len)) {
		w->failed = true;
		return NULL;
	}
	put_be32(at, tag << 8 | type);
	put_be32(at + 4, (uint32_t)len);
	memset(at + TTLV_HEADER_LEN, 0, padded(len));
	w->len += TTLV_HEADER_LEN + padded(len);
	return at + TTLV_HEADER_LEN;
}

void ttlv_begin(struct ttlv_writer *w, uint32_t tag)
{
	size_t begin = w->len;

	if (!put_item(w, tag, TTLV_STRUCTURE, 0))
		return;
	if (w->depth == TTLV_DEPTH_MAX)
		w->failed = true;
	else
		w->open[w->depth++] = begin;
}

void ttlv_end(struct ttlv_writer *w)
{
	size_t begin;

	if (w->failed || w->depth == 0) {
		w->failed = true;
		return;
	}
	begin = w->open[--w->depth];
	put_be32(w->buf + begin + 4, (uint32_t)(w->len - begin - TTLV_HEADER_LEN));
}

static void put_word(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type,
		     uint32_t value)
{
	unsigned char *at = put_item(w, tag, type, 4);

	if (at)
		put_be32(at, value);
}

void ttlv_put_int(struct ttlv_writer *w, uint32_t tag, int32_t value)
{
	put_word(w, tag, TTLV_INTEGER, (uint32_t)value);
}

void ttlv_put_enum(struct ttlv_writer *w, uint32_t tag, uint32_t value)
{
	put_word(w, tag, TTLV_ENUM, value);
}

static void put_string(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type,
		       const void *data, size_t len)
{
	unsigned char *at = put_item(w, tag, type, len);

	if (at && len)
		memcpy(at, data, len);
}

void ttlv_put_text(struct ttlv_writer *w, uint32_t tag, const char *text)
{
	put_string(w, tag, TTLV_TEXT, text, strlen(text));
}

void ttlv_put_bytes(struct ttlv_writer *w, uint32_t tag, const void *data, size_t len)
{
	put_string(w, tag, TTLV_BYTES, data, len);
}

ssize_t ttlv_finish(const struct ttlv_writer *w)
{
	return w->failed || w->depth ? -ENOSPC : (ssize_t)w->len;
}

/* --- reading --- */

/* What the specification says of a type's length. */
static bool length_fits(unsigned int type, size_t len)
{
	switch (type) {
	case TTLV_STRUCTURE:
		return len % 8 == 0;
	case TTLV_INTEGER:
	case TTLV_ENUM:
	case TTLV_INTERVAL:
		return len == 4;
	case TTLV_LONG:
	case TTLV_BOOL:
	case TTLV_DATE:
		return len == 8;
	case TTLV_BIG:
		return len > 0 && len % 8 == 0;
	case TTLV_TEXT:
	case TTLV_BYTES:
		return true;
	default:
		return false;
	}
}

void ttlv_reader_init(struct ttlv_reader *r, const void *buf, size_t len)
{
	r->at = buf;
	r->left = len;
}

vcf_err_t ttlv_next(struct ttlv_reader *r, struct ttlv_item *out)
{
	struct ttlv_item item;

	if (r->left == 0)
		return -ENODATA;
	if (r->left < TTLV_HEADER_LEN)
		return -EBADMSG;
	item.tag = (uint32_t)get_be(r->at, 3);
	item.type = (enum ttlv_type)r->at[3];
	item.len = get_be(r->at + 4, 4);
	item.value = r->at + TTLV_HEADER_LEN;
	/* The bytes of the padding mean nothing: whatever they are, they are passed over. */
	if (!length_fits(item.type, item.len) ||
	    padded(item.len) > r->left - TTLV_HEADER_LEN)
		return -EBADMSG;
	r->at = item.value + padded(item.len);
	r->left -= TTLV_HEADER_LEN + padded(item.len);
	*out = item;
	return 0;
}

void ttlv_inside(const struct ttlv_item *item, struct ttlv_reader *out)
{
	ttlv_reader_init(out, item->value, item->len);
}

/* Without recursion: the readers of the structures that lie around the place it is at. */
vcf_err_t ttlv_check(const void *buf, size_t len)
{
	struct ttlv_reader outer[TTLV_DEPTH_MAX + 1];
	unsigned int depth = 0;

	ttlv_reader_init(&outer[0], buf, len);
	for (;;) {
		struct ttlv_item item;
		vcf_err_t err = ttlv_next(&outer[depth], &item);

		if (err == -ENODATA && depth == 0)
			return 0;
		if (err == -ENODATA) {
			depth--;
			continue;
		}
		if (err)
			return err;
		if (item.type != TTLV_STRUCTURE)
			continue;
		if (depth == TTLV_DEPTH_MAX)
			return -EBADMSG;
		ttlv_inside(&item, &outer[++depth]);
	}
}

ssize_t ttlv_message_len(const unsigned char header[TTLV_HEADER_LEN], uint32_t tag,
			 size_t max)
{
	size_t len = get_be(header + 4, 4);

	if (get_be(header, 3) != tag || header[3] != TTLV_STRUCTURE ||
	    !length_fits(TTLV_STRUCTURE, len))
		return -EBADMSG;
	if (max < TTLV_HEADER_LEN || len > max - TTLV_HEADER_LEN)
		return -EMSGSIZE;
	return (ssize_t)(len + TTLV_HEADER_LEN);
}

int64_t ttlv_number(const struct ttlv_item *item)
{
	uint64_t v = get_be(item->value, item->len);

	return item->type == TTLV_INTEGER ? (int32_t)v : (int64_t)v;
}

vcf_err_t ttlv_text(const struct ttlv_item *item, char *dst, size_t room)
{
	if (item->len >= room || memchr(item->value, '\0', item->len))
		return -EBADMSG;
	memcpy(dst, item->value, item->len);
	dst[item->len] = '\0';
	return 0;
}

vcf_err_t ttlv_find(const struct ttlv_reader *r, uint32_t tag, enum ttlv_type type,
		    struct ttlv_item *out)
{
	struct ttlv_reader all = *r;
	struct ttlv_item item;
	struct ttlv_item found = {.tag = 0};
	bool seen = false;
	vcf_err_t err;

	while ((err = ttlv_next(&all, &item)) == 0) {
		if (item.tag != tag)
			continue;
		if (seen || item.type != type)
			return -EBADMSG;
		found = item;
		seen = true;
	}
	if (err != -ENODATA || !seen)
		return err;
	*out = found;
	return 0;
}

vcf_err_t ttlv_find_inside(const struct ttlv_reader *r, uint32_t tag,
			   struct ttlv_reader *out)
{
	struct ttlv_item item;
	vcf_err_t err = ttlv_find(r, tag, TTLV_STRUCTURE, &item);

	if (err)
		return err;
	ttlv_inside(&item, out);
	return 0;
}

vcf_err_t ttlv_find_number(const struct ttlv_reader *r, uint32_t tag, enum ttlv_type type,
			   int64_t *out)
{
	struct ttlv_item item;
	vcf_err_t err = ttlv_find(r, tag, type, &item);

	if (err)
		return err;
	*out = ttlv_number(&item);
	return 0;
}

vcf_err_t ttlv_find_text(const struct ttlv_reader *r, uint32_t tag, char *dst,
			 size_t room)
{
	struct ttlv_item item;
	vcf_err_t err = ttlv_find(r, tag, TTLV_TEXT, &item);

	return err ? err : ttlv_text(&item, dst, room);
}
