/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that a key service lists, in memory. For commands. */
#ifndef VCF_FS_KEYRECORDS_H
#define VCF_FS_KEYRECORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/keyservice.h"
#include "util/err.h"

struct keyrecord {
	char *id, *label, *created;
};

struct keyrecords {
	struct keyrecord *list; /* by id */
	size_t cnt, room;
	bool short_of_memory;
};

/* Fills *r (zeroed before); keyrecords_fini() in every case. out->text tells of a failure. */
NODISCARD vcf_err_t keyrecords_fetch(struct keyrecords *r, struct keyservice *ks,
				     const char *prefix, struct keyservice_sync *out);
const struct keyrecord *keyrecords_find(const struct keyrecords *r, const char *id);
void keyrecords_fini(struct keyrecords *r);

#endif
