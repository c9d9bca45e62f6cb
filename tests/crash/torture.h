/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The load of the torture test, in pieces: torture.c (threads, counters, stalls, report),
 * torture_data.c (contents), torture_shared.c (several threads on one file), torture_meta.c
 * (names), torture_lazy.c (images that come and go), torture_hold.c (folder streams, locks),
 * torture_victims.c (processes that die), torture_check.c (the manifest).
 *
 * Every call into the tree under test goes through OP(), which measures it. What it gave is
 * compared with a model in memory:
 *	errors       a call failed with an errno that no state of the model allows (EIO, ESTALE, ...)
 *	wrong_meta   a call gave another of the answers that such a call may give, or a stat differs
 *	wrong_bytes  contents differ
 * A worker's model is its own; only what says so is shared. init() and finish() of all workers
 * run one after the other in the main thread, step() in the worker's own thread.
 */
#ifndef VCF_TESTS_CRASH_TORTURE_H
#define VCF_TESTS_CRASH_TORTURE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { HIST_LEN = 64 * 4, NAME_LEN = 64 };

struct worker;

struct kind {
	const char *name;
	unsigned int cnt; /* workers */
	void (*init)(struct worker *w);
	void (*step)(struct worker *w);
	void (*finish)(struct worker *w, FILE *manifest);
};

struct worker {
	const struct kind *kind;
	unsigned int index;  /* among its kind */
	char name[NAME_LEN]; /* of its own folder below the root: kind and index */
	int dir;	     /* that folder, open for the whole run */
	uint64_t rng;
	void *model;
	pthread_t thread;
	_Atomic uint64_t begun; /* when the call under way began, 0: none */
	const char *_Atomic call;
	const char *slowest; /* call of this worker, and how long it took */
	uint64_t slowest_ns;
	_Atomic uint64_t ops;
	_Atomic unsigned int reports;
	uint32_t hist[HIST_LEN]; /* latencies, four steps an octave of ns */
};

extern const struct kind kind_direct, kind_bytes, kind_sizes, kind_chain, kind_weave,
	kind_append, kind_meta, kind_lazy, kind_readdir, kind_locks, kind_victims;
extern int root; /* the folder */

/* The result of the call, errno kept. */
#define OP(w, expr)                                                                      \
	({                                                                               \
		uint64_t begun_ = op_begin(w, #expr);                                    \
		long result_ = (long)(expr);                                             \
		op_end(w, begun_);                                                       \
		result_;                                                                 \
	})

uint64_t op_begin(struct worker *w, const char *call);
void op_end(struct worker *w, uint64_t begun);

uint64_t rnd(struct worker *w);
uint64_t below(struct worker *w, uint64_t n); /* 0..n-1 */
void nap_ms(unsigned int ms);
void *xalloc(size_t len);	  /* zeroed */
void *xalloc_aligned(size_t len); /* to a page */

/* Setting up goes wrong: no test is possible. */
_Noreturn void die(const char *what);

/* Counts and (the first ones) prints. failed(): with errno. */
void failed(struct worker *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void wrong_meta(struct worker *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The result r (0 or more is good) of a call against the errno that the model demands (0:
 * success). True if they agree; else it is counted.
 */
bool expect(struct worker *w, long r, int want, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* A transfer of exactly want bytes. */
bool expect_len(struct worker *w, long r, size_t want, const char *what, off_t off);

/* Counts the bytes that differ; true if none. off is for the report alone. */
bool same_bytes(struct worker *w, const void *got, const void *want, size_t len,
		off_t off);

/* Bytes that nobody else makes: of this file (seed), this block, this version; 0 is zeros. */
void stamp(void *buf, size_t len, uint64_t seed, uint64_t block, uint64_t version);
uint64_t hash_bytes(uint64_t hash, const void *buf, size_t len); /* begin with 0 */

/* Lines of the manifest: what must be there after the next mount, from the model. */
struct manifest_entry {
	char type; /* f d l */
	unsigned int mode, nlink;
	off_t size;
	uint64_t hash;
	const char *xattr; /* of user.torture, NULL none */
	const char *target;
};
void manifest_add(FILE *f, const struct manifest_entry *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int manifest_check(const char *manifest, const char *folder);

/* Runs body(arg); false if it took a SIGBUS (counted as an error). */
bool guarded_copy(struct worker *w, void *to, const void *from, size_t len);

#endif
