/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of reform share: nothing outside fs/reform*.c includes this.
 *
 *   reform.c        which files, one after the other
 *   reform_open.c   what a file is, and whether it may be changed
 *   reform_write.c  the new one, and how it comes to its place
 */
#ifndef VCF_FS_REFORM_IMPL_H
#define VCF_FS_REFORM_IMPL_H

#include "fs/datacopy.h"
#include "fs/newsecret.h"
#include "fs/reform.h"

/* One file under way. */
struct job {
	struct reform *r;
	struct tool_file *f;
	struct tool_place place;
	struct offline_file old; /* its container: NULL where it is plaintext */
	struct newsecret secret;
	struct container *c; /* the new one; NULL: plaintext */
	struct datacopy copy;
	uint64_t data; /* bytes to be read, about */
	bool second;   /* the comparison is under way */
};

/*
 * Opens and judges the file of j->place; its container is unlocked. -EALREADY: there is nothing to do
 * (said); else the error is said.
 */
NODISCARD vcf_err_t reform_open(struct job *j);

/*
 * What a daemon would take for an empty file, or a creation that was cut short, may be a plaintext
 * that begins with zeros. A creation has a header's length.
 */
bool reform_may_be_creation(const struct peek *peek, uint64_t size);

/* Writes it anew, as asked for. -EALREADY likewise. */
NODISCARD vcf_err_t reform_write(struct job *j);

#endif
