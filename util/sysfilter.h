/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters of system calls (seccomp(2), made by libseccomp). sysfilter_calls.h has the lists.
 *
 * server, helpers  a list of what is allowed. Anything else is a signal, SIGSYS, whose handler says
 *                  the call's name, then the end of the process, which is replaced. prctl(2) and
 *                  ioctl(2) fail instead, sockets but AF_UNIX too (in helpers: but IP), and
 *                  signals for other processes
 * keeper           a list of what is refused (EPERM), since children inherit it, helpers that are
 *                  scripts too, and a later version that it executes: what none of them needs
 *
 * The 32-bit interface and x32 are refused as a whole. No filter under the sanitizers, which make
 * calls of their own.
 *
 * mode  kill  as above
 *       log   what would be refused is done, and the kernel names it in its log or audit trail
 *       off   no filter
 */
#ifndef VCF_UTIL_SYSFILTER_H
#define VCF_UTIL_SYSFILTER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"

/* In the order of the words of the option. */
enum sysfilter_mode { SYSFILTER_KILL, SYSFILTER_LOG, SYSFILTER_OFF };

/* A helper is told by this variable when the mode is another one than kill. */
#define SYSFILTER_VARIABLE "VMCRYPTFS_SECCOMP"

/* Of this process and of what it starts; kill before the first call. Not thread-safe. */
void sysfilter_set_mode(enum sysfilter_mode mode);

/* Of the variable, as a helper's parent has set it; what it does not know counts as kill. */
void sysfilter_take_mode(void);

/* The variable's value for a helper, NULL: it is not to be set. */
const char *sysfilter_variable(void);

/* True if the mode is off, and under the sanitizers. */
bool sysfilter_is_off(void);

/* True if sysfilter_server() is in force and refuses: this process can start no program. */
bool sysfilter_in_force(void);

/*
 * Each is for ever, for the calling thread and the threads and children that it makes from now on.
 * Sets no_new_privs. The server calls it before there are threads. Helpers with a network may talk
 * to one and to local sockets, others to none; a handler for SIGSYS is installed in helpers.
 * Returns 0 (also where there is no filter) or -errno.
 */
NODISCARD vcf_err_t sysfilter_keeper(void);
NODISCARD vcf_err_t sysfilter_server(void);
NODISCARD vcf_err_t sysfilter_helper(bool network);

/*
 * Names the rules of sysfilter_keeper() in this mode; 0: none. Filters stay over execve(2) and their
 * number is limited: a program that goes on in another's place leaves out what is there.
 */
uint32_t sysfilter_keeper_rules(void);

/* True if si is of a call that a filter refused; dst gets a line about it. Async-signal-safe. */
enum { SYSFILTER_TEXT_MAX = 96 };
bool sysfilter_describe(char dst[SYSFILTER_TEXT_MAX], const siginfo_t *si);

/* For a handler, before that: true if the call has been given an error and all goes on. */
bool sysfilter_answer(const siginfo_t *si, void *context);

#endif
