/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One key service: a pool of key-helper processes and the requests that wait for them.
 *
 * All network, TLS, JSON and credentials live in the helpers; here are deadlines, retries
 * with jittered back-off (retryable kinds only: unavailable), a breaker that keeps requests back
 * while the service is down, replacement of helpers that die, hang or talk nonsense, coalescing
 * (one fetch serves all who wait for one id), and one second's memory of ids that were refused.
 *
 * One thread of its own runs an event loop. Calls never block: they queue and return.
 * `done` is called exactly once per call, from that thread, without locks held; it must
 * not block.
 */
#ifndef VCF_CRYPTO_KEYSERVICE_H
#define VCF_CRYPTO_KEYSERVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "crypto/keyproto.h"
#include "crypto/secret.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/histogram.h"

struct keyservice;

/* A helper to start, and as whom. */
struct keyservice_program {
	const char *path;
	uint32_t uid, gid; /* KEYSERVICE_SAME_USER: whoever starts it */
	bool log_stderr;   /* we read its stderr, else it has ours */
	/*
	 * For one with a user, from a process with one thread: what the new process does in a mount
	 * namespace of its own, in which it finds copies of systemd's credentials that are its user's
	 * (keycredentials.h). NULL: none of that.
	 */
	void (*leave_mounts)(void);
};
#define KEYSERVICE_SAME_USER UINT32_MAX

/* Our ends of its pipes, O_CLOEXEC and non-blocking. */
struct keyservice_ends {
	int to, from;
	int err; /* -1: it has our stderr */
};

/*
 * Starts a helper program with stdin, stdout and perhaps stderr on new pipes, closing
 * every descriptor from 3 on in the child, environment PATH, LANG, CREDENTIALS_DIRECTORY
 * only, own session, umask 077, no_new_privs, no core files. With a user it has that one's
 * uid and gid, no other groups and no capability; else none but CAPS_HELPER.
 *
 * pid  the child (the caller of spawn reaps it)
 * Returns 0 or -errno. The default is keyservice_spawn(); a server asks its keeper instead.
 */
typedef vcf_err_t keyservice_spawn_fn(void *arg, const struct keyservice_program *program,
				      struct keyservice_ends *ends, pid_t *pid);
NODISCARD vcf_err_t keyservice_spawn(void *arg, const struct keyservice_program *program,
				     struct keyservice_ends *ends, pid_t *pid);

/*
 * Ends a helper that a spawn function started: SIGKILL, and reaps it where the spawner
 * does not.
 */
typedef void keyservice_reap_fn(void *arg, pid_t pid);
void keyservice_reap(void *arg, pid_t pid);

/*
 * A helper process that can outlive the one it works for: its record lies in memory that the next
 * one sees, its descriptors in a table that both share.
 */
struct keyservice_helper {
	_Atomic int32_t pid; /* 0: free */
	int32_t to, from;    /* descriptors */
	int32_t err;	     /* the same, -1: none */
	uint32_t caps;
	_Atomic uint32_t
		idle;	 /* greeted, configured, without a request: may be used again */
	uint32_t config; /* keyservice_config.kept_config of the one it was given */
};

struct keyservice_option {
	const char *name;
	const char *value;
};

struct keyservice_config {
	const char *name;   /* as in the token: "default" or the section's NAME */
	const char *helper; /* absolute path, checked by keyservice_check_program() */
	bool own_user;	    /* it runs as uid and gid, else as whoever starts it */
	uint32_t uid, gid;
	const struct keyservice_option *options; /* sent as "option NAME VALUE" */
	size_t option_cnt;
	unsigned int children;		 /* most helpers at once, default 4 */
	unsigned int timeout_s;		 /* in all, default 60 */
	unsigned int request_timeout_ms; /* one try, default 20000 */
	keyservice_spawn_fn *spawn;	 /* NULL: keyservice_spawn */
	keyservice_reap_fn *reap;
	void *spawn_arg;
	/*
	 * What helpers write to stderr becomes lines of the log, a few a minute; the last one is
	 * part of the failure when a helper ends. Else it goes to our own stderr, as somebody who
	 * runs a command expects.
	 */
	bool log_stderr;
	/*
	 * Records of helpers, or NULL: of those with this kept_config, idle ones are taken over
	 * by keyservice_new(), the others end. Several services may share the records; what
	 * none of them wants is for keyservice_end_strays().
	 */
	struct keyservice_helper *kept;
	unsigned int kept_cnt;
	uint32_t kept_config;
	bool kept_in_use; /* other services are at work with them: nothing is taken over */
	/*
	 * For a command: once three helpers in a row could not be executed, or ended before they
	 * were ready, all requests fail at once (-ETIMEDOUT, the reason as text).
	 */
	bool give_up;
};

struct keyservice_result {
	vcf_err_t err;	  /* 0 or one of keyproto_errno(); -ECANCELED at shutdown */
	const char *id;	  /* new, find */
	const char *text; /* of the last failure, for the log; "" if none */
	/*
	 * get: the secret. new: NULL, or, from a helper that derives secrets, the one
	 * that replaces the secret passed in (which nobody keeps). Owned by the service;
	 * secret_dup() it to keep it.
	 */
	struct secret *secret;
};
typedef void keyservice_done_fn(void *arg, const struct keyservice_result *res);

/*
 * A regular file, executable, owned by root or by us, neither it nor any parent folder
 * writable by others (sticky folders excepted for root-owned entries). 0, or -errno with
 * a logged reason.
 */
NODISCARD vcf_err_t keyservice_check_program(const char *path);

