/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt-secret: an image that QEMU's own luks driver reads, and the secret that libvirt gives it.
 * The secret's value goes to virsh through a pipe: it is in no argument and on no disk of ours, and
 * libvirt is told to keep it in memory (ephemeral) unless asked otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/span.h"
#include "fs/tool.h"
#include "fs/toolkeys.h"
#include "util/io.h"

struct libvirt_args {
	struct tool tool;
	struct toolkeys keys;
	const char *uri;
	bool print, persistent;
	struct tool_place place;
	struct container *c;
	bool device;
};

static int complain(const struct libvirt_args *a, int code, const char *why)
{
	fprintf(stderr, "vmcryptfs libvirt-secret: %s: %s\n", a->place.path, why);
	return code;
}

/* --- XML --- */

static void put_escaped(FILE *to, const char *text)
{
	static const char *const names[] = {
		['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\''] = "&apos;"};

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < sizeof(names) / sizeof(*names) && names[c])
			fputs(names[c], to);
		else
			fputc(c, to);
	}
}

static void put_secret_xml(const struct libvirt_args *a, FILE *to)
{
	fprintf(to, "<secret ephemeral='%s' private='yes'>\n  <uuid>%s</uuid>\n",
		a->persistent ? "no" : "yes", container_subject(a->c)->uuid_text);
	fputs("  <description>vmcryptfs: ", to);
	put_escaped(to, a->place.path);
	fputs("</description>\n  <usage type='volume'>\n    <volume>", to);
	put_escaped(to, a->place.path);
	fputs("</volume>\n  </usage>\n</secret>\n", to);
}

static void put_disk_xml(const struct libvirt_args *a, FILE *to)
{
	fprintf(to,
		"<disk type='%s' device='disk'>\n  <driver name='qemu' type='raw'/>\n"
		"  <source %s='",
		a->device ? "block" : "file", a->device ? "dev" : "file");
	put_escaped(to, a->place.path);
	fprintf(to,
		"'>\n    <encryption format='luks'>\n"
		"      <secret type='passphrase' uuid='%s'/>\n    </encryption>\n"
		"  </source>\n  <target dev='vda' bus='virtio'/>\n</disk>\n",
		container_subject(a->c)->uuid_text);
}

/* --- virsh --- */

extern char **environ;

