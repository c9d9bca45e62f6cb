/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Another secret for a container that no daemon has open, or the first one of ours for a foreign one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/container_adopt.h"
#include "crypto/containerid.h"
#include "fs/device_config.h"
#include "fs/keycall.h"
#include "fs/nodelock.h"
#include "fs/offline_impl.h"
#include "util/log.h"
#include "util/text.h"

struct fresh {
	struct offline *o;
	struct offline_file *f;
	struct offline_change *ch;
	struct journal_entry entry;
	struct secret *secret;
	bool refused;	     /* by the service: nothing is on its way to it */
	const char *context; /* that of the file's rule; NULL: what it has */
	char context_text[TOKEN_CONTEXT_MAX + 1];
};

/* What the rules say of it; one that lies somewhere else stays what it is. */
static void look_up(struct fresh *n)
{
	struct stat st;
	const struct config *d = fstat(n->f->fd, &st) == 0 && S_ISBLK(st.st_mode)
					 ? device_by_rdev(n->o->cfg, st.st_rdev)
					 : NULL;
	const char *place = d ? d->device_name : offline_place(n->o, n->f->path);

	if (!*n->ch->service) {
		TEXT_CUT(n->ch->service, container_token(n->f->c)->service);
		if (!config_service(n->o->cfg, n->ch->service))
			TEXT_CUT(n->ch->service, CONFIG_SERVICE_DEFAULT);
		if (place)
			TEXT_CUT(n->ch->service, rules_service(n->o->rules, place));
	}
	if (!place)
		return;
	rules_context(n->o->rules, place, n->context_text);
	n->context = n->context_text;
}

vcf_err_t offline_fetch_id(struct offline *o, const struct offline_file *f,
			   const char *service, const char *id, struct secret **secret)
{
	const char *place = offline_place(o, f->path);

	if (!*service)
		service = place ? rules_service(o->rules, place) : CONFIG_SERVICE_DEFAULT;
	return offline_fetch_from(o, f, service, id, secret);
}

static vcf_err_t make_secret(struct fresh *n)
{
	struct keyservice_sync got = {0};
	struct keycall call;
	struct keyservice *ks;
	vcf_err_t err = secret_new_random(&n->secret);

	if (err)
		return err;
	err = offline_service(n->o, n->ch->service, &ks);
	if (err)
		return err;
	containerid_new(n->entry.uuid);
	n->entry.state = JOURNAL_CREATING;
	TEXT_CUT(n->entry.service, n->ch->service);
	TEXT_CUT(n->entry.path, n->f->path);
	err = journal_add(n->o->journal, &n->entry, NULL);
	if (err)
		return err;
	call = (struct keycall){ks, n->ch->service, n->f->path, n->entry.uuid};
	err = keycall_new(&call, n->secret, &got);
	if (err) {
		snprintf(n->ch->text, sizeof(n->ch->text), "key service: %s %s",
			 strerror(-err), got.text);
		n->refused = err == -EKEYREJECTED || err == -EDQUOT || err == -EINVAL;
		return err;
	}
	n->entry.state = JOURNAL_UNUSED;
	if (got.secret) { /* the service's own */
		secret_free(n->secret);
		n->secret = got.secret;
	}
	TEXT_CUT(n->ch->key_id, got.id);
	return journal_set(n->o->journal, n->entry.id, JOURNAL_UNUSED, got.id, 0);
}

static vcf_err_t note_using(void *arg)
{
	struct fresh *n = arg;
	struct stat st;

	if (fstat(n->f->fd, &st) < 0)
		return -errno;
	return journal_set_using(n->o->journal, n->entry.id, st.st_dev, st.st_ino,
				 n->f->path);
}

/*
 * The key service may have taken its time: is the file still there, and nobody's? From here on a
 * daemon's opens find the old header or the new one.
 */
static vcf_err_t look_again(const struct fresh *n)
{
	struct stat st;

	if (fstat(n->f->fd, &st) < 0)
		return -errno;
	return st.st_nlink ? offline_check_daemons(n->o->runtime, n->f->fd, &st)
			   : -ESTALE;
}

/* A daemon of another node may have given it another secret, too. */
static vcf_err_t has_header(const struct fresh *n)
{
	auto_container struct container *now = NULL;
	vcf_err_t err = container_load(&now, n->f->fd, n->f->path, NULL);

	if (err)
		return err;
	return memcmp(container_token(now)->mac, container_token(n->f->c)->mac,
		      TOKEN_MAC_LEN) == 0
		       ? 0
		       : -ESTALE;
}

/* The new header in memory. */
static vcf_err_t make_header(struct fresh *n, struct rekey **r)
{
	struct rekey_params p = {.service = n->ch->service,
				 .key_id = n->ch->key_id,
				 .context = n->context,
				 .secret = n->secret,
				 .escrow = config_escrow(n->o->cfg)};

	memcpy(p.uuid, n->entry.uuid, UUID_LEN);
	if (!n->f->foreign)
		return container_rekey(r, n->f->c, &p, n->f->path);
	if (!p.context)
		p.context = "";
	return container_adopt(r, n->f->c, &p, n->ch->holes, n->f->path);
}

