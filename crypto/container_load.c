/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading: size peek, copy into the memfd, libcryptsetup's own checks, allow-list, token.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crypto/container_parts.h"
#include "crypto/luks1_pages.h"
#include "crypto/luks2_copies.h"
#include "util/io.h"
#include "util/log.h"

/* Why a header is refused; "": errno says it all. */
struct refusal {
	char text[CONTAINER_WHY_LEN];
};

static vcf_err_t refuse(struct refusal *why, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s", text);
	return -EBADMSG;
}

static void log_refusal(const char *name, const struct refusal *why)
{
	if (name && *why->text)
		log_err("%s: %s", name, why->text);
}

/* What a peek that found no container means to one who wants to open it. */
static vcf_err_t refuse_kind(const struct peek *peek, struct refusal *why)
{
	switch (peek->kind) {
	case PEEK_CONTAINER:
		return 0;
	case PEEK_EMPTY:
		return -ENODATA;
	case PEEK_PLAINTEXT:
		return -EPERM;
	case PEEK_DAMAGED:
		break;
	}
	return refuse(why, "the LUKS header is damaged or of an unknown form");
}

static vcf_err_t new_from_peek(struct container **out, const struct peek *peek)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = container_new(&c, peek->data_off);

	if (err)
		return err;
	c->subject.format = peek->format;
	c->subject.sector_len = peek->sector_len;
	err = container_set_uuid(c, peek->uuid_text);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}

static const char *judge(struct container *c)
{
	bool luks2 = c->subject.format == FORMAT_LUKS2;
	const char *uuid;

	if (crypt_load(c->cd, luks2 ? CRYPT_LUKS2 : CRYPT_LUKS1, NULL) < 0)
		return *c->error ? c->error : "libcryptsetup refuses the header";
	uuid = crypt_get_uuid(c->cd);
	if (!uuid || strcasecmp(uuid, c->subject.uuid_text) != 0)
		return "its uuid cannot be read";
	return luks2 ? container_judge_luks2(c) : container_judge_luks1(c);
}

/* The uuid stays what the peek has read. */
static bool mend(struct container *c)
{
	return c->subject.format == FORMAT_LUKS2
		       ? luks2_mend(c->hdr)
		       : luks1_mend(c->hdr, c->subject.data_off);
}

static vcf_err_t check(struct container *c, struct refusal *refusal, bool *mended)
{
	bool changed = mend(c);
	vcf_err_t err = container_attach(c);
	const char *why;

	if (err)
		return err;
	why = judge(c);
	if (why) {
		snprintf(refusal->text, sizeof(refusal->text), "header refused: %s", why);
		return -EBADMSG;
	}
	if (mended)
		*mended = changed;
	return 0;
}

vcf_err_t container_check(struct container *c, const char *name, bool *mended)
{
	struct refusal why = {""};
	vcf_err_t err = check(c, &why, mended);

	log_refusal(name, &why);
	return err;
}

static vcf_err_t load(struct container **out, int fd, struct refusal *why, bool *mended)
{
	auto_container struct container *c = NULL;
	struct peek peek;
	uint64_t size;
	vcf_err_t err = io_file_len(fd, &size);

	if (!err)
		err = size_peek_fd(&peek, fd, io_is_device(fd) ? 0 : size);
	if (!err)
		err = refuse_kind(&peek, why);
	if (err)
		return err;
	if (size < peek.data_off)
		return refuse(why, "the file ends inside its header");
	err = new_from_peek(&c, &peek);
	if (!err)
		err = container_read_header(c, fd);
	if (!err)
		err = check(c, why, mended);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}

vcf_err_t container_load(struct container **out, int fd, const char *name, bool *mended)
{
	struct refusal why = {""};
	vcf_err_t err = load(out, fd, &why, mended);

	log_refusal(name, &why);
	return err;
}

vcf_err_t container_load_why(struct container **out, int fd, char why[CONTAINER_WHY_LEN],
			     bool *mended)
{
	struct refusal refusal = {""};
	vcf_err_t err = load(out, fd, &refusal, mended);

	memcpy(why, refusal.text, sizeof(refusal.text));
	return err;
}

vcf_err_t container_load_saved(struct container **out, const void *hdr, size_t len,
			       const char *name)
{
	auto_container struct container *c = NULL;
	struct refusal why = {""};
	struct peek peek;
	vcf_err_t err;

	if (len != CONTAINER_PEEK_LEN)
		return -EINVAL;
	/* The file's size is not known any more: large enough not to look unfinished. */
	size_peek(&peek, hdr, len, UINT64_MAX);
	err = refuse_kind(&peek, &why);
	log_refusal(name, &why);
	if (!err)
		err = new_from_peek(&c, &peek);
	if (err)
		return err;
	memcpy(c->hdr, hdr, len);
	err = container_check(c, name, NULL);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}
