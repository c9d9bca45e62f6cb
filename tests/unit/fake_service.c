/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/fake_service.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
#include "crypto/kdf.h"

enum { RECORD_MAX = 4096, VERBS = KEY_READY + 1 };

struct record {
	bool alive;
	char id[32];
	char label[KEYPROTO_LABEL_MAX + 1];
	struct secret *secret;
};

struct call {
	struct call *next;
	enum key_verb verb;
	char id[TOKEN_KEY_ID_MAX + 1];
	char label[KEYPROTO_LABEL_MAX + 1];
	struct secret *secret;
	keyservice_done_fn *done;
	void *arg;
};

struct script {
	enum fake_how how;
	vcf_err_t err;
	int times;
};

struct keyservice {
	pthread_mutex_t lock; /* guards all of it */
	pthread_cond_t wake;
	pthread_t thread;
	struct call *calls, **calls_end;
	struct record records[RECORD_MAX];
	int record_cnt;
	bool down, hold, closing;
	struct script scripts[VERBS];
	int called[VERBS];
};

static struct record *find_record(struct keyservice *ks, const char *id,
				  const char *label)
{
	for (int i = ks->record_cnt - 1; i >= 0; i--) {
		struct record *r = &ks->records[i];

		if (r->alive && (!id || strcmp(r->id, id) == 0) &&
		    (!label || strcmp(r->label, label) == 0))
			return r;
	}
	return NULL;
}

static struct record *put_record(struct keyservice *ks, const char *label,
				 const struct secret *secret)
{
	struct record *r = &ks->records[ks->record_cnt];

	if (ks->record_cnt == RECORD_MAX || secret_dup(&r->secret, secret))
		abort();
	r->alive = true;
	snprintf(r->id, sizeof(r->id), "id-%d", ks->record_cnt++);
	snprintf(r->label, sizeof(r->label), "%s", label);
	return r;
}

static void kill_record(struct record *r)
{
	r->alive = false;
	secret_free(STEAL_PTR(&r->secret));
}

static vcf_err_t serve(struct keyservice *ks, struct call *c, struct record **out)
{
	struct record *r = NULL;

	switch (c->verb) {
	case KEY_NEW:
		r = put_record(ks, c->label, c->secret);
		break;
	case KEY_GET:
		r = find_record(ks, c->id, NULL);
		break;
	case KEY_FIND:
		r = find_record(ks, NULL, c->label);
		break;
	case KEY_DESTROY:
		r = find_record(ks, c->id, NULL);
		if (r && strcmp(r->label, c->label) != 0)
			return -EINVAL;
		if (r)
			kill_record(r);
		*out = NULL;
		return 0;
	default:
		return 0;
	}
	*out = r;
	return r ? 0 : -ENOKEY;
}

/* Takes the script's next error for the verb. */
static struct script next_script(struct keyservice *ks, enum key_verb verb)
{
	struct script none = {.err = 0}, *s = &ks->scripts[verb];

	if (ks->closing)
		return (struct script){.how = FAKE_REFUSE, .err = -ECANCELED};
	if (ks->down)
		return (struct script){.how = FAKE_REFUSE, .err = -ETIMEDOUT};
	if (!s->times)
		return none;
	s->times--;
	return *s;
}

static void answer(struct keyservice *ks, struct call *c)
{
	auto_secret struct secret *copy = NULL;
	struct keyservice_result res = {.text = ""};
	struct record *r = NULL;
	struct script s;
	char id[32] = "";

	pthread_mutex_lock(&ks->lock);
	s = next_script(ks, c->verb);
	if (s.how == FAKE_DERIVE && s.err)
		secret_random(secret_bytes(c->secret), SECRET_LEN);
	if (!s.err || s.how != FAKE_REFUSE)
		res.err = serve(ks, c, &r);
	if (s.err && s.how != FAKE_DERIVE) {
		res.err = s.err;
		res.text = "as scripted";
	}
	if (!res.err && r) {
		memcpy(id, r->id, sizeof(id));
		if ((c->verb == KEY_GET || s.how == FAKE_DERIVE) &&
		    secret_dup(&copy, r->secret))
			abort();
	}
	ks->called[c->verb]++;
	pthread_mutex_unlock(&ks->lock);
	res.id = c->verb == KEY_NEW || c->verb == KEY_FIND ? id : NULL;
	res.secret = copy;
	c->done(c->arg, &res);
	memset(id, 'x', sizeof(id) - 1); /* valid only during the call */
}

