/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of parked requests, in the session's area (b), and their records: what a successor
 * needs to go on with them. Which request waits for what is deferred.h's.
 *
 * Not locked: the caller's lock guards all calls but park_fill() and park_wipe(), which belong to
 * whoever has the record.
 */
#ifndef VCF_FS_PARK_H
#define VCF_FS_PARK_H

#include "fs/session.h"
#include "util/cleanup.h"

struct park;

/* Finds its records as an earlier process left them. -ENOMEM. */
NODISCARD vcf_err_t park_new(struct park **out, struct session *s);
void park_free(struct park *p);

/* Room for a request of len bytes. -ENOMEM: there is none. */
NODISCARD vcf_err_t park_take(struct park *p, size_t len, struct session_parked **out);

/* Copies the request in; it counts from the store of its unique on. */
void park_fill(struct park *p, struct session_parked *r, const void *req, uint64_t unique,
	       uint32_t faults, uint32_t intent);

const void *park_data(const struct park *p, const struct session_parked *r);

/* From here on a successor does not see it; the bytes go. */
void park_wipe(struct park *p, struct session_parked *r);
/* After that: the room is free again. */
void park_give(struct park *p, struct session_parked *r);

DEFINE_AUTO(park, struct park *, park_free)
#define auto_park __attribute__((cleanup(cleanup_park)))

#endif
