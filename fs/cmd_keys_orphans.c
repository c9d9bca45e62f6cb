/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keys orphans: secrets that no image has, and images whose secret is gone.
 *
 * A secret is an orphan if all of this holds: its label is a uuid with our site's mark; no
 * inventory of any host names it, by key id or by label; the service says that it is older than
 * --older-than, and older than the oldest inventory. The inventories are all of those of the
 * hosts named, none too old, none of another site, and none has a file whose header is destroyed.
 *
 * To be removed it must have been one twice: --queue takes the report of an earlier run, made
 * before the inventories of this one. A container that was carried from a host that was to be
 * looked at to one that had been looked at is missing in one of the two only. Then it waits out
 * destroy-delay in this host's journal.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uuid/uuid.h>

#include "crypto/containerid.h"
#include "fs/exitcode.h"
#include "fs/inventory.h"
#include "fs/jsonlines.h"
#include "fs/keyrecords.h"
#include "fs/keyscmd.h"

#define REPORT_TYPE "vmcryptfs-orphans"

enum verdict { OTHERS, NEEDED, TOO_YOUNG, DOUBLE, ORPHAN, VERDICTS };

struct search {
	struct keyscmd *k;
	struct inventory *inv;
	struct keyrecords records;
	time_t now;
	struct jsonlines_writer *report; /* --json */
	struct json_object *items;	 /* --queue: what is to go */
	struct json_object *earlier;	 /* by key id, of the report */
	time_t earlier_time;
	uint64_t cnt[VERDICTS], missing;
};

static enum verdict judge(const struct search *s, const struct keyrecord *r)
{
	time_t created = utc_parse(r->created);
	unsigned char uuid[UUID_LEN];

	if (uuid_parse(r->label, uuid) || !containerid_is_of(uuid, s->k->cfg->site))
		return OTHERS;
	if (inventory_names_key(s->inv, r->id) || inventory_lacks_key(s->inv, uuid))
		return NEEDED;
	if (inventory_names_uuid(s->inv, uuid))
		return DOUBLE;
	if (created < 0 || created + (time_t)s->k->older_than_s > s->now ||
	    created >= inventory_oldest(s->inv))
		return TOO_YOUNG;
	return ORPHAN;
}

static void put_record(struct json_object *o, const struct search *s,
		       const struct keyrecord *r)
{
	json_put_text(o, "key_id", r->id);
	json_put_text(o, "label", r->label);
	json_put_text(o, "created", r->created);
	json_put_text(o, "service", s->k->at->service_name);
}

static void report_orphan(struct search *s, const struct keyrecord *r)
{
	struct json_object *o;

	if (s->earlier) {
		if (!json_object_object_get_ex(s->earlier, r->id, NULL))
			return;
		o = json_object_new_object();
		put_record(o, s, r);
		json_object_array_add(s->items, o);
	}
	if (!s->report) {
		printf("orphan   %s  %s  %s\n", r->id, r->label, r->created);
		return;
	}
	o = json_object_new_object();
	json_put_text(o, "type", "orphan");
	put_record(o, s, r);
	jsonlines_put(s->report, o);
}

static int report_missing(void *arg, const struct inventory_use *use)
{
	struct search *s = arg;
	struct json_object *o;

	if ((use->kind != INVENTORY_IMAGE && use->kind != INVENTORY_SITE) ||
	    !*use->key_id || strcmp(use->service, s->k->at->service_name) != 0 ||
	    keyrecords_find(&s->records, use->key_id))
		return 0;
	s->missing++;
	if (!s->report) {
		printf("MISSING  %s  of %s on %s\n", use->key_id,
		       use->kind == INVENTORY_SITE ? "all derived images" : use->path,
		       use->host->name);
		return 0;
	}
	o = json_object_new_object();
	json_put_text(o, "type", "missing");
	json_put_text(o, "key_id", use->key_id);
	json_put_text(o, "host", use->host->name);
	json_put_text(o, "path", use->path);
	jsonlines_put(s->report, o);
	return 0;
}

