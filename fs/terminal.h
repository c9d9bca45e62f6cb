/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A terminal as a screen: keys one by one, frames instead of lines, and all of it given back. Only
 * sequences that every terminal of the last decades has (ECMA-48, xterm's other screen).
 */
#ifndef VCF_FS_TERMINAL_H
#define VCF_FS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "util/err.h"

/* -ENOTTY: standard input or output is no terminal. Once, before terminal_leave(). */
NODISCARD vcf_err_t terminal_enter(void);
/* Gives it back as it was. */
void terminal_leave(void);

/* Of the window; 80 x 24 where it does not say. */
void terminal_size(size_t *columns, size_t *lines);

/* A frame: begin, lines (the rest of each is empty), end. It leaves in one write. */
void terminal_begin(void);
void terminal_line(const char *text, bool reverse);
void terminal_end(void);

enum terminal_key {
	TERMINAL_UP = 256,
	TERMINAL_DOWN,
	TERMINAL_PAGE_UP,
	TERMINAL_PAGE_DOWN,
	TERMINAL_HOME,
	TERMINAL_END,
	TERMINAL_NONE,	 /* nothing more for now */
	TERMINAL_CLOSED, /* the terminal is gone */
};

/* The next key that was pressed: a character, or one of the above. Waits at most wait_ms. */
int terminal_key(int wait_ms);

#endif
