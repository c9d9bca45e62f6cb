/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check-keys: what works of the key service, with a secret that is thrown away, and what the
 * rights of this machine's credential amount to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/containerid.h"
#include "fs/cmd.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keycheck.h"
#include "fs/keyrecords.h"
#include "fs/keyscmd.h"
#include "util/clock.h"
#include "util/text.h"

enum step { PING, NEW, GET, FIND, LIST, OTHERS, DESTROY, AGAIN, STEPS };

enum state { NOT_TRIED, WORKS, REFUSED, FAILED };

struct result {
	enum state state;
	vcf_err_t err;
	uint64_t ms;
	char text[KEYPROTO_TEXT_MAX + 1];
};

struct check {
	struct keyscmd *k;
	struct keyservice *ks;
	unsigned char uuid[UUID_LEN];
	char label[UUID_TEXT_LEN + 1];
	struct secret *secret;
	struct keyrecords records;
	struct result results[STEPS];
	struct keyservice_sync out;    /* of the present step */
	char id[TOKEN_KEY_ID_MAX + 1]; /* "": there is no test secret */
	bool left;		       /* it stays at the service */
	bool queued;		       /* and the journal knows */
};

static const struct {
	const char *name, *what;
	const char *right; /* what is missing where it is denied */
} steps[STEPS] = {
	[PING] = {"ping", "reaches the service and is known there",
		  "the credential itself is refused: is it expired, revoked, of another "
		  "project?"},
	[NEW] = {"new", "stores a secret",
		 "it may not create secrets (Barbican: role member or creator; KMIP: "
		 "Register, Create, Activate; Vault: create on the path)"},
	[GET] = {"get", "reads it back, the same bytes",
		 "it may not read payloads (Barbican: role member or creator; KMIP: Get; "
		 "Vault: read on the path)"},
	[FIND] = {"find", "finds it by its label",
		  "it may not look for records (Barbican: GET /v1/secrets; KMIP: Locate; "
		  "Vault: list on the path); without it a lost answer leaves an orphan"},
	[LIST] = {"list", "lists the records",
		  "it may not list; only 'keys list' and 'keys orphans' need that, and "
		  "another credential can do it"},
	[OTHERS] = {"others", "reads another record's secret",
		    "it reads its own secrets only"},
	[DESTROY] = {"destroy", "destroys it",
		     "it may not delete: set destroyer = controller and run 'keys reap' "
		     "where a credential may"},
	[AGAIN] = {"gone", "it is gone",
		   "what is gone cannot be told from what is denied"},
};

/* --- the steps: 0 or an error; c->out.text tells more --- */

static struct keycall call_of(const struct check *c)
{
	return (struct keycall){c->ks, c->k->at->service_name, NULL, c->uuid};
}

static vcf_err_t do_ping(struct check *c)
{
	return keyservice_ping_sync(c->ks, &c->out);
}

static vcf_err_t do_new(struct check *c)
{
	const struct keycall call = call_of(c);
	vcf_err_t err = keycall_new(&call, c->secret, &c->out);

	if (err)
		return err;
	TEXT_CUT(c->id, c->out.id);
	if (c->out.secret) { /* a helper that derives */
		secret_free(c->secret);
		c->secret = STEAL_PTR(&c->out.secret);
	}
	return 0;
}

static vcf_err_t do_get(struct check *c)
{
	const struct keycall call = call_of(c);
	vcf_err_t err = keycall_get(&call, c->id, &c->out);

	if (!err && !secret_equal(c->out.secret, c->secret)) {
		TEXT_CUT(c->out.text, "other bytes came back than were stored");
		err = -EBADMSG;
	}
	secret_free(STEAL_PTR(&c->out.secret));
	return err;
}

static vcf_err_t do_find(struct check *c)
{
	vcf_err_t err = keyservice_find_sync(c->ks, c->label, &c->out);

	if (err == -ENOKEY)
		TEXT_CUT(c->out.text, "it is not found by its label");
	if (!err && strcmp(c->out.id, c->id) != 0) {
		TEXT_CUT(c->out.text, "another record is found by its label");
		err = -EBADMSG;
	}
	return err;
}

static vcf_err_t do_list(struct check *c)
{
	vcf_err_t err = keyrecords_fetch(&c->records, c->ks, NULL, &c->out);

	if (!err && !keyrecords_find(&c->records, c->id)) {
		TEXT_CUT(c->out.text, "the list does not have it");
		err = -EBADMSG;
	}
	return err;
}

/* Any record but our own; -ENODATA: there is none. The secret is wiped at once. */
static vcf_err_t do_others(struct check *c)
{
	struct keycall call = call_of(c);

	call.uuid = NULL;
	for (size_t i = 0; i < c->records.cnt; i++) {
		const struct keyrecord *r = &c->records.list[i];
		vcf_err_t err;

		if (strcmp(r->id, c->id) == 0)
			continue;
		err = keycall_get(&call, r->id, &c->out);
		secret_free(STEAL_PTR(&c->out.secret));
		return err;
	}
	TEXT_CUT(c->out.text, "the service has no other record");
	return -ENODATA;
}