/*
 * A host that --hosts does not name is not missed by anybody, and all of its images' secrets are
 * orphans. Where most of a service's secrets seem to be, that is the likelier explanation.
 */
static bool is_credible(const struct search *s, size_t orphans)
{
	return orphans <= s->cnt[NEEDED] || s->k->more_than_in_use;
}

static void report_all(struct search *s)
{
	for (size_t i = 0; i < s->records.cnt; i++) {
		enum verdict v = judge(s, &s->records.list[i]);

		s->cnt[v]++;
		if (v == ORPHAN)
			report_orphan(s, &s->records.list[i]);
		if (v == DOUBLE)
			fprintf(stderr,
				"%s  %s: another secret has its label and is in use; it "
				"is left alone\n",
				s->records.list[i].id, s->records.list[i].label);
	}
	(void)inventory_each(s->inv, report_missing, s);
	fprintf(stderr,
		"%zu records: %llu in use, %llu orphans, %llu not older than demanded, "
		"%llu with the label of another one, %llu without the mark of site %s; "
		"%llu secrets are missing\n",
		s->records.cnt, (unsigned long long)s->cnt[NEEDED],
		(unsigned long long)s->cnt[ORPHAN], (unsigned long long)s->cnt[TOO_YOUNG],
		(unsigned long long)s->cnt[DOUBLE], (unsigned long long)s->cnt[OTHERS],
		s->k->cfg->site, (unsigned long long)s->missing);
	if (!is_credible(s, s->cnt[ORPHAN]))
		fprintf(stderr,
			"more orphans than secrets in use: is a host missing in --hosts, or "
			"one of its mounts?\n");
}

/* --- the earlier report --- */

static vcf_err_t earlier_line(void *arg, struct json_object *o, bool first)
{
	struct search *s = arg;

	if (!first) {
		if (strcmp(json_text(o, "type"), "orphan") == 0)
			json_object_object_add(s->earlier, json_text(o, "key_id"),
					       json_object_new_boolean(true));
		return 0;
	}
	s->earlier_time = json_time(o, "time");
	if (strcmp(json_text(o, "site"), s->k->cfg->site) == 0 &&
	    strcmp(json_text(o, "service"), s->k->at->service_name) == 0)
		return 0;
	keyscmd_fail(s->k, EXIT_REFUSED, "%s: it is of another site or service",
		     s->k->report);
	return -EPERM;
}

static int read_earlier(struct search *s)
{
	s->earlier = json_object_new_object();
	s->items = json_object_new_array();
	if (jsonlines_read(s->k->report, REPORT_TYPE, earlier_line, s))
		return EXIT_REFUSED;
	if (s->earlier_time < 0 || s->earlier_time + (time_t)s->k->apart_s > s->now)
		return keyscmd_fail(s->k, EXIT_REFUSED,
				    "%s: it was made less than %llu s ago (--apart)",
				    s->k->report, (unsigned long long)s->k->apart_s);
	if (inventory_oldest(s->inv) <= s->earlier_time)
		return keyscmd_fail(s->k, EXIT_REFUSED,
				    "the inventories are older than %s: take new ones",
				    s->k->report);
	return EXIT_OK;
}

static int queue_items(struct search *s)
{
	auto_json struct json_object *ask = json_object_new_object();
	auto_json struct json_object *answer = NULL;
	int code;

	json_put_text(ask, "op", "queue");
	json_object_object_add(ask, "items", json_object_get(s->items));
	code = keyscmd_ask_object(s->k, ask, &answer);
	if (!code)
		fprintf(stderr,
			"%llu secrets wait for their end now (vmcryptfs keys pending); "
			"%llu did already\n",
			(unsigned long long)json_number(answer, "queued"),
			(unsigned long long)json_number(answer, "known"));
	return code;
}

