/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A rekeyed header to its file, in the order that container_rekey.h tells, and what a crash
 * left of old key slots.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/container_rekey_impl.h"
#include "crypto/luks_disk.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

/* --- a file as a rekey_io --- */

static vcf_err_t file_write(void *arg, const void *buf, size_t len, uint64_t off)
{
	return io_pwrite_full(*(int *)arg, buf, len, (off_t)off);
}

static vcf_err_t file_sync(void *arg)
{
	return fdatasync(*(int *)arg) < 0 ? -errno : 0;
}

static void file_punch(void *arg, uint64_t off, uint64_t len)
{
	if (fallocate(*(int *)arg, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
		      (off_t)len) < 0)
		log_dbg("a wiped key slot keeps its room: %s", strerror(errno));
}

/* --- steps --- */

/* One run of bytes of the new header, durable. */
static vcf_err_t put(const struct rekey *r, const struct rekey_io *io, uint64_t off,
		     size_t len)
{
	vcf_err_t err = len ? io->write(io->arg, r->c->hdr + off, len, off) : 0;

	return err || !len ? err : io->sync(io->arg);
}

/* What mends the only page of LUKS1, should the power fail while it is written. */
static vcf_err_t put_kept(const struct rekey *r, const struct rekey_io *io)
{
	vcf_err_t err;

	if (!r->kept)
		return 0;
	err = io->write(io->arg, r->kept, r->kept_area.len, r->kept_area.off);
	return err ? err : io->sync(io->arg);
}

/* The bytes that were there before. */
static vcf_err_t put_back(const struct rekey *r, const struct rekey_io *io, uint64_t off,
			  size_t len)
{
	vcf_err_t err = io->write(io->arg, r->old_head + off, len, off);

	return err ? err : io->sync(io->arg);
}

/*
 * The write after which the new header counts: of LUKS2 the second copy, which has the later
 * number, of LUKS1 all there is.
 */
static vcf_err_t switch_over(const struct rekey *r, const struct rekey_io *io,
			     enum rekey_outcome *outcome)
{
	bool luks2 = r->c->subject.format == FORMAT_LUKS2;
	uint64_t off = luks2 ? LUKS2_HDR_LEN : 0;
	size_t len = luks2 ? LUKS2_HDR_LEN : LUKS1_TOKEN_END;
	vcf_err_t err = put(r, io, off, len);

	if (!err)
		*outcome = REKEY_NEW;
	else
		*outcome = put_back(r, io, off, len) ? REKEY_DOUBT : REKEY_OLD;
	CRASHPOINT("rekey-switched");
	return err;
}

/* Random bytes first, where the medium may keep what a hole only unlinks; then a hole. */
static vcf_err_t wipe_area(const struct rekey_io *io, uint64_t off, uint64_t len)
{
	auto_free unsigned char *noise = len ? malloc(len) : NULL;
	vcf_err_t err;

	if (!len)
		return 0;
	if (!noise)
		return -ENOMEM;
	secret_random(noise, len);
	err = io->write(io->arg, noise, len, off);
	if (!err)
		err = io->sync(io->arg);
	if (!err)
		io->punch(io->arg, off, len);
	return err;
}

static vcf_err_t write_all(const struct rekey *r, const struct rekey_io *io,
			   vcf_err_t (*note)(void *arg), void *arg,
			   enum rekey_outcome *outcome)
{
	vcf_err_t err = put(r, io, r->new_area.off, r->new_area.len);

	CRASHPOINT("rekey-slot");
	if (!err)
		err = put_kept(r, io);
	CRASHPOINT("rekey-kept");
	if (!err && note)
		err = note(arg);
	CRASHPOINT("rekey-noted");
	if (!err)
		err = switch_over(r, io, outcome);
	if (!err && r->c->subject.format == FORMAT_LUKS2)
		err = put(r, io, 0, LUKS2_HDR_LEN);
	CRASHPOINT("rekey-headers");
	if (!err && r->old_area.len)
		err = wipe_area(io, r->old_area.off, r->old_area.len);
	if (!err && r->kept)
		io->punch(io->arg, r->kept_area.off, r->kept_area.len);
	CRASHPOINT("rekey-wiped");
	return err;
}

/* The new secret may become another container's. Best effort. */
static void take_back(const struct rekey *r, const struct rekey_io *io)
{
	vcf_err_t err = wipe_area(io, r->new_area.off, r->new_area.len);

	if (!err && r->kept)
		err = wipe_area(io, r->kept_area.off, r->kept_area.len);
	if (err)
		log_dbg("a key slot that is not used cannot be overwritten: %s",
			strerror(-err));
}

vcf_err_t container_rekey_replay(const struct rekey *r, const struct rekey_io *io,
				 vcf_err_t (*note)(void *arg), void *arg,
				 enum rekey_outcome *outcome)
{
	vcf_err_t err;

