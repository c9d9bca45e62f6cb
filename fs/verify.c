/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/container_rekey.h"
#include "crypto/luks2_copies.h"
#include "crypto/luks_disk.h"
#include "fs/span.h"
#include "util/cleanup.h"
#include "util/io.h"

enum { LOOKS_MAX = 8, PAUSE_MS = 250 };

#define RESTORE                                                                          \
	"'vmcryptfs header restore' from a backup of it, or the image from a backup"
#define REPAIR "'vmcryptfs repair' mends it"

static const struct {
	const char *name, *way_out;
	vcf_err_t err;
} kinds[] = {
	[VERIFY_FILE] = {"file", "look at the disk and the kernel's log", -EIO},
	[VERIFY_PLAINTEXT] =
		{"plaintext",
		 "encrypt it ('vmcryptfs encrypt'), or where it has lost its "
		 "header: 'vmcryptfs header restore'",
		 -EBADMSG},
	[VERIFY_HEADER] = {"header", RESTORE, -EBADMSG},
	[VERIFY_COPY] = {"header-copy",
			 "'vmcryptfs repair', or the next open through the mount, writes "
			 "it anew from the other one",
			 -EBADMSG},
	[VERIFY_PAGE] = {"header-page",
			 "'vmcryptfs repair', or the next open through the mount, mends "
			 "it from the kept pages",
			 -EBADMSG},
	[VERIFY_REMAINS] = {"key-slot-remains",
			    "'vmcryptfs repair', or the next open through the mount, "
			    "overwrites them",
			    -EBADMSG},
	[VERIFY_CONTEXT] = {"context",
			    "move it back, or if it is a copy: 'vmcryptfs adopt "
			    "--reclone'",
			    -EBADMSG},
	[VERIFY_SERVICE] = {"service",
			    "add its section [service NAME] to the configuration",
			    -ENOKEY},
	[VERIFY_ANSWER] = {"no-answer",
			   "not checked with its secret; ask 'vmcryptfs check-keys', and "
			   "try again",
			   -ETIMEDOUT},
	[VERIFY_SECRET] =
		{"secret",
		 "a backup of the key service, or where there is an escrow "
		 "token 'vmcryptfs recover'; without it nothing opens the image "
		 "again",
		 -ENOKEY},
	[VERIFY_SLOT] = {"key-slot", RESTORE, -EBADMSG},
	[VERIFY_MAC] = {"mac", RESTORE, -EBADMSG},
	[VERIFY_KEY] = {"volume-key", RESTORE, -EBADMSG},
	[VERIFY_SIZE] = {"size", REPAIR, -EBADMSG},
	[VERIFY_MARKER] = {"marker", REPAIR, -EBADMSG},
	[VERIFY_HOLE] = {"hole",
			 "'vmcryptfs materialize', or the next write through the mount, "
			 "fills it; other programs read noise there",
			 -EBADMSG},
	[VERIFY_SECTOR] = {"sector", "the image from a backup", -EIO},
};

const char *verify_name(enum verify_kind kind)
{
	return kinds[kind].name;
}

const char *verify_way_out(enum verify_kind kind)
{
	return kinds[kind].way_out;
}

vcf_err_t verify_err(enum verify_kind kind)
{
	return kinds[kind].err;
}

bool verify_has(const struct verify *v, enum verify_kind kind)
{
	for (size_t i = 0; i < v->cnt; i++) {
		if (v->faults[i].kind == kind)
			return true;
	}
	return false;
}

