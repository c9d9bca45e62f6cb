/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file takes the place of another one, for commands that change what a file is:
 *
 *   replace_begin()     DIR/.NAME.vmcryptfs is made, empty, and noted with its inode number
 *   ...                 the caller writes it
 *   replace_switch()    owner, mode, times, attributes; synced; the two exchange their names; what
 *                       came out is the file that was read, else they change back
 *   replace_finish()    the old one goes, the note is closed
 *   replace_discard()   instead: the new one goes, and its secret
 *
 *   crash                             the next command's start finds          and
 *   before the exchange               the new inode beside, or nothing there  discards it
 *   after it                          it in its place, or another one beside  finishes
 *
 * so that there is one of them at each moment. What can not be told stays, and is said.
 */
#ifndef VCF_FS_REPLACE_H
#define VCF_FS_REPLACE_H

#include <limits.h>
#include <sys/stat.h>

#include "fs/newsecret.h"
#include "fs/offline.h"

struct replace {
	struct newsecret *secret;
	char path[PATH_MAX], beside[PATH_MAX]; /* absolute */
	const char *name, *temp;	       /* their last components */
	int dirfd, fd;			       /* fd: the new one's, O_RDWR */
	struct stat was;		       /* the old one as it was read */
};

/*
 * old: a descriptor of the file at path, O_RDWR. -EEXIST: something unknown is where the new one is to
 * be. replace_fini() in every case.
 */
NODISCARD vcf_err_t replace_begin(struct replace *r, struct newsecret *secret,
				  const char *path, int old);

/*
 * -EBUSY, -ESTALE: somebody has the file open; it is another one by now, or was written to meanwhile:
 * nothing was changed. -EUCLEAN: another one was put in its place in the very moment, and is beside
 * now (logged); nothing is to be discarded.
 */
NODISCARD vcf_err_t replace_switch(struct replace *r, int old);

/* wipe: the old one's bytes are overwritten first. -errno: it is still there; the note stays. */
NODISCARD vcf_err_t replace_finish(struct replace *r, int old, bool wipe);
/* -EUCLEAN: it may be in its place already; all notes have to stay. */
NODISCARD vcf_err_t replace_discard(struct replace *r);
void replace_fini(struct replace *r);

/*
 * Is the file open for writing by anybody else (any descriptor but the caller's), as far as the kernel
 * tells? -EBUSY. fd: O_RDWR, the only one of the caller's.
 */
NODISCARD vcf_err_t replace_check_alone(int fd);

/* Owner, mode, extended attributes (ACLs among them) and times. */
NODISCARD vcf_err_t replace_copy_attributes(int from, int to, const struct stat *st);

/* offline_init(): is this note one of these, and what to do with it. Logs what stays. */
bool replace_is(const struct journal_entry *e);
void replace_settle(struct offline *o, const struct journal_entry *e);

/* Is it a name that a new file has until it is in its place? */
bool replace_is_temp(const char *path);

#endif