/* Another's slots; what stays of them is found by the next open, as their header is ours by now. */
static void wipe_unused(const struct fresh *n)
{
	vcf_err_t err = container_wipe_unused(n->f->c, n->f->fd, NULL);

	if (err)
		log_warn("%s: its old key slots are not overwritten yet: %s", n->f->path,
			 strerror(-err));
}

static vcf_err_t write_header(struct fresh *n, enum rekey_outcome *outcome)
{
	auto_rekey struct rekey *r = NULL;
	vcf_err_t err;

	/* Until the file is closed; daemons that share the folder wait. */
	err = nodelock_byte(n->f->fd, NODELOCK_HEADER, true, true);
	if (err)
		log_dbg("no lock on the header: %s", strerror(-err));
	err = look_again(n);
	if (!err && !n->f->foreign) /* else its bytes are compared as it is written */
		err = has_header(n);
	/* one that was mended as it was loaded */
	if (!err)
		err = container_write_mended(n->f->c, n->f->fd);
	if (!err)
		err = make_header(n, &r);
	if (!err)
		err = container_write_rekeyed(r, n->f->fd, note_using, n, outcome);
	if (!err && n->f->foreign)
		wipe_unused(n);
	return err;
}

/* What becomes of the new secret; in doubt the next run looks at the file. */
static void settle(struct fresh *n, enum rekey_outcome outcome)
{
	vcf_err_t err = 0;

	if (!n->entry.id || outcome == REKEY_DOUBT)
		return;
	if (outcome == REKEY_OLD)
		err = offline_destroy_unused(n->o, &n->entry);
	if (err == -EAGAIN && n->refused)
		err = 0;
	if (!err)
		err = journal_set(n->o->journal, n->entry.id, JOURNAL_CLOSED, NULL, 0);
	if (err)
		log_warn(
			"%s: the new secret could not be settled (%s); the next run tries "
			"again",
			n->f->path, strerror(-err));
}

/* One that was moved to another instance's place must not become that one's. */
static bool is_bound_here(const struct fresh *n)
{
	return !n->context || strcmp(container_token(n->f->c)->context, n->context) == 0;
}

static void say_failed(struct offline_change *ch, vcf_err_t err)
{
	char reason[256];

	TEXT_CUT(reason, *ch->text	 ? ch->text
			 : err == -EBUSY ? offline_refusal(err)
					 : strerror(-err));
	snprintf(ch->text, sizeof(ch->text), "%s%s", reason,
		 ch->outcome == REKEY_OLD ? "; it is as it was"
		 : ch->outcome == REKEY_NEW
			 ? "; the next open completes the change"
			 : "; it opens with the old or the new secret");
}

vcf_err_t offline_change_secret(struct offline *o, struct offline_file *f,
				struct offline_change *ch)
{
	struct fresh n = {.o = o, .f = f, .ch = ch};
	bool had_escrow = *container_escrow(f->c)->recipient;
	vcf_err_t err = 0;

	ch->outcome = REKEY_OLD;
	*ch->text = '\0';
	look_up(&n);
	if (ch->stays_bound && !is_bound_here(&n)) {
		TEXT_CUT(ch->text, "it is bound to another instance");
		return -EBADMSG;
	}
	err = make_secret(&n);
	if (!err)
		err = write_header(&n, &ch->outcome);
	settle(&n, ch->outcome);
	secret_free(n.secret);
	ch->escrow_lost = had_escrow && !config_escrow(o->cfg);
	if (ch->outcome == REKEY_NEW)
		keycall_assigned(
			&(const struct keycall){NULL, ch->service, f->path, n.entry.uuid},
			ch->key_id);
	if (err)
		say_failed(ch, err);
	return err;
}

static vcf_err_t change_secret(struct offline *o, struct offline_file *f,
			       enum token_holes holes)
{
	struct offline_change ch = {.holes = holes};
	char was[UUID_TEXT_LEN + 1], old_key[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	TEXT_CUT(was, container_subject(f->c)->uuid_text);
	TEXT_CUT(old_key, container_token(f->c)->key_id);
	err = offline_change_secret(o, f, &ch);
	if (ch.outcome == REKEY_NEW)
		printf("%s: uuid %s is %s now, key %s%s%s\n", f->path, was,
		       container_subject(f->c)->uuid_text, ch.key_id,
		       *old_key ? "; it was " : "", old_key);
	if (ch.outcome == REKEY_NEW && ch.escrow_lost)
		fprintf(stderr,
			"vmcryptfs %s: %s: its escrow token was of the old secret; for a new "
			"one the configuration needs [escrow] public-key\n",
			o->command, f->path);
	if (err)
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", o->command, f->path, ch.text);
	return err;
}

vcf_err_t offline_rekey(struct offline *o, struct offline_file *f)
{
	return change_secret(o, f, HOLES_ZERO); /* what it has stays */
}

vcf_err_t offline_adopt(struct offline *o, struct offline_file *f, enum token_holes holes)
{
	const char *place = offline_place(o, f->path);

	if (place && !rules_is_image(rules_class(o->rules, place))) {
		fprintf(stderr,
			"vmcryptfs %s: %s: a passthrough rule covers it: the mount would "
			"show its ciphertext\n",
			o->command, f->path);
		return -EPERM;
	}
	return change_secret(o, f, holes);
}
