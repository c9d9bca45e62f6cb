/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads take the next path from a counter; a thread of its own shows what all of them have done.
 * One lock, of the run, is around what goes to standard output or error.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/worker.h"
#include "fs/exitcode.h"
#include "fs/jsonlines.h"
#include "fs/tool.h"
#include "util/cleanup.h"
#include "util/clock.h"

enum { BAR_MS = 200, LINE_MS = 10 * 1000, JSON_MS = 1000, BAR_LEN = 20 };

struct run {
	struct tool *tool;
	char *const *paths;
	size_t cnt;
	vcf_err_t (*one)(void *arg, struct tool_file *f);
	void *arg;
	struct mutex lock;
	pthread_cond_t over;
	struct tool_file *files; /* one for each thread; (l) which are of use: path */
	size_t next, ended;	 /* (l) */
	uint64_t done, total;	 /* (l) of files that ended, and that are to come */
	int code;		 /* (l) of the first that failed */
	bool bar, shown, all;	 /* (l) shown: there is a bar on the screen */
	uint64_t begun_ms;
};

static _Atomic sig_atomic_t interrupted; /* a handler writes it, threads read it */

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

bool tool_interrupted(void)
{
	return interrupted;
}

void tool_progress(struct tool_file *f, uint64_t done, uint64_t total)
{
	atomic_store_explicit(&f->total, total, memory_order_relaxed);
	atomic_store_explicit(&f->done, done, memory_order_relaxed);
}

void tool_say(struct tool_file *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
}

vcf_err_t tool_fail(struct tool_file *f, vcf_err_t err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	return err;
}

/* --- what is shown while it runs --- */

struct sum {
	uint64_t done, total;
};

static struct sum sum_locked(const struct run *r)
{
	struct sum s = {r->done, r->total};

	for (unsigned int i = 0; i < r->tool->parallel; i++) {
		const struct tool_file *f = &r->files[i];

		if (!f->path)
			continue;
		s.done += atomic_load_explicit(&f->done, memory_order_relaxed);
		s.total += atomic_load_explicit(&f->total, memory_order_relaxed);
	}
	if (s.done > s.total)
		s.total = s.done;
	return s;
}

static void format_left(char *dst, size_t room, const struct sum *s, uint64_t ms)
{
	uint64_t left = (uint64_t)(s->done ? (double)(s->total - s->done) /
						     (double)s->done * (double)ms / 1000
					   : 0);

	*dst = '\0';
	if (s->done && ms > 2000)
		snprintf(dst, room, ", %" PRIu64 ":%02" PRIu64 " left", left / 60,
			 left % 60);
}

static void format_line(char *dst, size_t room, const struct run *r, const struct sum *s)
{
	uint64_t ms = clock_now_ms() - r->begun_ms;
	double mib = (double)s->done / (1 << 20);
	char left[32];

	format_left(left, sizeof(left), s, ms);
	snprintf(dst, room, "%zu of %zu files, %.0f of %.0f MiB, %.0f MiB/s%s", r->ended,
		 r->cnt, mib, (double)s->total / (1 << 20),
		 mib * 1000 / (double)(ms ? ms : 1), left);
}

static void clear_bar_locked(struct run *r)
{
	if (r->shown)
		fputs("\r\033[K", stderr);
	r->shown = false;
}

static void show_bar_locked(struct run *r, const char *line, const struct sum *s)
{
	int full = s->total ? (int)((double)s->done / (double)s->total * BAR_LEN) : 0;

	fprintf(stderr, "\r\033[K[%.*s%.*s] %s", full, "####################",
		BAR_LEN - full, "....................", line);
	fflush(stderr);
	r->shown = true;
}

static void show_json_locked(const struct run *r, const struct sum *s)
{
	printf("{\"event\":\"progress\",\"files_done\":%zu,\"files\":%zu,\"done\":%" PRIu64
	       ",\"total\":%" PRIu64 "}\n",
	       r->ended, r->cnt, s->done, s->total);
	fflush(stdout);
}

static void show_locked(struct run *r)
{
	struct sum s = sum_locked(r);
	char line[160];

	if (r->tool->json) {
		show_json_locked(r, &s);
		return;
	}
	format_line(line, sizeof(line), r, &s);
	if (r->bar)
		show_bar_locked(r, line, &s);
	else
		fprintf(stderr, "vmcryptfs %s: %s\n", r->tool->command, line);
}

