/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a tar archive of small texts. Source: POSIX pax, "ustar Interchange Format". */
#ifndef VCF_FS_TARFILE_H
#define VCF_FS_TARFILE_H

#include <stddef.h>
#include <stdio.h>
#include <time.h>

/* One regular file, mode 0600, of root. The name has at most 99 bytes. Errors: ferror(to). */
void tarfile_add(FILE *to, const char *name, const void *data, size_t len, time_t when);

/* The end: two empty blocks. */
void tarfile_end(FILE *to);

#endif
