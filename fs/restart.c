/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/restart.h"

#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

static bool is_fault(int sig)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		if (sig == faults[i])
			return true;
	}
	return false;
}

static bool ended_badly(struct restart *r, int status, int64_t served_ms)
{
	if (served_ms >= 0)
		r->early_kills = 0;
	if (WIFSIGNALED(status) && !is_fault(WTERMSIG(status)))
		return served_ms < 0 && ++r->early_kills > RESTART_EARLY_KILLS;
	return served_ms < RESTART_EARLY_MS;
}

uint64_t restart_pause_ms(struct restart *r, int status, int64_t served_ms)
{
	uint64_t ms = RESTART_PAUSE_MIN_MS;

	r->streak = ended_badly(r, status, served_ms) ? r->streak + 1 : 0;
	if (r->streak < 2)
		return 0;
	for (unsigned int i = 2; i < r->streak && ms < RESTART_PAUSE_MAX_MS; i++)
		ms *= 2;
	return ms < RESTART_PAUSE_MAX_MS ? ms : RESTART_PAUSE_MAX_MS;
}
