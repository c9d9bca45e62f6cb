/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log level that somebody asked for at run time: a word in the session, which keeper and server both
 * see at once and which outlives both. It wins over the configuration's until it is given up.
 */
#ifndef VCF_FS_LOGLEVEL_H
#define VCF_FS_LOGLEVEL_H

#include <stddef.h>

#include "fs/session.h"

/* 0 for "err" ... 3 for "dbg", LOGLEVEL_CONFIGURED for "configured", -EINVAL. */
enum { LOGLEVEL_CONFIGURED = 4 };
NODISCARD int loglevel_parse(const char *word);

/* "err" ... "dbg", or "" where the configuration decides. */
const char *loglevel_asked(const struct session *s);

/* By the keeper: an exit code, and words for who asked. The log says it as well. */
int loglevel_set(struct session *s, int level, char *text, size_t room);

#endif
