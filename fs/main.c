/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The program: one table of commands. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build-config.h"
#include "fs/cmd.h"
#include "fs/mounthelper.h"

const struct command commands[] = {
	{"mount", cmd_mount, CMD_MOUNT_USAGE, CMD_MOUNT_HELP},
	{"umount", cmd_umount, CMD_UMOUNT_USAGE, CMD_UMOUNT_HELP},
	{"drain", cmd_drain, CMD_DRAIN_USAGE, CMD_DRAIN_HELP},
	{"status", cmd_status, CMD_STATUS_USAGE, CMD_STATUS_HELP},
	{"upgrade", cmd_upgrade, CMD_UPGRADE_USAGE, CMD_UPGRADE_HELP},
	{"log-level", cmd_log_level, CMD_LOG_LEVEL_USAGE, CMD_LOG_LEVEL_HELP},
	{"metrics", cmd_metrics, CMD_METRICS_USAGE, CMD_METRICS_HELP},
	{"support", cmd_support, CMD_SUPPORT_USAGE, CMD_SUPPORT_HELP},
	{"top", cmd_top, CMD_TOP_USAGE, CMD_TOP_HELP},
	{"info", cmd_info, CMD_INFO_USAGE, CMD_INFO_HELP},
	{"verify", cmd_verify, CMD_VERIFY_USAGE, CMD_VERIFY_HELP},
	{"repair", cmd_repair, CMD_REPAIR_USAGE, CMD_REPAIR_HELP},
	{"header", cmd_header, CMD_HEADER_USAGE, CMD_HEADER_HELP},
	{"encrypt", cmd_encrypt, CMD_ENCRYPT_USAGE, CMD_ENCRYPT_HELP},
	{"decrypt", cmd_decrypt, CMD_DECRYPT_USAGE, CMD_DECRYPT_HELP},
	{"convert", cmd_convert, CMD_CONVERT_USAGE, CMD_CONVERT_HELP},
	{"materialize", cmd_materialize, CMD_MATERIALIZE_USAGE, CMD_MATERIALIZE_HELP},
	{"trim", cmd_trim, CMD_TRIM_USAGE, CMD_TRIM_HELP},
	{"libvirt-secret", cmd_libvirt_secret, CMD_LIBVIRT_SECRET_USAGE,
	 CMD_LIBVIRT_SECRET_HELP},
	{"adopt", cmd_adopt, CMD_ADOPT_USAGE, CMD_ADOPT_HELP},
	{"rekey", cmd_rekey, CMD_REKEY_USAGE, CMD_REKEY_HELP},
	{"shred", cmd_shred, CMD_SHRED_USAGE, CMD_SHRED_HELP},
	{"recover", cmd_recover, CMD_RECOVER_USAGE, CMD_RECOVER_HELP},
	{"check-config", cmd_check_config, CMD_CHECK_CONFIG_USAGE, CMD_CHECK_CONFIG_HELP},
	{"check-tree", cmd_check_tree, CMD_CHECK_TREE_USAGE, CMD_CHECK_TREE_HELP},
	{"check-mount", cmd_check_mount, CMD_CHECK_MOUNT_USAGE, CMD_CHECK_MOUNT_HELP},
	{"guard", cmd_guard, CMD_GUARD_USAGE, CMD_GUARD_HELP},
	{"check-keys", cmd_check_keys, CMD_CHECK_KEYS_USAGE, CMD_CHECK_KEYS_HELP},
	{"keys", cmd_keys, CMD_KEYS_USAGE, CMD_KEYS_HELP},
	{"help", cmd_help, CMD_HELP_USAGE, CMD_HELP_HELP},
	{NULL, NULL, NULL, NULL},
};

/*
 * What the caller left open is none of ours; 0, 1 and 2 exist, so that no file of ours ever gets one
 * of these numbers.
 */
static void settle_fds(bool keep)
{
	int fd;

	if (!keep)
		close_range(3, ~0u, 0);
	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Executed by a keeper for an upgrade: all its descriptors are meant. */
static bool from_keeper(int argc, char **argv)
{
	for (int i = 2; i < argc && i < 4; i++) {
		if (strncmp(argv[i], "--session=", 10) == 0)
			return true;
	}
	return false;
}

/* A build that does not encrypt is for measurements; nobody runs it by mistake. */
static bool is_refused(void)
{
	const char *wanted = getenv("VMCRYPTFS_NO_CIPHER");

	if (!VCF_BENCH_NO_CIPHER || (wanted && strcmp(wanted, "yes") == 0))
		return false;
	fprintf(stderr, "vmcryptfs: this build DOES NOT ENCRYPT: it only shows what "
			"encryption costs; VMCRYPTFS_NO_CIPHER=yes allows that\n");
	return true;
}

int main(int argc, char **argv)
{
	const struct command *c;

	settle_fds(from_keeper(argc, argv));
	if (argc >= 2 &&
	    (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		printf("vmcryptfs %s%s\n", VCF_VERSION,
		       VCF_BENCH_NO_CIPHER ? " (DOES NOT ENCRYPT)" : "");
		return EXIT_OK;
	}
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return cmd_help(1, argv);
	if (is_refused())
		return EXIT_REFUSED;
	if (mounthelper_is_called(argv[0]))
		return mounthelper_run(argc, argv);
	if (argc >= 2 && strcmp(argv[1], "upgrade-probe") == 0)
		return cmd_upgrade_probe(argc - 1, argv + 1);
	if (argc >= 2 && strcmp(argv[1], "token-open") == 0)
		return cmd_token_open(argc - 1, argv + 1);
	c = argc >= 2 ? command_find(argv[1]) : NULL;
	if (!c) {
		fprintf(stderr, "vmcryptfs: %s%s\nTry 'vmcryptfs help'.\n",
			argc < 2 ? "no command given" : "unknown command ",
			argc < 2 ? "" : argv[1]);
		return EXIT_USAGE;
	}
	return c->run(argc - 1, argv + 1);
}
