/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/newsecret.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "crypto/containerid.h"
#include "crypto/kdf.h"
#include "fs/keycall.h"
#include "fs/mountpoint.h"
#include "fs/sitekey.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/text.h"

static vcf_err_t fail(struct newsecret *n, vcf_err_t err, const char *what,
		      const char *text)
{
	snprintf(n->why, sizeof(n->why), "%s: %s%s%.128s", what, strerror(-err),
		 *text ? ": " : "", text);
	return err;
}

/* --- of its own --- */

static vcf_err_t ask_for_new(struct newsecret *n, const char *path)
{
	struct keyservice_sync got = {0};
	struct keycall call = {.service = n->service, .path = path, .uuid = n->uuid};
	vcf_err_t err = offline_service(n->o, n->service, &call.ks);

	if (!err)
		err = keycall_new(&call, n->secret, &got);
	if (err) {
		n->refused = err == -EKEYREJECTED || err == -EDQUOT || err == -EINVAL;
		return fail(n, err, "key service", got.text);
	}
	if (got.secret) { /* the service's own */
		secret_free(n->secret);
		n->secret = got.secret;
	}
	TEXT_CUT(n->key_id, got.id);
	return 0;
}

static vcf_err_t make_own(struct newsecret *n, const char *path)
{
	struct journal_entry e = {.state = JOURNAL_CREATING};
	vcf_err_t err = secret_new_random(&n->secret);

	if (err)
		return err;
	memcpy(e.uuid, n->uuid, UUID_LEN);
	TEXT_CUT(e.service, n->service);
	TEXT_CUT(e.path, path);
	err = journal_add(n->o->journal, &e, NULL);
	if (err)
		return fail(n, err, "the journal", "");
	n->note = e.id;
	CRASHPOINT("newsecret-creating");
	err = ask_for_new(n, path);
	CRASHPOINT("newsecret-made");
	if (!err)
		err = journal_set(n->o->journal, n->note, JOURNAL_UNUSED, n->key_id, 0);
	return err;
}

/* --- derived --- */

/* What the file of the service's site secret says, and its path. */
static vcf_err_t look_up_site(const struct offline *o, const char *service,
			      char path[PATH_MAX], unsigned char uuid[UUID_LEN],
			      char key_id[TOKEN_KEY_ID_MAX + 1])
{
	bool is_default = strcmp(service, CONFIG_SERVICE_DEFAULT) == 0;
	char base[PATH_MAX];
	vcf_err_t err = mountpoint_state(base, sizeof(base), o->cfg, "site");

	if (!err)
		err = sitekey_path(path, PATH_MAX, base, service);
	return err ? err
		   : sitekey_read_file(path, is_default ? "" : service, uuid, key_id);
}

static vcf_err_t read_site(struct newsecret *n, unsigned char uuid[UUID_LEN])
{
	char path[PATH_MAX];
	vcf_err_t err = look_up_site(n->o, n->service, path, uuid, n->key_id);

	if (!err && !*n->key_id) {
		snprintf(
			n->why, sizeof(n->why),
			"a derived rule covers it, and there is no secret of the site yet: the mount "
			"makes it with the first such file that is written through it");
		return -ENOKEY;
	}
	return err ? fail(n, err, "the site's secret", "") : 0;
}

static vcf_err_t derive(struct newsecret *n, const char *path)
{
	struct keyservice_sync got = {0};
	auto_secret struct secret *site = NULL;
	unsigned char uuid[UUID_LEN];
	struct keycall call = {.service = n->service, .path = path, .uuid = uuid};
	vcf_err_t err = read_site(n, uuid);

	if (err)
		return err;
	err = offline_service(n->o, n->service, &call.ks);
	if (!err)
		err = keycall_get(&call, n->key_id, &got);
	site = got.secret;
	if (err)
		return fail(n, err, "key service: the site's secret", got.text);
	return token_derive_secret(&n->secret, site, n->uuid);
}

/* --- all --- */

vcf_err_t newsecret_get(struct newsecret *n, struct offline *o, enum newsecret_kind kind,
			const char *service, const char *path)
{
	*n = (struct newsecret){.o = o, .kind = kind};
	containerid_new(n->uuid);
	TEXT_CUT(n->service, service);
	if (kind == NEWSECRET_OWN)
		return make_own(n, path);
	return kind == NEWSECRET_DERIVED ? derive(n, path) : 0;
}

