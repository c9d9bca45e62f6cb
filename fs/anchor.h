/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * While the keeper executes another program: a clone of it that holds on to the descriptors and to
 * the locked areas, and that takes the keeper's place if that dies before its server serves.
 */
#ifndef VCF_FS_ANCHOR_H
#define VCF_FS_ANCHOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs/session.h"

/*
 * Returns the anchor's pid or -errno in the keeper, once the anchor is ready; 0 in the anchor, when
 * it is to go on as the keeper: then there is neither another keeper nor a server.
 */
NODISCARD pid_t anchor_start(const struct session *s);

#endif
