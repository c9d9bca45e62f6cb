/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text that leaves the machine. Nothing of ours writes a secret to a log or a status; this is for what
 * others write there: helpers of one's own, libraries, services in their error texts.
 */
#ifndef VCF_FS_MASK_H
#define VCF_FS_MASK_H

#include <stdio.h>

/*
 * Writes one line (without its end) with "[masked]" in place of
 *   what stands behind a word like password, secret or token and '=' or ':', to the line's end, and
 *   behind "Bearer"
 *   32 hex digits or more in a row
 *   words as long as a token (32) that have capitals, small letters and digits, and those of 20 that begin
 *   like Vault's, Keystone's or JSON web tokens
 * uuids stay, and paths but for components that look like that. Pure.
 */
void mask_line(FILE *to, const char *line);

/* The same for a text of many lines, each ended. */
void mask_text(FILE *to, const char *text);

#endif
