/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is a FUSE message what its opcode says? libfuse trusts lengths and terminating NULs; the kernel
 * keeps them, and this makes sure that nothing else gets as far as libfuse. Pure.
 */
#ifndef VCF_FS_REQCHECK_H
#define VCF_FS_REQCHECK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * msg: struct fuse_in_header and what follows, len bytes in all. False: fixed part too short, a
 * name without its NUL (or one that is no single component), payload shorter than it says, an
 * answer asked for that is larger than any buffer of ours. Opcodes that we do not know are
 * sound: libfuse refuses them.
 */
bool reqcheck_sound(const void *msg, size_t len);

/* False for the opcodes that have no answer. */
bool reqcheck_answered(const void *msg);

#endif
