/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules, an expression and two folders of any bytes. A move of a folder that is allowed
 * must keep the group and the context of the path below it.
 *
 * Input: lines FROM, TO, BELOW, BIND (may be empty), then patterns, each behind one
 * letter for its class.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/rules.h"

enum { LINES = 12, PATHS = 3, FIRST_RULE = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool is_path(const char *p)
{
	size_t len = strlen(p);

	return len && *p != '/' && p[len - 1] != '/' && !strstr(p, "//");
}

static char *below(const char *folder, const char *path)
{
	char *joined;

	if (asprintf(&joined, "%s/%s", folder, path) < 0)
		abort();
	return joined;
}

static void check(const struct rules *r, char *const line[])
{
	auto_free char *a = below(line[0], line[2]);
	auto_free char *b = below(line[1], line[2]);
	bool folder_moves = rules_move_folder(r, line[0], line[1]) == 0;
	bool image = rules_is_image(rules_class(r, a));
	char ca[TOKEN_CONTEXT_MAX + 1], cb[TOKEN_CONTEXT_MAX + 1];

	rules_context(r, a, ca);
	rules_context(r, b, cb);
	if (!folder_moves)
		return;
	if (image != rules_is_image(rules_class(r, b)))
		abort();
	if (image && strcmp(ca, cb) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	auto_free char *text = strndup((const char *)data, len);
	auto_rules struct rules *r = NULL;
	struct rule_spec specs[LINES];
	char *line[LINES] = {NULL};
	char errbuf[64];
	size_t cnt = 0;
	size_t rule_cnt = 0;

	for (char *p = text; p && cnt < LINES;)
		line[cnt++] = strsep(&p, "\n");
	if (cnt < FIRST_RULE)
		return 0;
	for (int i = 0; i < PATHS; i++) {
		if (!is_path(line[i]))
			return 0;
	}
	for (size_t i = FIRST_RULE; i < cnt; i++) {
		if (*line[i])
			specs[rule_cnt++] = (struct rule_spec){
				(enum file_class)((unsigned char)*line[i] % 3),
				line[i] + 1};
	}
	if (rules_new(&r, specs, rule_cnt, *line[3] ? line[3] : NULL, errbuf,
		      sizeof(errbuf)) == 0)
		check(r, line);
	return 0;
}
