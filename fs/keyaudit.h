/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The audit trail of a mount: its settings, and who has an image opened. */
#ifndef VCF_FS_KEYAUDIT_H
#define VCF_FS_KEYAUDIT_H

#include <stdint.h>

#include "crypto/keyservice.h"
#include "crypto/reserve.h"
#include "fs/server.h"
#include "util/audit.h"

/* A request to a key service for an image: for whom, since when. */
struct keyaudit {
	bool has_opener;
	uint32_t uid, pid;
	uint64_t start_ms;
};

/* What a configuration says of it; points into that. */
struct audit_settings keyaudit_settings(const struct config *cfg);

/* -errno (logged). The ring is one that an earlier server left, where there is one. */
NODISCARD vcf_err_t keyaudit_start(struct server *sv);
void keyaudit_stop(struct server *sv);

/* As a reload says; the file is opened anew. */
void keyaudit_change(const struct config *cfg);

/* Who sent the request that this thread executes; nobody, where it executes none. */
void keyaudit_opener(struct keyaudit *a);

/* For the reserve: whose wait it is. path must outlive it. */
struct reserve_wanted keyaudit_wanted(const struct keyaudit *a, const char *path);

/* What a service said to `get`; uuid NULL: of no image. */
void keyaudit_fetched(const struct keyaudit *a, const char *path,
		      const unsigned char *uuid, const char *service, const char *key_id,
		      const struct keyservice_result *res);

/* A secret of the reserve belongs to an image from now on. */
void keyaudit_assigned(const struct keyaudit *a, const char *path,
		       const unsigned char *uuid, const char *service,
		       const char *key_id);

/* An open that found the key in memory; a line where the settings want it. */
void keyaudit_used(struct image_entry *e);

#endif
