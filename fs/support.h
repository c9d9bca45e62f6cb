/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of a support bundle: texts about a mount and its machine, none with a secret. Each is
 * masked (mask.h) before it gets into the archive.
 */
#ifndef VCF_FS_SUPPORT_H
#define VCF_FS_SUPPORT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "fs/config.h"

struct support {
	const char *mountpoint;	    /* NULL: none is known */
	struct json_object *status; /* NULL: nobody answers */
	struct config *cfg;	    /* NULL: it could not be read */
	bool anonymous;		    /* no names of images, paths, hosts, key ids */
	size_t log_lines;
};

struct support_part {
	const char *name;
	void (*write)(FILE *to, const struct support *s);
	bool named; /* has names in it: left out of an anonymous bundle */
};

extern const struct support_part support_parts[];
extern const size_t support_part_cnt;

/* The values of helpers' options that are shown: settings, not addresses, accounts or secrets. */
bool support_is_harmless(const char *name, const char *value);

#endif