static vcf_err_t do_destroy(struct check *c)
{
	const struct keycall call = call_of(c);
	vcf_err_t err = keycall_destroy(&call, c->id, &c->out);

	c->left = err != 0;
	return err;
}

static vcf_err_t do_again(struct check *c)
{
	const struct keycall call = call_of(c);
	vcf_err_t err = keycall_get(&call, c->id, &c->out);

	secret_free(STEAL_PTR(&c->out.secret));
	if (err == -ENOKEY)
		return 0;
	if (!err) {
		TEXT_CUT(c->out.text, "it is still there");
		err = -EBADMSG;
	}
	return err;
}

/* --- all of them --- */

static const char *advice(const struct check *c, enum step s)
{
	if (s == DESTROY && c->results[s].state == REFUSED &&
	    c->results[s].err == -EKEYREJECTED)
		return "as it should be: destroyer = controller";
	switch (c->results[s].err) {
	case -EKEYREJECTED:
		return steps[s].right;
	case -ETIMEDOUT:
		return "no answer: is the address right, the network open, the "
		       "service's certificate of the configured authority, our own "
		       "certificate there?";
	case -EDQUOT:
		return "the service is full: raise the project's quota";
	default:
		return "";
	}
}

static void print_step(const struct check *c, enum step s)
{
	static const char *const words[] = {"-", "ok", "no", "FAILED"};
	const struct result *r = &c->results[s];

	if (c->k->json)
		return;
	printf("%-8s %-6s", steps[s].name, words[r->state]);
	if (r->state != NOT_TRIED)
		printf(" %6llu ms", (unsigned long long)r->ms);
	printf("  %s", steps[s].what);
	if (*r->text)
		printf(": %s", r->text);
	putchar('\n');
	if (*advice(c, s))
		printf("%27s%s\n", "", advice(c, s));
	fflush(stdout);
}

/* Steps that tell of rights that not every host needs. */
static bool is_optional(const struct check *c, enum step s)
{
	return s == LIST || s == OTHERS || (s == DESTROY && c->k->at->controller);
}

static void take(struct check *c, enum step s, vcf_err_t (*run)(struct check *c))
{
	struct result *r = &c->results[s];
	uint64_t start = clock_now_ms();

	r->err = run(c);
	r->ms = clock_now_ms() - start;
	TEXT_CUT(r->text, r->err && !*c->out.text ? strerror(-r->err) : c->out.text);
	if (!r->err) {
		r->state = WORKS;
		*r->text = '\0';
	} else if (r->err == -ENODATA) {
		r->state = NOT_TRIED;
	} else {
		r->state = is_optional(c, s) ? REFUSED : FAILED;
	}
	print_step(c, s);
}

/* Services that keep nothing of an image: there is nothing to find, and nothing goes. */
static bool needs_records(const struct check *c, enum step s)
{
	struct keyservice_status st;

	keyservice_get_status(c->ks, &st);
	return st.caps & (KEY_CAP_WRAPPED | KEY_CAP_DERIVES) && s >= FIND;
}

static void run_all(struct check *c)
{
	static vcf_err_t (*const runs[STEPS])(struct check *) = {
		do_ping, do_new,    do_get,	do_find,
		do_list, do_others, do_destroy, do_again};

	for (enum step s = PING; s < STEPS; s++) {
		if (s > NEW && !*c->id)
			break; /* nothing to try it with */
		if (s == NEW && c->results[PING].err)
			break;
		if ((s == OTHERS && c->results[LIST].err) ||
		    (s == AGAIN && c->results[DESTROY].err) || needs_records(c, s))
			continue;
		take(c, s, runs[s]);
	}
}

static bool all_well(const struct check *c)
{
	for (enum step s = PING; s < STEPS; s++) {
		if (c->results[s].state == FAILED)
			return false;
	}
	return *c->id != '\0';
}

/* --- what is left --- */

/* The test secret that could not be destroyed gets into the queue of this host's mount. */
static void queue_leftover(struct check *c)
{
	auto_json struct json_object *ask = json_object_new_object();
	auto_json struct json_object *answer = NULL;
	struct json_object *items = json_object_new_array();
	struct json_object *o = json_object_new_object();

	json_put_text(o, "key_id", c->id);
	json_put_text(o, "label", c->label);
	json_put_text(o, "service", c->k->at->service_name);
	json_object_array_add(items, o);
	json_put_text(ask, "op", "queue");
	json_object_object_add(ask, "items", items);
	if (!c->k->cfg->backing || !c->k->cfg->mountpoint || !c->k->source.path ||
	    config_resolve(&c->k->cfg->backing) || config_resolve(&c->k->cfg->mountpoint))
		return;
	c->queued = keyscmd_ask_object(c->k, ask, &answer) == EXIT_OK;
}