	*outcome = REKEY_OLD;
	err = write_all(r, io, note, arg, outcome);
	if (err && *outcome == REKEY_OLD)
		take_back(r, io);
	return err;
}

static vcf_err_t is_unchanged(const struct rekey *r, int fd)
{
	size_t len = rekey_head_len(r->c);
	auto_free unsigned char *now = malloc(len);
	ssize_t n = now ? io_pread_full(fd, now, len, 0) : -ENOMEM;

	if (n < 0)
		return (vcf_err_t)n;
	return (size_t)n == len && memcmp(now, r->old_head, len) == 0 ? 0 : -ESTALE;
}

vcf_err_t container_write_rekeyed(const struct rekey *r, int fd,
				  vcf_err_t (*note)(void *arg), void *arg,
				  enum rekey_outcome *outcome)
{
	struct rekey_io io = {file_write, file_sync, file_punch, &fd};
	vcf_err_t err = is_unchanged(r, fd);

	*outcome = REKEY_OLD;
	return err ? err : container_rekey_replay(r, &io, note, arg, outcome);
}

/* --- remains --- */

/* Calls fn for each run of pages of [from, end) that are not zero; stops at an error. */
static vcf_err_t each_remain(const struct container *c, uint64_t from, uint64_t end,
			     vcf_err_t (*fn)(void *arg, uint64_t off, uint64_t len),
			     void *arg)
{
	vcf_err_t err = 0;

	while (from < end && !err) {
		off_t data = lseek(c->memfd, (off_t)from, SEEK_DATA);
		uint64_t to;

		if (data < 0 || (uint64_t)data >= end)
			break; /* nothing but holes: our own headers have no more */
		from = (uint64_t)data / REKEY_PAGE * REKEY_PAGE;
		for (to = from; to < end && !io_is_zero(c->hdr + to, REKEY_PAGE);)
			to += REKEY_PAGE;
		if (to > from)
			err = fn(arg, from, to - from);
		from = to > from ? to : from + REKEY_PAGE;
	}
	return err;
}

/* The first area that ends behind pos: 1, 0 there is none. -EIO: one cannot be told. */
static int next_area(const struct container *c, uint64_t pos, struct rekey_area *next)
{
	int found = 0;

	for (int i = 0; i < crypt_keyslot_max(crypt_get_type(c->cd)); i++) {
		crypt_keyslot_info info = crypt_keyslot_status(c->cd, i);
		struct rekey_area a;

		if (info == CRYPT_SLOT_INACTIVE || info == CRYPT_SLOT_INVALID)
			continue;
		if (rekey_slot_area(c, i, &a))
			return -EIO;
		if (a.off + a.len <= pos)
			continue;
		if (!found || a.off < next->off)
			*next = a;
		found = 1;
	}
	return found;
}

/* A first rekey that was cut short: the header is the old one. */
static bool has_kept(const struct container *c)
{
	return c->subject.format == FORMAT_LUKS1 &&
	       luks1_has_kept(c->hdr, c->subject.data_off);
}

/* All that lies between the areas of the key slots; nothing, unless each of them is known. */
static vcf_err_t each_unused(const struct container *c,
			     vcf_err_t (*fn)(void *arg, uint64_t off, uint64_t len),
			     void *arg)
{
	uint64_t pos = rekey_head_len(c), end = c->subject.data_off;
	struct rekey_area next;
	vcf_err_t err = 0;
	int more = 0;

	if (c->token.generation < 2 && !has_kept(c))
		return 0;
	while (!err && (more = next_area(c, pos, &next)) > 0) {
		err = each_remain(c, pos, next.off, fn, arg);
		pos = next.off + next.len;
	}
	if (!err && more < 0)
		err = more;
	return err ? err : each_remain(c, pos, end, fn, arg);
}

static vcf_err_t say_found(void *arg, uint64_t off, uint64_t len)
{
	return -EEXIST;
}

bool container_has_unused(const struct container *c)
{
	return each_unused(c, say_found, NULL) == -EEXIST;
}

struct wipe {
	struct container *c;
	struct rekey_io io;
	bool found;
};

static vcf_err_t wipe_remain(void *arg, uint64_t off, uint64_t len)
{
	struct wipe *w = arg;

	w->found = true;
	secret_wipe(w->c->hdr + off, len);
	return wipe_area(&w->io, off, len);
}

vcf_err_t container_wipe_unused(struct container *c, int fd, bool *found)
{
	struct wipe w = {.c = c, .io = {file_write, file_sync, file_punch, &fd}};
	vcf_err_t err = each_unused(c, wipe_remain, &w);

	if (found)
		*found = w.found;
	return err;
}
