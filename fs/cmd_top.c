/* SPDX-License-Identifier: GPL-2.0-or-later */
/* top: what the images of a mount are doing, live in a terminal or as text. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/mountpoint.h"
#include "fs/status.h"
#include "fs/statusfile.h"
#include "fs/terminal.h"
#include "fs/topview.h"
#include "util/clock.h"
#include "util/parse.h"

enum { PATIENCE_S = 3, DELAY_S = 2, DELAY_MAX_S = 3600 };

struct top {
	const char *runtime;
	char mountpoint[PATH_MAX];
	uint64_t delay_s, count; /* count 0: without end */
	bool batch;
	enum topview_key key;
	struct topview *view; /* NULL: no answer yet */
	uint64_t taken_ns;
	bool silent;  /* the last question had no answer */
	size_t first; /* row */
};

static volatile sig_atomic_t ended, resized, stopped;

static void on_signal(int sig)
{
	if (sig == SIGWINCH)
		resized = 1;
	else if (sig == SIGTSTP)
		stopped = 1;
	else
		ended = 1;
}

static void sample(struct top *t)
{
	struct json_object *o = NULL;
	struct topview *v = NULL;
	char path[PATH_MAX];
	uint64_t now;

	t->silent = mountpoint_socket(path, sizeof(path), t->runtime, t->mountpoint) ||
		    status_read(&o, path, PATIENCE_S);
	now = clock_now_ns();
	if (!t->silent &&
	    !topview_new(&v, o, t->view, (double)(now - t->taken_ns) / 1e9)) {
		topview_free(t->view);
		t->view = v;
		t->taken_ns = now;
		topview_sort(v, t->key);
	}
	json_object_put(o);
}

/* --- as text --- */

static void print(const struct top *t)
{
	char line[TOPVIEW_WIDTH_MAX];

	for (int i = 0; i < TOPVIEW_HEAD_LINES; i++) {
		topview_head(line, TOPVIEW_WIDTH_MAX, t->view, i);
		puts(line);
	}
	for (size_t i = 0; i < t->view->cnt; i++) {
		topview_line(line, TOPVIEW_WIDTH_MAX, &t->view->rows[i]);
		puts(line);
	}
	putchar('\n');
	fflush(stdout);
}

static int run_batch(struct top *t)
{
	sample(t);
	for (uint64_t i = 0; !ended && (!t->count || i < t->count); i++) {
		sleep((unsigned int)t->delay_s);
		if (ended)
			break;
		sample(t);
		if (t->silent) {
			fprintf(stderr,
				"vmcryptfs top: %s: no vmcryptfs answers for it\n",
				t->mountpoint);
			return EXIT_NOT_FOUND;
		}
		print(t);
	}
	return EXIT_OK;
}

/* --- in a terminal --- */

static size_t page_len(size_t lines)
{
	return lines > TOPVIEW_HEAD_LINES + 1 ? lines - TOPVIEW_HEAD_LINES - 1 : 1;
}

static void draw(struct top *t)
{
	char line[TOPVIEW_WIDTH_MAX];
	size_t width, lines, cnt = t->view ? t->view->cnt : 0, page;

	terminal_size(&width, &lines);
	page = page_len(lines);
	if (t->first + page > cnt)
		t->first = cnt > page ? cnt - page : 0;
	terminal_begin();
	for (int i = 0; t->view && i < TOPVIEW_HEAD_LINES && (size_t)i < lines; i++) {
		topview_head(line, width, t->view, i);
		terminal_line(line, i == TOPVIEW_HEAD_LINES - 1);
	}
	for (size_t i = 0; i < page; i++) {
		if (t->first + i < cnt)
			topview_line(line, width, &t->view->rows[t->first + i]);
		else
			line[0] = '\0';
		terminal_line(line, false);
	}
	snprintf(
		line, sizeof(line),
		"%s%zu-%zu of %zu by %s  q quit  sort: i iops b bytes m mean p p99 o open "
		"n name  arrows, page keys",
		t->silent ? "DOES NOT ANSWER  " : "", cnt ? t->first + 1 : 0,
		t->first + page < cnt ? t->first + page : cnt, cnt,
		topview_key_name(t->key));
	if (strlen(line) > width)
		line[width] = '\0';
	if (lines > TOPVIEW_HEAD_LINES + 1)
		terminal_line(line, true);
	terminal_end();
}

static void set_key(struct top *t, enum topview_key key)
{
	t->key = key;
	t->first = 0;
	if (t->view)
		topview_sort(t->view, key);
}

static void move(struct top *t, int key)
{
	size_t width, lines, page;

	terminal_size(&width, &lines);
	page = page_len(lines);
	if (key == TERMINAL_UP || key == 'k')
		t->first -= t->first > 0;
	else if (key == TERMINAL_DOWN || key == 'j')
		t->first++;
	else if (key == TERMINAL_PAGE_UP)
		t->first -= t->first > page ? page : t->first;
	else if (key == TERMINAL_PAGE_DOWN || key == ' ')
		t->first += page;
	else if (key == TERMINAL_HOME || key == 'g')
		t->first = 0;
	else if (key == TERMINAL_END || key == 'G')
		t->first = t->view ? t->view->cnt : 0;
}