static int queue(struct search *s)
{
	size_t cnt = json_object_array_length(s->items);

	if (is_credible(s, cnt))
		return queue_items(s);
	return keyscmd_fail(
		s->k, EXIT_REFUSED,
		"%zu secrets would be destroyed and only %llu are in use: is a host missing "
		"in --hosts, or one of its mounts? Nothing is queued; if all of them are to "
		"go: --more-than-in-use",
		cnt, (unsigned long long)s->cnt[NEEDED]);
}

/* --- the command --- */

static int read_inventories(struct search *s)
{
	const struct inventory_demand d = {.site = s->k->cfg->site,
					   .service = s->k->at->service_name,
					   .hosts = s->k->hosts,
					   .max_age_s = s->k->max_age_s,
					   .now = s->now,
					   .all_known = true};
	vcf_err_t err = inventory_new(&s->inv);

	for (size_t i = 0; i < s->k->inventory_cnt && !err; i++)
		err = inventory_read(s->inv, s->k->inventories[i]);
	for (int i = 0; i < s->k->word_cnt && !err; i++)
		err = inventory_read(s->inv, s->k->words[i]);
	if (!err)
		err = inventory_check(s->inv, &d);
	if (err == -ENOMEM)
		return EXIT_FAILED;
	if (err)
		return keyscmd_fail(s->k, EXIT_REFUSED,
				    "the inventories do not tell the whole truth; "
				    "nothing can be said");
	return EXIT_OK;
}

static int fetch(struct search *s)
{
	auto_keyservice struct keyservice *ks = NULL;
	struct keyservice_status st;
	struct keyservice_sync out;
	vcf_err_t err;
	int code = keyscmd_connect(s->k, &ks);

	if (code)
		return code;
	err = keyservice_ping_sync(ks, &out);
	keyservice_get_status(ks, &st);
	if (!err && st.caps & (KEY_CAP_WRAPPED | KEY_CAP_DERIVES))
		return keyscmd_fail(
			s->k, EXIT_REFUSED,
			"this service keeps no records: there are no orphans");
	if (!err)
		err = keyrecords_fetch(&s->records, ks, NULL, &out);
	if (err)
		return keyscmd_fail(s->k, exit_code_of(err), "%s: %s",
				    s->k->at->service_name,
				    *out.text ? out.text : strerror(-err));
	return EXIT_OK;
}

static int start_report(struct search *s)
{
	struct json_object *o;

	if (!s->k->json)
		return EXIT_OK;
	if (jsonlines_new(&s->report, stdout))
		return EXIT_FAILED;
	o = jsonlines_head(REPORT_TYPE);
	json_put_text(o, "site", s->k->cfg->site);
	json_put_text(o, "service", s->k->at->service_name);
	json_put_time(o, "time", s->now);
	jsonlines_put(s->report, o);
	return EXIT_OK;
}

static int search(struct search *s)
{
	int code = read_inventories(s);

	if (!code && s->k->report)
		code = read_earlier(s);
	if (!code)
		code = fetch(s);
	if (!code)
		code = start_report(s);
	if (code)
		return code;
	report_all(s);
	if (s->report && jsonlines_end(STEAL_PTR(&s->report)))
		return keyscmd_fail(s->k, EXIT_FAILED, "the report cannot be written");
	if (s->k->report)
		code = queue(s);
	return !code && s->missing ? EXIT_FAILED : code;
}

int keys_orphans(struct keyscmd *k)
{
	struct search s = {.k = k, .now = time(NULL)};
	int code;

	if (!k->hosts || !(k->inventory_cnt + (size_t)k->word_cnt))
		return keyscmd_fail(k, EXIT_USAGE,
				    "--hosts and the inventories of all of them are "
				    "needed");
	code = keyscmd_load(k, k->report != NULL);
	if (code)
		return code;
	if (!k->cfg->site)
		return keyscmd_fail(k, EXIT_REFUSED,
				    "[mount] site is not set: without it no label tells "
				    "whose it is");
	code = search(&s);
	jsonlines_free(s.report);
	inventory_free(s.inv);
	keyrecords_fini(&s.records);
	json_object_put(s.items);
	json_object_put(s.earlier);
	return code;
}
