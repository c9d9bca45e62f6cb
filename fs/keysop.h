/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an operator asks of the journal of secrets: the same code in the server, behind its
 * socket (keysctl.h), and in a command that holds the journal of a mount that nobody serves.
 *
 * Requests and answers are JSON objects:
 *
 *   {"op":"pending"}                          {"entries":[...]}
 *   {"op":"restore","which":[TEXT...],"all":false}   {"done":[...],"missing":[TEXT...],
 *   {"op":"drop","which":[TEXT...]}                   "failed":[...]}; TEXT is a uuid, a key
 *   {"op":"confirm","which":[TEXT...]}                id or a path
 *   {"op":"queue","items":[ITEM...]}          {"queued":N,"known":N}; ITEM is {"key_id","label",
 *                                             "service"}, and where it was a container's, "path",
 *                                             "header" (its first 32 KiB, base64) and "now"
 *   {"op":"reaped","receipts":[...]}          {"closed":N,"suspect":N,"unknown":N}
 *   {"op":"forget","dev":N,"ino":N}           {"forgotten":true}
 *   {"op":"rekey", ...}                       as rekeyer.h says
 *   {"op":"inventory"}                        the lines of an inventory (inventory.h)
 *
 * or {"error":TEXT,"code":EXIT-CODE}.
 *
 *   restore  an entry that waits is closed: its secret stays
 *   drop     a suspect is forgotten: its secret stays
 *   confirm  a suspect is to be destroyed after all, by label, without a MAC
 *   queue    secrets that no image has (orphans), or none any more (oldsecret.h), begin their
 *            delay; now: without one
 *   forget   the key of an image that nobody has open goes now, for a command that has locked the
 *            file (offline.h)
 *   reaped   what a controller did with entries that waited
 */
#ifndef VCF_FS_KEYSOP_H
#define VCF_FS_KEYSOP_H

#include <json-c/json.h>
#include <stdio.h>

#include "crypto/deletion.h"
#include "crypto/journal.h"
#include "fs/config.h"
#include "util/err.h"

struct server;

struct keysop {
	const struct config *cfg;
	struct journal *journal;
	struct deletion_queue *queue; /* NULL: nobody serves */
	struct server *sv;	      /* NULL likewise */
};

/* Answers on `to`. -errno: it could not be written. */
NODISCARD vcf_err_t keysop_run(const struct keysop *k, struct json_object *request,
			       FILE *to);

/* One entry as it is shown: id, state, uuid, service, key_id, path, created, due. */
struct json_object *keysop_entry(const struct journal_entry *e);

/* What `status` says of the queue; `most` entries are listed. */
struct json_object *keysop_queue_status(const struct keysop *k, size_t most);

#endif
