/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an operator's command asks of a key service, with a line for each answer in the audit trail
 * that the configuration names: the same file as the mount's, with the command's name in place of
 * the server's number, and its own count of lines.
 */
#ifndef VCF_FS_KEYCALL_H
#define VCF_FS_KEYCALL_H

#include "crypto/container.h"
#include "crypto/keyservice.h"
#include "fs/config.h"

/* Once a process; where nothing is configured, nothing is written. Logs what fails. */
void keycall_begin(const struct config *cfg, const char *command);

/* Before the process ends: writes what waits. Harmless without keycall_begin(). */
void keycall_end(void);

/* Of what. */
struct keycall {
	struct keyservice *ks;
	const char *service, *path;
	const unsigned char *uuid; /* NULL: of no container */
};

/* keyservice.h's, with a line. The label is the uuid. */
NODISCARD vcf_err_t keycall_get(const struct keycall *c, const char *id,
				struct keyservice_sync *out);
NODISCARD vcf_err_t keycall_new(const struct keycall *c, const struct secret *secret,
				struct keyservice_sync *out);
NODISCARD vcf_err_t keycall_destroy(const struct keycall *c, const char *id,
				    struct keyservice_sync *out);

/* Lines without a request: an image has this secret from now on; the escrow key gave its secret. */
void keycall_assigned(const struct keycall *c, const char *id);
void keycall_recovered(const struct keycall *c, const char *id);

#endif
