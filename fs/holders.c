/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/jsonlines.h"
#include "fs/mountpoint.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/visible.h"

enum { ARGS_MAX = 64 * 1024 };

struct search {
	const char *mountpoint;
	unsigned int major, minor;
	struct holders *out;
	struct holder now; /* of the process that is looked at */
	vcf_err_t err;
};

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

static void close_stream(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define auto_dir __attribute__((cleanup(close_dir)))
#define auto_stream __attribute__((cleanup(close_stream)))

static void free_files(struct holder *h)
{
	for (size_t i = 0; i < HOLDER_FILES_MAX; i++)
		free(h->files[i]);
}

void holders_free(struct holders *h)
{
	for (size_t i = 0; i < h->cnt; i++)
		free_files(&h->all[i]);
	free(h->all);
	*h = (struct holders){0};
}

/*
 * One file
 */

/* What another namespace has is named from the mount's root on. */
static const char *relative(const struct search *s, const char *path)
{
	size_t len = strlen(s->mountpoint);

	if (strncmp(path, s->mountpoint, len) == 0 && (path[len] == '/' || !path[len]))
		path += len;
	while (*path == '/')
		path++;
	return *path ? path : ".";
}

static void add_file(struct search *s, const char *path)
{
	const char *name = relative(s, path);
	struct holder *h = &s->now;
	size_t room = h->file_cnt < HOLDER_FILES_MAX ? h->file_cnt : HOLDER_FILES_MAX;

	for (size_t i = 0; i < room; i++) {
		if (h->files[i] && strcmp(h->files[i], name) == 0)
			return;
	}
	if (h->file_cnt < HOLDER_FILES_MAX)
		h->files[h->file_cnt] = strdup(name);
	h->file_cnt++;
}

/* Of a link of /proc; DONT_SYNC: from the kernel's cache, the server is not asked. */
static void look_at_link(struct search *s, const char *link)
{
	struct statx st;
	char path[PATH_MAX];
	ssize_t n;

	if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, 0, &st) < 0 ||
	    st.stx_dev_major != s->major || st.stx_dev_minor != s->minor)
		return;
	n = readlink(link, path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = '\0';
	add_file(s, path);
}

/*
 * A process
 */

static void look_at_fds(struct search *s, pid_t pid)
{
	char path[PATH_MAX];
	auto_dir DIR *dir = NULL;
	struct dirent *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		if (!isdigit((unsigned char)*d->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, d->d_name);
		look_at_link(s, path);
	}
}

/* ADDRESSES MODE OFFSET MAJOR:MINOR INODE PATH */
static void look_at_maps(struct search *s, pid_t pid)
{
	char path[64];
	auto_stream FILE *f = NULL;
	auto_free char *line = NULL;
	size_t room = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	while (f && getline(&line, &room, f) > 0) {
		unsigned int major, minor;
		char *name = strchr(line, '/');

		if (!name || sscanf(line, "%*s %*s %*s %x:%x", &major, &minor) != 2 ||
		    major != s->major || minor != s->minor)
			continue;
		name[strcspn(name, "\n")] = '\0';
		add_file(s, name);
	}
}

static ssize_t read_some(pid_t pid, const char *name, char *dst, size_t room)
{
	char path[64];
	auto_close int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : read(fd, dst, room);
}

/* "guest=NAME,debug-threads=on", "NAME"; a comma in the name is doubled. */
static void copy_guest_name(char *dst, size_t room, const char *text)
{
	size_t n = 0;

	if (strncmp(text, "guest=", 6) == 0)
		text += 6;
	for (; *text && n + 1 < room; text++) {
		if (*text == ',' && *++text != ',')
			break;
		dst[n++] = *text;
	}
	dst[n] = '\0';
}

static bool is_qemu(const char *arg)
{
	const char *slash = strrchr(arg, '/');

	return strncmp(slash ? slash + 1 : arg, "qemu", 4) == 0 || strstr(arg, "kvm");
}

/* args[len] is a zero byte. */
void holders_parse_guest(struct holder *h, const char *args, size_t len)
{
	const char *end = args + len;
	const char *arg = args;

	if (!len || !is_qemu(args))
		return;
	for (; arg < end; arg += strlen(arg) + 1) {
		const char *value = arg + strlen(arg) + 1;

		if (value >= end)
			return;
		if (strcmp(arg, "-name") == 0)
			copy_guest_name(h->guest, sizeof(h->guest), value);
		else if (strcmp(arg, "-uuid") == 0)
			snprintf(h->uuid, sizeof(h->uuid), "%s", value);
	}
}

static void describe(struct search *s, pid_t pid)
{
	struct holder *h = &s->now;
	auto_free char *args = malloc(ARGS_MAX + 1);
	ssize_t n = read_some(pid, "comm", h->program, sizeof(h->program) - 1);

	h->pid = pid;
	h->program[n > 0 ? n - 1 : 0] = '\0';
	n = args ? read_some(pid, "cmdline", args, ARGS_MAX) : -1;
	if (n <= 0)
		return;
	args[n] = '\0';
	holders_parse_guest(h, args, (size_t)n);
}

static void keep(struct search *s)
{
	struct holder *all =
		realloc(s->out->all, (s->out->cnt + 1) * sizeof(*s->out->all));

	if (!all) {
		s->err = -ENOMEM;
		free_files(&s->now);
		return;
	}
	s->out->all = all;
	all[s->out->cnt++] = s->now;
}

