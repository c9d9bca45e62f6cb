/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keyset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/deletion.h"
#include "fs/imagetable.h"
#include "fs/keycheck.h"
#include "fs/keysettings.h"
#include "fs/sitekey.h"
#include "util/log.h"
#include "util/text.h"

_Static_assert((int)CONFIG_CHILDREN_MAX <= (int)SESSION_HELPERS_MAX, "each has a record");

/* --- the list --- */

struct keyset *keyset_at(struct server *sv, size_t i)
{
	unsigned int cnt = sv->keyset_cnt;

	for (unsigned int k = 0; k < cnt; k++) {
		if (!sv->keysets[k]->retired && i-- == 0)
			return sv->keysets[k];
	}
	return NULL;
}

struct keyset *keyset_get(struct server *sv, const char *name)
{
	struct keyset *s;

	for (size_t i = 0; (s = keyset_at(sv, i)); i++) {
		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

struct deletion_queue *keyset_deletions(struct server *sv, uint64_t id)
{
	struct keyset *s = NULL;
	struct journal_entry e;

	if (journal_get(sv->journal, id, &e) == 0)
		s = keyset_get(sv, e.service);
	return s ? s->deletions : sv->deletions;
}

bool keyset_is_site(struct server *sv, const struct journal_entry *e)
{
	struct keyset *s;

	for (size_t i = 0; (s = keyset_at(sv, i)); i++) {
		bool same = strcmp(s->name, e->service) == 0;

		if (s->site && sitekey_is(s->site, e->uuid, same ? e->key_id : NULL))
			return true;
	}
	return false;
}

/* --- one service --- */

static void keyset_free(struct keyset *s)
{
	if (s->site)
		sitekey_free(s->site);
	free(s);
}

/* Waits are over, nothing is asked any more. */
static void keyset_quiet(struct keyset *s)
{
	if (s->keys)
		keyservice_shutdown(s->keys);
	if (s->deletions)
		deletion_queue_free(STEAL_PTR(&s->deletions));
	if (s->site)
		sitekey_cancel(s->site);
	if (s->reserve)
		reserve_free(STEAL_PTR(&s->reserve));
	if (s->keys)
		keyservice_free(STEAL_PTR(&s->keys));
}

/* What a dead server left is taken over by the services of the start, before any is at work. */
static vcf_err_t start_requests(struct server *sv, struct keyset *s,
				const struct config *cfg, const struct config *service)
{
	struct keysettings ks;
	vcf_err_t err = keysettings_init(&ks, cfg, service);

	keysettings_spawner(&ks, sv);
	ks.kc.kept_in_use = sv->keysets_at_work;
	if (!err)
		err = keyservice_new(&s->keys, &ks.kc);
	keysettings_fini(&ks);
	return err;
}

/* That of the default service has the name that it always had. */
static vcf_err_t start_site(struct server *sv, struct keyset *s)
{
	bool is_default = strcmp(s->name, CONFIG_SERVICE_DEFAULT) == 0;
	char path[4096];
	vcf_err_t err = sitekey_path(path, sizeof(path), sv->site_path, s->name);

	return err ? err
		   : sitekey_new(&s->site, s->keys, s->reserve, path,
				 is_default ? NULL : s->name);
}

static vcf_err_t start_secrets(struct server *sv, struct keyset *s,
			       const struct config *service)
{
	vcf_err_t err = reserve_new(&s->reserve, s->keys, sv->journal, s->name,
				    (unsigned int)service->reserve);

	return err ? err : start_site(sv, s);
}

struct ownership {
	struct server *sv;
	struct linked *l;
	const char *name;
};

/* What belongs to no service that is configured is settled with the default one's. */
static bool is_mine(void *arg, const char *service)
{
	const struct ownership *o = arg;
	const struct keyset *owner = keyset_get(o->sv, service);

	return strcmp(owner ? owner->name : CONFIG_SERVICE_DEFAULT, o->name) == 0;
}

static bool is_linked(void *arg, const unsigned char uuid[UUID_LEN])
{
	const struct ownership *o = arg;
	struct journal_entry e = {.service = ""};

	memcpy(e.uuid, uuid, UUID_LEN);
	return linked_has(o->l, uuid) || keyset_is_site(o->sv, &e);
}

static vcf_err_t start_deletions(struct server *sv, struct keyset *s,
				 const struct config *service, struct linked *l)
{
	struct ownership own = {.sv = sv, .l = l, .name = s->name};
	struct deletion_config dc = {
		.service = s->name,
		.keep = service->keep,
		.controller = service->controller,
		.delay_s = service->destroy_delay_s,
		.per_minute = service->destroy_rate,
		.in_use = linked_in_use,
		.in_use_arg = sv,
		.is_mine = is_mine,
		.is_mine_arg = &own,
	};
	vcf_err_t err = l ? deletion_recover(sv->journal, &dc, is_linked, &own) : 0;

	dc.is_mine = NULL; /* the queue goes by the name */
	return err ? err : deletion_queue_new(&s->deletions, sv->journal, s->keys, &dc);
}

static vcf_err_t keyset_new(struct keyset **out, struct server *sv,
			    const struct config *cfg, const struct config *service)
{
	struct keyset *s = calloc(1, sizeof(*s));
	vcf_err_t err;

	if (!s)
		return -ENOMEM;
	TEXT_CUT(s->name, service->service_name);
	err = start_requests(sv, s, cfg, service);
	if (err)
		free(s);
	else
		*out = s;
	return err;
}

static void add(struct server *sv, struct keyset *s)
{
	sv->keysets[sv->keyset_cnt] = s;
	sv->keyset_cnt++; /* who looks finds all of it */
}

/* --- the start --- */

/* Helpers of an earlier server that none of the services wants end. */
static void end_strays(struct server *sv)
{
	uint32_t configs[CONFIG_SERVICES_MAX];
	struct keysettings ks = {.options = NULL};
	const struct config *service;
	size_t cnt = 0;

	for (size_t i = 0; (service = config_service_at(sv->cfg, i)); i++)
		configs[cnt++] = keysettings_digest(sv->cfg, service);
	keysettings_spawner(&ks, sv);
	keyservice_end_strays(&ks.kc, configs, cnt);
}

static vcf_err_t check_helpers(struct server *sv, const struct config *cfg)
{
	struct keyservice *all[CONFIG_SERVICES_MAX];
	const char *names[CONFIG_SERVICES_MAX];
	struct keyset *s;
	size_t cnt = 0;
	vcf_err_t err;

	for (; (s = keyset_at(sv, cnt)); cnt++) {
		all[cnt] = s->keys;
		names[cnt] = s->name;
	}
	err = keycheck_start(all, names, cnt);
	for (size_t i = 0; !err && i < cnt; i++)
		keycheck_warn(cfg, config_service_at(cfg, i), sv->rootfd);
	return err;
}

vcf_err_t keysets_start(struct server *sv, const struct server_params *p)
{
	const struct config *service;
	vcf_err_t err = 0;

	end_strays(sv);
	for (size_t i = 0; !err && (service = config_service_at(p->cfg, i)); i++) {
		struct keyset *s;

		err = keyset_new(&s, sv, p->cfg, service);
		if (!err)
			add(sv, s);
	}
	sv->keysets_at_work = true;
	if (!err && !sv->taking_over) /* guests must not wait for the service */
		err = check_helpers(sv, p->cfg);
	for (size_t i = 0; !err && (service = config_service_at(p->cfg, i)); i++)
		err = start_secrets(sv, sv->keysets[i], service);
	return err;
}

vcf_err_t keysets_recover(struct server *sv, struct linked *l)
{
	vcf_err_t err = 0;
	struct keyset *s;

	for (size_t i = 0; !err && (s = keyset_at(sv, i)); i++)
		err = start_deletions(sv, s, config_service(sv->cfg, s->name), l);
	if (!err)
		sv->deletions = sv->keysets[0]->deletions;
	return err;
}

/* --- the end --- */

void keysets_stop(struct server *sv)
{
	for (unsigned int i = 0; i < sv->keyset_cnt; i++)
		keyset_quiet(sv->keysets[i]);
}

void keysets_free(struct server *sv)
{
	for (unsigned int i = 0; i < sv->keyset_cnt; i++)
		keyset_free(sv->keysets[i]);
	sv->keyset_cnt = 0;
}

/* --- a reload --- */

/* A service beside the others, with its first helper only. */
static vcf_err_t trial_new(struct keyservice **out, struct server *sv,
			   const struct config *fresh, const struct config *service)
{
	struct keysettings ks;
	vcf_err_t err = keysettings_init(&ks, fresh, service);

	keysettings_spawner(&ks, sv);
	ks.kc.kept = NULL;
	if (!err)
		err = keyservice_new(out, &ks.kc);
	keysettings_fini(&ks);
	return err;
}

/* Do the helpers start with these settings? A service that is down is no reason to refuse. */
static vcf_err_t try_helpers(struct server *sv, const struct config *fresh)
{
	struct keyservice *trials[CONFIG_SERVICES_MAX];
	const char *names[CONFIG_SERVICES_MAX];
	const struct config *service;
	vcf_err_t err = 0;
	size_t cnt = 0;

	while (!err && (service = config_service_at(fresh, cnt))) {
		names[cnt] = service->service_name;
		err = trial_new(&trials[cnt], sv, fresh, service);
		cnt += !err;
	}
	if (!err)
		err = keycheck_start(trials, names, cnt);
	while (cnt)
		keyservice_free(trials[--cnt]);
	return err;
}

struct use {
	const char *name;
	const char *path; /* of what needs it */
	char text[256];
};

static void find_image(void *arg, const struct image_entry *e)
{
	struct use *u = arg;

	if (u->path || strcmp(e->token.service, u->name) != 0)
		return;
	snprintf(u->text, sizeof(u->text), "%.200s is open", e->path);
	u->path = u->text;
}

static int find_entry(void *arg, const struct journal_entry *e)
{
	struct use *u = arg;

	if (strcmp(e->service, u->name) != 0 || e->state == JOURNAL_CREATING ||
	    e->state == JOURNAL_UNUSED || e->state == JOURNAL_SUSPECT)
		return 0;
	snprintf(u->text, sizeof(u->text), "the secret of %.180s is to be destroyed",
		 e->path);
	u->path = u->text;
	return 1;
}

/* Unused secrets stay at the service, noted: it finds them when it is configured again. */
static vcf_err_t check_unused(struct server *sv, const struct keyset *s)
{
	struct use u = {.name = s->name};

	imagetable_each(sv->images, find_image, &u);
	if (!u.path && journal_each(sv->journal, find_entry, &u) < 0)
		return -EIO;
	if (!u.path)
		return 0;
	log_err("[service %s] is still needed: %s", s->name, u.path);
	return -EBUSY;
}

vcf_err_t keysets_check(struct server *sv, const struct config *fresh)
{
	const struct config *service;
	unsigned int more = 0;
	vcf_err_t err = 0;
	struct keyset *s;

	for (size_t i = 0; !err && (s = keyset_at(sv, i)); i++) {
		if (!config_service(fresh, s->name))
			err = check_unused(sv, s);
	}
	for (size_t i = 0; (service = config_service_at(fresh, i)); i++)
		more += !keyset_get(sv, service->service_name);
	if (!err)
		err = try_helpers(sv, fresh);
	if (!err && sv->keyset_cnt + more > SERVER_KEYSETS_MAX) {
		log_err("services came and went too often: umount and mount");
		err = -ENOSPC;
	}
	return err;
}

static vcf_err_t begin(struct server *sv, const struct config *fresh,
		       const struct config *service)
{
	struct keyset *s;
	vcf_err_t err = keyset_new(&s, sv, fresh, service);

	if (err)
		return err;
	err = start_secrets(sv, s, service);
	if (!err)
		err = start_deletions(sv, s, service, NULL);
	if (!err) {
		add(sv, s);
		return 0;
	}
	keyset_quiet(s);
	keyset_free(s);
	return err;
}

static vcf_err_t change(struct server *sv, struct keyset *s, const struct config *fresh)
{
	struct keysettings ks;
	vcf_err_t err = keysettings_init(&ks, fresh, config_service(fresh, s->name));

	if (!err)
		err = keyservice_reload(s->keys, &ks.kc);
	keysettings_fini(&ks);
	return err;
}

/* Nobody finds it any more, and its helpers end. */
static void retire(struct keyset *s)
{
	s->retired = true;
	reserve_retire(s->reserve);
	keyservice_shutdown(s->keys);
}

vcf_err_t keysets_change(struct server *sv, const struct config *fresh)
{
	unsigned int before = sv->keyset_cnt;
	const struct config *service;
	vcf_err_t err = 0;
	struct keyset *s;

	for (size_t i = 0; !err && (service = config_service_at(fresh, i)); i++) {
		if (!keyset_get(sv, service->service_name))
			err = begin(sv, fresh, service);
	}
	for (size_t i = 0; !err && (s = keyset_at(sv, i)); i++) {
		if (config_service(fresh, s->name))
			err = change(sv, s, fresh);
	}
	for (unsigned int i = before; err && i < sv->keyset_cnt; i++)
		retire(sv->keysets[i]);
	return err;
}

void keysets_settle(struct server *sv, const struct config *fresh)
{
	for (unsigned int i = 0; i < sv->keyset_cnt; i++) {
		struct keyset *s = sv->keysets[i];
		const struct config *service = config_service(fresh, s->name);

		if (s->retired)
			continue;
		if (service) {
			reserve_set_target(s->reserve, (unsigned int)service->reserve);
			deletion_set_policy(s->deletions, service->keep,
					    service->controller, service->destroy_delay_s,
					    service->destroy_rate);
			continue;
		}
		retire(s);
		log_info("key service %s: not configured any more", s->name);
	}
}
