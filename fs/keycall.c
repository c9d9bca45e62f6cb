/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keycall.h"

#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/keyaudit.h"
#include "util/audit.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"

static int ring = -1;

void keycall_begin(const struct config *cfg, const char *command)
{
	struct audit_settings s = keyaudit_settings(cfg);
	const struct audit_origin o = {.mount = cfg->mountpoint, .command = command};
	vcf_err_t err;

	if (s.file && *s.file != '/') /* what a mount would refuse */
		s.file = NULL;
	if (ring >= 0 || (!s.file && !s.syslog))
		return;
	err = audit_start(&s, &o, &ring);
	if (err)
		log_err("the audit trail cannot begin: %s", strerror(-err));
}

void keycall_end(void)
{
	audit_stop();
	if (ring >= 0)
		close(STEAL_FD(&ring));
}

/* uuid: room for the text. */
static struct audit_event event_of(const struct keycall *c, const char *id,
				   char uuid[UUID_TEXT_LEN + 1])
{
	if (c->uuid)
		uuid_unparse_lower(c->uuid, uuid);
	return (struct audit_event){
		.path = c->path,
		.uuid = c->uuid ? uuid : NULL,
		.key_id = id && *id ? id : NULL,
		.service = c->service,
		.has_opener = true,
		.uid = getuid(),
		.pid = (uint32_t)getpid(),
		.latency_ms = -1,
	};
}

static void note(const struct keycall *c, const char *verb, const char *id,
		 uint64_t start_ms, vcf_err_t err, const struct keyservice_sync *out)
{
	char uuid[UUID_TEXT_LEN + 1];
	struct audit_event e = event_of(c, id, uuid);

	e.verb = verb;
	e.latency_ms = audit_since(start_ms);
	e.err = err;
	e.text = err && *out->text ? out->text : NULL;
	audit_answer(&e);
}

vcf_err_t keycall_get(const struct keycall *c, const char *id,
		      struct keyservice_sync *out)
{
	uint64_t start_ms = clock_now_ms();
	vcf_err_t err = keyservice_get_sync(c->ks, id, out);

	note(c, "get", id, start_ms, err, out);
	return err;
}

vcf_err_t keycall_new(const struct keycall *c, const struct secret *secret,
		      struct keyservice_sync *out)
{
	uint64_t start_ms = clock_now_ms();
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err;

	uuid_unparse_lower(c->uuid, label);
	err = keyservice_new_sync(c->ks, label, secret, out);
	note(c, "new", out->id, start_ms, err, out);
	return err;
}

vcf_err_t keycall_destroy(const struct keycall *c, const char *id,
			  struct keyservice_sync *out)
{
	uint64_t start_ms = clock_now_ms();
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err;

	uuid_unparse_lower(c->uuid, label);
	err = keyservice_destroy_sync(c->ks, id, label, out);
	note(c, "destroy", id, start_ms, err, out);
	return err;
}

static void note_event(const struct keycall *c, const char *event, const char *id)
{
	char uuid[UUID_TEXT_LEN + 1];
	struct audit_event e = event_of(c, id, uuid);

	e.event = event;
	audit_event(&e);
}

void keycall_assigned(const struct keycall *c, const char *id)
{
	note_event(c, "assigned", id);
}

void keycall_recovered(const struct keycall *c, const char *id)
{
	note_event(c, "recovered", id);
}
