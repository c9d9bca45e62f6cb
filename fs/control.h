/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages between keeper and server over two SOCK_SEQPACKET pairs: one for the start-up
 * hand-shake, one for helpers that the keeper starts for the server (descriptors travel with
 * SCM_RIGHTS). Fixed-size structs, nothing to parse.
 */
#ifndef VCF_FS_CONTROL_H
#define VCF_FS_CONTROL_H

#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

enum control_kind {
	CONTROL_PREPARED = 1, /* server: checks are done, mount now */
	CONTROL_MOUNTED,      /* keeper */
	CONTROL_READY,	      /* server: FUSE_INIT was answered */
	CONTROL_SPAWN,	      /* server: start the helper `path` */
	CONTROL_SPAWNED,      /* keeper: value = pid or -errno; three descriptors */
	CONTROL_REAP,	      /* server: end the helper `value` */
	CONTROL_UPGRADE,  /* command: with the new program's descriptor; path: its name */
	CONTROL_ANSWER,	  /* keeper, to a command: value = exit code, path = text */
	CONTROL_RELOADED, /* server: after SIGHUP; value = 0 or -errno, digest */
	CONTROL_LOG_LEVEL, /* command: value as loglevel_parse() has it */
	CONTROL_DRAIN,	   /* command: value = 1: begin, 0: cancel */
};

struct control {
	uint32_t kind;
	int32_t value;
	uint32_t uid, gid; /* CONTROL_SPAWN: as struct keyservice_program */
	uint64_t digest;   /* of the configuration that is in use (config_digest()) */
	char path[4096];
};

/* fds: fd_cnt descriptors to send along (0 to 3). 0 or -errno. */
NODISCARD vcf_err_t control_send(int sock, const struct control *c, const int *fds,
				 int fd_cnt);

/*
 * Waits until a message is there. Both ends of the pair may lie in one descriptor table, where a
 * peer's death gives no end of file: `pidfd` tells of that (-1: none). -EPIPE: it is dead.
 */
NODISCARD vcf_err_t control_wait(int sock, int pidfd);

/* Receives one message; descriptors beyond fd_cnt are closed. 0, -EPIPE at the end, -errno. */
NODISCARD vcf_err_t control_recv(int sock, struct control *c, int *fds, int fd_cnt);

#endif
