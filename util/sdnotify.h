/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a service tells systemd, without its library (sd_notify(3)): datagrams to $NOTIFY_SOCKET, a
 * path or an abstract name ('@'). Without the variable all of this does nothing. One thread.
 *
 * The variables are taken out of the environment, so that no child inherits them; a program that
 * this process executes in its own place gets them back.
 */
#ifndef VCF_UTIL_SDNOTIFY_H
#define VCF_UTIL_SDNOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Before any child is started. */
void sdnotify_init(void);

bool sdnotify_wanted(void);

/* Sends lines "NAME=VALUE\n...". Waits at most a second; a failure is only logged (dbg). */
void sdnotify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what is said again soon: it does not wait. */
void sdnotify_hint(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How often WATCHDOG=1 is to be sent: half of the time that systemd allows. 0: not at all. */
uint64_t sdnotify_watchdog_ms(void);

/* Puts the variables back, for execve(2) in our place, and takes them out again if that failed. */
void sdnotify_export(void);
void sdnotify_hide(void);

#endif