static void press(struct top *t, int key)
{
	static const char letters[] = "ibmpon";
	const char *at = key > 0 && key < 256 ? strchr(letters, key) : NULL;

	if (at)
		set_key(t, (enum topview_key)(at - letters));
	else if (key == 'q' || key == TERMINAL_CLOSED)
		ended = 1;
	else
		move(t, key);
}

/* Ctrl-Z: the shell gets its terminal as it was. */
static vcf_err_t pause_here(void)
{
	stopped = 0;
	terminal_leave();
	raise(SIGSTOP);
	return terminal_enter();
}

/* Keys and signals until the next sample is due. */
static vcf_err_t wait_due(struct top *t, uint64_t due_ms)
{
	vcf_err_t err = 0;

	while (!ended && !err) {
		uint64_t now = clock_now_ms();
		int key;

		if (now >= due_ms)
			return 0;
		key = terminal_key((int)(due_ms - now));
		if (stopped)
			err = pause_here();
		if (key != TERMINAL_NONE)
			press(t, key);
		if (key != TERMINAL_NONE || resized)
			draw(t);
		resized = 0;
	}
	return err;
}

static int run_live(struct top *t)
{
	vcf_err_t err = terminal_enter();
	uint64_t shown = 0;

	if (err) {
		fprintf(stderr, "vmcryptfs top: this is no terminal; -b prints text\n");
		return EXIT_USAGE;
	}
	/* The first rates after a second, whatever the delay is. */
	for (bool first = true; !ended && !err; first = false) {
		uint64_t due = clock_now_ms() + (first ? 1 : t->delay_s) * 1000;

		sample(t);
		draw(t);
		if (!first && t->count && ++shown >= t->count)
			break;
		err = wait_due(t, due);
	}
	terminal_leave();
	return err ? EXIT_FAILED : EXIT_OK;
}

/* --- the command line --- */

static void note_mount(void *arg, const char *mountpoint)
{
	struct top *t = arg;

	snprintf(t->mountpoint, sizeof(t->mountpoint), "%s", mountpoint);
	t->count++;
}

/* Where there is one mount only, it is meant. */
static int find_mount(struct top *t, const char *name)
{
	struct top only = {.count = 0};

	if (name && statusfile_resolve(name, t->mountpoint)) {
		fprintf(stderr, "vmcryptfs top: %s: %s\n", name, strerror(errno));
		return EXIT_NOT_FOUND;
	}
	if (name)
		return EXIT_OK;
	if (mountpoint_each(note_mount, &only) || only.count != 1) {
		fprintf(stderr, "vmcryptfs top: %s\n",
			only.count ? "there are several mounts: name one"
				   : "nothing is mounted");
		return only.count ? EXIT_USAGE : EXIT_NOT_FOUND;
	}
	memcpy(t->mountpoint, only.mountpoint, sizeof(only.mountpoint));
	return EXIT_OK;
}

static void set_signals(bool batch)
{
	const struct sigaction sa = {.sa_handler = on_signal}; /* calls end with EINTR */
	const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	if (batch)
		return;
	sigaction(SIGWINCH, &sa, NULL);
	sigaction(SIGTSTP, &sa, NULL);
}

static bool parse_args(struct top *t, int argc, char **argv)
{
	static const struct option longs[] = {
		{"once", no_argument, NULL, '1'},
		{NULL, 0, NULL, 0},
	};
	bool good = true;
	int opt;

	while (good && (opt = getopt_long(argc, argv, "bd:n:r:s:", longs, NULL)) != -1) {
		if (opt == 'b')
			t->batch = true;
		else if (opt == '1')
			t->batch = (t->count = 1);
		else if (opt == 'd')
			good = !parse_u64(optarg, 1, DELAY_MAX_S, &t->delay_s);
		else if (opt == 'n')
			good = !parse_u64(optarg, 1, UINT32_MAX, &t->count);
		else if (opt == 's')
			good = (t->key = topview_parse_key(optarg)) != TOPVIEW_KEYS;
		else if (opt == 'r')
			t->runtime = optarg;
		else
			good = false;
	}
	return good && argc - optind <= 1;
}

int cmd_top(int argc, char **argv)
{
	struct top t = {.runtime = statusfile_default_directory(), .delay_s = DELAY_S};
	int code;

	if (!parse_args(&t, argc, argv))
		return command_usage("top");
	code = find_mount(&t, argv[optind]);
	if (code)
		return code;
	set_signals(t.batch);
	code = t.batch ? run_batch(&t) : run_live(&t);
	topview_free(t.view);
	return code;
}
