/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/hash.h"
#include "util/log.h"

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
					(s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

struct mount_line {
	unsigned int id, major, minor;
	char *point, *type, *source;
};

/* Ends the field at p; the next one, or NULL. */
static char *end_field(char *p)
{
	char *end = strpbrk(p, " \n");

	if (!end)
		return NULL;
	*end = '\0';
	return end + 1;
}

/* Fields 1, 3 and 5, type and source after " - " of a line of proc_pid_mountinfo(5). */
static bool parse_line(char *line, struct mount_line *out)
{
	char *sep = strstr(line, " - ");
	char *p = line;

	if (!sep || sscanf(line, "%u %*s %u:%u", &out->id, &out->major, &out->minor) != 3)
		return false;
	for (int i = 0; i < 4; i++) {
		p = strchr(p, ' ');
		if (!p++)
			return false;
	}
	if (!end_field(p))
		return false;
	unescape(p);
	out->point = p;
	out->type = sep + 3;
	out->source = end_field(out->type);
	if (!out->source)
		return false;
	end_field(out->source);
	unescape(out->source);
	return true;
}

static void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* Calls fn for each mount, in order of mounting. */
static vcf_err_t each_mount(void (*fn)(void *arg, const struct mount_line *m), void *arg)
{
	FILE *f __attribute__((cleanup(close_file))) =
		fopen("/proc/self/mountinfo", "re");
	auto_free char *line = NULL;
	size_t room = 0;

	if (!f)
		return -errno;
	while (getline(&line, &room, f) > 0) {
		struct mount_line m;

		if (parse_line(line, &m))
			fn(arg, &m);
	}
	return 0;
}

struct wanted {
	const char *path;
	bool ours, others;	   /* the last one is ours; one of them is not */
	unsigned int major, minor; /* where it is ours */
	char best[PATH_MAX];
};

static bool is_our_type(const struct mount_line *m)
{
	return strcmp(m->type, MOUNTPOINT_TYPE) == 0;
}

static void match_exact(void *arg, const struct mount_line *m)
{
	struct wanted *w = arg;

	if (strcmp(m->point, w->path) != 0)
		return;
	w->ours = is_our_type(m); /* the last one is on top */
	w->others |= !w->ours;
	w->major = m->major;
	w->minor = m->minor;
}

int mountpoint_is_ours(const char *path)
{
	struct wanted w = {.path = path};
	vcf_err_t err = each_mount(match_exact, &w);

	return err ? err : w.ours;
}

int mountpoint_stack(const char *path)
{
	struct wanted w = {.path = path};
	vcf_err_t err = each_mount(match_exact, &w);

	if (err)
		return err;
	if (!w.ours)
		return MOUNTPOINT_BARE;
	return w.others ? MOUNTPOINT_OVER_OTHERS : MOUNTPOINT_OVER_FOLDER;
}

vcf_err_t mountpoint_device(const char *path, unsigned int *major, unsigned int *minor)
{
	struct wanted w = {.path = path};
	vcf_err_t err = each_mount(match_exact, &w);

	if (err || !w.ours)
		return err ? err : -ENOENT;
	*major = w.major;
	*minor = w.minor;
	return 0;
}

struct wanted_id {
	uint64_t id;
	struct mountpoint_info *info;
	bool found;
};

static void match_id(void *arg, const struct mount_line *m)
{
	struct wanted_id *w = arg;

	if (m->id != w->id)
		return;
	w->found = true;
	w->info->ours = is_our_type(m);
	snprintf(w->info->type, sizeof(w->info->type), "%s", m->type);
	snprintf(w->info->point, sizeof(w->info->point), "%s", m->point);
	snprintf(w->info->source, sizeof(w->info->source), "%s", m->source);
}

vcf_err_t mountpoint_by_id(struct mountpoint_info *out, uint64_t id)
{
	struct wanted_id w = {.id = id, .info = out};
	vcf_err_t err = each_mount(match_id, &w);

	return err || w.found ? err : -ENOENT;
}

void mountpoint_read_ahead(const char *path, unsigned int kib)
{
	struct wanted w = {.path = path};
	char file[64], text[16];
	auto_close int fd = -1;

	if (each_mount(match_exact, &w) || !w.ours)
		return;
	snprintf(file, sizeof(file), "/sys/class/bdi/%u:%u/read_ahead_kb", w.major,
		 w.minor);
	snprintf(text, sizeof(text), "%u", kib);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		log_dbg("%s: %s", file, strerror(errno));
}

struct wanted_device {
	unsigned int major, minor;
	bool ours;
};

static void match_device(void *arg, const struct mount_line *m)
{
	struct wanted_device *w = arg;

	if (m->major == w->major && m->minor == w->minor && is_our_type(m))
		w->ours = true;
}

bool mountpoint_is_our_device(unsigned int major, unsigned int minor)
{
	struct wanted_device w = {.major = major, .minor = minor};

	return each_mount(match_device, &w) == 0 && w.ours;
}

static void match_prefix(void *arg, const struct mount_line *m)
{
	struct wanted *w = arg;
	size_t len = strlen(m->point);

	if (!is_our_type(m) || strncmp(w->path, m->point, len) != 0)
		return;
	if (w->path[len] && w->path[len] != '/')
		return;
	if (len >= strlen(w->best))
		snprintf(w->best, sizeof(w->best), "%s", m->point);
}

vcf_err_t mountpoint_of(const char *path, char *dst, size_t room)
{
	struct wanted w = {.path = path};
	vcf_err_t err = each_mount(match_prefix, &w);

	if (err)
		return err;
	if (!*w.best)
		return -ENOENT;
	return snprintf(dst, room, "%s", w.best) < (int)room ? 0 : -ENAMETOOLONG;
}

struct visitor {
	void (*fn)(void *arg, const char *mountpoint);
	void *arg;
};

static void visit_ours(void *arg, const struct mount_line *m)
{
	const struct visitor *v = arg;

	if (is_our_type(m))
		v->fn(v->arg, m->point);
}

static void visit_any(void *arg, const struct mount_line *m)
{
	const struct visitor *v = arg;

	v->fn(v->arg, m->point);
}

vcf_err_t mountpoint_each_any(void (*fn)(void *arg, const char *mountpoint), void *arg)
{
	struct visitor v = {fn, arg};

	return each_mount(visit_any, &v);
}

vcf_err_t mountpoint_each(void (*fn)(void *arg, const char *mountpoint), void *arg)
{
	struct visitor v = {fn, arg};

	return each_mount(visit_ours, &v);
}

/* The kernel answers a plain stat(2) from its cache for a while, also for the dead. */
static bool nobody_serves(const char *path)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &stx) == 0)
		return false;
	return errno == ENOTCONN || errno == ECONNABORTED; /* gone, going just now */
}

