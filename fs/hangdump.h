/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a process hangs, for the log, before it is ended: what /proc tells of each thread, and
 * the stacks of those threads that still run signal handlers. No memory contents are read or
 * logged, nor are a system call's arguments: only names, states and code addresses.
 */
#ifndef VCF_FS_HANGDUMP_H
#define VCF_FS_HANGDUMP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

enum {
	HANGDUMP_THREADS_MAX = 64,
	HANGDUMP_FRAMES_MAX = 32,
	HANGDUMP_ANSWER_MS = 200,
};

/*
 * In the process that may hang, before its threads start: SIGUSR2 makes a thread write its own
 * stack to the log. A thread that blocks the signal is silent.
 */
NODISCARD vcf_err_t hangdump_install(void);

/*
 * Logs (level err) the threads of a process, at most HANGDUMP_THREADS_MAX; then asks each for
 * its stack, if the process has called hangdump_install(), and gives them HANGDUMP_ANSWER_MS.
 * What /proc does not show to us is left out. For one that is stopped or stuck in the kernel,
 * only the first half comes.
 */
void hangdump_log(pid_t pid);

/* --- parts, for tests --- */

/* /proc/PID/task/TID/stat */
struct hangdump_stat {
	char comm[64];
	char state;
};
bool hangdump_parse_stat(struct hangdump_stat *out, const char *text);

/* /proc/PID/task/TID/syscall: pc and sp are 0 where the thread is running. */
struct hangdump_syscall {
	bool running;
	long nr; /* -1: blocked outside a system call */
	uint64_t sp, pc;
};
bool hangdump_parse_syscall(struct hangdump_syscall *out, const char *text);

/* /proc/PID/status: does it have a handler for SIGUSR2? Without one the signal would kill it. */
bool hangdump_parse_caught(const char *text);

#endif