static void *run(void *arg)
{
	struct keyservice *ks = arg;

	pthread_mutex_lock(&ks->lock);
	for (;;) {
		struct call *c = ks->calls;

		if (c && (!ks->hold || ks->closing)) {
			ks->calls = c->next;
			if (!c->next)
				ks->calls_end = &ks->calls;
			pthread_mutex_unlock(&ks->lock);
			answer(ks, c);
			secret_free(c->secret);
			free(c);
			pthread_mutex_lock(&ks->lock);
		} else if (ks->closing) {
			break;
		} else {
			pthread_cond_wait(&ks->wake, &ks->lock);
		}
	}
	pthread_mutex_unlock(&ks->lock);
	return NULL;
}

struct keyservice *fake_new(void)
{
	struct keyservice *ks = calloc(1, sizeof(*ks));

	if (!ks)
		abort();
	pthread_mutex_init(&ks->lock, NULL);
	pthread_cond_init(&ks->wake, NULL);
	ks->calls_end = &ks->calls;
	if (pthread_create(&ks->thread, NULL, run, ks))
		abort();
	return ks;
}

void keyservice_get_status(struct keyservice *ks, struct keyservice_status *out)
{
	(void)ks;
	memset(out, 0, sizeof(*out));
}

void keyservice_free(struct keyservice *ks)
{
	pthread_mutex_lock(&ks->lock);
	ks->closing = true;
	pthread_cond_signal(&ks->wake);
	pthread_mutex_unlock(&ks->lock);
	pthread_join(ks->thread, NULL);
	for (int i = 0; i < ks->record_cnt; i++)
		secret_free(ks->records[i].secret);
	pthread_cond_destroy(&ks->wake);
	pthread_mutex_destroy(&ks->lock);
	free(ks);
}

void fake_down(struct keyservice *ks, bool down)
{
	pthread_mutex_lock(&ks->lock);
	ks->down = down;
	pthread_mutex_unlock(&ks->lock);
}

void fake_hold(struct keyservice *ks, bool hold)
{
	pthread_mutex_lock(&ks->lock);
	ks->hold = hold;
	pthread_cond_signal(&ks->wake);
	pthread_mutex_unlock(&ks->lock);
}

void fake_fail(struct keyservice *ks, enum key_verb verb, enum fake_how how,
	       vcf_err_t err, int times)
{
	pthread_mutex_lock(&ks->lock);
	ks->scripts[verb] = (struct script){.how = how, .err = err, .times = times};
	pthread_mutex_unlock(&ks->lock);
}

const char *fake_put(struct keyservice *ks, const unsigned char uuid[UUID_LEN],
		     const struct secret *secret)
{
	char label[UUID_TEXT_LEN + 1];
	struct record *r;

	uuid_unparse_lower(uuid, label);
	pthread_mutex_lock(&ks->lock);
	r = put_record(ks, label, secret);
	pthread_mutex_unlock(&ks->lock);
	return r->id;
}

bool fake_has(struct keyservice *ks, const char *id)
{
	bool has;

	pthread_mutex_lock(&ks->lock);
	has = find_record(ks, id, NULL) != NULL;
	pthread_mutex_unlock(&ks->lock);
	return has;
}

bool fake_has_label(struct keyservice *ks, const unsigned char uuid[UUID_LEN])
{
	char label[UUID_TEXT_LEN + 1];
	bool has;

	uuid_unparse_lower(uuid, label);
	pthread_mutex_lock(&ks->lock);
	has = find_record(ks, NULL, label) != NULL;
	pthread_mutex_unlock(&ks->lock);
	return has;
}

int fake_records(struct keyservice *ks)
{
	int cnt = 0;

	pthread_mutex_lock(&ks->lock);
	for (int i = 0; i < ks->record_cnt; i++)
		cnt += ks->records[i].alive;
	pthread_mutex_unlock(&ks->lock);
	return cnt;
}

bool fake_equal(struct keyservice *ks, const char *id, const struct secret *secret)
{
	struct record *r;
	bool equal;

	pthread_mutex_lock(&ks->lock);
	r = find_record(ks, id, NULL);
	equal = r && secret_equal(r->secret, secret);
	pthread_mutex_unlock(&ks->lock);
	return equal;
}

void fake_remove(struct keyservice *ks, const char *id)
{
	struct record *r;

	pthread_mutex_lock(&ks->lock);
	r = find_record(ks, id, NULL);
	if (r)
		kill_record(r);
	pthread_mutex_unlock(&ks->lock);
}

