/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keyscmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "fs/cmd.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keysctl.h"
#include "fs/keysettings.h"
#include "fs/keysop.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/parse.h"

enum { DAY_S = 86400 };

int keyscmd_fail(const struct keyscmd *k, int code, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "vmcryptfs %s: ", k->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return code;
}

static int take_duration(struct keyscmd *k, uint64_t *out)
{
	if (parse_duration(optarg, out))
		return keyscmd_fail(k, EXIT_USAGE, "%s is no duration", optarg);
	return EXIT_OK;
}

static int take_source(struct keyscmd *k, int letter)
{
	vcf_err_t err;

	if (letter == 'o')
		err = config_source_setting(&k->source, optarg);
	else
		err = k->source.path ? -EEXIST : config_source_file(&k->source, optarg);
	if (err)
		return keyscmd_fail(k, EXIT_CONFIG, "%s: %s", optarg, strerror(-err));
	return EXIT_OK;
}

static int take_option(struct keyscmd *k, int letter)
{
	switch (letter) {
	case 'c':
	case 'o':
		return take_source(k, letter);
	case 'O':
		return take_duration(k, &k->older_than_s);
	case 'M':
		return take_duration(k, &k->max_age_s);
	case 'A':
		return take_duration(k, &k->apart_s);
	case 'i':
		k->inventories[k->inventory_cnt++] = optarg;
		break;
	case 'r':
		k->runtime = optarg;
		break;
	case 'H':
		k->hosts = optarg;
		break;
	case 'q':
		k->report = optarg;
		break;
	case 's':
		k->service = optarg;
		break;
	default:
		k->json |= letter == 'j';
		k->all |= letter == 'a';
		k->forget |= letter == 'f';
		k->destroy |= letter == 'd';
		k->more_than_in_use |= letter == 'm';
	}
	return EXIT_OK;
}

int keyscmd_parse(struct keyscmd *k, const char *name, const char *letters, int argc,
		  char **argv)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"runtime-directory", required_argument, NULL, 'r'},
		{"json", no_argument, NULL, 'j'},
		{"all", no_argument, NULL, 'a'},
		{"forget", no_argument, NULL, 'f'},
		{"destroy", no_argument, NULL, 'd'},
		{"hosts", required_argument, NULL, 'H'},
		{"inventory", required_argument, NULL, 'i'},
		{"older-than", required_argument, NULL, 'O'},
		{"max-age", required_argument, NULL, 'M'},
		{"apart", required_argument, NULL, 'A'},
		{"queue", required_argument, NULL, 'q'},
		{"service", required_argument, NULL, 's'},
		{"more-than-in-use", no_argument, NULL, 'm'},
		{NULL, 0, NULL, 0},
	};
	int opt, code = EXIT_OK;

	*k = (struct keyscmd){.name = name,
			      .older_than_s = 7 * DAY_S,
			      .max_age_s = DAY_S,
			      .apart_s = DAY_S};
	k->inventories = calloc((size_t)argc + 1, sizeof(*k->inventories));
	if (!k->inventories)
		return EXIT_FAILED;
	optind = 0; /* glibc: start anew */
	while (!code && (opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		if (opt == '?' || !strchr(letters, opt))
			code = EXIT_USAGE;
		else
			code = take_option(k, opt);
	}
	k->words = argv + optind;
	k->word_cnt = argc - optind;
	return code;
}

void keyscmd_fini(struct keyscmd *k)
{
	keycall_end();
	config_source_fini(&k->source);
	config_free(k->cfg);
	free(k->inventories);
}

int keyscmd_start_crypto(const struct keyscmd *k)
{
	static bool started;

	if (!started && (secret_arena_init() || crypto_init() || container_init()))
		return keyscmd_fail(k, EXIT_FAILED, "no locked memory for secrets");
	started = true;
	return EXIT_OK;
}

/* --- the configuration --- */

/* For a machine that mounts nothing: [mount] may be missing. */
static int load_service(struct keyscmd *k)
{
	if (config_new(&k->cfg))
		return EXIT_FAILED;
	if (k->source.path && config_read(k->cfg, k->source.path))
		return EXIT_CONFIG;
	for (size_t i = 0; i < k->source.setting_cnt; i++) {
		if (config_set(k->cfg, k->source.settings[i]))
			return EXIT_CONFIG;
	}
	return config_finish_services(k->cfg) ? EXIT_CONFIG : EXIT_OK;
}

int keyscmd_load(struct keyscmd *k, bool whole)
{
	int code;

	if (!k->source.path && (whole || !k->source.setting_cnt))
		return keyscmd_fail(k, EXIT_USAGE, "-c CONFIG is needed");
	if (keyscmd_start_crypto(k))
		return EXIT_FAILED;
	code = whole ? config_load_again(&k->cfg, &k->source) ? EXIT_CONFIG : EXIT_OK
		     : load_service(k);
	if (code)
		return code;
	k->at = config_service(k->cfg, k->service ? k->service : CONFIG_SERVICE_DEFAULT);
	if (!k->at)
		return keyscmd_fail(k, EXIT_CONFIG, "there is no [service %s]",
				    k->service);
	return EXIT_OK;
}

