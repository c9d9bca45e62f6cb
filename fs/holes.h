/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Holes of one container that nobody has open: filled with encrypted zeros (materialize), or made
 * where there are zeros (trim). Plaintext and size stay what they are at every moment; what was cut short
 * is done again.
 */
#ifndef VCF_FS_HOLES_H
#define VCF_FS_HOLES_H

#include <stdint.h>

#include "crypto/container.h"
#include "fs/tool.h"
#include "util/err.h"

/*
 * Writes encrypted zeros to each sector of zero ciphertext; durable. fd: O_RDWR; c is unlocked.
 * *bytes: of plaintext that was filled. -EBADMSG: a torn size; -EINTR: tool_interrupted(); -errno.
 */
NODISCARD vcf_err_t holes_fill(const struct container *c, int fd, struct tool_file *f,
			       uint64_t *bytes);

/*
 * Punches the sectors whose plaintext is zeros, where whole blocks of 4096 bytes of the file become
 * free. Only with `holes` zero. *bytes: that became holes. -EOPNOTSUPP: the file system cannot; as
 * above.
 */
NODISCARD vcf_err_t holes_punch(const struct container *c, int fd, struct tool_file *f,
				uint64_t *bytes);

#endif
