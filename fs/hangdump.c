/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both ends of the dump. /proc comes first, while the threads are undisturbed: a signal takes
 * them out of the call in which they wait. Source of the formats: proc(5).
 */
#include "fs/hangdump.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fs/procmaps.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/text.h"

enum { TEXT_ROOM = 4096 };

/* --- parsing --- */

bool hangdump_parse_stat(struct hangdump_stat *out, const char *text)
{
	const char *open = strchr(text, '(');
	const char *end = strrchr(text, ')'); /* a name may hold any character */
	size_t len;

	if (!open || !end || end < open || end[1] != ' ' || !end[2])
		return false;
	len = (size_t)(end - open - 1);
	if (len >= sizeof(out->comm))
		return false;
	memset(out, 0, sizeof(*out));
	memcpy(out->comm, open + 1, len);
	out->state = end[2];
	return true;
}

bool hangdump_parse_syscall(struct hangdump_syscall *out, const char *text)
{
	struct hangdump_syscall s = {0};

	if (strncmp(text, "running", 7) == 0)
		s.running = true;
	else if (sscanf(text, "-1 0x%" SCNx64 " 0x%" SCNx64, &s.sp, &s.pc) == 2)
		s.nr = -1;
	else if (sscanf(text, "%ld %*s %*s %*s %*s %*s %*s 0x%" SCNx64 " 0x%" SCNx64,
			&s.nr, &s.sp, &s.pc) != 3)
		return false;
	*out = s;
	return true;
}

bool hangdump_parse_caught(const char *text)
{
	const char *line = strstr(text, "\nSigCgt:");
	uint64_t mask;

	return line && sscanf(line, "\nSigCgt: %" SCNx64, &mask) == 1 &&
	       mask >> (SIGUSR2 - 1) & 1;
}

/* --- the thread's side --- */

static struct procmaps own_maps; /* (c) after install */

static size_t append(char *dst, size_t n, size_t room, const char *text)
{
	while (*text && n + 1 < room)
		dst[n++] = *text++;
	dst[n] = '\0';
	return n;
}

static size_t append_num(char *dst, size_t n, size_t room, unsigned int v)
{
	char digits[12];
	size_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return append(dst, n, room, digits + at);
}

static void write_frame(unsigned int tid, unsigned int nr, const void *addr)
{
	char text[160], where[PROCMAPS_TEXT_MAX];
	size_t n = append(text, 0, sizeof(text), "thread ");

	n = append_num(text, n, sizeof(text), tid);
	n = append(text, n, sizeof(text), " frame ");
	n = append_num(text, n, sizeof(text), nr);
	n = append(text, n, sizeof(text), ": ");
	procmaps_name(&own_maps, (uintptr_t)addr, where);
	append(text, n, sizeof(text), where);
	log_from_signal(text);
}

/*
 * backtrace() is safe here once it has loaded libgcc (install), which finds the unwind tables
 * by _dl_find_object(), without a lock.
 */
static void on_signal(int sig)
{
	int saved = errno;
	void *frames[HANGDUMP_FRAMES_MAX];
	int cnt = backtrace(frames, HANGDUMP_FRAMES_MAX);
	unsigned int tid = (unsigned int)syscall(SYS_gettid);

	(void)sig;
	for (int i = 0; i < cnt; i++)
		write_frame(tid, (unsigned int)i, frames[i]);
	errno = saved;
}

vcf_err_t hangdump_install(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	void *frame[1];
	vcf_err_t err;

	backtrace(frame, 1);
	err = procmaps_read(&own_maps, getpid());
	if (err)
		return err;
	return sigaction(SIGUSR2, &sa, NULL) < 0 ? -errno : 0;
}

/* --- the observer's side --- */

struct subject {
	pid_t pid;
	int tid_cnt, left_out;
	pid_t tids[HANGDUMP_THREADS_MAX];
	struct procmaps maps;
};

/* A whole small file; "" if we may not. */
static const char *read_text(char text[TEXT_ROOM], pid_t pid, pid_t tid, const char *name)
{
	auto_close int fd = -1;
	char path[96];
	ssize_t n;

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid,
			 name);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, TEXT_ROOM - 1);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void list_threads(struct subject *s)
{
	char path[48];
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)s->pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		pid_t tid = (pid_t)atoi(d->d_name);

		if (tid <= 0)
			continue;
		if (s->tid_cnt < HANGDUMP_THREADS_MAX)
			s->tids[s->tid_cnt++] = tid;
		else
			s->left_out++;
	}
	if (dir)
		closedir(dir);
}

static void describe_syscall(const struct subject *s, pid_t tid, char *dst, size_t room)
{
	char text[TEXT_ROOM], where[PROCMAPS_TEXT_MAX];
	struct hangdump_syscall sc;

	*dst = '\0';
	if (!hangdump_parse_syscall(&sc, read_text(text, s->pid, tid, "syscall")))
		return;
	if (sc.running) {
		snprintf(dst, room, ", running");
		return;
	}
	procmaps_name(&s->maps, sc.pc, where);
	snprintf(dst, room, ", system call %ld, pc %s, sp 0x%" PRIx64, sc.nr, where,
		 sc.sp);
}

static void log_kernel_stack(const struct subject *s, pid_t tid)
{
	char text[TEXT_ROOM], *rest = NULL;

	read_text(text, s->pid, tid, "stack");
	for (char *l = strtok_r(text, "\n", &rest); l; l = strtok_r(NULL, "\n", &rest))
		log_err("thread %d kernel: %s", (int)tid, l);
}

static void log_thread(const struct subject *s, pid_t tid)
{
	char text[TEXT_ROOM], wchan[64], syscall_text[160];
	struct hangdump_stat st;

	if (!hangdump_parse_stat(&st, read_text(text, s->pid, tid, "stat")))
		return; /* it has ended */
	TEXT_CUT(wchan, read_text(text, s->pid, tid, "wchan"));
	describe_syscall(s, tid, syscall_text, sizeof(syscall_text));
	log_err("thread %d (%s): state %c, in %s%s", (int)tid, st.comm, st.state,
		*wchan && strcmp(wchan, "0") != 0 ? wchan : "?", syscall_text);
	log_kernel_stack(s, tid);
}

static void ask_stacks(const struct subject *s)
{
	struct timespec pause = {.tv_nsec = HANGDUMP_ANSWER_MS * 1000000L};
	char text[TEXT_ROOM];

	if (!hangdump_parse_caught(read_text(text, s->pid, 0, "status")))
		return;
	for (int i = 0; i < s->tid_cnt; i++)
		syscall(SYS_tgkill, s->pid, s->tids[i], SIGUSR2);
	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

void hangdump_log(pid_t pid)
{
	auto_free struct subject *s = calloc(1, sizeof(*s));

	if (!s)
		return;
	s->pid = pid;
	list_threads(s);
	if (procmaps_read(&s->maps, pid))
		s->maps.cnt = 0;
	log_err("process %d: %d threads follow%s", (int)pid, s->tid_cnt,
		s->left_out ? "; there are more" : "");
	for (int i = 0; i < s->tid_cnt; i++)
		log_thread(s, s->tids[i]);
	ask_stacks(s);
}
