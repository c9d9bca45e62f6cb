/* SPDX-License-Identifier: GPL-2.0-or-later */
/* adopt --reclone: copies of containers that were made below the mount become images of their own. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/config_source.h"
#include "fs/offline.h"
#include "fs/statusfile.h"

struct adopt_args {
	struct config_source source;
	const char *runtime;
	bool reclone;
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

static int parse(struct adopt_args *a, int argc, char **argv)
{
	static const struct option longs[] = {{"reclone", no_argument, NULL, 'R'},
					      {NULL, 0, NULL, 0}};
	vcf_err_t err = 0;
	int opt;

	while (!err && (opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		if (opt == 'R')
			a->reclone = true;
		else if (opt == 'c' && !a->source.path)
			err = config_source_file(&a->source, optarg);
		else if (opt == 'o')
			err = config_source_setting(&a->source, optarg);
		else if (opt == 'r')
			a->runtime = optarg;
		else
			return command_usage("adopt");
	}
	if (err) {
		fprintf(stderr, "vmcryptfs adopt: %s: %s\n", optarg, strerror(-err));
		return exit_code_of(err);
	}
	return a->reclone && a->source.path && optind < argc ? EXIT_OK
							     : command_usage("adopt");
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
		vcf_err_t err = reclone(&o, argv[i]);

		code = err ? (int)exit_code_of(err) : code;
	}
	offline_fini(&o);
	return code;
}

int cmd_adopt(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct adopt_args a = {.runtime = NULL};
	int code = parse(&a, argc, argv);

	if (!code && config_load(&cfg, &a.source))
		code = EXIT_CONFIG;
	if (!code)
		code = run(&a, cfg, argc, argv);
	config_source_fini(&a.source);
	return code;
}
