/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One outcome under examination. powercheck.c draws the outcomes; powerlook.c looks at one as it
 * lies there, through crypto/; powermount.c mounts it.
 */
#ifndef VCF_TESTS_POWERCHECK_H
#define VCF_TESTS_POWERCHECK_H

#include "crypto/keytable.h"
#include "crypto/xts.h"
#include "fs/span.h"
#include "tests/crash/powerkeys.h"
#include "tests/crash/powermodel.h"
#include "util/err.h"

enum { HEADERS_MAX = 1024 };

/* A header that was opened once; the same pages open the same way. */
struct header {
	uint64_t hash;
	vcf_err_t err;
	struct geom geom;
	struct key_ref ref;
	char key_id[TOKEN_KEY_ID_MAX + 1];
	char label[UUID_TEXT_LEN + 1];
	bool derived;
};

struct check {
	struct disk disk;
	struct model model;
	struct keys keys;
	struct header headers[HEADERS_MAX];
	size_t header_cnt;
	struct keytable *table;
	struct xts *xts;
	char folder[1024];
	char **mount; /* program and arguments */
	/* the outcome that is looked at */
	const struct outcome *o;
	size_t number, cut;
	const char *what;
	uint64_t random;
	bool only; /* one outcome, with all details */
	/* counts */
	size_t replays, prefixes, reorderings, mounted, violations, compared, flying;
};

void violation(struct check *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void die(const char *what) __attribute__((noreturn));

/* Says so where the bytes are not allowed. */
void judge(struct check *c, const char *name, const struct file *f, size_t oldest,
	   const unsigned char *bytes, uint64_t size);

/* The folder of that number, NULL if it was never made; 0: the root. */
const struct object *folder_object(struct check *c, uint32_t id);

/*
 * What a name leads to in the outcome. NULL: nothing, or nothing that is allowed (said).
 * *found is the object, *binding how the name came to lead there.
 */
const struct file *resolve(struct check *c, const struct model_name *n,
			   const struct object **found, const struct binding **binding);
size_t oldest_version(const struct check *c, const struct file *f,
		      const struct binding *b);

/* Sets a file's size and writes its pages, as many as that. */
void write_content(int fd, const struct content *content, size_t pages);

void save_content(const char *path, const struct content *content);

/* All names and what they lead to; the containers' secrets are noted. */
void check_names(struct check *c, struct noted *noted);
/* That, the journal, and the secrets. */
void check_outcome(struct check *c);

/* Builds the outcome in c->folder, mounts it, and looks again. */
void check_mounted(struct check *c);

#endif