static vcf_err_t spawn_virsh(char *const *argv, int in, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	rc = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO,
						      "/dev/null", O_WRONLY, 0);
	if (!rc)
		rc = posix_spawnp(pid, "virsh", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/* text: at most what a pipe holds. It ends when virsh has read it. */
static vcf_err_t feed_virsh(char *const *argv, const char *text, size_t len)
{
	auto_close int out = -1;
	auto_close int in = -1;
	int ends[2], status;
	vcf_err_t err;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	in = ends[0];
	out = ends[1];
	err = io_write_full(out, text, len);
	close(STEAL_FD(&out));
	if (!err)
		err = spawn_virsh(argv, in, &pid);
	if (err)
		return err;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EREMOTEIO;
}

enum { WORDS_MAX = 10 };

/* virsh -q [-c URI] WORD... */
static vcf_err_t call_virsh(const struct libvirt_args *a, const char *const *words,
			    const char *text, size_t len)
{
	const char *argv[WORDS_MAX] = {"virsh", "-q"};
	size_t n = 2;

	if (a->uri) {
		argv[n++] = "-c";
		argv[n++] = a->uri;
	}
	while (*words && n < WORDS_MAX - 1)
		argv[n++] = *words++;
	return feed_virsh((char *const *)(uintptr_t)argv, text, len);
}

static vcf_err_t define(const struct libvirt_args *a)
{
	const char *const words[] = {"secret-define", "/dev/stdin", NULL};
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	vcf_err_t err;

	if (!to)
		return -ENOMEM;
	put_secret_xml(a, to);
	err = fclose(to) ? -ENOMEM : call_virsh(a, words, text, len);
	free(text);
	return err;
}

static vcf_err_t set_value(const struct libvirt_args *a, const struct secret *secret)
{
	const char *const words[] = {
		"secret-set-value", container_subject(a->c)->uuid_text,
		"--plain",	    "--file",
		"/dev/stdin",	    NULL};
	char hex[SECRET_HEX_LEN + 1];
	vcf_err_t err;

	secret_hex(secret, hex);
	err = call_virsh(a, words, hex, SECRET_HEX_LEN);
	secret_wipe(hex, sizeof(hex));
	return err;
}

static int tell_libvirt(struct libvirt_args *a)
{
	auto_secret struct secret *secret = NULL;
	char why[TOOLKEYS_WHY_LEN];
	vcf_err_t err = toolkeys_unlock(&a->keys, a->c, a->place.path, &secret, why);

	if (err)
		return complain(a, (int)exit_code_of(err), why);
	err = define(a);
	if (!err)
		err = set_value(a, secret);
	if (err)
		return complain(a, EXIT_FAILED,
				err == -ENOENT ? "there is no virsh here; --print prints "
						 "what to define"
				: err == -EREMOTEIO ? "virsh refused it"
						    : strerror(-err));
	return EXIT_OK;
}

/* --- the image --- */

/* Why QEMU's luks driver would not read it as the mount does; NULL: it would. */
static const char *unfit(const struct libvirt_args *a, uint64_t len)
{
	const struct token_subject *s = container_subject(a->c);

	if (s->format != FORMAT_LUKS1)
		return "refused: QEMU opens LUKS1 only; 'vmcryptfs convert' makes it one";
	if (container_token(a->c)->holes != HOLES_NONE)
		return "refused: its holes would read as noise; first 'vmcryptfs "
		       "materialize'";
	if (!a->device && (len - s->data_off) % s->sector_len)
		return "refused: its size is no multiple of 512 bytes, and QEMU would see "
		       "another one";
	return NULL;
}

static int load(struct libvirt_args *a)
{
	auto_close int fd =
		io_open_file(AT_FDCWD, a->place.path, O_RDONLY | O_NONBLOCK, true);
	char why[CONTAINER_WHY_LEN] = "";
	const char *reason;
	uint64_t len;
	vcf_err_t err = fd < 0 ? fd : io_file_len(fd, &len);

	if (!err)
		err = container_load_why(&a->c, fd, why, NULL);
	if (err)
		return complain(a, (int)exit_code_of(err),
				*why		  ? why
				: err == -ENODATA ? "an empty image: it has no header"
				: err == -EPERM	  ? "no container"
						  : strerror(-err));
	a->device = io_is_device(fd);
	reason = unfit(a, len);
	return reason ? complain(a, EXIT_REFUSED, reason) : EXIT_OK;
}

static int run(struct libvirt_args *a, const char *path)
{
	int code = tool_begin(&a->tool);
	vcf_err_t err;

	if (!code)
		code = toolkeys_begin(&a->keys, a->tool.cfg, a->tool.command);
	if (code)
		return code;
	err = tool_place(&a->tool, path, &a->place);
	if (err) {
		fprintf(stderr, "vmcryptfs libvirt-secret: %s: %s\n", path,
			strerror(-err));
		return (int)exit_code_of(err);
	}
	code = load(a);
	if (!code && a->print)
		put_secret_xml(a, stdout);
	else if (!code)
		code = tell_libvirt(a);
	if (!code)
		put_disk_xml(a, stdout);
	return code;
}

static int parse(struct libvirt_args *a, int argc, char **argv)
{
	enum { CONNECT = TOOL_OPT_OWN, PRINT, PERSISTENT };
	static const struct option longs[] = {
		{"connect", required_argument, NULL, CONNECT},
		{"print", no_argument, NULL, PRINT},
		{"persistent", no_argument, NULL, PERSISTENT},
		{NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1) {
		if (opt == CONNECT)
			a->uri = optarg;
		else if (opt == PRINT)
			a->print = true;
		else if (opt == PERSISTENT)
			a->persistent = true;
		else
			code = tool_option(&a->tool, opt);
	}
	if (code == EXIT_USAGE || (!code && (!a->tool.source.path || optind != argc - 1)))
		return command_usage("libvirt-secret");
	return code;
}

int cmd_libvirt_secret(int argc, char **argv)
{
	auto_free struct libvirt_args *a = calloc(1, sizeof(*a));
	int code;

	if (!a)
		return EXIT_FAILED;
	a->tool.command = "libvirt-secret";
	code = parse(a, argc, argv);
	if (!code)
		code = run(a, argv[optind]);
	container_free(a->c);
	toolkeys_end(&a->keys);
	tool_end(&a->tool);
	return code;
}
