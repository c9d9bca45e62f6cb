/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libcryptsetup-token-vmcryptfs.so: `cryptsetup open` asks the key service itself.
 *
 * libcryptsetup loads it for a LUKS2 token of our type. It has no part of the program in it: it starts
 * `vmcryptfs token-open DEVICE`, which judges the container and fetches the secret as a mount would,
 * takes the passphrase from a pipe, and passes on what that has to say. The configuration is
 * $VMCRYPTFS_CONFIG, or the only one in /etc/vmcryptfs.
 *
 * Whatever fails is -ENOENT: cryptsetup goes on to other tokens, and to a passphrase that is typed.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <libcryptsetup.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"

#ifndef VCF_TOKEN_PROGRAM
#define VCF_TOKEN_PROGRAM VCF_PROGRAM
#endif

enum { PASSPHRASE_LEN = 64, TEXT_LEN = 2048 };

const char *cryptsetup_token_version(void);
int cryptsetup_token_open(struct crypt_device *cd, int token, char **buffer,
			  size_t *buffer_len, void *usrptr);
void cryptsetup_token_buffer_free(void *buffer, size_t buffer_len);
void cryptsetup_token_dump(struct crypt_device *cd, const char *json);

const char *cryptsetup_token_version(void)
{
	return VCF_VERSION;
}

void cryptsetup_token_buffer_free(void *buffer, size_t buffer_len)
{
	if (!buffer)
		return;
	explicit_bzero(buffer, buffer_len);
	munlock(buffer, buffer_len);
	free(buffer);
}

/* --- the program --- */

struct child {
	pid_t pid;
	int out, err; /* our ends of its pipes */
};

extern char **environ;

static int start_with(struct child *c, const char *device, const int out[2],
		      const int err[2])
{
	const char *argv[] = {VCF_TOKEN_PROGRAM, "token-open", device, NULL};
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
					      O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
	if (!rc)
		rc = posix_spawn(&c->pid, argv[0], &actions, NULL,
				 (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

static int start(struct child *c, const char *device)
{
	int out[2], err[2], rc;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(err, O_CLOEXEC) < 0) {
		rc = -errno;
		close(out[0]);
		close(out[1]);
		return rc;
	}
	rc = start_with(c, device, out, err);
	close(out[1]);
	close(err[1]);
	c->out = out[0];
	c->err = err[0];
	return rc;
}

/* Up to the end; what does not fit is read all the same. */
static size_t read_all(int fd, char *buf, size_t room)
{
	size_t len = 0;
	char rest[256];

	for (;;) {
		bool fits = len < room;
		ssize_t n = read(fd, fits ? buf + len : rest,
				 fits ? room - len : sizeof(rest));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return len;
		if (fits)
			len += (size_t)n;
	}
}

static bool ended_well(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return false;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* *len: what it wrote, of the room there was. */
static int ask(struct crypt_device *cd, const char *device, char *buf, size_t room,
	       size_t *len)
{
	struct child c = {.out = -1, .err = -1};
	char text[TEXT_LEN + 1];
	bool well = false;
	int rc = start(&c, device);

	if (!rc) {
		*len = read_all(c.out, buf, room);
		text[read_all(c.err, text, TEXT_LEN)] = '\0';
		well = ended_well(c.pid);
	} else {
		snprintf(text, sizeof(text), "%s: %s\n", VCF_TOKEN_PROGRAM,
			 strerror(-rc));
	}
	close(c.out);
	close(c.err);
	if (*text)
		crypt_log(cd, well ? CRYPT_LOG_VERBOSE : CRYPT_LOG_ERROR, text);
	return well ? 0 : -ENOENT;
}

int cryptsetup_token_open(struct crypt_device *cd, int token, char **buffer,
			  size_t *buffer_len, void *usrptr)
{
	const char *device = crypt_get_metadata_device_name(cd);
	char *passphrase = malloc(PASSPHRASE_LEN + 1); /* one more: too long is wrong */
	size_t len = 0;

	(void)token;
	(void)usrptr;
	if (!passphrase)
		return -ENOMEM;
	if (mlock(passphrase, PASSPHRASE_LEN + 1) < 0)
		crypt_log(cd, CRYPT_LOG_DEBUG, "The passphrase cannot be locked.\n");
	if (!device)
		device = crypt_get_device_name(cd);
	if (!device || ask(cd, device, passphrase, PASSPHRASE_LEN + 1, &len) ||
	    len != PASSPHRASE_LEN) {
		cryptsetup_token_buffer_free(passphrase, PASSPHRASE_LEN + 1);
		return -ENOENT;
	}
	*buffer = passphrase;
	*buffer_len = len;
	return 0;
}

/* --- luksDump --- */

static void dump_member(struct crypt_device *cd, struct json_object *o, const char *name,
			const char *shown)
{
	struct json_object *value;
	char line[640];

	if (!json_object_object_get_ex(o, name, &value))
		return;
	snprintf(line, sizeof(line), "\t%-12s%s\n", shown, json_object_get_string(value));
	crypt_log(cd, CRYPT_LOG_NORMAL, line);
}

void cryptsetup_token_dump(struct crypt_device *cd, const char *json)
{
	struct json_object *o = json_tokener_parse(json);

	if (!o)
		return;
	dump_member(cd, o, "service", "Service:");
	dump_member(cd, o, "key_id", "Key id:");
	dump_member(cd, o, "derived", "Derived:");
	dump_member(cd, o, "holes", "Holes:");
	json_object_put(o);
}
