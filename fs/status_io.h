/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the status about reads and writes: of each image, and of the mount as a whole. */
#ifndef VCF_FS_STATUS_IO_H
#define VCF_FS_STATUS_IO_H

#include <json-c/json.h>

#include "fs/server.h"

/*
 * Images with a key in memory, an array. Opens wait no longer than it takes to copy the figures: the
 * text is made afterwards.
 */
struct json_object *status_images(struct server *sv);

/* Adds reads, writes, bytes_read, ..., read_latency, write_latency of the mount so far. */
struct json_object *status_io(const struct session *s);

/*
 * {"sum_us": N, "counts": [...]}: how many took at most 8 us, more and at most 16 us, ... as
 * histogram.h has it, without the zeros at the end.
 */
struct json_object *status_latency(const uint64_t *cnt, uint64_t sum_ns);

#endif
