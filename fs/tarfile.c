/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/tarfile.h"

#include <string.h>

enum { BLOCK = 512 };

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], type;
	char linkname[100], magic[6], version[2], uname[32], gname[32], dev[16];
	char prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == BLOCK, "one block");

/* The sum is made with its own field as blanks; it ends with a NUL and a blank. */
static void set_sum(struct ustar *h)
{
	const unsigned char *p = (const unsigned char *)h;
	unsigned int sum = 0;

	memset(h->chksum, ' ', sizeof(h->chksum));
	for (size_t i = 0; i < BLOCK; i++)
		sum += p[i];
	snprintf(h->chksum, 7, "%06o", sum & 0777777);
}

void tarfile_add(FILE *to, const char *name, const void *data, size_t len, time_t when)
{
	static const char zeros[BLOCK];
	struct ustar h = {.type = '0', .magic = "ustar", .version = {'0', '0'}};

	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.mode, sizeof(h.mode), "%07o", 0600u);
	snprintf(h.uid, sizeof(h.uid), "%07o", 0u);
	snprintf(h.gid, sizeof(h.gid), "%07o", 0u);
	snprintf(h.size, sizeof(h.size), "%011llo",
		 (unsigned long long)len & 077777777777ull);
	snprintf(h.mtime, sizeof(h.mtime), "%011llo",
		 (unsigned long long)when & 077777777777ull);
	snprintf(h.uname, sizeof(h.uname), "root");
	snprintf(h.gname, sizeof(h.gname), "root");
	set_sum(&h);
	fwrite(&h, 1, sizeof(h), to);
	fwrite(data, 1, len, to);
	if (len % BLOCK)
		fwrite(zeros, 1, BLOCK - len % BLOCK, to);
}

void tarfile_end(FILE *to)
{
	static const char zeros[2 * BLOCK];

	fwrite(zeros, 1, sizeof(zeros), to);
}
