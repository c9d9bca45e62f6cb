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

vcf_err_t mountpoint_mount(const struct config *cfg, int devfd)
{
	char options[256];
	unsigned long flags = (cfg->nosuid ? MS_NOSUID : 0) | (cfg->nodev ? MS_NODEV : 0);

	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", devfd, geteuid(),
		 getegid(), cfg->allow_other ? ",allow_other" : "",
		 cfg->default_permissions ? ",default_permissions" : "");
	if (mount(cfg->backing, cfg->mountpoint, MOUNTPOINT_TYPE, flags, options) < 0)
		return -errno;
	return 0;
}

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
	unsigned int major, minor;
	char *point, *type;
};

/* Fields 3 and 5 and the type after " - " of a line of proc_pid_mountinfo(5). */
static bool parse_line(char *line, struct mount_line *out)
{
	char *sep = strstr(line, " - ");
	char *p = line;
	char *end;

	if (!sep || sscanf(line, "%*s %*s %u:%u", &out->major, &out->minor) != 2)
		return false;
	for (int i = 0; i < 4; i++) {
		p = strchr(p, ' ');
		if (!p++)
			return false;
	}
	end = strchr(p, ' ');
	if (!end)
		return false;
	*end = '\0';
	unescape(p);
	out->point = p;
	out->type = sep + 3;
	end = strchr(out->type, ' ');
	if (end)
		*end = '\0';
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
	bool ours;
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
	w->major = m->major;
	w->minor = m->minor;
}

int mountpoint_is_ours(const char *path)
{
	struct wanted w = {.path = path};
	vcf_err_t err = each_mount(match_exact, &w);

	return err ? err : w.ours;
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

vcf_err_t mountpoint_clean_stale(const char *path)
{
	int ours = mountpoint_is_ours(path);

	if (ours <= 0)
		return ours;
	if (!nobody_serves(path))
		return -EBUSY;
	log_info("%s: the daemon of an earlier mount is gone; detaching it", path);
	return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
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