int keyscmd_connect(struct keyscmd *k, struct keyservice **ks)
{
	struct keysettings s = {0};
	vcf_err_t err;

	err = keysettings_init(&s, k->cfg, k->at);
	s.kc.children = 1;
	s.kc.give_up = true;
	keycall_begin(k->cfg, k->name);
	if (!err)
		err = keyservice_new(ks, &s.kc);
	keysettings_fini(&s);
	if (err)
		return keyscmd_fail(k, EXIT_KEYSERVICE,
				    "the key helper %s is missing or cannot be trusted",
				    k->at->helper);
	return EXIT_OK;
}

/* --- the journal --- */

static int ask_journal(struct keyscmd *k, struct json_object *request, FILE *to)
{
	auto_journal struct journal *j = NULL;
	struct keysop op = {.cfg = k->cfg};
	char path[PATH_MAX];
	vcf_err_t err = mountpoint_state(path, sizeof(path), k->cfg, "journal");

	if (!err && access(path, F_OK) < 0)
		err = -errno;
	if (err == -ENOENT)
		return keyscmd_fail(k, exit_code_of(err),
				    "%s: there is none: nothing was mounted with this "
				    "configuration yet",
				    path);
	if (err)
		return keyscmd_fail(k, exit_code_of(err), "%s: %s", path, strerror(-err));
	err = journal_open(&j, path);
	if (err == -EBUSY)
		return keyscmd_fail(k, EXIT_BUSY,
				    "a daemon holds the journal, but none answers: see "
				    "vmcryptfs status");
	if (err)
		return exit_code_of(err);
	op.journal = j;
	err = keysop_run(&op, request, to);
	return err ? keyscmd_fail(k, exit_code_of(err), "%s", strerror(-err)) : EXIT_OK;
}

/* Which mount: its name and where its sockets are. */
static int find_mount(struct keyscmd *k, char mountpoint[PATH_MAX])
{
	if (k->source.path) {
		int code = k->cfg ? EXIT_OK : keyscmd_load(k, true);

		if (code)
			return code;
		snprintf(mountpoint, PATH_MAX, "%s", k->cfg->mountpoint);
		if (!k->runtime)
			k->runtime = k->cfg->runtime_directory;
		return EXIT_OK;
	}
	if (!k->runtime)
		k->runtime = statusfile_default_directory();
	if (!k->word_cnt)
		return keyscmd_fail(k, EXIT_USAGE, "a MOUNTPOINT or -c CONFIG is needed");
	if (statusfile_resolve(k->words[0], mountpoint))
		return keyscmd_fail(k, EXIT_NOT_FOUND, "%s: %s", k->words[0],
				    strerror(errno));
	k->words++;
	k->word_cnt--;
	return EXIT_OK;
}

int keyscmd_ask(struct keyscmd *k, struct json_object *request, FILE *to)
{
	char mountpoint[PATH_MAX], socket[PATH_MAX];
	int code = find_mount(k, mountpoint);
	vcf_err_t err;

	if (code)
		return code;
	err = keysctl_path(socket, sizeof(socket), k->runtime, mountpoint);
	if (!err)
		err = keysctl_call(socket, request, to);
	if (!err)
		return EXIT_OK;
	if (err != -ENOENT && err != -ECONNREFUSED)
		return keyscmd_fail(k, exit_code_of(err), "%s: %s", mountpoint,
				    strerror(-err));
	if (k->cfg)
		return ask_journal(k, request, to);
	return keyscmd_fail(k, EXIT_NOT_FOUND,
			    "%s: no vmcryptfs answers for it in %s; -c CONFIG reads the "
			    "journal of a mount that nobody serves",
			    mountpoint, k->runtime);
}

int keyscmd_ask_object(struct keyscmd *k, struct json_object *request,
		       struct json_object **answer)
{
	auto_free char *text = NULL;
	struct json_object *o;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	int code = to ? keyscmd_ask(k, request, to) : EXIT_FAILED;

	if (to)
		fclose(to);
	if (code)
		return code;
	o = json_tokener_parse(text);
	if (!json_object_is_type(o, json_type_object) ||
	    json_object_object_get_ex(o, "error", NULL)) {
		code = (int)json_number(o, "code");
		keyscmd_fail(k, code, "%s", o ? json_text(o, "error") : "no answer");
		json_object_put(o);
		return code ? code : EXIT_FAILED;
	}
	*answer = o;
	return EXIT_OK;
}
