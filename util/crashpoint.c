/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/crashpoint.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic unsigned long passes;

/* Is it this one, and which pass is it that counts? */
static bool wanted(const char *name, unsigned long *pass)
{
	const char *want = getenv("VCF_CRASH");
	size_t len = strlen(name);

	*pass = 1;
	if (!want || strncmp(want, name, len) != 0)
		return false;
	if (want[len] == ':')
		*pass = strtoul(want + len + 1, NULL, 10);
	return want[len] == '\0' || want[len] == ':';
}

void crashpoint_pass(const char *name)
{
	unsigned long pass;

	if (!wanted(name, &pass) || atomic_fetch_add(&passes, 1) + 1 != pass)
		return;
	if (getenv("VCF_CRASH_ALL"))
		kill(getppid(), SIGKILL);
	kill(getpid(), SIGKILL);
	for (;;)
		pause(); /* the signal may take another thread first */
}
