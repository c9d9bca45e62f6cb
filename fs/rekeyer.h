/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New secrets for images of the mount, as an operator asks for them (vmcryptfs rekey): the requests
 * that come in through the socket for keys (keysop.h), and how far they are.
 *
 *   {"op":"rekey","dev":N,"ino":N,"path":TEXT,"uuid":TEXT,"service":TEXT,"now":false}
 *       path: below the mount; uuid: of the header that is to be changed; service: the next
 *       secret's, "": as rekeyjob.h says; now: the old secret is due at once
 *   {"state":"waits"}, with "passing":true where somebody else is at its header just now
 *   {"state":"done","uuid","key_id","service","generation","changed", and if that:
 *       "old_key_id","old_service","old":"site"|"kept"|"queued","due","escrow_lost"}
 *   {"state":"failed","code":ERRNO,"text":TEXT}
 *
 * The request is repeated until its answer is another than "waits", which is then forgotten here. Of a
 * header that has another uuid already the answer is "done", without "changed": so the same request
 * may go to the next server when this one dies, and does what is left to do.
 *
 * Thread-safe. No call blocks on the network.
 */
#ifndef VCF_FS_REKEYER_H
#define VCF_FS_REKEYER_H

#include <json-c/json.h>

#include "fs/server.h"

struct rekeyer;

NODISCARD vcf_err_t rekeyer_new(struct rekeyer **out, struct server *sv);
/* No job is under way any more. */
void rekeyer_free(struct rekeyer *r);

/* The answer is the caller's. */
struct json_object *rekeyer_ask(struct rekeyer *r, struct json_object *request);

#endif
