/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why no reader needs a lock: sv->cfg and sv->rules are exchanged by one store, and what they
 * pointed to stays until the server's end. A request may see the old rules once more; that
 * changes nothing, since no existing file means another thing under the new ones, and none
 * gets a name while that is made sure of (names_lock).
 */
#include "fs/reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/config_compare.h"
#include "fs/device.h"
#include "fs/keyaudit.h"
#include "fs/keyset.h"
#include "fs/treescan.h"
#include "util/log.h"

enum { CHANGES_LISTED = 10 };

/* What a reload has replaced or brought. */
struct reload_kept {
	struct reload_kept *next;
	struct config *cfg;  /* brought; the server's */
	struct rules *rules; /* replaced, or NULL */
};

static void kept_free(struct reload_kept *k)
{
	config_free(k->cfg);
	rules_free(k->rules);
	free(k);
}

void reload_free_kept(struct server *sv)
{
	while (sv->kept) {
		struct reload_kept *next = sv->kept->next;

		kept_free(sv->kept);
		sv->kept = next;
	}
}

/* --- existing files --- */

struct comparison {
	struct server *sv;
	const struct rules *old, *fresh;
	size_t cnt;
};

static int compare_file(void *arg, const struct treescan_file *f)
{
	char was[TOKEN_CONTEXT_MAX + 1], is[TOKEN_CONTEXT_MAX + 1];
	enum file_class a, b;
	struct comparison *c = arg;

	if (c->sv->stopping)
		return -ECANCELED;
	a = rules_class(c->old, f->path);
	b = rules_class(c->fresh, f->path);
	if (rules_is_image(a) != rules_is_image(b)) {
		if (c->cnt++ < CHANGES_LISTED)
			log_err("%s: is there as %s and would become %s", f->path,
				rules_class_name(a), rules_class_name(b));
		return 0;
	}
	rules_context(c->old, f->path, was);
	rules_context(c->fresh, f->path, is);
	if (rules_is_image(a) && strcmp(was, is) != 0 && c->cnt++ < CHANGES_LISTED)
		log_err("%s: belongs to instance '%s' and would belong to '%s'", f->path,
			was, is);
	return 0;
}

static vcf_err_t compare_files(struct server *sv, const struct rules *fresh)
{
	struct comparison c = {.sv = sv, .old = sv->rules, .fresh = fresh};
	vcf_err_t err = treescan_all(sv->rootfd, NULL, compare_file, &c);

	if (err)
		return err;
	if (c.cnt)
		log_err("the new rules would change what %zu existing files are: move "
			"them through the mount, or mount anew",
			c.cnt);
	return c.cnt ? -EPERM : 0;
}

/* Devices that stay belong to whom they did. */
static vcf_err_t compare_devices(struct server *sv, const struct config *cfg,
				 const struct rules *fresh)
{
	char was[TOKEN_CONTEXT_MAX + 1], is[TOKEN_CONTEXT_MAX + 1];

	for (size_t i = 0; i < cfg->device_cnt; i++) {
		const char *name = cfg->devices[i]->device_name;

		rules_context(sv->rules, name, was);
		rules_context(fresh, name, is);
		if (strcmp(was, is) == 0 || !config_device(sv->cfg, name))
			continue;
		log_err("[device %s]: belongs to instance '%s' and would belong to '%s'",
			name, was, is);
		return -EPERM;
	}
	return device_check_reload(sv, cfg);
}

static vcf_err_t compare_all(struct server *sv, const struct config *cfg,
			     const struct rules *fresh)
{
	vcf_err_t err = compare_devices(sv, cfg, fresh);

	return err ? err : compare_files(sv, fresh);
}

/* --- the steps --- */

static vcf_err_t check_fixed(const struct config *old, const struct config *fresh)
{
	const struct config_option *o = config_fixed_difference(old, fresh);

	if (!o)
		return 0;
	log_err("[%s] %s cannot change while it is mounted", o->section, o->name);
	return -EINVAL;
}

static void put_in_place(struct server *sv, struct config *cfg, struct rules *rules,
			 struct reload_kept *kept)
{
	*kept = (struct reload_kept){.next = sv->kept, .cfg = cfg};
	sv->kept = kept;
	if (rules) {
		kept->rules = sv->rules;
		sv->rules = rules;
	}
	sv->cfg = cfg;
}

/*
 * The keeper hears of it before the first name is given by the new rules: whenever this server
 * dies, the next one reads the same rules into what is there.
 */
static void exchange(struct server *sv, struct config *cfg, struct rules *rules,
		     struct reload_kept *kept)
{
	bool other = config_digest(cfg) != config_digest(sv->cfg);

	if (other)
		put_in_place(sv, cfg, rules, kept);
	keysets_settle(sv, cfg);
	keyaudit_change(cfg);
	if (!other) { /* logs were rotated */
		config_free(cfg);
		free(kept);
	}
	if (sv->on_reload)
		sv->on_reload(sv->on_reload_arg);
}

/* All that can fail comes before the exchange. cfg and rules are taken over on success. */
static vcf_err_t commit(struct server *sv, struct config *cfg, struct rules *rules)
{
	auto_free struct reload_kept *kept = calloc(1, sizeof(*kept));
	vcf_err_t err = kept ? config_apply_log(cfg) : -ENOMEM;

	if (!err)
		err = keysets_change(sv, cfg);
	if (!err)
		exchange(sv, cfg, rules, STEAL_PTR(&kept));
	return err;
}

static vcf_err_t commit_rules(struct server *sv, struct config *cfg, struct rules *rules)
{
	SCOPED_WRLOCK(&sv->names_lock);
	vcf_err_t err = compare_all(sv, cfg, rules);

	return err ? err : commit(sv, cfg, rules);
}

static vcf_err_t apply_keys(struct server *sv, struct config *cfg, struct rules *rules)
{
	vcf_err_t err = keysets_check(sv, cfg);

	if (err)
		return err;
	return rules ? commit_rules(sv, cfg, rules) : commit(sv, cfg, NULL);
}

/*
 * The files are looked at twice: first while requests go on, which finds most refusals and has
 * the folders in memory for the second time, when names must wait.
 */
static vcf_err_t apply(struct server *sv, struct config *cfg)
{
	auto_rules struct rules *rules = NULL;
	vcf_err_t err = check_fixed(sv->cfg, cfg);

	if (!err &&
	    (!config_same_rules(sv->cfg, cfg) || !config_same_devices(sv->cfg, cfg))) {
		err = config_make_rules(cfg, &rules);
		if (!err)
			err = compare_all(sv, cfg, rules);
	}
	if (!err)
		err = apply_keys(sv, cfg, rules);
	if (!err)
		rules = NULL; /* the server's */
	return err;
}

vcf_err_t reload_apply(struct server *sv, struct config *fresh)
{
	char changes[512];
	size_t cnt = config_list_differences(sv->cfg, fresh, changes, sizeof(changes));
	vcf_err_t err = apply(sv, fresh);

	if (err) {
		log_err("the configuration is not reloaded, the old settings stay: %s",
			strerror(-err));
		config_free(fresh);
		return err;
	}
	log_info("configuration reloaded: %s",
		 cnt ? changes : "nothing in it has changed");
	return 0;
}
