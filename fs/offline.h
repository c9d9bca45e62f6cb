/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What commands share that change containers which no daemon has open: adopt, recover.
 *
 * They work on the file in the backing folder, one at a time (flock), and refuse one that a daemon
 * has open. Secrets that they make are noted in a journal of their own beside the mount's ("offline",
 * journal.h), which the next run of such a command settles: what a crash left is destroyed at the
 * service if no container has it.
 */
#ifndef VCF_FS_OFFLINE_H
#define VCF_FS_OFFLINE_H

#include "crypto/container.h"
#include "crypto/container_rekey.h"
#include "crypto/journal.h"
#include "crypto/keyservice.h"
#include "fs/config.h"
#include "fs/rules.h"
#include "util/err.h"
#include "util/lock.h"

struct offline {
	const char *command; /* for messages */
	const char *runtime; /* where daemons are asked */
	const struct config *cfg;
	struct keyservice
		*ks[CONFIG_SERVICES_MAX]; /* in the order of cfg's; NULL: not asked yet */
	struct journal *journal;
	struct rules *rules;
	struct mutex lock; /* ks, as they are made */
};

/* What is under way with one file. */
struct offline_file {
	char path[4096]; /* absolute */
	int fd;		 /* O_RDWR, or O_RDONLY */
	struct container *c;
	bool foreign; /* it is not ours (container_adopt.h) */
};

/* Once; EXIT_OK or an exit code, with a message. */
NODISCARD int offline_init_crypto(void);

/*
 * Opens the journal, and settles what an earlier run has left there. An
 * exit code, with a message. offline_fini() in every case.
 */
NODISCARD int offline_init(struct offline *o, const char *command,
			   const struct config *cfg, const char *runtime);
void offline_fini(struct offline *o);

/*
 * Opens a file without looking at what it is (f->c stays NULL); change: as offline_open(). Says
 * nothing: offline_refusal() has the words.
 */
NODISCARD vcf_err_t offline_claim(struct offline_file *f, const char *path,
				  const char *runtime, bool change);
const char *offline_refusal(vcf_err_t err);

/*
 * Opens a container and reads its header. change: to change it, which is refused while a daemon has
 * it open (-EBUSY); until offline_close() no daemon opens it, and none keeps its key. A damaged copy
 * of its header is mended after it was unlocked. Says what is wrong.
 */
NODISCARD vcf_err_t offline_open(struct offline_file *f, const char *command,
				 const char *path, const char *runtime, bool change);
/* The same of a LUKS container that is not ours, to be adopted. */
NODISCARD vcf_err_t offline_open_foreign(struct offline_file *f, const char *command,
					 const char *path, const char *runtime);
void offline_close(struct offline_file *f);

/* The secret of the loaded container, from the service. Says what is wrong. */
NODISCARD vcf_err_t offline_fetch(struct offline *o, const struct offline_file *f,
				  struct secret **secret);

/* The key service of that name. -ENOKEY: none is configured; said. */
NODISCARD vcf_err_t offline_service(struct offline *o, const char *name,
				    struct keyservice **ks);

/* How the secret of a container is changed, and what became of it. */
struct offline_change {
	char service[TOKEN_SERVICE_MAX +
		     1];  /* ""; that of the file's rule; then: the one taken */
	bool stays_bound; /* -EBADMSG where it lies in another instance's place; else it
			     becomes that one's */
	enum token_holes holes; /* of a foreign one */
	enum rekey_outcome outcome;
	char key_id[TOKEN_KEY_ID_MAX + 1]; /* the new one */
	bool escrow_lost;		   /* it had an escrow token, and has none */
	char text[768];			   /* what went wrong */
};

/* The new secret of an unlocked container, and its new uuid. Says nothing. */
NODISCARD vcf_err_t offline_change_secret(struct offline *o, struct offline_file *f,
					  struct offline_change *ch);

/*
 * Gives the unlocked container a new secret of the service, and its uuid; the context becomes that
 * of the file's path if it lies in the backing folder. Says what it did, or what is wrong.
 */
NODISCARD vcf_err_t offline_rekey(struct offline *o, struct offline_file *f);

/* Likewise makes a foreign one ours; holes: as container_adopt(). -EPERM: a passthrough file. */
NODISCARD vcf_err_t offline_adopt(struct offline *o, struct offline_file *f,
				  enum token_holes holes);

/* A secret by its id, of the service of that name ("": that of the file's rule). Says what is wrong. */
NODISCARD vcf_err_t offline_fetch_id(struct offline *o, const struct offline_file *f,
				     const char *service, const char *id,
				     struct secret **secret);
/* What follows the backing folder in an absolute path; NULL: it is not below. */
const char *offline_place(const struct offline *o, const char *path);

/* The key service of that name; thread-safe. -ENOKEY: none is configured; said. */
NODISCARD vcf_err_t offline_service(struct offline *o, const char *name,
				    struct keyservice **ks);

/*
 * Destroys what a note of the journal names, which no container has. 0: nothing of it is at the
 * service; -EAGAIN: it may still arrive there. Thread-safe.
 */
NODISCARD vcf_err_t offline_destroy_unused(struct offline *o,
					   const struct journal_entry *e);

#endif
