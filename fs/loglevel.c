/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/loglevel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/exitcode.h"
#include "util/log.h"

static const char *const words[] = {"err", "warn", "info", "dbg", "configured"};
enum { WORD_CNT = sizeof(words) / sizeof(words[0]) };

int loglevel_parse(const char *word)
{
	for (int i = 0; i < WORD_CNT; i++) {
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	return -EINVAL;
}

const char *loglevel_asked(const struct session *s)
{
	uint32_t asked = s->head->log_level;

	return asked && asked <= LOG_LEVEL_DBG + 1 ? words[asked - 1] : "";
}

int loglevel_set(struct session *s, int level, char *text, size_t room)
{
	if (level < 0 || level >= WORD_CNT) {
		snprintf(text, room, "no such level");
		return EXIT_USAGE;
	}
	s->head->log_level = level == LOGLEVEL_CONFIGURED ? 0 : (uint32_t)level + 1;
	snprintf(text, room, "the log level is %s%s", words[level],
		 level == LOGLEVEL_CONFIGURED ? "" : " until the mount ends");
	log_info("%s: a command asked for it", text);
	return EXIT_OK;
}