int fake_calls(struct keyservice *ks, enum key_verb verb)
{
	int cnt;

	pthread_mutex_lock(&ks->lock);
	cnt = ks->called[verb];
	pthread_mutex_unlock(&ks->lock);
	return cnt;
}

int fake_waiting(struct keyservice *ks)
{
	int cnt = 0;

	pthread_mutex_lock(&ks->lock);
	for (struct call *c = ks->calls; c; c = c->next)
		cnt++;
	pthread_mutex_unlock(&ks->lock);
	return cnt;
}

/* --- crypto/keyservice.h --- */

static vcf_err_t submit(struct keyservice *ks, enum key_verb verb, const char *id,
			const char *label, const struct secret *secret,
			keyservice_done_fn *done, void *arg)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c || (secret && secret_dup(&c->secret, secret)))
		abort();
	c->verb = verb;
	c->done = done;
	c->arg = arg;
	snprintf(c->id, sizeof(c->id), "%s", id ? id : "");
	snprintf(c->label, sizeof(c->label), "%s", label ? label : "");
	pthread_mutex_lock(&ks->lock);
	*ks->calls_end = c;
	ks->calls_end = &c->next;
	pthread_cond_signal(&ks->wake);
	pthread_mutex_unlock(&ks->lock);
	return 0;
}

vcf_err_t keyservice_get(struct keyservice *ks, const char *id, keyservice_done_fn *done,
			 void *arg)
{
	return submit(ks, KEY_GET, id, NULL, NULL, done, arg);
}

vcf_err_t keyservice_new_secret(struct keyservice *ks, const char *label,
				const struct secret *secret, keyservice_done_fn *done,
				void *arg)
{
	return submit(ks, KEY_NEW, NULL, label, secret, done, arg);
}

vcf_err_t keyservice_find(struct keyservice *ks, const char *label,
			  keyservice_done_fn *done, void *arg)
{
	return submit(ks, KEY_FIND, NULL, label, NULL, done, arg);
}

vcf_err_t keyservice_destroy(struct keyservice *ks, const char *id, const char *label,
			     keyservice_done_fn *done, void *arg)
{
	return submit(ks, KEY_DESTROY, id, label, NULL, done, arg);
}

/* --- crypto/container.h: the header is a struct and a MAC over it --- */

struct fake_disk {
	char magic[8];
	struct token token;
	struct token_subject subject;
	unsigned char mac[KDF_LEN];
};

struct container {
	struct fake_disk disk;
};

static void mac_of(unsigned char mac[KDF_LEN], const struct fake_disk *d,
		   const struct secret *secret)
{
	if (hmac_sha256(mac, secret_bytes(secret), SECRET_LEN, d,
			offsetof(struct fake_disk, mac)))
		abort();
}

void fake_header(void *hdr, const unsigned char uuid[UUID_LEN], const char *service,
		 const char *key_id, const struct secret *secret)
{
	struct fake_disk d;

	memset(&d, 0, sizeof(d));
	memcpy(d.magic, "FAKELUKS", 8);
	snprintf(d.token.service, sizeof(d.token.service), "%s", service);
	snprintf(d.token.key_id, sizeof(d.token.key_id), "%s", key_id);
	memcpy(d.subject.uuid, uuid, UUID_LEN);
	mac_of(d.mac, &d, secret);
	memset(hdr, 0, CONTAINER_PEEK_LEN);
	memcpy(hdr, &d, sizeof(d));
}

vcf_err_t container_load_saved(struct container **out, const void *hdr, size_t len,
			       const char *name)
{
	struct container *c;

	(void)name;
	if (len != CONTAINER_PEEK_LEN || memcmp(hdr, "FAKELUKS", 8) != 0)
		return -EBADMSG;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	memcpy(&c->disk, hdr, sizeof(c->disk));
	*out = c;
	return 0;
}

vcf_err_t container_mac_check(const struct container *c, const struct secret *secret)
{
	unsigned char mac[KDF_LEN];

	mac_of(mac, &c->disk, secret);
	return memcmp(mac, c->disk.mac, KDF_LEN) == 0 ? 0 : -EBADMSG;
}

const struct token *container_token(const struct container *c)
{
	return &c->disk.token;
}

const struct token_subject *container_subject(const struct container *c)
{
	return &c->disk.subject;
}

void container_free(struct container *c)
{
	free(c);
}
