/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/support.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"
#include "fs/jsonlines.h"
#include "util/cleanup.h"

enum { PROGRAM_S = 10, VALUE_MAX = 40 };

/* --- files and programs --- */

static void copy_file(FILE *to, const char *path)
{
	char buf[4096];
	FILE *f = fopen(path, "re");
	size_t n;

	fprintf(to, "--- %s\n", path);
	if (!f) {
		fprintf(to, "%s\n", strerror(errno));
		return;
	}
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		fwrite(buf, 1, n, to);
	fclose(f);
}

static void __attribute__((noreturn)) execute(int out, char *const argv[])
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	close_range(3, ~0u, 0);
	alarm(PROGRAM_S);
	execvp(argv[0], argv);
	_exit(127);
}

/* What a program prints, at most for some seconds; where there is none, nothing. */
static void run(FILE *to, char *const argv[])
{
	int fds[2];
	char buf[4096];
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return;
	fflush(to);
	pid = fork();
	if (pid == 0)
		execute(fds[1], argv);
	close(fds[1]);
	while (pid > 0 && (n = read(fds[0], buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, to);
	close(fds[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* --- the parts --- */

static void write_readme(FILE *to, const struct support *s)
{
	fprintf(to,
		"A bundle for support, made by vmcryptfs %s.\n\n"
		"Here are versions, the status of the mount, its configuration, limits, mounts, "
		"and\nthe end of its log. Here is no key, secret, password or token: neither "
		"the\nstatus nor the log has any; of key helpers' options only harmless ones "
		"have their\nvalues; and what looks like a secret in any text is [masked]. No "
		"header and no data\nof an image.\n\n",
		VCF_VERSION);
	fputs(s->anonymous
		      ? "Names are left out: paths, images, hosts, key ids, the log.\n"
		      : "Here are names: paths of images, the host, addresses in errors, key ids "
			"(which\nname records of the key service and open nothing). --anonymous "
			"leaves them out,\nthe log with them.\n",
	      to);
}

static void write_versions(FILE *to, const struct support *s)
{
	static char *const packages[] = {"dpkg-query",
					 "-W",
					 "-f=${Package} ${Version} ${Status}\\n",
					 "vmcryptfs*",
					 "libfuse3*",
					 "libgcrypt20",
					 "libcryptsetup12",
					 "libcurl4",
					 "libjson-c5",
					 "libc6",
					 "qemu-system-x86",
					 "libvirt-daemon",
					 "nova-compute",
					 NULL};
	struct utsname u;

	fprintf(to, "this program: %s\n", VCF_VERSION);
	if (s->status)
		fprintf(to, "the mount's:  %s\n", json_text(s->status, "version"));
	if (uname(&u) == 0)
		fprintf(to, "kernel: %s %s %s\n", u.release, u.version, u.machine);
	copy_file(to, "/etc/os-release");
	fputs("--- packages\n", to);
	run(to, packages);
}

/* Of /proc/cpuinfo that counts here. */
static void write_processor(FILE *to)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line = NULL;
	size_t room = 0;
	unsigned int cnt = 0;

	while (f && getline(&line, &room, f) > 0) {
		cnt += strncmp(line, "processor", 9) == 0;
		if (cnt == 1 && strncmp(line, "model name", 10) == 0)
			fputs(line, to);
		if (cnt == 1 && strncmp(line, "flags", 5) == 0)
			fprintf(to, "aes: %s\n", strstr(line, " aes") ? "yes" : "NO");
	}
	fprintf(to, "processors: %u\n", cnt);
	free(line);
	if (f)
		fclose(f);
}

static void write_machine(FILE *to, const struct support *s)
{
	static const char *const files[] = {
		"/proc/meminfo",
		"/proc/loadavg",
		"/proc/uptime",
		"/proc/sys/fs/file-nr",
		"/proc/sys/fs/nr_open",
		"/proc/sys/fs/aio-nr",
		"/proc/sys/fs/aio-max-nr",
		"/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/pid_max",
		"/proc/sys/vm/overcommit_memory",
		"/sys/kernel/security/lsm",
		"/sys/module/fuse/parameters/max_user_bgreq",
	};

	(void)s;
	write_processor(to);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		copy_file(to, files[i]);
}

/* --- the status --- */

/* Members whose texts are names, or may hold some. */
static bool is_name(const char *key)
{
	static const char *const keys[] = {"path",   "mountpoint", "backing", "config",
					   "key_id", "last_error", "device",  "recipient",
					   "name",   "service",	   "text",    "context"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(key, keys[i]) == 0)
			return true;
	}
	return false;
}

static void hide_names(struct json_object *o)
{
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			hide_names(json_object_array_get_idx(o, i));
		return;
	}
	if (!json_object_is_type(o, json_type_object))
		return;
	json_object_object_foreach(o, key, value)
	{
		if (json_object_is_type(value, json_type_string) && is_name(key) &&
		    json_object_get_string_len(value))
			json_object_set_string(value, "(hidden)");
		else
			hide_names(value);
	}
}

static void write_status(FILE *to, const struct support *s)
{
	struct json_object *copy = NULL;

	if (!s->status || json_object_deep_copy(s->status, &copy, NULL)) {
		fputs("no server answers\n", to);
		return;
	}
	if (s->anonymous)
		hide_names(copy);
	fprintf(to, "%s\n",
		json_object_to_json_string_ext(
			copy, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(copy);
}

/* --- the configuration --- */

bool support_is_harmless(const char *name, const char *value)
{
	static const char *const names[] = {
		"acl",
		"auth",
		"connect-timeout",
		"consumers",
		"insecure-loopback",
		"interface",
		"login-jitter",
		"mode",
		"protocol",
		"request-timeout",
	};
	size_t len = strlen(value);
	bool known = false;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		known |= strcmp(name, names[i]) == 0;
	for (size_t i = 0; i < len; i++)
		known &= islower((unsigned char)value[i]) ||
			 isdigit((unsigned char)value[i]) || value[i] == '-' ||
			 value[i] == '.';
	return known && len < VALUE_MAX;
}

static void write_helper_options(FILE *to, const struct config *c, const char *what)
{
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const struct config_helper_option *o = &c->helper_options[i];

		if (support_is_harmless(o->name, o->value))
			fprintf(to, "; %s%s %s = %s\n", what, o->section, o->name,
				o->value);
	}
}

/* Numbers and words of ours; all else may be a name. */
static bool is_plain(const char *section, const char *name)
{
	const struct config_option *o = config_find(
		config_section_service(section) ? "key-service" : section, name);

	return o && (o->choices || o->type == CONFIG_BOOL || o->type == CONFIG_UINT ||
		     o->type == CONFIG_SIZE || o->type == CONFIG_DURATION);
}

/* line: "NAME = VALUE", value behind its name. */
static void write_plain_line(FILE *to, const char *section, const char *line,
			     const char *value)
{
	auto_free char *name = strndup(line, (size_t)(value - line));

	if (name && is_plain(section, name))
		fprintf(to, "%s\n", line);
	else
		fprintf(to, "%.*s = (hidden)\n", (int)(value - line), line);
}

static void write_plain_lines(FILE *to, char *text)
{
	char *save = NULL;
	const char *section = "";

	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *value = strstr(line, " = ");

		if (*line == '[') {
			line[strcspn(line, "]")] = '\0';
			section = line + 1;
			fprintf(to, "[%.*s%s]\n", (int)strcspn(section, " "), section,
				strchr(section, ' ') ? " (hidden)" : "");
		} else if (value) {
			write_plain_line(to, section, line, value);
		} else {
			fprintf(to, "%s\n", line);
		}
	}
}

static void write_config(FILE *to, const struct support *s)
{
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *all;

	if (!s->cfg) {
		fputs("not known: the mount has none, or it cannot be read; -c names it\n",
		      to);
		return;
	}
	all = open_memstream(&text, &len);
	if (!all)
		return;
	config_print(s->cfg, all);
	write_helper_options(all, s->cfg, "");
	for (size_t i = 0; i < s->cfg->service_cnt; i++)
		write_helper_options(all, s->cfg->services[i], "service ");
	if (fclose(all))
		return;
	if (s->anonymous)
		write_plain_lines(to, text);
	else
		fputs(text, to);
}

/* --- mounts and processes --- */

/* Lines of FUSE and of what the backing folder lies on. */
static void write_mounts(FILE *to, const struct support *s)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0) {
		char point[4096] = "";

		sscanf(line, "%*s %*s %*s %*s %4095s", point);
		if (strstr(line, " fuse") ||
		    (s->cfg && s->cfg->backing &&
		     strncmp(s->cfg->backing, point, strlen(point)) == 0))
			fputs(line, to);
	}
	free(line);
	if (f)
		fclose(f);
}

