/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/oldsecret_destroy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/deletion_check.h"
#include "fs/keycall.h"
#include "fs/linked.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/text.h"

/* --- who uses it --- */

struct search {
	int rootfd;
	const struct journal_entry *e;
	const struct oldsecret_but *but; /* NULL: none */
	char *used;
};

static bool is_but(const struct search *s, const char *path)
{
	struct stat st;

	return s->but && fstatat(s->rootfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == s->but->dev && st.st_ino == s->but->ino;
}

static vcf_err_t compare(void *arg, const char *path, const unsigned char *uuid,
			 const struct token *t)
{
	const struct search *s = arg;
	bool same = uuid && memcmp(uuid, s->e->uuid, UUID_LEN) == 0;

	if (t && strcmp(t->key_id, s->e->key_id) == 0 &&
	    strcmp(t->service, s->e->service) == 0)
		same = true;
	if (!same || is_but(s, path))
		return 0;
	text_cut(s->used, PATH_MAX, path);
	return -EBUSY;
}

vcf_err_t oldsecret_is_free(struct offline *o, const struct journal_entry *e,
			    const struct oldsecret_but *but, char used[PATH_MAX])
{
	auto_close int root = open(o->cfg->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct search s = {root, e, but, used};
	vcf_err_t err;

	if (root < 0)
		return -errno;
	err = linked_walk_tree(root, o->rules, o->cfg, compare, &s);
	/* a rename may have carried one past the walk: it would take two, one past each */
	return err ? err : linked_walk_tree(root, o->rules, o->cfg, compare, &s);
}

/* --- the service --- */

static vcf_err_t call_of(struct keycall *call, struct offline *o,
			 const struct journal_entry *e)
{
	*call = (struct keycall){NULL, e->service, e->path, e->uuid};
	return offline_service(o, e->service, &call->ks);
}

static vcf_err_t fail(struct oldsecret_answer *a, vcf_err_t err, const char *text)
{
	TEXT_CUT(a->text, text && *text ? text : strerror(-err));
	return err;
}

vcf_err_t oldsecret_check(struct offline *o, const struct journal_entry *e,
			  const void *hdr, struct oldsecret_answer *a)
{
	struct keyservice_sync out = {0};
	struct keycall call;
	vcf_err_t err = call_of(&call, o, e);

	if (err)
		return fail(a, err, "its key service is not configured");
	err = keycall_get(&call, e->key_id, &out);
	if (!err && !out.secret)
		err = -EPROTO;
	if (err)
		return fail(a, err, out.text);
	err = deletion_check_header(e, hdr, out.secret);
	secret_free(out.secret);
	return err ? fail(a, err, "the saved header does not belong to this secret") : 0;
}

vcf_err_t oldsecret_destroy(struct offline *o, const struct journal_entry *e,
			    struct oldsecret_answer *a)
{
	struct keyservice_sync out = {0};
	struct keyservice_status st;
	struct keycall call;
	vcf_err_t err = call_of(&call, o, e);

	if (err)
		return fail(a, err, "its key service is not configured");
	err = keycall_destroy(&call, e->key_id, &out);
	CRASHPOINT("oldsecret-destroyed");
	if (err && err != -ENOKEY)
		return fail(a, err, out.text);
	keyservice_get_status(call.ks, &st);
	a->word = err ? "gone" : st.caps & KEY_CAP_WRAPPED ? "wrapped" : "destroyed";
	return 0;
}

vcf_err_t oldsecret_end_now(struct offline *o, uint64_t id, struct oldsecret_answer *a)
{
	auto_free void *hdr = malloc(CONTAINER_PEEK_LEN);
	char used[PATH_MAX];
	struct journal_entry e;
	vcf_err_t err = hdr ? journal_get(o->journal, id, &e) : -ENOMEM;

	if (!err)
		err = journal_header(o->journal, id, hdr);
	if (err)
		return fail(a, err, NULL);
	err = oldsecret_is_free(o, &e, NULL, used);
	if (err)
		return fail(a, err,
			    err == -EBUSY ? "another container uses the secret" : NULL);
	err = oldsecret_check(o, &e, hdr, a);
	if (!err)
		err = oldsecret_destroy(o, &e, a);
	else if (err == -ENOKEY)
		a->word = "gone";
	if (err && err != -ENOKEY)
		return err;
	err = journal_set(o->journal, id, JOURNAL_CLOSED, NULL, 0);
	return err ? fail(a, err, "the journal cannot be written") : 0;
}
