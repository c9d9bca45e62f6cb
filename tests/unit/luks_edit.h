/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutants of LUKS headers whose checksums are right, so that they get past the first
 * look. hdr is at least CONTAINER_PEEK_LEN bytes in all of these.
 */
#ifndef VCF_TESTS_LUKS_EDIT_H
#define VCF_TESTS_LUKS_EDIT_H

#include <stdbool.h>

/* Replaces the first `find` in the JSON of both copies; false if it is not there. */
bool luks2_edit(unsigned char *hdr, const char *find, const char *replace);

/* Puts this JSON text into both copies. */
void luks2_set_json(unsigned char *hdr, const char *json);

/* The JSON text of the primary copy. */
const char *luks2_json(const unsigned char *hdr);

/* Sets both copies' uuid. */
void luks2_set_uuid(unsigned char *hdr, const char *uuid);

/* Makes the checksums of both copies right. */
void luks2_repair(unsigned char *hdr);

/* Replaces the first `find` in the token area of a LUKS1 header (same length only). */
bool luks1_edit_token(unsigned char *hdr, const char *find, const char *replace);

/* Makes the checksum of the token area right, if its length is possible. */
void luks1_repair(unsigned char *hdr);
/* The same of the escrow token. */
void luks1_repair_escrow(unsigned char *hdr);

#endif