static size_t count_fds(const char *folder)
{
	DIR *d = opendir(folder);
	size_t cnt = 0;

	while (d && readdir(d))
		cnt++;
	if (d)
		closedir(d);
	return cnt > 2 ? cnt - 2 : 0;
}

/* Not its cmdline: -o may have secrets in it. */
static void write_process(FILE *to, const struct support *s, const char *key)
{
	static const char *const files[] = {"status", "limits", "oom_score_adj",
					    "io",     "wchan",	"cgroup"};
	size_t cnt = sizeof(files) / sizeof(files[0]);
	uint64_t pid = s->status ? json_number(s->status, key) : 0;
	char path[64];

	fprintf(to, "=== %s %" PRIu64 "\n", key, pid);
	if (!pid)
		return;
	if (s->anonymous)
		cnt--; /* a cgroup has the unit's name */
	for (size_t i = 0; i < cnt; i++) {
		snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, files[i]);
		copy_file(to, path);
	}
	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/fd", pid);
	fprintf(to, "descriptors: %zu\n", count_fds(path));
}

static void write_processes(FILE *to, const struct support *s)
{
	write_process(to, s, "keeper_pid");
	write_process(to, s, "server_pid");
}

/* --- the log --- */

/* The last lines of a file that may be large. */
static void write_tail(FILE *to, const char *path, size_t lines)
{
	FILE *f = fopen(path, "re");
	char **ring = calloc(lines, sizeof(*ring));
	char *line = NULL;
	size_t room = 0, cnt = 0;

	if (!f)
		fprintf(to, "%s: %s\n", path, strerror(errno));
	while (f && ring && getline(&line, &room, f) > 0) {
		free(ring[cnt % lines]);
		ring[cnt++ % lines] = STEAL_PTR(&line);
		room = 0;
	}
	for (size_t i = cnt > lines ? cnt - lines : 0; ring && i < cnt; i++)
		fputs(ring[i % lines] ? ring[i % lines] : "", to);
	for (size_t i = 0; ring && i < lines; i++)
		free(ring[i]);
	free(ring);
	free(line);
	if (f)
		fclose(f);
}

