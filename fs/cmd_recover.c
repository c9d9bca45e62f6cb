/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * recover: containers opened by their escrow token, without the key service. What the token gives is
 * believed only if it opens the slot and MAC and kcv are right.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/keycall.h"
#include "fs/offline.h"
#include "fs/statusfile.h"
#include "util/io.h"

struct recover_args {
	struct config_source source;
	const char *runtime, *escrow_key, *out_key;
	bool to_service, print, any_disk;
	struct secret *private_key;
};

static int complain(const char *path, const char *why)
{
	fprintf(stderr, "vmcryptfs recover: %s: %s\n", path, why);
	return EXIT_FAILED;
}

static const char *open_failure(vcf_err_t err)
{
	switch (err) {
	case -ENOKEY:
		return "its escrow token is for another key";
	case -EBADMSG:
		return "its escrow token is damaged, or was made for another container";
	default:
		return strerror(-err);
	}
}

static vcf_err_t unlock(const struct recover_args *a, struct offline_file *f,
			struct secret **secret)
{
	const struct escrow *e = container_escrow(f->c);
	vcf_err_t err;

	if (!*e->recipient) {
		complain(f->path, "it has no escrow token");
		return -ENOKEY;
	}
	err = escrow_open(secret, e, a->private_key, container_subject(f->c)->uuid,
			  container_token(f->c)->generation);
	if (err) {
		complain(f->path, open_failure(err));
		return err;
	}
	return container_unlock(f->c, *secret, f->path); /* logs what is wrong */
}

/* The 64 hex digits and nothing else, as cryptsetup wants a key file; in memory only. */
static int write_key(const struct recover_args *a, const struct secret *secret)
{
	auto_close int fd =
		open(a->out_key, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char hex[SECRET_HEX_LEN + 1];
	struct statfs fs;
	vcf_err_t err;

	if (fd < 0)
		return complain(a->out_key, strerror(errno));
	if (!a->any_disk && (fstatfs(fd, &fs) < 0 ||
			     (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC))) {
		unlink(a->out_key);
		complain(a->out_key, "not in memory (tmpfs); --any-disk allows it");
		return EXIT_REFUSED;
	}
	secret_hex(secret, hex);
	err = io_write_full(fd, hex, SECRET_HEX_LEN);
	secret_wipe(hex, sizeof(hex));
	if (!err)
		return EXIT_OK;
	unlink(a->out_key);
	return complain(a->out_key, strerror(-err));
}

/* As one word of a shell. */
static void print_word(const char *text)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\'", stdout);
		putchar(*text);
	}
	putchar('\'');
}

static void print_command(const struct recover_args *a, const struct offline_file *f)
{
	printf("cryptsetup open --type %s --key-slot %u --key-file ",
	       container_subject(f->c)->format == FORMAT_LUKS1 ? "luks1" : "luks2",
	       container_token(f->c)->keyslot);
	print_word(a->out_key ? a->out_key : "KEYFILE");
	putchar(' ');
	print_word(f->path);
	puts(" NAME");
}

static int deal_with(const struct recover_args *a, struct offline *o,
		     struct offline_file *f)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err = unlock(a, f, &secret);
	int code = err ? (int)exit_code_of(err) : EXIT_OK;

	if (code)
		return code;
	if (a->to_service) {
		keycall_recovered(
			&(const struct keycall){NULL, container_token(f->c)->service,
						f->path, container_subject(f->c)->uuid},
			container_token(f->c)->key_id);
		return exit_code_of(offline_rekey(o, f));
	}
	if (a->out_key)
		code = write_key(a, secret);
	if (!code && a->print)
		print_command(a, f);
	else if (!code)
		printf("%s: %s\n", f->path,
		       a->out_key ? "its secret is written" : "the escrow key opens it");
	return code;
}

static int recover(const struct recover_args *a, struct offline *o, const char *path)
{
	struct offline_file f;
	vcf_err_t err = offline_open(&f, "recover", path, a->runtime, a->to_service);
	int code;

	if (err)
		return exit_code_of(err);
	code = deal_with(a, o, &f);
	offline_close(&f);
	return code;
}

static vcf_err_t take_option(struct recover_args *a, int opt)
{
	switch (opt) {
	case 'c':
		return a->source.path ? -EINVAL : config_source_file(&a->source, optarg);
	case 'o':
		return config_source_setting(&a->source, optarg);
	case 'r':
		a->runtime = optarg;
		return 0;
	case 'k':
		a->escrow_key = optarg;
		return 0;
	case 'O':
		a->out_key = optarg;
		return 0;
	case 'p':
		return (a->print = true), 0;
	case 'd':
		return (a->any_disk = true), 0;
	case 's':
		return (a->to_service = true), 0;
	default:
		return -ENOTSUP;
	}
}

static bool sensible(const struct recover_args *a, int paths)
{
	if (!a->escrow_key || !paths || !a->source.path != !a->to_service)
		return false;
	return !a->out_key || (!a->to_service && paths == 1);
}

static int parse(struct recover_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"escrow-key", required_argument, NULL, 'k'},
		{"out-key", required_argument, NULL, 'O'},
		{"print-cryptsetup", no_argument, NULL, 'p'},
		{"any-disk", no_argument, NULL, 'd'},
		{"to-service", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		vcf_err_t err = take_option(a, opt);

		if (err == -ENOTSUP)
			return command_usage("recover");
		if (err) {
			complain(optarg, strerror(-err));
			return exit_code_of(err);
		}
	}
	return sensible(a, argc - optind) ? EXIT_OK : command_usage("recover");
}

static int read_key(struct recover_args *a)
{
	vcf_err_t err = escrow_read_private(&a->private_key, a->escrow_key);

	if (!err)
		return EXIT_OK;
	complain(a->escrow_key, err == -EBADMSG ? "not a private escrow key"
				: err == -EPERM ? "others than its owner may read it"
						: strerror(-err));
	return exit_code_of(err);
}

static int run(struct recover_args *a, const struct config *cfg, int argc, char **argv)
{
	struct offline o = {.journal = NULL};
	int code = offline_init_crypto();

	if (!code)
		code = read_key(a);
	if (!code && cfg)
		code = offline_init(&o, "recover", cfg, a->runtime);
	if (code) {
		offline_fini(&o);
		return code;
	}
	for (int i = optind; i < argc; i++) {
		int one = recover(a, &o, argv[i]);

		code = one ? one : code;
	}
	offline_fini(&o);
	return code;
}

int cmd_recover(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct recover_args a = {.runtime = NULL};
	int code = parse(&a, argc, argv);

	if (!code && a.source.path && config_load(&cfg, &a.source))
		code = EXIT_CONFIG;
	if (!a.runtime)
		a.runtime = cfg ? cfg->runtime_directory : statusfile_default_directory();
	if (!code)
		code = run(&a, cfg, argc, argv);
	secret_free(a.private_key);
	config_source_fini(&a.source);
	return code;
}
