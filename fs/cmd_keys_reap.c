/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keys reap, on the machine that may delete (destroyer = controller): does what the deletion
 * queue does on a host otherwise, for the entries that inventories bring. Of each, in this order:
 * it is due; no inventory of the site has another use for its key id or uuid; the service gives
 * the secret; the saved header's MAC is right under it; destroy, with the label. An entry without
 * a saved header is a secret that no finished container had: the service compares its label.
 *
 * keys reaped, on the host: takes the receipts and closes the entries.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#include "crypto/deletion_check.h"
#include "fs/exitcode.h"
#include "fs/inventory.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keyscmd.h"
#include "util/text.h"

#define RECEIPTS_TYPE "vmcryptfs-receipts"

enum { SILENCE_MAX = 3 }; /* times without an answer: the rest fails at once */

enum outcome { DESTROYED, GONE, IN_USE, SUSPECT, FAILED, OUTCOMES };

static const char *const outcome_names[OUTCOMES] = {"destroyed", "gone", "in-use",
						    "suspect", "failed"};

struct reap {
	struct keyscmd *k;
	struct inventory *inv;
	struct keyservice *ks;
	struct jsonlines_writer *receipts;
	time_t now;
	unsigned int silent; /* in a row */
	uint64_t cnt[OUTCOMES];
	char text[KEYPROTO_TEXT_MAX + 1]; /* of the present one */
};

static const char *acknowledgement(const struct reap *r)
{
	struct keyservice_status st;

	keyservice_get_status(r->ks, &st);
	if (st.caps & KEY_CAP_WRAPPED)
		return "it was wrapped and went with its header; the service itself "
		       "cannot forget it";
	if (strcmp(config_helper_name(r->k->at), "barbican") == 0)
		return "service acknowledged; the row stays in its database until "
		       "barbican-manage db clean";
	return "service acknowledged";
}

static enum outcome failed(struct reap *r, vcf_err_t err, const char *text)
{
	if (err == -ETIMEDOUT)
		r->silent++;
	TEXT_CUT(r->text, *text ? text : strerror(-err));
	return FAILED;
}

static enum outcome suspect(struct reap *r, const char *why)
{
	TEXT_CUT(r->text, why);
	return SUSPECT;
}

static enum outcome gone(struct reap *r)
{
	r->silent = 0;
	TEXT_CUT(r->text, "the service has it no more");
	return GONE;
}

static struct keycall call_of(const struct reap *r, const struct journal_entry *e)
{
	return (struct keycall){r->ks, e->service, e->path, e->uuid};
}

static enum outcome destroy(struct reap *r, const struct journal_entry *e)
{
	const struct keycall call = call_of(r, e);
	struct keyservice_sync out;
	vcf_err_t err = keycall_destroy(&call, e->key_id, &out);

	if (err == -EINVAL)
		return suspect(r, *out.text ? out.text : "the service refuses to");
	if (err == -ENOKEY)
		return gone(r);
	if (err)
		return failed(r, err, out.text);
	r->silent = 0;
	snprintf(r->text, sizeof(r->text), "%s", acknowledgement(r));
	return DESTROYED;
}

static enum outcome reap_leftover(struct reap *r, struct journal_entry *e)
{
	struct keyservice_sync out;
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err;

	if (*e->key_id)
		return destroy(r, e);
	uuid_unparse_lower(e->uuid, label);
	err = keyservice_find_sync(r->ks, label, &out);
	if (err == -ENOKEY)
		return gone(r);
	if (err)
		return failed(r, err, out.text);
	TEXT_CUT(e->key_id, out.id);
	if (inventory_uses(r->inv, e->key_id, e->uuid)) {
		TEXT_CUT(r->text, "a container uses it");
		return IN_USE;
	}
	return destroy(r, e);
}

static enum outcome reap_container(struct reap *r, const struct journal_entry *e,
				   const void *hdr)
{
	const struct keycall call = call_of(r, e);
	struct keyservice_sync out;
	vcf_err_t err = keycall_get(&call, e->key_id, &out);

	if (err == -ENOKEY)
		return gone(r);
	if (err || !out.secret)
		return failed(r, err ? err : -EPROTO, out.text);
	err = deletion_check_header(e, hdr, out.secret);
	secret_free(out.secret);
	if (err && deletion_check_passing(err))
		return failed(r, err, "");
	if (err)
		return suspect(r, "the saved header does not belong to this secret");
	return destroy(r, e);
}

static enum outcome settle(struct reap *r, const struct inventory_use *use,
			   struct journal_entry *e)
{
	auto_free void *hdr = malloc(CONTAINER_PEEK_LEN);
	vcf_err_t err = hdr ? inventory_header(use, hdr) : -ENOMEM;

	if (inventory_uses(r->inv, use->key_id, use->uuid)) {
		TEXT_CUT(r->text, "a container, or something under way, uses it");
		return IN_USE;
	}
	if (r->silent >= SILENCE_MAX)
		return failed(r, -ECANCELED, "not tried: the service does not answer");
	if (err == -ENODATA)
		return reap_leftover(r, e);
	if (err == -EBADMSG)
		return suspect(r, "its saved header cannot be read");
	return err ? failed(r, err, "") : reap_container(r, e, hdr);
}