static void write_journal(FILE *to, const struct support *s)
{
	char count[24];
	char *const argv[] = {"journalctl", "--no-pager", "-q",	 "-t",
			      "vmcryptfs",  "-n",	  count, NULL};

	snprintf(count, sizeof(count), "%zu", s->log_lines);
	run(to, argv);
}

static void write_log(FILE *to, const struct support *s)
{
	if (s->cfg && s->cfg->log_file)
		write_tail(to, s->cfg->log_file, s->log_lines);
	else
		write_journal(to, s);
}

/* Ends of servers, upgrades and reloads. */
static const char history_words[] =
	"was killed by signal|takes over|hangs:|upgrade|the keeper is gone|ended with|"
	"configuration reloaded| mounted on | unmounted|back to";

static void write_history_of_file(FILE *to, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	regex_t words;

	if (regcomp(&words, history_words, REG_EXTENDED | REG_NOSUB))
		fputs("no memory\n", to);
	else {
		while (f && getline(&line, &room, f) > 0) {
			if (regexec(&words, line, 0, NULL, 0) == 0)
				fputs(line, to);
		}
		regfree(&words);
	}
	free(line);
	if (f)
		fclose(f);
}

/* From all of the log. */
static void write_history(FILE *to, const struct support *s)
{
	char grep[sizeof("--grep=") + sizeof(history_words)];
	char *const argv[] = {"journalctl", "--no-pager", "-q", "-t",
			      "vmcryptfs",  grep,	  NULL};

	snprintf(grep, sizeof(grep), "--grep=%s", history_words);
	if (s->cfg && s->cfg->log_file)
		write_history_of_file(to, s->cfg->log_file);
	else
		run(to, argv);
}

const struct support_part support_parts[] = {
	{"README", write_readme, false},       {"versions.txt", write_versions, false},
	{"machine.txt", write_machine, false}, {"status.json", write_status, false},
	{"config.txt", write_config, false},   {"processes.txt", write_processes, false},
	{"mounts.txt", write_mounts, true},    {"history.txt", write_history, true},
	{"log.txt", write_log, true},
};
const size_t support_part_cnt = sizeof(support_parts) / sizeof(support_parts[0]);
