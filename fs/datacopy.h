/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plaintext of a file or of a container, copied to another one, or compared with it, by a few
 * threads. What is a hole in the source, or zeros, is a hole in the copy.
 */
#ifndef VCF_FS_DATACOPY_H
#define VCF_FS_DATACOPY_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/container.h"
#include "fs/image.h"
#include "util/err.h"

/* A side: plaintext as it is, or (image) behind an unlocked container's header. */
struct dataside {
	int fd; /* the caller's */
	struct keytable *keys;
	struct image *image; /* NULL: plaintext */
};

NODISCARD vcf_err_t dataside_open(struct dataside *s, int fd, const struct container *c);
void dataside_close(struct dataside *s);
/* The plaintext's length. */
NODISCARD vcf_err_t dataside_len(const struct dataside *s, uint64_t *plen);

struct datacopy {
	struct dataside from, to;
	uint64_t plen;	      /* of both */
	unsigned int threads; /* 0: one */
	/* From any of the threads, with what is done of the data; an error ends the copy. May be NULL. */
	vcf_err_t (*progress)(void *arg, uint64_t done);
	void *arg;
};

/*
 * Copies into a file that is empty (plaintext) or has no data (image) yet; nothing is synced.
 * -errno of either file, or what progress() said.
 */
NODISCARD vcf_err_t datacopy_run(const struct datacopy *c);
/* -EBADMSG: they differ. */
NODISCARD vcf_err_t datacopy_compare(const struct datacopy *c);

#endif