static void say_leftover(const struct check *c)
{
	printf("The test secret %s (label %s) stays at the service; %s\n", c->id,
	       c->label,
	       c->queued ? "it waits for its end in this host's journal (vmcryptfs keys "
			   "pending)."
			 : "no mount's journal takes it: remove it there by hand.");
}

static const char *yes_no(const struct check *c, enum step s)
{
	enum state state = c->results[s].state;

	return state == NOT_TRIED ? "unknown" : state == WORKS ? "yes" : "no";
}

static void say_layout(const struct check *c)
{
	bool deletes = c->results[DESTROY].state == WORKS;

	if (*c->id && needs_records(c, FIND)) {
		puts("This service keeps no records: there is nothing to find, list or "
		     "destroy, and it\ncannot forget one image.");
		return;
	}
	printf("This credential: creates %s, reads %s, lists %s", yes_no(c, NEW),
	       yes_no(c, GET), yes_no(c, LIST));
	if (!c->results[LIST].err && *c->id)
		printf(" (%zu records, the test's own among them)", c->records.cnt);
	printf(", reads others' secrets %s, deletes %s.\n", yes_no(c, OTHERS),
	       yes_no(c, DESTROY));
	if (!*c->id || c->results[DESTROY].state == NOT_TRIED)
		return;
	if (!deletes)
		puts("Layout: hosts may not delete. A stolen credential reads what it "
		     "reads, but destroys nothing.");
	else if (c->results[OTHERS].state == WORKS)
		puts("Layout: this host may delete, and reads records beside its own: "
		     "who has its\ncredential can read and destroy all that it lists. "
		     "Split by host group, or take the\nright to delete away "
		     "(destroyer = controller).");
	else
		puts("Layout: this host may delete; records of others it does not read, "
		     "or there are none.");
	if (deletes && c->k->at->controller)
		puts("destroyer = controller is set, but this credential may delete.");
}

static void print_json(const struct check *c)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (enum step s = PING; s < STEPS; s++) {
		static const char *const states[] = {"not-tried", "ok", "no", "failed"};
		struct json_object *r = json_object_new_object();

		json_put_text(r, "step", steps[s].name);
		json_put_text(r, "state", states[c->results[s].state]);
		json_put_number(r, "ms", c->results[s].ms);
		json_put_text(r, "error", c->results[s].text);
		json_put_text(r, "advice", advice(c, s));
		json_object_array_add(list, r);
	}
	json_put_text(o, "service", c->k->at->service_name);
	json_put_text(o, "helper", c->k->at->helper);
	json_put_flag(o, "ok", all_well(c));
	json_object_object_add(o, "steps", list);
	json_put_number(o, "records", c->records.cnt);
	json_put_text(o, "creates", yes_no(c, NEW));
	json_put_text(o, "reads", yes_no(c, GET));
	json_put_text(o, "lists", yes_no(c, LIST));
	json_put_text(o, "reads_others", yes_no(c, OTHERS));
	json_put_text(o, "deletes", yes_no(c, DESTROY));
	json_put_text(o, "left_behind", c->left ? c->id : "");
	json_put_flag(o, "left_is_queued", c->queued);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

static int check(struct check *c)
{
	containerid_set_site(c->k->cfg->site);
	containerid_new(c->uuid);
	uuid_unparse_lower(c->uuid, c->label);
	if (keycheck_helper(c->ks, c->k->at->service_name) == -ENOTCONN)
		return keyscmd_fail(
			c->k, EXIT_KEYSERVICE,
			"the key helper %s does not start: its own words are "
			"above; correct the options of its section, or its files",
			c->k->at->helper);
	if (secret_new_random(&c->secret))
		return keyscmd_fail(c->k, EXIT_FAILED, "no locked memory for secrets");
	run_all(c);
	if (c->left)
		queue_leftover(c);
	if (c->k->json) {
		print_json(c);
	} else {
		say_layout(c);
		if (c->left)
			say_leftover(c);
	}
	return all_well(c) ? EXIT_OK : EXIT_KEYSERVICE;
}

int cmd_check_keys(int argc, char **argv)
{
	struct keyscmd k;
	struct check c = {.k = &k};
	int code = keyscmd_parse(&k, "check-keys", "corjs", argc, argv);

	if (!code && k.word_cnt)
		code = EXIT_USAGE;
	if (!code)
		code = keyscmd_load(&k, false);
	if (!code)
		code = keyscmd_connect(&k, &c.ks);
	if (!code)
		code = check(&c);
	keyservice_free(c.ks);
	secret_free(c.secret);
	keyrecords_fini(&c.records);
	keyscmd_fini(&k);
	return code == EXIT_USAGE ? command_usage("check-keys") : code;
}
