/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words of strangers (a key service's errors, a helper's stderr) for the log. They may quote
 * what they were sent, so what is as long as a token or a secret does not get through. That is all
 * that can be told of it: a password, a token of 40 characters or fewer, or a UUID that is a
 * credential looks like any other word. Pure.
 */
#ifndef VCF_UTIL_UNTRUSTED_H
#define VCF_UTIL_UNTRUSTED_H

#include <stddef.h>

/* The longest unbroken run that is shown: a UUID is, base64 or hex of 32 bytes is not. */
enum { UNTRUSTED_RUN_MAX = 40 };

/*
 * Printable ASCII of src, cut to room with its NUL (room > 0); runs of anything else become one
 * blank, none at the start or the end. A run of more than UNTRUSTED_RUN_MAX letters, digits and
 * + / = _ - % ~ \ becomes "[... N characters]". Dots and whole UUIDs break a run, so that host
 * names and references stay readable; an absolute path stays as it is if no part of it is so
 * long. After the prefix of a Vault token (s. b. r. hvs. ...) 16 characters are too many.
 */
void untrusted_text(char *dst, size_t room, const char *src, size_t len);

/*
 * The length of src without a run at its end, or what follows a dot, slash or = of it, that is short
 * enough to be shown: for what was cut off somewhere, where nobody knows how long it was.
 */
size_t untrusted_cut_len(const char *src, size_t len);

#endif