/*
 * A helper's absolute path from its configured name: an absolute path as it is; else NAME
 * in the folder of helpers: `vmcryptfs-key-NAME` beside the running program or under it
 * (keys/, ../crypto/keys/ of a build tree), then the installed libexecdir.
 */
NODISCARD vcf_err_t keyservice_find_program(char *dst, size_t room, const char *name);

/* Copies what it needs of the configuration; helpers start on demand. */
NODISCARD vcf_err_t keyservice_new(struct keyservice **out,
				   const struct keyservice_config *cfg);

/*
 * Ends the helpers in cfg's records that have none of these configurations, before the services
 * that share the records are made. Only spawn, reap and the records are read of cfg.
 */
void keyservice_end_strays(const struct keyservice_config *cfg, const uint32_t *configs,
			   size_t cnt);

/*
 * The same with the spawn and reap functions of another one, which need not outlive it. Its
 * helpers are not kept.
 */
NODISCARD vcf_err_t keyservice_new_like(struct keyservice **out,
					const struct keyservice *like,
					const struct keyservice_config *cfg);

/*
 * Other settings from now on; requests are not disturbed: a helper with a request ends after
 * its answer, the others end now, new ones start with the new settings. Copies what it needs;
 * spawn, reap, spawn_arg and the records of helpers stay what they are. -ENOMEM: nothing has changed.
 */
NODISCARD vcf_err_t keyservice_reload(struct keyservice *ks,
				      const struct keyservice_config *cfg);

/*
 * Ends all waiting: done is called with -ECANCELED, later calls are refused with it. Helpers end.
 * For shutting down in order: those who use the service go between this and keyservice_free().
 */
void keyservice_shutdown(struct keyservice *ks);

/* Cancels what waits (done with -ECANCELED), ends the helpers, joins the thread. */
void keyservice_free(struct keyservice *ks);

/* Each returns 0 when queued, or -errno (then done is not called). Strings are copied. */
NODISCARD vcf_err_t keyservice_get(struct keyservice *ks, const char *id,
				   keyservice_done_fn *done, void *arg);
NODISCARD vcf_err_t keyservice_new_secret(struct keyservice *ks, const char *label,
					  const struct secret *secret,
					  keyservice_done_fn *done, void *arg);
/* The id of the newest record with this label, or -ENOKEY. */
NODISCARD vcf_err_t keyservice_find(struct keyservice *ks, const char *label,
				    keyservice_done_fn *done, void *arg);
/* 0 for destroyed and for gone. */
NODISCARD vcf_err_t keyservice_destroy(struct keyservice *ks, const char *id,
				       const char *label, keyservice_done_fn *done,
				       void *arg);
NODISCARD vcf_err_t keyservice_ping(struct keyservice *ks, keyservice_done_fn *done,
				    void *arg);

/*
 * The same, waiting: for commands and for background threads, never for a FUSE worker or
 * a `done`. text is set on failure too.
 */
struct keyservice_sync {
	char id[TOKEN_KEY_ID_MAX + 1];
	char text[KEYPROTO_TEXT_MAX + 1];
	struct secret *secret; /* get; new: NULL or the replacement; the caller's */
};
NODISCARD vcf_err_t keyservice_get_sync(struct keyservice *ks, const char *id,
					struct keyservice_sync *out);
NODISCARD vcf_err_t keyservice_new_sync(struct keyservice *ks, const char *label,
					const struct secret *secret,
					struct keyservice_sync *out);
NODISCARD vcf_err_t keyservice_find_sync(struct keyservice *ks, const char *label,
					 struct keyservice_sync *out);
NODISCARD vcf_err_t keyservice_destroy_sync(struct keyservice *ks, const char *id,
					    const char *label,
					    struct keyservice_sync *out);
NODISCARD vcf_err_t keyservice_ping_sync(struct keyservice *ks,
					 struct keyservice_sync *out);

/*
 * All records whose label begins with prefix (NULL: all). item is called for each, from the
 * service's thread, like done; with NULL at the start of each try: what came before is to be
 * forgotten. However long a list is, it goes on while items come; what fails is tried a few
 * times only.
 */
struct keyservice_item {
	const char *id, *label;
	const char *created; /* keyproto_created_valid() */
};
typedef void keyservice_item_fn(void *arg, const struct keyservice_item *item);
NODISCARD vcf_err_t keyservice_list(struct keyservice *ks, const char *prefix,
				    keyservice_item_fn *item, void *item_arg,
				    keyservice_done_fn *done, void *arg);
/* Waits; item is still called from the service's thread. */
NODISCARD vcf_err_t keyservice_list_sync(struct keyservice *ks, const char *prefix,
					 keyservice_item_fn *item, void *item_arg,
					 struct keyservice_sync *out);

struct keyservice_status {
	char helper[64];   /* the name from the configuration's path */
	const char *state; /* "idle", "ok", "failing", "slow": a request waits for 3 s */
	unsigned int children; /* running now */
	unsigned int waiting;  /* requests queued or under way */
	uint64_t requests, failures, restarts;
	const char *breaker;	 /* "closed", "open", "probing": keybreaker.h */
	uint64_t breaker_opened; /* how often */
	char last_error[128];
	time_t last_success, last_failure; /* of the epoch; 0: none yet */
	/* Answers of helpers, good or bad, from the request's line to theirs. */
	uint64_t took_cnt[HISTOGRAM_CNT], took_sum_ns;
	unsigned int
		caps; /* of enum key_cap, of the helper that answered last; 0: none yet */
};
void keyservice_get_status(struct keyservice *ks, struct keyservice_status *out);

DEFINE_AUTO(keyservice, struct keyservice *, keyservice_free)
#define auto_keyservice __attribute__((cleanup(cleanup_keyservice)))

#endif