static void *show_progress(void *arg)
{
	struct run *r = arg;
	uint64_t step = r->tool->json ? JSON_MS : r->bar ? BAR_MS : LINE_MS;
	uint64_t due = clock_now_ms() + step;
	SCOPED_LOCK(&r->lock);

	while (!r->all) {
		worker_wait(&r->lock, &r->over, due);
		if (r->all || clock_now_ms() < due)
			continue;
		show_locked(r);
		due = clock_now_ms() + step;
	}
	return NULL;
}

/* --- files --- */

static void print_json(struct tool_file *f, vcf_err_t err)
{
	struct json_object *o = f->json;

	json_put_text(o, "result", err ? "failed" : "ok");
	json_put_number(o, "code", exit_code_of(err));
	json_put_shown(o, "text", f->text);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

/* The file's place among those under way is free again. */
static void end_file(struct run *r, struct tool_file *f, vcf_err_t err)
{
	if (err && !*f->text)
		snprintf(f->text, sizeof(f->text), "%s", strerror(-err));
	SCOPED_LOCK(&r->lock);

	clear_bar_locked(r);
	if (f->json)
		print_json(f, err);
	else if (err)
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", r->tool->command, f->path,
			f->text);
	else if (*f->text)
		printf("%s: %s\n", f->path, f->text);
	fflush(stdout);
	if (err && !r->code)
		r->code = (int)exit_code_of(err);
	r->done += f->total;
	r->total += f->total;
	r->ended++;
	f->path = NULL;
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512
							    : 0;
}

static bool begin_file(struct run *r, struct tool_file *f)
{
	SCOPED_LOCK(&r->lock);

	if (r->next == r->cnt || interrupted)
		return false;
	f->path = r->paths[r->next++];
	f->total = size_of(f->path);
	f->done = 0;
	*f->text = '\0';
	r->total -= f->total < r->total ? f->total : r->total;
	return true;
}

struct slot {
	struct run *run;
	struct tool_file *file;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct slot *s = arg;
	struct tool_file *f = s->file;

	while (begin_file(s->run, f)) {
		if (s->run->tool->json) {
			f->json = json_object_new_object();
			json_put_text(f->json, "event", "file");
			json_put_shown(f->json, "path", f->path);
		}
		end_file(s->run, f, s->run->one(s->run->arg, f));
		json_object_put(STEAL_PTR(&f->json));
	}
	return NULL;
}

/* --- the run --- */

static vcf_err_t run_threads(struct run *r, struct slot *slots)
{
	unsigned int cnt = 0;
	vcf_err_t err = 0;

	for (; cnt < r->tool->parallel && !err; cnt += !err) {
		slots[cnt] = (struct slot){.run = r, .file = &r->files[cnt]};
		r->files[cnt].tool = r->tool;
		err = worker_start(&slots[cnt].thread, work, &slots[cnt]);
	}
	while (cnt)
		pthread_join(slots[--cnt].thread, NULL);
	return err;
}

static vcf_err_t run(struct run *r)
{
	auto_free struct slot *slots = calloc(r->tool->parallel, sizeof(*slots));
	auto_free struct tool_file *files = calloc(r->tool->parallel, sizeof(*files));
	pthread_t shower;
	vcf_err_t err;

	if (!slots || !files)
		return -ENOMEM;
	r->files = files;
	err = worker_start(&shower, show_progress, r);
	if (err)
		return err;
	err = run_threads(r, slots);
	mutex_lock(&r->lock);
	r->all = true;
	pthread_cond_signal(&r->over);
	mutex_unlock(&r->lock);
	pthread_join(shower, NULL);
	return err;
}

/* A second signal ends the program as it always would. */
static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

int tool_run(struct tool *t, char *const *paths, size_t cnt,
	     vcf_err_t (*one)(void *arg, struct tool_file *f), void *arg)
{
	struct run r = {.tool = t, .paths = paths, .cnt = cnt, .one = one, .arg = arg};
	vcf_err_t err;

	if (!t->parallel)
		t->parallel = 1;
	if (t->parallel > cnt && cnt)
		t->parallel = (unsigned int)cnt;
	for (size_t i = 0; i < cnt; i++)
		r.total += size_of(paths[i]);
	r.bar = !t->json && isatty(STDERR_FILENO);
	r.begun_ms = clock_now_ms();
	mutex_init(&r.lock, RANK_TOOL);
	worker_cond_init(&r.over);
	catch_signals();
	err = run(&r);
	clear_bar_locked(&r);
	mutex_fini(&r.lock);
	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s\n", t->command, strerror(-err));
		return (int)exit_code_of(err);
	}
	if (interrupted && r.next < cnt)
		fprintf(stderr,
			"vmcryptfs %s: interrupted; %zu of %zu files were not begun\n",
			t->command, cnt - r.next, cnt);
	return interrupted && !r.code ? EXIT_FAILED : r.code;
}
