/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * adopt: containers that the mount did not make become images of it: copies of our own (--reclone), and
 * what cryptsetup or qemu-img made, whose passphrase the key service has (--key-id).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "crypto/container_adopt.h"
#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/offline.h"
#include "fs/statusfile.h"

struct adopt_args {
	struct config_source source;
	const char *runtime;
	bool reclone;
	const char *key_id, *service;
	enum token_holes holes;
};

static vcf_err_t reclone(struct offline *o, const char *path)
{
	auto_secret struct secret *secret = NULL;
	struct offline_file f;
	vcf_err_t err = offline_open(&f, o->command, path, o->runtime, true);

	if (err)
		return err;
	err = offline_fetch(o, &f, &secret);
	if (!err) {
		err = container_unlock(f.c, secret, f.path); /* logs what is wrong */
		if (!err)
			err = offline_rekey(o, &f);
	}
	offline_close(&f);
	return err;
}

static vcf_err_t unlock_foreign(const struct offline *o, const struct adopt_args *a,
				struct offline_file *f, const struct secret *secret)
{
	vcf_err_t err = container_unlock_foreign(f->c, secret);

	if (err)
		fprintf(stderr, "vmcryptfs %s: %s: %s: %s\n", o->command, f->path,
			a->key_id,
			err == -EKEYREJECTED
				? "neither its hex text nor its bytes open a key slot"
				: strerror(-err));
	return err;
}

/* What goes with the other slots. */
static void say_extent(const struct offline_file *f)
{
	struct foreign_extent e;

	container_foreign_extent(f->c, &e);
	if (e.slots > 1 || e.tokens)
		printf("%s: %u key slots and %u tokens of its own go\n", f->path, e.slots,
		       e.tokens);
}

static vcf_err_t adopt(struct offline *o, const struct adopt_args *a, const char *path)
{
	auto_secret struct secret *secret = NULL;
	struct offline_file f;
	vcf_err_t err = offline_open_foreign(&f, o->command, path, o->runtime);

	if (err)
		return err;
	err = offline_fetch_id(o, &f, a->service ? a->service : "", a->key_id, &secret);
	if (!err)
		err = unlock_foreign(o, a, &f, secret);
	if (!err) {
		say_extent(&f);
		err = offline_adopt(o, &f, a->holes);
	}
	if (!err)
		printf("%s: its passphrase %s stays at the service, and opens it no "
		       "more\n",
		       f.path, a->key_id);
	offline_close(&f);
	return err;
}

enum { OPT_RECLONE = 'R', OPT_KEY_ID = 'K', OPT_SERVICE = 'S', OPT_HOLES = 'H' };

static bool parse_holes(struct adopt_args *a, const char *text)
{
	a->holes = strcmp(text, "zero") == 0 ? HOLES_ZERO : HOLES_NONE;
	return a->holes == HOLES_ZERO || strcmp(text, "none") == 0;
}

static vcf_err_t take_option(struct adopt_args *a, int opt)
{
	switch (opt) {
	case OPT_RECLONE:
		a->reclone = true;
		return 0;
	case OPT_KEY_ID:
		a->key_id = optarg;
		return token_key_id_valid(optarg) ? 0 : -EINVAL;
	case OPT_SERVICE:
		a->service = optarg;
		return 0;
	case OPT_HOLES:
		return parse_holes(a, optarg) ? 0 : -EINVAL;
	case 'c':
		return a->source.path ? -EEXIST : config_source_file(&a->source, optarg);
	case 'o':
		return config_source_setting(&a->source, optarg);
	default: /* 'r' */
		a->runtime = optarg;
		return 0;
	}
}

static bool is_complete(const struct adopt_args *a, int files)
{
	if (!a->source.path || files < 1 || a->reclone == (a->key_id != NULL))
		return false;
	return a->reclone ? !a->service && a->holes == HOLES_NONE : files == 1;
}

static int parse(struct adopt_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"reclone", no_argument, NULL, OPT_RECLONE},
		{"key-id", required_argument, NULL, OPT_KEY_ID},
		{"service", required_argument, NULL, OPT_SERVICE},
		{"holes", required_argument, NULL, OPT_HOLES},
		{NULL, 0, NULL, 0}};
	vcf_err_t err = 0;
	int opt;

	while (!err && (opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		if (opt == '?')
			return command_usage("adopt");
		err = take_option(a, opt);
	}
	if (err) {
		fprintf(stderr, "vmcryptfs adopt: %s: %s\n", optarg, strerror(-err));
		return exit_code_of(err);
	}
	return is_complete(a, argc - optind) ? EXIT_OK : command_usage("adopt");
}

static int run(const struct adopt_args *a, const struct config *cfg, int argc,
	       char **argv)
{
	const char *runtime = a->runtime ? a->runtime : cfg->runtime_directory;
	struct offline o;
	int code = offline_init_crypto();

	if (code)
		return code;
	code = offline_init(&o, "adopt", cfg, runtime);
	for (int i = optind; (!code || i > optind) && i < argc; i++) {
		vcf_err_t err = a->reclone ? reclone(&o, argv[i]) : adopt(&o, a, argv[i]);

		code = err ? (int)exit_code_of(err) : code;
	}
	offline_fini(&o);
	return code;
}

int cmd_adopt(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct adopt_args a = {.holes = HOLES_NONE};
	int code = parse(&a, argc, argv);

	if (!code && config_load(&cfg, &a.source))
		code = EXIT_CONFIG;
	if (!code)
		code = run(&a, cfg, argc, argv);
	config_source_fini(&a.source);
	return code;
}
