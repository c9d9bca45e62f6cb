/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keyjob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keyservice.h"
#include "util/untrusted.h"

static vcf_err_t keyjob_fill(struct keyjob *job, const char *id, const char *label,
			     const struct secret *secret)
{
	if ((id && !token_key_id_valid(id)) || (label && !keyproto_label_valid(label)))
		return -EINVAL;
	snprintf(job->id, sizeof(job->id), "%s", id ? id : "");
	snprintf(job->label, sizeof(job->label), "%s", label ? label : "");
	return secret ? secret_dup(&job->secret, secret) : 0;
}

vcf_err_t keyjob_new(struct keyjob **out, enum key_verb verb, const char *id,
		     const char *label, const struct secret *secret)
{
	auto_keyjob struct keyjob *job = calloc(1, sizeof(*job));
	vcf_err_t err;

	if (!job)
		return -ENOMEM;
	job->verb = verb;
	err = keyjob_fill(job, id, label, secret);
	if (err)
		return err;
	*out = STEAL_PTR(&job);
	return 0;
}

void keyjob_free(struct keyjob *job)
{
	secret_free(job->secret);
	secret_free(job->result);
	free(job);
}

/* What `new` asks in its present step. */
static enum key_verb next_verb(const struct keyjob *job, unsigned int caps)
{
	if (job->verb != KEY_NEW)
		return job->verb;
	if (caps & KEY_CAP_DERIVES || job->step == KEYJOB_VERIFY)
		return KEY_GET;
	return job->step == KEYJOB_FIND ? KEY_FIND : KEY_NEW;
}

void keyjob_request(struct keyjob *job, unsigned int caps, struct key_request *out)
{
	if (caps & KEY_CAP_DERIVES && job->verb == KEY_NEW) {
		job->step = KEYJOB_CREATE;
		snprintf(job->id, sizeof(job->id), "%s", job->label);
	}
	job->sent = next_verb(job, caps);
	job->created[0] = '\0';
	if (job->verb == KEY_LIST)
		job->item(job->item_arg, NULL);
	memset(out, 0, sizeof(*out));
	out->verb = job->sent;
	snprintf(out->id, sizeof(out->id), "%s", job->id);
	snprintf(out->label, sizeof(out->label), "%s", job->label);
	out->secret = job->secret;
}

static enum keyjob_verdict done(struct keyjob *job, vcf_err_t err)
{
	job->err = err;
	return KEYJOB_DONE;
}

static enum keyjob_verdict go_to(struct keyjob *job, enum keyjob_step step)
{
	job->step = step;
	return KEYJOB_AGAIN;
}

static enum keyjob_verdict on_created(struct keyjob *job, struct key_reply *r)
{
	snprintf(job->id, sizeof(job->id), "%s", r->id);
	return done(job, 0);
}

static enum keyjob_verdict on_secret(struct keyjob *job, struct key_reply *r)
{
	if (job->verb == KEY_NEW && job->step == KEYJOB_VERIFY) {
		if (secret_equal(job->secret, r->secret))
			return done(job, 0);
		return go_to(job, KEYJOB_CREATE);
	}
	job->result = STEAL_PTR(&r->secret);
	return done(job, 0);
}

static enum keyjob_verdict on_listed(struct keyjob *job, const struct key_reply *r)
{
	const struct keyservice_item item = {
		.id = r->id, .label = r->label, .created = r->created};

	if (strncmp(r->label, job->label, strlen(job->label)) != 0)
		return KEYJOB_NONSENSE;
	job->item(job->item_arg, &item);
	return KEYJOB_MORE;
}

static enum keyjob_verdict on_item(struct keyjob *job, struct key_reply *r)
{
	if (job->verb == KEY_LIST)
		return on_listed(job, r);
	if (strcmp(r->label, job->label) != 0)
		return KEYJOB_NONSENSE;
	if (*job->created && keyproto_created_cmp(r->created, job->created) < 0)
		return KEYJOB_MORE;
	snprintf(job->created, sizeof(job->created), "%s", r->created);
	snprintf(job->id, sizeof(job->id), "%s", r->id);
	return KEYJOB_MORE;
}

static enum keyjob_verdict on_end(struct keyjob *job)
{
	bool found = *job->created != '\0';

	if (job->verb == KEY_LIST)
		return done(job, 0);
	if (job->verb == KEY_FIND)
		return done(job, found ? 0 : -ENOKEY);
	return go_to(job, found ? KEYJOB_VERIFY : KEYJOB_CREATE);
}

static enum keyjob_verdict on_error(struct keyjob *job, struct key_reply *r)
{
	char said[480];

	untrusted_text(said, sizeof(said), r->text, strlen(r->text));
	snprintf(job->text, sizeof(job->text), "%s%s%s", keyproto_error_name(r->error),
		 *said ? ": " : "", said);
	if (r->error == KEY_UNAVAILABLE) {
		if (job->sent == KEY_NEW)
			job->step = KEYJOB_FIND;
		job->retry_after_s = r->retry_after_s < KEYJOB_RETRY_AFTER_MAX_S
					     ? r->retry_after_s
					     : KEYJOB_RETRY_AFTER_MAX_S;
		return KEYJOB_RETRY;
	}
	if (job->verb == KEY_NEW && job->step != KEYJOB_CREATE &&
	    r->error == KEY_NOTFOUND)
		return go_to(job, KEYJOB_CREATE);
	return done(job, keyproto_errno(r->error));
}

/* Which lines may answer which request. */
static bool answers(enum key_verb sent, enum key_reply_kind kind)
{
	switch (kind) {
	case KEY_REPLY_ERROR:
		return true;
	case KEY_REPLY_CREATED:
		return sent == KEY_NEW;
	case KEY_REPLY_SECRET:
		return sent == KEY_GET;
	case KEY_REPLY_ITEM:
	case KEY_REPLY_END:
		return sent == KEY_FIND || sent == KEY_LIST;
	case KEY_REPLY_DESTROYED:
	case KEY_REPLY_GONE:
		return sent == KEY_DESTROY;
	case KEY_REPLY_PONG:
		return sent == KEY_PING;
	default:
		return false;
	}
}

enum keyjob_verdict keyjob_reply(struct keyjob *job, struct key_reply *r)
{
	if (!answers(job->sent, r->kind))
		return KEYJOB_NONSENSE;
	switch (r->kind) {
	case KEY_REPLY_ERROR:
		return on_error(job, r);
	case KEY_REPLY_CREATED:
		return on_created(job, r);
	case KEY_REPLY_SECRET:
		return on_secret(job, r);
	case KEY_REPLY_ITEM:
		return on_item(job, r);
	case KEY_REPLY_END:
		return on_end(job);
	default:
		return done(job, 0);
	}
}

void keyjob_lost(struct keyjob *job, const char *why)
{
	if (job->sent == KEY_NEW)
		job->step = KEYJOB_FIND;
	job->retry_after_s = 0;
	snprintf(job->text, sizeof(job->text), "%s", why);
}
