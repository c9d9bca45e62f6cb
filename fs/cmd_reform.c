/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of encrypt, decrypt and convert. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/reform.h"
#include "util/parse.h"

enum {
	OPT_ALL = TOOL_OPT_OWN,
	OPT_NO_VERIFY,
	OPT_WIPE,
	OPT_DESTROY_NOW,
	OPT_OUTPUT,
	OPT_OUTPUT_DIR,
	OPT_REPLACE,
	OPT_FORMAT,
	OPT_SECTOR_SIZE,
	OPT_DATA_OFFSET,
};

static vcf_err_t take_format(struct reform *r, const char *text)
{
	r->has_format = true;
	r->format = strcmp(text, "luks1") == 0 ? FORMAT_LUKS1 : FORMAT_LUKS2;
	return r->format == FORMAT_LUKS1 || strcmp(text, "luks2") == 0 ? 0 : -EINVAL;
}

static vcf_err_t take_sector_size(struct reform *r, const char *text)
{
	uint64_t n = 0;
	vcf_err_t err = parse_u64(text, 512, 4096, &n);

	r->sector_len = (uint32_t)n;
	return err ? err : n == 512 || n == 4096 ? 0 : -EINVAL;
}

static vcf_err_t take_data_offset(struct reform *r, const char *text)
{
	enum { MIN = 1024 * 1024, MAX = 64 * 1024 * 1024, PAGE = 4096 };
	vcf_err_t err = parse_size(text, &r->data_off);

	if (err)
		return err;
	return r->data_off >= MIN && r->data_off <= MAX && r->data_off % PAGE == 0
		       ? 0
		       : -EINVAL;
}

/* -ENOENT: it is none of these. */
static vcf_err_t take_own(struct reform *r, int opt)
{
	switch (opt) {
	case OPT_ALL:
		r->all = true;
		return 0;
	case OPT_NO_VERIFY:
		r->no_verify = true;
		return 0;
	case OPT_WIPE:
		r->wipe = true;
		return 0;
	case OPT_DESTROY_NOW:
		r->destroy_now = true;
		return 0;
	case OPT_OUTPUT:
		r->output = optarg;
		return 0;
	case OPT_OUTPUT_DIR:
		r->output_dir = optarg;
		return 0;
	case OPT_REPLACE:
		r->replace = true;
		return 0;
	case OPT_FORMAT:
		return take_format(r, optarg);
	case OPT_SECTOR_SIZE:
		return take_sector_size(r, optarg);
	case OPT_DATA_OFFSET:
		return take_data_offset(r, optarg);
	default:
		return -ENOENT;
	}
}

static int parse(struct reform *r, int argc, char **argv, const struct option *longs)
{
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1) {
		vcf_err_t err = take_own(r, opt);

		if (err == -ENOENT)
			code = tool_option(&r->tool, opt);
		else if (err)
			fprintf(stderr, "vmcryptfs %s: %s: %s\n", r->tool.command, optarg,
				strerror(-err));
		if (err && err != -ENOENT)
			code = EXIT_USAGE;
	}
	return code == EXIT_USAGE ? command_usage(r->tool.command) : code;
}

static int run(struct reform *r, int argc, char **argv, const struct option *longs,
	       bool (*fits)(const struct reform *r, int paths))
{
	int code = parse(r, argc, argv, longs);

	if (!code && !fits(r, argc - optind))
		code = command_usage(r->tool.command);
	if (!code)
		return reform_run(r, argc - optind, argv + optind);
	config_source_fini(&r->tool.source);
	return code;
}

static bool always_fits(const struct reform *r, int paths)
{
	(void)r;
	(void)paths;
	return true;
}

int cmd_encrypt(int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"all", no_argument, NULL, OPT_ALL},
		{"no-verify", no_argument, NULL, OPT_NO_VERIFY},
		{"wipe", no_argument, NULL, OPT_WIPE},
		{NULL, 0, NULL, 0}};
	struct reform r = {.kind = REFORM_ENCRYPT, .tool.command = "encrypt"};

	return run(&r, argc, argv, longs, always_fits);
}

/* Where it goes is to be said, once; one file has one name. */
static bool decrypt_fits(const struct reform *r, int paths)
{
	int ways = (r->output != NULL) + (r->output_dir != NULL) + r->replace;

	return ways == 1 && (!r->output || paths == 1) && (!r->destroy_now || r->replace);
}

int cmd_decrypt(int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"no-verify", no_argument, NULL, OPT_NO_VERIFY},
		{"output", required_argument, NULL, OPT_OUTPUT},
		{"output-dir", required_argument, NULL, OPT_OUTPUT_DIR},
		{"replace-by-plaintext", no_argument, NULL, OPT_REPLACE},
		{"destroy-now", no_argument, NULL, OPT_DESTROY_NOW},
		{NULL, 0, NULL, 0}};
	struct reform r = {.kind = REFORM_DECRYPT, .tool.command = "decrypt"};

	return run(&r, argc, argv, longs, decrypt_fits);
}

static bool convert_fits(const struct reform *r, int paths)
{
	(void)paths;
	return r->has_format || r->sector_len || r->data_off;
}

int cmd_convert(int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"all", no_argument, NULL, OPT_ALL},
		{"no-verify", no_argument, NULL, OPT_NO_VERIFY},
		{"format", required_argument, NULL, OPT_FORMAT},
		{"sector-size", required_argument, NULL, OPT_SECTOR_SIZE},
		{"data-offset", required_argument, NULL, OPT_DATA_OFFSET},
		{"destroy-now", no_argument, NULL, OPT_DESTROY_NOW},
		{NULL, 0, NULL, 0}};
	struct reform r = {.kind = REFORM_CONVERT, .tool.command = "convert"};

	return run(&r, argc, argv, longs, convert_fits);
}
