/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the subcommands of `vmcryptfs keys` and `check-keys` share. */
#ifndef VCF_FS_KEYSCMD_H
#define VCF_FS_KEYSCMD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "crypto/keyservice.h"
#include "fs/config.h"
#include "fs/config_source.h"
#include "util/cleanup.h"

/* The command line; what a subcommand does not take is refused by the parser. */
struct keyscmd {
	const char *name; /* "keys list": for messages */
	struct config_source source;
	const char *runtime;
	bool json, all, forget, destroy, more_than_in_use;
	const char *hosts, *report, *service;
	const char **inventories;
	size_t inventory_cnt;
	uint64_t older_than_s, max_age_s, apart_s;
	char **words;
	int word_cnt;
	struct config *cfg;
	const struct config
		*at; /* the part of cfg that is the service's: --service, or default */
};

/*
 * Parses options (of keyscmd_letters' meaning) and words. EXIT_OK or another code, with a message.
 * keyscmd_fini() in every case.
 *
 *   c config   o setting   r runtime-directory   j json   a all   f forget   d destroy
 *   H hosts    i inventory O older-than          M max-age  A apart  q queue   s service
 *   m more-than-in-use
 */
NODISCARD int keyscmd_parse(struct keyscmd *k, const char *name, const char *letters,
			    int argc, char **argv);
void keyscmd_fini(struct keyscmd *k);

/* Prints "vmcryptfs NAME: ..." to stderr; returns the code. */
int keyscmd_fail(const struct keyscmd *k, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Loads -c: a whole configuration, or of which only the key service counts. */
NODISCARD int keyscmd_load(struct keyscmd *k, bool whole);

/* Once, before checksums and secrets; keyscmd_load() does it. */
NODISCARD int keyscmd_start_crypto(const struct keyscmd *k);

/* Crypto and the key service of the loaded configuration. EXIT_OK, or another code. */
NODISCARD int keyscmd_connect(struct keyscmd *k, struct keyservice **ks);

/*
 * Asks the daemon of the mount, or its journal where nobody serves it. The mount is that of
 * -c, or the first word, which is taken. The answer goes to `to` as it is.
 */
NODISCARD int keyscmd_ask(struct keyscmd *k, struct json_object *request, FILE *to);
/* The same; *answer is the caller's, and no {"error":...}. */
NODISCARD int keyscmd_ask_object(struct keyscmd *k, struct json_object *request,
				 struct json_object **answer);

static inline void cleanup_json(struct json_object **o)
{
	json_object_put(*o);
}
#define auto_json __attribute__((cleanup(cleanup_json)))

/* The subcommands that have files of their own. */
int keys_orphans(struct keyscmd *k);
int keys_reap(struct keyscmd *k);
int keys_reaped(struct keyscmd *k);
int keys_escrow_keygen(struct keyscmd *k);

#endif
