/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keyaudit.h"

#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fs/imagetable.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

struct audit_settings keyaudit_settings(const struct config *cfg)
{
	return (struct audit_settings){
		.file = cfg->audit_file,
		.syslog = cfg->audit_syslog,
		.used = cfg->audit_used,
	};
}

vcf_err_t keyaudit_start(struct server *sv)
{
	struct audit_settings s = keyaudit_settings(sv->cfg);
	struct audit_origin o = {.mount = sv->cfg->mountpoint,
				 .generation = sv->session->head->generation};
	vcf_err_t err = audit_start(&s, &o, &sv->session->head->fds[SESSION_FD_AUDIT]);

	if (err)
		log_err("the audit trail cannot begin: %s", strerror(-err));
	return err;
}

void keyaudit_stop(struct server *sv)
{
	int *fd = &sv->session->head->fds[SESSION_FD_AUDIT];

	audit_stop();
	if (*fd >= 0)
		close(STEAL_FD(fd));
}

void keyaudit_change(const struct config *cfg)
{
	struct audit_settings s = keyaudit_settings(cfg);

	audit_change(&s);
}

void keyaudit_opener(struct keyaudit *a)
{
	const struct worker *w = current_worker;
	struct fuse_in_header h;

	*a = (struct keyaudit){.start_ms = clock_now_ms()};
	if (!w || !w->unique)
		return;
	memcpy(&h, w->req, sizeof(h));
	a->has_opener = true;
	a->uid = h.uid;
	a->pid = h.pid;
}

struct reserve_wanted keyaudit_wanted(const struct keyaudit *a, const char *path)
{
	return (struct reserve_wanted){path, a->has_opener, a->uid, a->pid};
}

static struct audit_event event_of(const struct keyaudit *a, const char *path,
				   const char *uuid, const char *service,
				   const char *key_id)
{
	return (struct audit_event){
		.path = path,
		.uuid = *uuid ? uuid : NULL,
		.key_id = key_id,
		.service = service,
		.has_opener = a && a->has_opener,
		.uid = a ? a->uid : 0,
		.pid = a ? a->pid : 0,
		.latency_ms = -1,
	};
}

void keyaudit_fetched(const struct keyaudit *a, const char *path,
		      const unsigned char *uuid, const char *service, const char *key_id,
		      const struct keyservice_result *res)
{
	char text[UUID_TEXT_LEN + 1] = "";
	struct audit_event e;

	if (uuid)
		uuid_unparse_lower(uuid, text);
	e = event_of(a, path, text, service, key_id);
	e.verb = "get";
	e.latency_ms = audit_since(a->start_ms);
	e.err = res->err;
	e.text = res->err && *res->text ? res->text : NULL;
	audit_answer(&e);
}

void keyaudit_assigned(const struct keyaudit *a, const char *path,
		       const unsigned char *uuid, const char *service, const char *key_id)
{
	char text[UUID_TEXT_LEN + 1];
	struct audit_event e;

	uuid_unparse_lower(uuid, text);
	e = event_of(a, path, text, service, key_id);
	e.event = "assigned";
	audit_event(&e);
}

void keyaudit_used(struct image_entry *entry)
{
	char uuid[UUID_TEXT_LEN + 1], path[sizeof(entry->path)];
	struct keyaudit a;
	struct audit_event e;
	struct token t;

	if (!audit_wants_used())
		return;
	mutex_lock(&entry->state_lock);
	if (!entry->image) { /* an empty file */
		mutex_unlock(&entry->state_lock);
		return;
	}
	uuid_unparse_lower(entry->uuid, uuid);
	TEXT_CUT(path, entry->path);
	t = entry->token;
	mutex_unlock(&entry->state_lock);
	keyaudit_opener(&a);
	e = event_of(&a, path, uuid, t.service, t.key_id);
	e.event = "used";
	audit_event(&e);
}
