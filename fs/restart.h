/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When the next server starts after one has died: at once, but where it is likely to die of the
 * same cause again, after 0, 50, 100, ... up to 5000 ms. It never gives up.
 *
 *   ended by                                 counts
 *   a fault (SEGV BUS ILL FPE ABRT SYS)      before READY or within EARLY_MS of it
 *   an exit with a code                      likewise
 *   another signal                           never after READY; before it when it comes again and
 *                                            again (the kernel's, for want of memory?)
 * What does not count begins anew.
 */
#ifndef VCF_FS_RESTART_H
#define VCF_FS_RESTART_H

#include <stdbool.h>
#include <stdint.h>

enum {
	RESTART_PAUSE_MIN_MS = 50,
	RESTART_PAUSE_MAX_MS = 5000,
	RESTART_EARLY_MS = 1000,
	RESTART_EARLY_KILLS = 20,
};

struct restart {
	unsigned int streak;	  /* generations that ended badly, in a row */
	unsigned int early_kills; /* ... by a signal from outside before READY */
};

/*
 * status     of waitpid(2)
 * served_ms  how long it had been READY; -1: it was not
 * Returns the pause.
 */
uint64_t restart_pause_ms(struct restart *r, int status, int64_t served_ms);

#endif