static void look_at_process(struct search *s, pid_t pid)
{
	static const char *const links[] = {"cwd", "root", "exe"};
	char path[64];

	s->now = (struct holder){0};
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, links[i]);
		look_at_link(s, path);
	}
	look_at_fds(s, pid);
	look_at_maps(s, pid);
	if (!s->now.file_cnt)
		return;
	describe(s, pid);
	keep(s);
}

static void look_at_processes(struct search *s)
{
	auto_dir DIR *dir = opendir("/proc");
	struct dirent *d;

	if (!dir)
		s->err = -errno;
	while (dir && !s->err && (d = readdir(dir))) {
		if (isdigit((unsigned char)*d->d_name) && atoi(d->d_name) != getpid())
			look_at_process(s, atoi(d->d_name));
	}
}

/*
 * The kernel's own
 */

static bool lies_in(const struct search *s, const char *path)
{
	size_t len = strlen(s->mountpoint);

	return strncmp(path, s->mountpoint, len) == 0 && path[len] == '/';
}

static void keep_kernel(struct search *s, const char *program, const char *path)
{
	s->now = (struct holder){0};
	snprintf(s->now.program, sizeof(s->now.program), "%.31s", program);
	add_file(s, path);
	keep(s);
}

static void look_at_loops(struct search *s)
{
	auto_dir DIR *dir = opendir("/sys/block");
	char file[PATH_MAX], path[PATH_MAX];
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		auto_close int fd = -1;
		ssize_t n;

		if (strncmp(d->d_name, "loop", 4) != 0)
			continue;
		snprintf(file, sizeof(file), "/sys/block/%s/loop/backing_file",
			 d->d_name);
		fd = open(file, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, path, sizeof(path) - 1);
		if (n <= 0)
			continue;
		path[n] = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (lies_in(s, path))
			keep_kernel(s, d->d_name, path);
	}
}

static void look_at_mount(void *arg, const char *point)
{
	struct search *s = arg;

	if (lies_in(s, point))
		keep_kernel(s, "mount", point);
}

vcf_err_t holders_find(struct holders *out, const char *mountpoint)
{
	struct search s = {.mountpoint = mountpoint, .out = out};
	vcf_err_t err = mountpoint_device(mountpoint, &s.major, &s.minor);

	*out = (struct holders){0};
	if (err)
		return err;
	look_at_processes(&s);
	look_at_loops(&s);
	if (!s.err)
		s.err = mountpoint_each_any(look_at_mount, &s);
	if (s.err)
		holders_free(out);
	return s.err;
}

/*
 * What is said of them
 */

size_t holders_guest_cnt(const struct holders *h)
{
	size_t cnt = 0;

	for (size_t i = 0; i < h->cnt; i++)
		cnt += *h->all[i].guest != '\0';
	return cnt;
}

static size_t listed(const struct holder *h)
{
	return h->file_cnt < HOLDER_FILES_MAX ? h->file_cnt : HOLDER_FILES_MAX;
}

static void put_visible(const char *text, FILE *to)
{
	char shown[4 * PATH_MAX + 1];

	visible_copy(shown, sizeof(shown), text);
	fputs(shown, to);
}

static void print_holder(const struct holder *h, const char *indent, FILE *to)
{
	fputs(indent, to);
	if (*h->guest) {
		fputs("guest ", to);
		put_visible(h->guest, to);
		fputs(*h->uuid ? " " : "", to);
		put_visible(h->uuid, to);
		fputs(", ", to);
	}
	put_visible(h->program, to);
	if (h->pid)
		fprintf(to, "[%d]", (int)h->pid);
	for (size_t i = 0; i < listed(h); i++) {
		fputs(i ? ", " : ": ", to);
		put_visible(h->files[i] ? h->files[i] : "?", to);
	}
	if (h->file_cnt > HOLDER_FILES_MAX)
		fprintf(to, " and %zu more", h->file_cnt - HOLDER_FILES_MAX);
	fputc('\n', to);
}

void holders_print(const struct holders *h, const char *indent, FILE *to)
{
	for (size_t i = 0; i < h->cnt; i++)
		print_holder(&h->all[i], indent, to);
}

void holders_log(const struct holders *h, const char *mountpoint)
{
	for (size_t i = 0; i < h->cnt; i++) {
		const struct holder *o = &h->all[i];

		if (*o->guest)
			log_warn("%s: stopped under guest %s (%s[%d])", mountpoint,
				 o->guest, o->program, (int)o->pid);
		else
			log_info("%s: stopped under %s[%d]", mountpoint, o->program,
				 (int)o->pid);
	}
}

static struct json_object *holder_json(const struct holder *h)
{
	struct json_object *o = json_object_new_object();
	struct json_object *files = json_object_new_array();

	json_put_number(o, "pid", (uint64_t)h->pid);
	json_put_shown(o, "program", h->program);
	json_put_shown(o, "guest", h->guest);
	json_put_shown(o, "guest_uuid", h->uuid);
	json_put_number(o, "file_count", h->file_cnt);
	for (size_t i = 0; i < listed(h); i++)
		json_object_array_add(
			files, json_object_new_string(h->files[i] ? h->files[i] : "?"));
	json_object_object_add(o, "files", files);
	return o;
}

struct json_object *holders_json(const struct holders *h)
{
	struct json_object *all = json_object_new_array();

	for (size_t i = 0; i < h->cnt; i++)
		json_object_array_add(all, holder_json(&h->all[i]));
	return all;
}