static void add(struct verify *v, enum verify_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void add(struct verify *v, enum verify_kind kind, const char *format, ...)
{
	struct verify_fault *f = &v->faults[v->cnt];
	va_list ap;

	if (v->cnt == VERIFY_FAULTS_MAX)
		return;
	f->kind = kind;
	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	v->cnt++;
}

/* --- size --- */

static struct geom geom_of(const struct verify *v)
{
	return (struct geom){.data_off = v->peek.data_off,
			     .sector_len = v->peek.sector_len,
			     .device = io_is_device(v->fd)};
}

/* Bytes of a file behind its last sector. */
static void check_marker(struct verify *v, const struct geom *g)
{
	uint64_t marker = (v->len - g->data_off) % g->sector_len;
	unsigned char buf[4096];
	ssize_t n;

	if (!marker || g->device)
		return;
	n = io_pread_full(v->fd, buf, marker, (off_t)(v->len - marker));
	if (n < 0)
		add(v, VERIFY_FILE, "its last %" PRIu64 " bytes cannot be read: %s",
		    marker, strerror((int)-n));
	else if ((uint64_t)n == marker && !io_is_zero(buf, marker))
		add(v, VERIFY_MARKER,
		    "the %" PRIu64 " bytes behind its last sector, which only tell its "
		    "size, are data: the file was cut, or a write lost its end",
		    marker);
}

static void check_size(struct verify *v)
{
	struct geom g = geom_of(v);
	uint64_t plen;

	if (v->len < g.data_off)
		add(v, VERIFY_SIZE,
		    "it ends inside its header: %" PRIu64 " bytes of %" PRIu64, v->len,
		    g.data_off);
	else if (span_decode_size(&g, v->len, &plen))
		add(v, VERIFY_SIZE,
		    "its size says nothing: %" PRIu64
		    " bytes behind the header are no whole sector; the file was cut",
		    v->len - g.data_off);
	else
		check_marker(v, &g);
}

/* Holes as the file system knows them. */
static void check_holes(struct verify *v, const struct container *c)
{
	struct geom g = geom_of(v);
	uint64_t e = v->len - g.data_off, end = v->len - e % g.sector_len;
	off_t hole;

	if (container_token(c)->holes != HOLES_NONE || g.device || end <= g.data_off)
		return;
	hole = lseek(v->fd, (off_t)g.data_off, SEEK_HOLE);
	if (hole >= 0 && (uint64_t)hole < end)
		add(v, VERIFY_HOLE,
		    "it has a hole at byte %" PRIu64
		    ", although its token says that it has none",
		    (uint64_t)hole - g.data_off);
}

/* --- header --- */

static void say_mended(struct verify *v)
{
	unsigned char buf[CONTAINER_PEEK_LEN] __attribute__((aligned(4096)));
	bool good = false;
	int copy;

	if (v->peek.format == FORMAT_LUKS1) {
		add(v, VERIFY_PAGE, "its first page is torn: a change was cut short");
		return;
	}
	if (io_pread_full(v->fd, buf, sizeof(buf), 0) != sizeof(buf))
		return;
	copy = luks2_stale(buf, &good);
	if (copy < 0)
		return; /* somebody was faster */
	add(v, VERIFY_COPY, "the %s copy of its header is %s", copy ? "second" : "first",
	    good ? "another one, or an older one" : "damaged");
}

static void check_header(struct verify *v, struct container **c)
{
	char why[CONTAINER_WHY_LEN];
	bool mended = false;
	vcf_err_t err = container_load_why(c, v->fd, why, &mended);

	if (err == -EBADMSG)
		add(v, VERIFY_HEADER, "%s", why);
	else if (err)
		add(v, VERIFY_FILE, "its header cannot be read: %s", strerror(-err));
	if (err)
		return;
	if (mended)
		say_mended(v);
	if (container_has_unused(*c))
		add(v, VERIFY_REMAINS, "remains of an old key slot are in its header");
}

static void check_context(struct verify *v, const struct container *c)
{
	char context[TOKEN_CONTEXT_MAX + 1];
	const struct token *t = container_token(c);

	if (!*v->rel || !rules_is_image(rules_class(v->rules, v->rel)))
		return;
	rules_context(v->rules, v->rel, context);
	if (strcmp(t->context, context) != 0)
		add(v, VERIFY_CONTEXT, "it belongs to instance '%.64s', not '%.64s'",
		    t->context, context);
}

/* --- secret --- */

/* MAC and key slot, each for itself: which of them is wrong tells what has happened. */
static void try_secret(struct verify *v, struct container *c, const struct secret *secret)
{
	bool mac = container_mac_check(c, secret) == 0;
	vcf_err_t err = container_unlock(c, secret, NULL);

	if (!mac && err == -EKEYREJECTED)
		add(v, VERIFY_MAC,
		    "neither its MAC nor its key slot is of the secret that it names");
	else if (!mac)
		add(v, VERIFY_MAC, "its MAC is wrong: the header was changed");
	else if (err == -EKEYREJECTED)
		add(v, VERIFY_SLOT,
		    "its secret is the right one, but key slot %u does not open: it is "
		    "damaged",
		    container_token(c)->keyslot);
	else if (err == -EBADMSG)
		add(v, VERIFY_KEY, "its volume key is not the one that the header names");
	else if (err)
		add(v, VERIFY_FILE, "it cannot be unlocked: %s", strerror(-err));
}

static void check_secret(struct verify *v, struct container *c)
{
	auto_secret struct secret *secret = NULL;
	char why[TOOLKEYS_WHY_LEN];
	vcf_err_t err = toolkeys_get(v->keys, c, v->path, &secret, why);

	if (!err)
		try_secret(v, c, secret);
	else
		add(v,
		    err == -ENOKEY     ? VERIFY_SECRET
		    : err == -ENOTCONN ? VERIFY_SERVICE
				       : VERIFY_ANSWER,
		    "%.200s", why);
}

/* --- all of it --- */

static void check_container(struct verify *v)
{
	auto_container struct container *c = NULL;

	check_size(v);
	if (v->len < v->peek.data_off)
		return;
	check_header(v, &c);
	if (!c)
		return;
	check_context(v, c);
	check_holes(v, c);
	check_secret(v, c);
}

static void examine(struct verify *v)
{
	vcf_err_t err = io_file_len(v->fd, &v->len);

	v->cnt = 0;
	if (!err)
		err = size_peek_fd(&v->peek, v->fd, io_is_device(v->fd) ? 0 : v->len);
	if (err)
		add(v, VERIFY_FILE, "it cannot be read: %s", strerror(-err));
	else if (v->peek.kind == PEEK_PLAINTEXT)
		add(v, VERIFY_PLAINTEXT,
		    "no container: it is plaintext, or its header is destroyed");
	else if (v->peek.kind == PEEK_DAMAGED)
		add(v, VERIFY_HEADER,
		    "its LUKS header is damaged, in all its copies, or of an unknown "
		    "form");
	else if (v->peek.kind == PEEK_CONTAINER)
		check_container(v);
}

/* What a change would change. */
struct sight {
	uint64_t len;
	unsigned char head[CONTAINER_PEEK_LEN];
};

static void look(const struct verify *v, struct sight *s)
{
	memset(s, 0, sizeof(*s));
	if (io_file_len(v->fd, &s->len) ||
	    io_pread_full(v->fd, s->head, sizeof(s->head), 0) < 0)
		s->len = UINT64_MAX; /* a fault of its own, which stays */
}

void verify_file(struct verify *v)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
	auto_free struct sight *sights = calloc(2, sizeof(*sights));

	examine(v);
	if (!sights || !v->cnt)
		return;
	look(v, &sights[0]);
	for (int i = 1; i < LOOKS_MAX && v->cnt; i++) {
		nanosleep(&pause, NULL);
		examine(v);
		look(v, &sights[i % 2]);
		if (memcmp(&sights[0], &sights[1], sizeof(*sights)) == 0)
			return;
	}
}