vcf_err_t newsecret_using(struct newsecret *n, int fd, const char *path)
{
	struct journal_entry e = {.state = JOURNAL_USING, .derived = true};
	struct stat st;
	vcf_err_t err;

	if (strlen(path) >= sizeof(e.path))
		return -ENAMETOOLONG;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (n->note)
		return journal_set_using(n->o->journal, n->note, st.st_dev, st.st_ino,
					 path);
	memcpy(e.uuid, n->uuid, UUID_LEN);
	TEXT_CUT(e.service, n->service);
	TEXT_CUT(e.key_id, n->key_id);
	TEXT_CUT(e.path, path);
	e.dev = st.st_dev;
	e.ino = st.st_ino;
	err = journal_add(n->o->journal, &e, NULL);
	if (!err)
		n->note = e.id;
	return err;
}

static void close_note(struct newsecret *n)
{
	vcf_err_t err = journal_set(n->o->journal, n->note, JOURNAL_CLOSED, NULL, 0);

	if (err) /* harmless: the next run comes to the same */
		log_warn("the journal cannot be written: %s", strerror(-err));
	n->note = 0;
}

void newsecret_done(struct newsecret *n)
{
	if (n->note)
		close_note(n);
}

void newsecret_undo(struct newsecret *n)
{
	struct journal_entry e;
	vcf_err_t err = 0;

	if (!n->note)
		return;
	if (n->kind == NEWSECRET_OWN)
		err = journal_get(n->o->journal, n->note, &e);
	if (!err && n->kind == NEWSECRET_OWN)
		err = offline_destroy_unused(n->o, &e);
	if (err && !(err == -EAGAIN && n->refused)) {
		log_warn(
			"the new secret could not be taken back (%s): the next run tries "
			"again",
			strerror(-err));
		return;
	}
	CRASHPOINT("newsecret-undone");
	close_note(n);
}

void newsecret_fini(struct newsecret *n)
{
	secret_free(n->secret);
	n->secret = NULL;
}

/* --- the site's --- */

#define SITE_TEXT "(site secret)"

/* As sitekey.c does it: noted as in use, then named by the file, then nothing is left to be noted. */
static vcf_err_t write_site(struct newsecret *n, const char *path)
{
	bool is_default = strcmp(n->service, CONFIG_SERVICE_DEFAULT) == 0;
	vcf_err_t err = journal_set_using(n->o->journal, n->note, 0, 0, SITE_TEXT);

	CRASHPOINT("newsecret-site");
	return err ? err
		   : sitekey_write_file(path, is_default ? "" : n->service, n->uuid,
					n->key_id);
}

static vcf_err_t make_site(struct offline *o, const char *service, const char *path)
{
	struct newsecret n = {.o = o, .kind = NEWSECRET_OWN};
	vcf_err_t err;

	containerid_new(n.uuid);
	TEXT_CUT(n.service, service);
	err = make_own(&n, SITE_TEXT);
	if (!err)
		err = write_site(&n, path);
	if (err)
		newsecret_undo(&n);
	else
		newsecret_done(&n);
	newsecret_fini(&n);
	return err;
}

vcf_err_t newsecret_make_site(struct offline *o, const char *service)
{
	auto_journal struct journal *served = NULL;
	char path[PATH_MAX], journal[PATH_MAX], key_id[TOKEN_KEY_ID_MAX + 1];
	unsigned char uuid[UUID_LEN];
	vcf_err_t err = mountpoint_state(journal, sizeof(journal), o->cfg, "journal");

	if (!err)
		err = look_up_site(o, service, path, uuid, key_id);
	if (err || *key_id)
		return err;
	err = journal_open(&served, journal); /* a daemon has it */
	if (!err)
		err = look_up_site(o, service, path, uuid, key_id); /* by the last one */
	return err || *key_id ? err : make_site(o, service, path);
}

bool newsecret_is_site(const struct journal_entry *e)
{
	return e->state == JOURNAL_USING && strcmp(e->path, SITE_TEXT) == 0;
}

/* Destroyed only if the file is read, and names another one or is not there. */
void newsecret_settle_site(struct offline *o, const struct journal_entry *e)
{
	char path[PATH_MAX], key_id[TOKEN_KEY_ID_MAX + 1];
	unsigned char uuid[UUID_LEN];
	vcf_err_t err = look_up_site(o, e->service, path, uuid, key_id);

	if (!err && (!*key_id || memcmp(uuid, e->uuid, UUID_LEN) != 0))
		err = offline_destroy_unused(o, e);
	if (!err)
		err = journal_set(o->journal, e->id, JOURNAL_CLOSED, NULL, 0);
	if (err)
		log_warn("the site's secret %s stays noted: %s", e->key_id,
			 strerror(-err));
}
