/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be checked of one container without changing it, also while it is in use: nothing is
 * locked. What a daemon is just changing may look like a fault; so one that passes is none: a fault
 * counts once header and size have been seen to be the same before and after it was found again.
 *
 * Of the data only whether it can be read: AES-XTS has no checksum, and every byte decrypts to
 * something.
 */
#ifndef VCF_FS_VERIFY_H
#define VCF_FS_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/container.h"
#include "fs/rules.h"
#include "fs/tool.h"
#include "fs/toolkeys.h"
#include "util/err.h"

enum verify_kind {
	VERIFY_FILE,	  /* the file cannot be read */
	VERIFY_PLAINTEXT, /* no container */
	VERIFY_HEADER,	  /* no good copy, or refused by the allow-list */
	VERIFY_COPY,	  /* one copy of two of LUKS2 */
	VERIFY_PAGE,	  /* the first page of LUKS1 is torn, the kept ones are there */
	VERIFY_REMAINS,	  /* of an old key slot */
	VERIFY_CONTEXT,	  /* of another instance than its path */
	VERIFY_SERVICE,	  /* not configured */
	VERIFY_ANSWER,	  /* the service did not say */
	VERIFY_SECRET,	  /* the service has it no more */
	VERIFY_SLOT,	  /* the key slot does not open */
	VERIFY_MAC,
	VERIFY_KEY,    /* the volume key is not the header's */
	VERIFY_SIZE,   /* decodes to none */
	VERIFY_MARKER, /* is data */
	VERIFY_HOLE,   /* where the token says that there is none */
	VERIFY_SECTOR, /* cannot be read */
};

struct verify_fault {
	enum verify_kind kind;
	char text[256];
};

enum { VERIFY_FAULTS_MAX = 12 };

struct verify {
	/* the caller's */
	struct toolkeys *keys;
	const struct rules *rules;
	const char *path; /* for the audit trail */
	const char *
		rel; /* its place below the backing folder, or a device's name; "": none */
	int fd;	     /* O_RDONLY at least */
	/* found */
	uint64_t len; /* of the file */
	struct peek peek;
	uint64_t unreadable; /* bytes, by verify_read() */
	struct verify_fault faults[VERIFY_FAULTS_MAX];
	size_t cnt;
};

/* Fills in what is found; a PEEK_EMPTY has no faults. Blocks on disk and on the key service. */
void verify_file(struct verify *v);

/*
 * Reads all data behind the header, past the page cache where that is possible, and adds what cannot
 * be read; tells f how far it is. After verify_file() has found a header and a size that are right.
 * -EINTR: tool_interrupted(); -ENOMEM.
 */
NODISCARD vcf_err_t verify_read(struct verify *v, struct tool_file *f);

const char *verify_name(enum verify_kind kind);	   /* for programs: "header-copy" */
const char *verify_way_out(enum verify_kind kind); /* what an operator does about it */
vcf_err_t verify_err(enum verify_kind kind);	   /* for the exit code */

bool verify_has(const struct verify *v, enum verify_kind kind);

#endif
