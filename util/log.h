/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages for the operator: one line each, to stderr, to a file or to syslog.
 *
 * err   something failed and the program could not mend it
 * warn  an operator should act
 * info  what happened            dbg  for developers, off by default
 *
 * A line about an image starts with the image's path. Never key bytes, tokens or
 * plaintext. Control characters in a line are printed as \xNN, so that a hostile name
 * cannot forge a line. All calls keep errno and are thread-safe. VCF_WARN_FATAL=1 in the
 * environment turns a warning into an abort (for tests).
 */
#ifndef VCF_UTIL_LOG_H
#define VCF_UTIL_LOG_H

#include <stdint.h>

#include "util/err.h"

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DBG };
enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_BOTH };

/* Sets the highest level that is printed; default LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/*
 * Where somebody may ask for another level: it + 1, 0: nobody does. It wins over log_set_level(). In
 * memory that several processes may share; NULL: no more.
 */
void log_follow(const _Atomic uint32_t *level);

/* Chooses where lines go; default LOG_TO_STDERR. A background daemon uses LOG_TO_SYSLOG.
 */
void log_set_target(enum log_target target);

/*
 * Appends the lines to a file instead (mode 0600 when it is made). Again: to the file that now
 * has this name, so that logs can be rotated. Returns 0 or -errno (nothing changes).
 */
NODISCARD vcf_err_t log_set_file(const char *path);

/* The file's descriptor, -1 if there is none of its own. Whoever closes descriptors spares it. */
int log_file_fd(void);

/* Errors and warnings also go to standard error, until log_leave_terminal(). */
void log_tee(void);

/*
 * Leaves the terminal: standard input becomes /dev/null, standard output and error the log file
 * (so that what a library writes there is kept) or /dev/null.
 */
void log_leave_terminal(void);

void log_line(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * A line of level info from a signal handler: async-signal-safe, so it has no time and is cut at
 * 300 characters; text must be printable.
 */
void log_from_signal(const char *text);

/* The same, of level err. */
void log_err_from_signal(const char *text);

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_dbg(...) log_line(LOG_LEVEL_DBG, __VA_ARGS__)

#endif
