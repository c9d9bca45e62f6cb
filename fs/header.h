/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Headers apart from their containers: saved, and put back.
 *
 * A header is put back only where the one that is there does not open the image, and only if the
 * volume key is that of the image's data:
 *
 *   the header that is there           what counts
 *   opens with its secret              nothing is written
 *   its secret may be there, but the   nothing is written: it cannot be told
 *   service does not say
 *   loads, its secret is gone or       its kcv is that of the backup's volume key
 *   does not open it
 *   is damaged or gone, or its kcv is  the data, decrypted with the backup's volume key, is not
 *   another one                        noise (tooldata_proves_key)
 *
 * Where even the data says nothing (it is empty, or noise of its own) an operator who knows the
 * image's uuid may answer for it; what is overwritten is kept then.
 */
#ifndef VCF_FS_HEADER_H
#define VCF_FS_HEADER_H

#include <limits.h>

#include "fs/offline.h"
#include "fs/tool.h"
#include "fs/toolkeys.h"
#include "util/err.h"

struct header_job {
	struct toolkeys *keys;
	const char *path;   /* the container's, as it is opened */
	const char *backup; /* the other file */
	const char *uuid;   /* of restore: who answers for it; NULL: nobody */
	char text[TOOLKEYS_WHY_LEN +
		  PATH_MAX]; /* what is said in the end, also of errors */
};

/*
 * Saves the header to a new file, mode 0600, durable: whole, or not at all. Also while the image is in
 * use. An exit code.
 */
NODISCARD int header_backup(struct header_job *j);

/*
 * Puts it back. file: offline_claim(), for change. An exit code; EXIT_REFUSED, like every other one
 * that comes before the first byte is written: the file is as it was.
 */
NODISCARD int header_restore(struct header_job *j, const struct offline_file *file);

#endif
