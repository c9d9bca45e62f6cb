/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit trail: one line of JSON for each key event, to a file, to syslog, or both. Never a
 * secret; contrib/doc/operations.md lists the fields.
 *
 * A line is put into a ring in shared memory by whoever has the event (memory only: nobody waits
 * for a disk) and written by a thread of its own. The ring outlives the process: what a server
 * that was killed had not yet written, the next one writes. Each line has a number (`seq`), for
 * the last one may then be there twice. What cannot be written is tried again every second; when
 * the ring is full, events are counted and the next line says how many are missing.
 *
 * One trail a process. All calls are thread-safe; without audit_start(), or where neither a file
 * nor syslog is wanted, events go nowhere.
 */
#ifndef VCF_UTIL_AUDIT_H
#define VCF_UTIL_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

enum {
	AUDIT_LINE_MAX = 2048, /* with the LF; a longer one is cut in its path and text */
	AUDIT_PATH_MAX = 600,  /* more of a path is in no line */
};

struct audit_event {
	const char
		*event; /* created, assigned, fetched, used, denied, destroyed, failed */
	const char *verb; /* what was asked: new, get, ...; NULL: nothing */
	const char *path; /* NULL: of no image, or of none yet; any bytes */
	const char *uuid, *key_id, *service;
	bool has_opener;
	uint32_t uid, pid;
	int64_t latency_ms; /* of the request, -1: none */
	vcf_err_t err;
	const char *text; /* the service's words, or NULL */
};

/* What every line says. */
struct audit_origin {
	const char *mount;   /* NULL: of none */
	uint32_t generation; /* of the server; of a command: not said */
	const char *command; /* an operator's; NULL: a server */
};

struct audit_settings {
	const char *file; /* NULL: none */
	bool syslog;
	bool used; /* also opens that asked for no key */
};

/*
 * The line for an event, with its LF: pure. seq, lost: see above (lost 0: not said); time in
 * milliseconds of the epoch. Returns its length. Bytes that are not UTF-8 become \udcXX, as
 * Python's surrogateescape has it, so that nothing is ambiguous.
 */
size_t audit_format(char dst[AUDIT_LINE_MAX], const struct audit_event *e,
		    const struct audit_origin *o, const char *host, uint64_t seq,
		    uint64_t lost, int64_t time_ms);

/*
 * ring_fd: the ring that an earlier process left, or -1: then one is made and put there. It stays
 * the caller's. The thread blocks all signals but faults. -errno; a file that cannot be opened is
 * no error here: it is logged and tried again.
 */
NODISCARD vcf_err_t audit_start(const struct audit_settings *s,
				const struct audit_origin *o, int *ring_fd);

/* Other settings; the file is opened anew in any case. Lines that wait go by the new ones. */
void audit_change(const struct audit_settings *s);

/* Writes what waits (for two seconds at most, where that fails) and ends the thread. */
void audit_stop(void);

void audit_event(const struct audit_event *e);

/*
 * The event that the answer to a request (verb, err) is: created for new, fetched for get,
 * destroyed; denied; failed. None at the end of the server (-ECANCELED).
 */
void audit_answer(const struct audit_event *answer);

/* latency_ms of a request that began at that time (clock_now_ms()). */
int64_t audit_since(uint64_t start_ms);

/* Are opens without a request wanted? */
bool audit_wants_used(void);

/* Lines in the ring, and events that found no room, ever. */
void audit_counts(uint64_t *waiting, uint64_t *lost);

#endif
