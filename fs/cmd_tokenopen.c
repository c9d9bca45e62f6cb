/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * token-open DEVICE: the passphrase of a LUKS2 container for libcryptsetup, by way of our plugin
 * (crypto/token-plugin). Not in the table: it writes a secret to standard output, which has to be a
 * pipe.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build-config.h"
#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/toolkeys.h"
#include "util/io.h"

static int complain(const char *what, int code, const char *why)
{
	fprintf(stderr, "vmcryptfs: %s: %s\n", what, why);
	return code;
}

static int is_config(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return *d->d_name != '.' && len > 5 && strcmp(d->d_name + len - 5, ".conf") == 0;
}

/* The only one there is; else none. */
static int find_only(struct config_source *src)
{
	const char *folder = VCF_SYSCONFDIR "/vmcryptfs";
	struct dirent **found = NULL;
	char path[PATH_MAX];
	int cnt = scandir(folder, &found, is_config, NULL), code;

	if (cnt == 1) {
		snprintf(path, sizeof(path), "%s/%s", folder, found[0]->d_name);
		code = (int)exit_code_of(config_source_file(src, path));
	} else {
		code = complain(folder, EXIT_CONFIG,
				cnt > 1 ? "there are several configurations; "
					  "VMCRYPTFS_CONFIG names the one that knows the "
					  "image's key service"
					: "no configuration; VMCRYPTFS_CONFIG can name "
					  "one");
	}
	while (cnt > 0)
		free(found[--cnt]);
	free(found);
	return code;
}

static int find_config(struct config_source *src)
{
	const char *named = secure_getenv("VMCRYPTFS_CONFIG");

	return named ? (int)exit_code_of(config_source_file(src, named)) : find_only(src);
}

/* What dm-crypt would show is what the mount shows, or it is refused. */
static const char *unfit(const struct container *c)
{
	if (container_token(c)->holes != HOLES_NONE)
		return "refused: its holes would read as noise; first 'vmcryptfs "
		       "materialize'";
	return NULL;
}

static int write_passphrase(const char *device, const struct secret *secret)
{
	char hex[SECRET_HEX_LEN + 1];
	vcf_err_t err;

	secret_hex(secret, hex);
	err = io_write_full(STDOUT_FILENO, hex, SECRET_HEX_LEN);
	secret_wipe(hex, sizeof(hex));
	return err ? complain(device, EXIT_FAILED, strerror(-err)) : EXIT_OK;
}

static int open_container(struct toolkeys *keys, const char *device)
{
	auto_free char *path = realpath(device, NULL);
	auto_close int fd =
		path ? io_open_file(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, true) : -1;
	auto_container struct container *c = NULL;
	auto_secret struct secret *secret = NULL;
	char why[CONTAINER_WHY_LEN] = "", answer[TOOLKEYS_WHY_LEN];
	const char *reason;
	vcf_err_t err = !path ? -errno : fd < 0 ? fd : 0;

	if (!err)
		err = container_load_why(&c, fd, why, NULL);
	if (err)
		return complain(device, EXIT_FAILED, *why ? why : strerror(-err));
	reason = unfit(c);
	if (reason)
		return complain(device, EXIT_REFUSED, reason);
	err = toolkeys_unlock(keys, c, path, &secret, answer);
	if (err)
		return complain(device, (int)exit_code_of(err), answer);
	return write_passphrase(device, secret);
}

int cmd_token_open(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct config_source src = {0};
	struct toolkeys keys = {0};
	struct stat st;
	int code;

	if (argc != 2 || fstat(STDOUT_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode))
		return complain("token-open", EXIT_USAGE, "is for cryptsetup's plugin");
	code = find_config(&src);
	if (!code && config_load(&cfg, &src))
		code = EXIT_CONFIG;
	if (!code)
		code = toolkeys_begin(&keys, cfg, "token-open");
	if (!code)
		code = open_container(&keys, argv[1]);
	toolkeys_end(&keys);
	config_source_fini(&src);
	return code;
}
