/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command's side of rekeyer.h: asks the server of a mount for a new secret of one image, and waits,
 * also while another server takes its place. Thread-safe.
 */
#ifndef VCF_FS_REKEY_ONLINE_H
#define VCF_FS_REKEY_ONLINE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "crypto/token.h"
#include "util/err.h"

struct rekey_request {
	const char *runtime, *mountpoint;
	const char *path; /* below it */
	uint64_t dev, ino;
	const char *uuid;    /* text: of the header that is to be changed */
	const char *service; /* "": as the server says (rekeyjob.h) */
	bool now;
};

/*
 * answer: the caller's, "done" or "failed" (then also its error is returned).
 * -ECONNREFUSED  nobody serves the mount
 * -EHOSTDOWN     it is there, and nobody answers for it
 * -EINTR         the user gave up; the server goes on
 * -EREMOTEIO     the daemon refuses; the answer has its "error"
 */
NODISCARD vcf_err_t rekey_online(const struct rekey_request *r,
				 struct json_object **answer);

#endif
