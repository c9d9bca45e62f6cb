/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source of the format: proc(5), /proc/[pid]/maps. */
#include "fs/procmaps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/text.h"

bool procmaps_parse(struct procmap *out, const char *line)
{
	char perms[5] = "";
	struct procmap m = {0};
	const char *name;
	int used = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &m.start,
		   &m.end, perms, &m.off, &used) < 4 ||
	    !used || m.start >= m.end || perms[2] != 'x')
		return false;
	name = strrchr(line + used, '/');
	name = name ? name + 1 : line + used;
	TEXT_CUT(m.name, *name ? name : "?");
	*out = m;
	return true;
}

vcf_err_t procmaps_read(struct procmaps *out, pid_t pid)
{
	char path[48], line[4352];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	out->cnt = 0;
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (out->cnt < PROCMAPS_MAX && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (procmaps_parse(&out->maps[out->cnt], line))
			out->cnt++;
	}
	fclose(f);
	return 0;
}

/* "0x1f"; no printf in a signal handler. */
static size_t put_hex(char *dst, uint64_t v)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;
	int shift = 60;

	dst[n++] = '0';
	dst[n++] = 'x';
	while (shift && !(v >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		dst[n++] = digits[v >> shift & 15];
	dst[n] = '\0';
	return n;
}

size_t procmaps_name(const struct procmaps *m, uint64_t addr, char dst[PROCMAPS_TEXT_MAX])
{
	for (size_t i = 0; i < m->cnt; i++) {
		const struct procmap *p = &m->maps[i];
		size_t n = 0;

		if (addr < p->start || addr >= p->end)
			continue;
		while (p->name[n]) {
			dst[n] = p->name[n];
			n++;
		}
		dst[n++] = '+';
		return n + put_hex(dst + n, addr - p->start + p->off);
	}
	return put_hex(dst, addr);
}
