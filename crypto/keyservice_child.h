/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One helper process: its pipes, its line buffers and where it stands.
 *
 *   HELLO ----hello----> OPTIONS ----ready----> IDLE <--finish-- BUSY
 *   (it has to speak)    (we send options, it   |--send--------->  |
 *                         has to say ready)
 *
 * HELLO, OPTIONS and BUSY have a deadline. Whatever does not fit its state is an error
 * with a reason in `why`; then the helper can only be freed. The buffers hold secrets:
 * they are locked, not dumped, and each line is wiped once it is used. All calls come
 * from the service's thread and never block.
 *
 * Its record, if there is one, says idle only while not one byte of a request has been sent that
 * was not answered in full: who dies in between leaves a helper that nobody can use.
 */
#ifndef VCF_CRYPTO_KEYSERVICE_CHILD_H
#define VCF_CRYPTO_KEYSERVICE_CHILD_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "crypto/keyjob.h"
#include "crypto/keyproto.h"
#include "crypto/keysaid.h"
#include "crypto/keyservice.h"
#include "util/err.h"

enum keychild_state { KEYCHILD_HELLO, KEYCHILD_OPTIONS, KEYCHILD_IDLE, KEYCHILD_BUSY };

struct keychild_memory;

struct keychild {
	const struct keyservice_config *cfg;
	enum keychild_state state;
	pid_t pid;
	struct keyservice_helper *record; /* NULL: none is kept, or none was free */
	int to, from;
	int err; /* its stderr, -1: none */
	bool eof;
	uint64_t deadline_ms; /* not in IDLE */
	uint64_t sent_ns;     /* BUSY: clock_now_ns() of its request */
	unsigned int caps;
	bool told_deadline;
	size_t option; /* the next one to send; option_cnt: `ready` is next */
	uint64_t tag;
	struct keyjob *job; /* BUSY: whose request it has */
	const char *why;
	size_t in_pos, in_len;	 /* unused bytes of mem->in: [in_pos, in_len) */
	size_t out_pos, out_len; /* bytes of mem->out still to be written */
	struct keychild_memory *mem;
	struct keysaid said;
};

enum { KEYCHILD_FDS = 3 };

/* Starts a helper. cfg must outlive it. 0 or -errno (-EAGAIN/-EPERM: memory lock). */
NODISCARD vcf_err_t keychild_new(struct keychild **out,
				 const struct keyservice_config *cfg,
				 uint64_t deadline_ms);

/*
 * Takes over the helper of a record, which then is this one's: IDLE. -ESTALE: it is of no use,
 * -errno.
 */
NODISCARD vcf_err_t keychild_adopt(struct keychild **out,
				   const struct keyservice_config *cfg,
				   struct keyservice_helper *record);

/* Ends the helper of a record and frees that. */
void keychild_end(const struct keyservice_config *cfg, struct keyservice_helper *record);

/* Ends it (no job may be left), reaps it, wipes. */
void keychild_free(struct keychild *c);

/* What to poll for: p[0] its output, p[1] its input, p[2] its stderr. */
void keychild_poll(const struct keychild *c, struct pollfd p[KEYCHILD_FDS]);

/* Takes what lies in its stderr, at most a few pipes full. */
void keychild_listen(struct keychild *c, uint64_t now_ms, keysaid_emit_fn *emit,
		     void *arg);

/* Gives an IDLE helper its next request. 0 or -errno. */
NODISCARD vcf_err_t keychild_send(struct keychild *c, struct keyjob *job, uint64_t tag,
				  uint64_t deadline_ms);

/* Reads and writes what is possible. 0, or -errno and `why`. */
NODISCARD vcf_err_t keychild_io(struct keychild *c);

/*
 * The next line of an answer to its request. 1: *reply is it, valid until the next call,
 * its secret the child's unless taken. 0: none yet. -errno and `why`: end it.
 */
NODISCARD int keychild_next(struct keychild *c, struct key_reply **reply);

/* The answer is complete: IDLE again. */
void keychild_done(struct keychild *c);

#endif
