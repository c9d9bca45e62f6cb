/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of an image at once: its header is overwritten, its secret destroyed and the service's answer
 * told, its file removed. Of a file that no daemon has open (offline.h).
 *
 *   look     a container, one name, nobody else's secret; the service has it and the MAC is right
 *   note     `wiped` in the offline journal, with the first 32 KiB of the header
 *   wipe     the whole header, random bytes; unless the file is kept, it is cut to nothing
 *   destroy  at the service, which has to acknowledge it
 *   receipt
 *   remove   the file, unless it is kept
 *   close the note
 *
 * A run that was cut short after its note is completed by the next shred, whichever file that is given:
 * all steps again, where "gone" is the service's answer for what it has destroyed already. Before the
 * note nothing has changed. Other commands leave such a note alone.
 *
 * A derived image has no secret of its own: its header is all that is destroyed, "local".
 */
#ifndef VCF_FS_SHRED_H
#define VCF_FS_SHRED_H

#include <json-c/json.h>
#include <stdbool.h>

#include "fs/offline.h"
#include "fs/tool.h"
#include "util/err.h"

struct shred {
	struct offline offline;
	bool keep_file;
	/* Of each image, before its file is removed; may be called by several threads. */
	vcf_err_t (*receipt)(void *arg, struct json_object *receipt);
	void *receipt_arg;
};

/* Completes what was cut short; done: the paths of it. -errno: not all, said. */
NODISCARD vcf_err_t shred_resume(struct shred *s, struct tool_list *done);

/* Says what is wrong. The receipt is f's, too. */
NODISCARD vcf_err_t shred_file(struct shred *s, struct tool_file *f,
			       const struct tool_place *place);

#endif