static void put_receipt(struct reap *r, const struct inventory_use *use,
			const struct journal_entry *e, enum outcome o)
{
	static const char *const same[] = {"host", "host_id", "site", "backing"};
	struct json_object *line = json_object_new_object();
	char uuid[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(e->uuid, uuid);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		json_put_text(line, same[i], json_text(use->host->head, same[i]));
	json_put_text(line, "type", "receipt");
	json_put_number(line, "id", json_number(use->line, "id"));
	json_put_text(line, "uuid", uuid);
	json_put_text(line, "key_id", e->key_id);
	json_put_text(line, "service", e->service);
	json_put_text(line, "path", e->path);
	json_put_text(line, "outcome", outcome_names[o]);
	json_put_text(line, "text", r->text);
	json_put_time(line, "time", time(NULL));
	jsonlines_put(r->receipts, line);
}

static int reap_one(void *arg, const struct inventory_use *use)
{
	struct journal_entry e = {.state = JOURNAL_DESTROYING};
	struct reap *r = arg;
	time_t due = json_time(use->line, "due");
	enum outcome o;

	if (use->kind != INVENTORY_DUE || use->derived || due < 0 || due > r->now ||
	    !json_flag(use->line, "reap") ||
	    strcmp(use->service, r->k->at->service_name) != 0)
		return 0;
	memcpy(e.uuid, use->uuid, UUID_LEN);
	TEXT_CUT(e.service, use->service);
	TEXT_CUT(e.key_id, use->key_id);
	TEXT_CUT(e.path, use->path);
	o = settle(r, use, &e);
	r->cnt[o]++;
	put_receipt(r, use, &e, o);
	return 0;
}

static int read_inventories(struct reap *r)
{
	const struct inventory_demand d = {.site = r->k->cfg->site ? r->k->cfg->site : "",
					   .service = r->k->at->service_name,
					   .hosts = r->k->hosts,
					   .max_age_s = r->k->max_age_s,
					   .now = r->now};
	vcf_err_t err = inventory_new(&r->inv);

	for (size_t i = 0; i < r->k->inventory_cnt && !err; i++)
		err = inventory_read(r->inv, r->k->inventories[i]);
	for (int i = 0; i < r->k->word_cnt && !err; i++)
		err = inventory_read(r->inv, r->k->words[i]);
	if (!err)
		err = inventory_check(r->inv, &d);
	if (err == -ENOMEM)
		return EXIT_FAILED;
	return err ? keyscmd_fail(r->k, EXIT_REFUSED,
				  "the inventories do not tell the whole truth; nothing "
				  "is destroyed")
		   : EXIT_OK;
}

static int reap(struct reap *r)
{
	int code = keyscmd_load(r->k, false);

	if (!code)
		code = read_inventories(r);
	if (!code)
		code = keyscmd_connect(r->k, &r->ks);
	if (!code && jsonlines_new(&r->receipts, stdout))
		code = EXIT_FAILED;
	if (code)
		return code;
	jsonlines_put(r->receipts, jsonlines_head(RECEIPTS_TYPE));
	(void)inventory_each(r->inv, reap_one, r);
	for (int i = 0; i < OUTCOMES; i++)
		fprintf(stderr, "%s%llu %s", i ? ", " : "", (unsigned long long)r->cnt[i],
			outcome_names[i]);
	fputc('\n', stderr);
	if (jsonlines_end(STEAL_PTR(&r->receipts)))
		return keyscmd_fail(r->k, EXIT_FAILED, "the receipts cannot be written");
	return r->cnt[FAILED] ? EXIT_KEYSERVICE : EXIT_OK;
}

int keys_reap(struct keyscmd *k)
{
	struct reap r = {.k = k, .now = time(NULL)};
	int code;

	if (!k->hosts || !(k->inventory_cnt + (size_t)k->word_cnt))
		return keyscmd_fail(k, EXIT_USAGE,
				    "--hosts and the inventories of all of them are "
				    "needed");
	code = reap(&r);
	jsonlines_free(r.receipts);
	keyservice_free(r.ks);
	inventory_free(r.inv);
	return code;
}

/* --- on the host --- */

static vcf_err_t take_receipt(void *arg, struct json_object *o, bool first)
{
	return first || json_object_array_add(arg, json_object_get(o)) == 0 ? 0 : -ENOMEM;
}

int keys_reaped(struct keyscmd *k)
{
	auto_json struct json_object *ask = json_object_new_object();
	auto_json struct json_object *answer = NULL;
	struct json_object *receipts = json_object_new_array();
	int code;

	json_put_text(ask, "op", "reaped");
	json_object_object_add(ask, "receipts", receipts);
	if (k->word_cnt != (k->source.path ? 1 : 2))
		return EXIT_USAGE;
	if (keyscmd_start_crypto(k))
		return EXIT_FAILED;
	if (jsonlines_read(k->words[k->word_cnt - 1], RECEIPTS_TYPE, take_receipt,
			   receipts))
		return EXIT_REFUSED;
	code = keyscmd_ask_object(k, ask, &answer);
	if (!code)
		printf("%llu entries are closed, %llu are suspect now, %llu receipts "
		       "close none here\n",
		       (unsigned long long)json_number(answer, "closed"),
		       (unsigned long long)json_number(answer, "suspect"),
		       (unsigned long long)json_number(answer, "unknown"));
	return code;
}
