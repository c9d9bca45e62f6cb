/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys: what waits for its end, what the service has, and what an operator decides of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/jsonlines.h"
#include "fs/keyrecords.h"
#include "fs/keyscmd.h"

static struct json_object *request(const char *op)
{
	struct json_object *o = json_object_new_object();

	json_put_text(o, "op", op);
	return o;
}

/* A name may hold what a terminal would obey. */
static void print_visible(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void print_entry(const char *what, struct json_object *e)
{
	const char *due = json_text(e, "due"), *key_id = json_text(e, "key_id");

	printf("%-8s  %-20s  %s  %s %s  ", what, *due ? due : "-", json_text(e, "uuid"),
	       json_text(e, "service"), *key_id ? key_id : "-");
	print_visible(json_text(e, "path"));
	if (*json_text(e, "error"))
		printf(": %s", json_text(e, "error"));
	putchar('\n');
}

/* The entries of a list in an answer; what: NULL: by their state. */
static size_t print_list(struct json_object *answer, const char *key, const char *what)
{
	struct json_object *list;
	size_t cnt;

	if (!json_object_object_get_ex(answer, key, &list))
		return 0;
	cnt = json_object_array_length(list);
	for (size_t i = 0; i < cnt; i++) {
		struct json_object *e = json_object_array_get_idx(list, i);
		bool suspect = strcmp(json_text(e, "state"), "suspect") == 0;

		print_entry(what ? what : suspect ? "suspect" : "waits", e);
	}
	return cnt;
}

static int pending(struct keyscmd *k)
{
	auto_json struct json_object *ask = request("pending");
	auto_json struct json_object *answer = NULL;
	int code = keyscmd_ask_object(k, ask, &answer);

	if (code)
		return code;
	if (k->word_cnt)
		return EXIT_USAGE;
	if (k->json) {
		puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY));
		return EXIT_OK;
	}
	if (!print_list(answer, "entries", NULL))
		puts("nothing waits");
	if (*json_text(answer, "last_error"))
		printf("last error: %s\n", json_text(answer, "last_error"));
	return EXIT_OK;
}

/* --- decisions --- */

static void print_missing(struct json_object *answer)
{
	struct json_object *list;

	if (!json_object_object_get_ex(answer, "missing", &list))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		fprintf(stderr, "there is no such entry: %s\n",
			json_object_get_string(json_object_array_get_idx(list, i)));
}

static bool has_any(struct json_object *answer, const char *key)
{
	struct json_object *list;

	return json_object_object_get_ex(answer, key, &list) &&
	       json_object_array_length(list);
}

static int show_decision(const struct keyscmd *k, struct json_object *answer,
			 const char *done)
{
	if (k->json) {
		puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY));
	} else {
		print_list(answer, "done", done);
		print_list(answer, "failed", "FAILED");
		print_missing(answer);
		if (*json_text(answer, "note"))
			fprintf(stderr, "%s\n", json_text(answer, "note"));
	}
	if (has_any(answer, "failed"))
		return EXIT_BUSY;
	return has_any(answer, "missing") ? EXIT_NOT_FOUND : EXIT_OK;
}

static int decide(struct keyscmd *k, const char *op, const char *done)
{
	auto_json struct json_object *ask = request(op);
	auto_json struct json_object *answer = NULL;
	struct json_object *which = json_object_new_array();
	int first = k->source.path ? 0 : 1, code;

	for (int i = first; i < k->word_cnt; i++)
		json_object_array_add(which, json_object_new_string(k->words[i]));
	json_object_object_add(ask, "which", which);
	json_put_flag(ask, "all", k->all);
	if (k->all == (json_object_array_length(which) > 0))
		return EXIT_USAGE;
	code = keyscmd_ask_object(k, ask, &answer);
	return code ? code : show_decision(k, answer, done);
}

static int restore_pending(struct keyscmd *k)
{
	return decide(k, "restore", "kept");
}

static int drop_suspect(struct keyscmd *k)
{
	if (!k->forget)
		return keyscmd_fail(k, EXIT_USAGE,
				    "--forget says that the secret stays at the service "
				    "and nobody here remembers it");
	return decide(k, "drop", "forgotten");
}

