/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The manifest: one line for everything that must be there,
 *	TYPE MODE LINKS SIZE HASH XATTR TARGET PATH
 * "-" is none, 0 links is any. Whatever else the folder has is an error, too.
 */
#include "torture.h"

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { REPORTS_MAX = 40 };

void manifest_add(FILE *f, const struct manifest_entry *e, const char *fmt, ...)
{
	va_list ap;

	fprintf(f, "%c %o %u %jd %016" PRIx64 " %s %s ", e->type, e->mode, e->nlink,
		(intmax_t)e->size, e->hash, e->xattr ? e->xattr : "-",
		e->target ? e->target : "-");
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fputc('\n', f);
}

struct line {
	char type, xattr[64], target[64], path[1024];
	unsigned int mode, nlink;
	intmax_t size;
	uint64_t hash;
};

static unsigned int bad;

static void complain(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void complain(const char *path, const char *fmt, ...)
{
	va_list ap;

	if (bad++ >= REPORTS_MAX)
		return;
	fprintf(stderr, "torture: check: %s: ", path);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void check_contents(const struct line *l)
{
	static unsigned char buf[1 << 20];
	int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char value[64] = "-";
	intmax_t total = 0;
	uint64_t hash = 0;
	ssize_t n;

	if (fd < 0) {
		complain(l->path, "%s", strerror(errno));
		return;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		hash = hash_bytes(hash, buf, (size_t)n);
		total += n;
	}
	if (n < 0)
		complain(l->path, "%s", strerror(errno));
	else if (total != l->size || hash != (total ? l->hash : hash))
		complain(l->path, "contents differ from the model's (%jd bytes of %jd)",
			 total, l->size);
	if (fgetxattr(fd, "user.torture", value, sizeof(value) - 1) < 0 &&
	    errno != ENODATA && errno != ENOTSUP)
		complain(l->path, "getxattr: %s", strerror(errno));
	if (strcmp(value, l->xattr) != 0)
		complain(l->path, "attribute %s, wanted %s", value, l->xattr);
	close(fd);
}

static void check_line(const struct line *l)
{
	char target[64] = "";
	struct stat st;

	if (lstat(l->path, &st) < 0)
		complain(l->path, "%s", strerror(errno));
	else if (l->type != (S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : 'l'))
		complain(l->path, "is of another type: %o", st.st_mode);
	else if (l->type != 'l' && (st.st_mode & 07777) != l->mode)
		complain(l->path, "mode %o, wanted %o", st.st_mode & 07777, l->mode);
	else if (l->type != 'd' && l->nlink && st.st_nlink != l->nlink)
		complain(l->path, "%ju links, wanted %u", (uintmax_t)st.st_nlink,
			 l->nlink);
	else if (l->type == 'f' && st.st_size != l->size)
		complain(l->path, "size %jd, wanted %jd", (intmax_t)st.st_size, l->size);
	else if (l->type == 'f')
		check_contents(l);
	else if (l->type == 'l' && (readlink(l->path, target, sizeof(target) - 1) < 0 ||
				    strcmp(target, l->target) != 0))
		complain(l->path, "leads to %s, wanted %s", target, l->target);
}

static size_t count_entries(void)
{
	char here[] = ".", *const roots[] = {here, NULL};
	FTS *t = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	size_t n = 0;
	FTSENT *e;

	while (t && (e = fts_read(t)))
		if (e->fts_info != FTS_DP && e->fts_level > 0)
			n++;
	if (t)
		fts_close(t);
	return n;
}

int manifest_check(const char *manifest, const char *folder)
{
	FILE *f = fopen(manifest, "r");
	size_t cnt = 0, found;
	struct line l;

	if (!f || chdir(folder) < 0)
		die(manifest);
	while (fscanf(f, " %c %o %u %jd %" SCNx64 " %63s %63s %1023s", &l.type, &l.mode,
		      &l.nlink, &l.size, &l.hash, l.xattr, l.target, l.path) == 8) {
		check_line(&l);
		cnt++;
	}
	if (!feof(f))
		complain(manifest, "bad line after %zu", cnt);
	fclose(f);
	found = count_entries();
	if (found != cnt)
		complain(folder, "%zu entries, wanted %zu", found, cnt);
	printf("{\"entries\": %zu, \"differences\": %u}\n", cnt, bad);
	return bad ? 1 : 0;
}
