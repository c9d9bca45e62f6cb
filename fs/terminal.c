/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/terminal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "util/io.h"

static struct termios before;
static FILE *frame;
static char *frame_text;
static size_t frame_len;

static void say(const char *text)
{
	if (io_write_full(STDOUT_FILENO, text, strlen(text)))
		return; /* it is gone, which the next key tells */
}

vcf_err_t terminal_enter(void)
{
	struct termios raw;

	if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
		return -ENOTTY;
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* signals stay */
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
		return -errno;
	say("\033[?1049h\033[?25l\033[?7l"); /* other screen, no cursor, no wrapping */
	return 0;
}

void terminal_leave(void)
{
	say("\033[?7h\033[?25h\033[?1049l");
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

void terminal_size(size_t *columns, size_t *lines)
{
	struct winsize w;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row;

	*columns = known ? w.ws_col : 80;
	*lines = known ? w.ws_row : 24;
}

void terminal_begin(void)
{
	frame = open_memstream(&frame_text, &frame_len);
	if (frame)
		fputs("\033[H", frame);
}

void terminal_line(const char *text, bool reverse)
{
	if (!frame)
		return;
	if (ftell(frame) > 3)
		fputs("\r\n", frame); /* not behind the last one: it would scroll */
	fprintf(frame, "%s%s%s\033[K", reverse ? "\033[7m" : "", text,
		reverse ? "\033[0m" : "");
}

void terminal_end(void)
{
	if (!frame)
		return;
	fputs("\033[J", frame);
	if (fclose(frame) == 0)
		say(frame_text);
	free(frame_text);
	frame = NULL;
	frame_text = NULL;
}

/* What arrived and was not asked for yet. */
static char keys[64];
static size_t key_cnt;

static int take(size_t len, int key)
{
	key_cnt -= len;
	memmove(keys, keys + len, key_cnt);
	return key;
}

/* A sequence in keys, which come whole unless somebody types them slowly. */
static int take_sequence(void)
{
	static const struct {
		const char *text;
		int key;
	} known[] = {
		{"\033[A", TERMINAL_UP},       {"\033OA", TERMINAL_UP},
		{"\033[B", TERMINAL_DOWN},     {"\033OB", TERMINAL_DOWN},
		{"\033[5~", TERMINAL_PAGE_UP}, {"\033[6~", TERMINAL_PAGE_DOWN},
		{"\033[H", TERMINAL_HOME},     {"\033[1~", TERMINAL_HOME},
		{"\033[F", TERMINAL_END},      {"\033[4~", TERMINAL_END},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		size_t len = strlen(known[i].text);

		if (key_cnt >= len && memcmp(keys, known[i].text, len) == 0)
			return take(len, known[i].key);
	}
	return take(1, 27);
}

int terminal_key(int wait_ms)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	if (!key_cnt) {
		ssize_t n = 0;

		if (poll(&p, 1, wait_ms) <= 0)
			return TERMINAL_NONE;
		n = read(STDIN_FILENO, keys, sizeof(keys));
		if (n < 0 && errno == EINTR)
			return TERMINAL_NONE;
		if (n <= 0)
			return TERMINAL_CLOSED;
		key_cnt = (size_t)n;
	}
	return keys[0] == 27 ? take_sequence() : take(1, (unsigned char)keys[0]);
}