static int confirm(struct keyscmd *k)
{
	if (!k->destroy)
		return keyscmd_fail(k, EXIT_USAGE,
				    "--destroy says that the secret goes, although it "
				    "does not fit the header that was saved");
	return decide(k, "confirm", "goes");
}

/* --- the service --- */

static void print_record(const struct keyscmd *k, const struct keyrecord *r)
{
	struct json_object *o;

	if (!k->json) {
		printf("%s  %s  %s\n", r->id, r->label, r->created);
		return;
	}
	o = json_object_new_object();
	json_put_text(o, "key_id", r->id);
	json_put_text(o, "label", r->label);
	json_put_text(o, "created", r->created);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
}

static int list(struct keyscmd *k)
{
	auto_keyservice struct keyservice *ks = NULL;
	struct keyservice_sync out;
	struct keyrecords r = {0};
	vcf_err_t err;
	int code = k->word_cnt > 1 ? EXIT_USAGE : keyscmd_load(k, false);

	if (!code)
		code = keyscmd_connect(k, &ks);
	if (code)
		return code;
	err = keyrecords_fetch(&r, ks, k->word_cnt ? k->words[0] : NULL, &out);
	for (size_t i = 0; i < r.cnt && !err; i++)
		print_record(k, &r.list[i]);
	keyrecords_fini(&r);
	if (err)
		return keyscmd_fail(k, exit_code_of(err), "%s: %s", k->at->service_name,
				    *out.text ? out.text : strerror(-err));
	return EXIT_OK;
}

/* A daemon's refusal is one object with an error where the first line would be. */
static int check_answer(const struct keyscmd *k, const char *text)
{
	struct json_object *o = json_tokener_parse(text);
	int code = EXIT_OK;

	if (*json_text(o, "error"))
		code = keyscmd_fail(k, EXIT_FAILED, "%s; its log says more",
				    json_text(o, "error"));
	json_object_put(o);
	return code;
}

static int inventory(struct keyscmd *k)
{
	auto_json struct json_object *ask = request("inventory");
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *to;
	int code = k->word_cnt ? EXIT_USAGE : keyscmd_load(k, true);

	if (code)
		return code;
	to = open_memstream(&text, &len);
	code = to ? keyscmd_ask(k, ask, to) : EXIT_FAILED;
	if (to)
		fclose(to);
	if (!code)
		code = check_answer(k, text);
	if (code)
		return code;
	if (fwrite(text, 1, len, stdout) != len || fflush(stdout) == EOF)
		return keyscmd_fail(k, EXIT_FAILED, "%s", strerror(errno));
	return EXIT_OK;
}

/* --- the table --- */

static const struct {
	const char *name, *letters;
	int (*run)(struct keyscmd *k);
	const char *full; /* with "keys " */
} subs[] = {
	{"pending", "corj", pending, "keys pending"},
	{"restore-pending", "corja", restore_pending, "keys restore-pending"},
	{"drop-suspect", "corjf", drop_suspect, "keys drop-suspect"},
	{"confirm", "corjd", confirm, "keys confirm"},
	{"list", "cojs", list, "keys list"},
	{"inventory", "cor", inventory, "keys inventory"},
	{"orphans", "corjHiOMAqsm", keys_orphans, "keys orphans"},
	{"reap", "coHiMs", keys_reap, "keys reap"},
	{"reaped", "cor", keys_reaped, "keys reaped"},
	{"escrow-keygen", "", keys_escrow_keygen, "keys escrow-keygen"},
};

int cmd_keys(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(subs) / sizeof(subs[0]); i++) {
		struct keyscmd k;
		int code;

		if (strcmp(argv[1], subs[i].name) != 0)
			continue;
		code = keyscmd_parse(&k, subs[i].full, subs[i].letters, argc - 1,
				     argv + 1);
		if (!code)
			code = subs[i].run(&k);
		keyscmd_fini(&k);
		return code == EXIT_USAGE ? command_usage("keys") : code;
	}
	return command_usage("keys");
}