vcf_err_t mountpoint_is_free(const char *path)
{
	int ours = mountpoint_is_ours(path);

	if (ours <= 0)
		return ours;
	return nobody_serves(path) ? 0 : -EBUSY;
}

vcf_err_t mountpoint_socket(char *dst, size_t room, const char *runtime_directory,
			    const char *mountpoint)
{
	uint64_t h = hash_fnv1a(HASH_FNV1A_START, mountpoint, strlen(mountpoint));

	if (snprintf(dst, room, "%s/%016llx.sock", runtime_directory,
		     (unsigned long long)h) >= (int)room)
		return -ENAMETOOLONG;
	return 0;
}

/* A path as one file name: '/' becomes '-', '-' and '\' become \xNN (as systemd does it). */
static vcf_err_t escape_path(char *dst, size_t room, const char *path)
{
	size_t n = 0;

	while (*path == '/')
		path++;
	for (; *path && n + 5 < room; path++) {
		if (*path == '-' || *path == '\\')
			n += (size_t)sprintf(dst + n, "\\x%02x", (unsigned char)*path);
		else
			dst[n++] = *path == '/' ? '-' : *path;
	}
	dst[n] = '\0';
	return *path ? -ENAMETOOLONG : 0;
}

vcf_err_t mountpoint_state(char *dst, size_t room, const struct config *cfg,
			   const char *name)
{
	char escaped[NAME_MAX];
	vcf_err_t err = escape_path(escaped, sizeof(escaped), cfg->backing);

	if (err)
		return err;
	if (snprintf(dst, room, "%s/%s/%s", cfg->state_directory, escaped, name) >=
	    (int)room)
		return -ENAMETOOLONG;
	return 0;
}
