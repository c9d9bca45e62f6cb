/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * States (lock): NONE no site secret is named; IDLE named but not fetched; BUSY being fetched or
 * made, callers wait in `waiters`; HAVE. An outage leaves IDLE or NONE: the next caller tries
 * again.
 *
 * Making one: take a reserve secret, journal it as in use, write the file (temporary name, fsync,
 * rename, fsync of the folder), close the journal entry. A crash between leaves a journal entry
 * whose label the file names: sitekey_is() keeps it from being destroyed.
 */
#include "fs/sitekey.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "fs/keyaudit.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

enum site_state { SITE_NONE, SITE_IDLE, SITE_BUSY, SITE_HAVE };

struct waiter {
	reserve_ready_fn *ready;
	void *arg;
	struct waiter *next;
};

struct sitekey {
	struct keyservice *ks;
	struct reserve *reserve;
	char *path;
	char service[TOKEN_SERVICE_MAX + 1]; /* "" for the default one */
	struct mutex lock;
	enum site_state state;		   /* (l) */
	bool canceled;			   /* (l) */
	unsigned char uuid[UUID_LEN];	   /* (l) valid unless NONE */
	char key_id[TOKEN_KEY_ID_MAX + 1]; /* (l) "" while NONE */
	struct secret *secret;		   /* (l) HAVE */
	struct waiter *waiters;		   /* (l) */
	struct keyaudit audit;		   /* BUSY */
};

enum { FILE_LEN_MAX = UUID_TEXT_LEN + TOKEN_KEY_ID_MAX + TOKEN_SERVICE_MAX + 8 };

vcf_err_t sitekey_path(char *dst, size_t room, const char *base, const char *service)
{
	bool is_default = strcmp(service, CONFIG_SERVICE_DEFAULT) == 0;

	return (size_t)snprintf(dst, room, "%s%s%s", base, is_default ? "" : "@",
				is_default ? "" : service) < room
		       ? 0
		       : -ENAMETOOLONG;
}

/* "UUID KEY_ID\n" or "UUID KEY_ID SERVICE\n" */
static vcf_err_t parse_file(char *text, size_t len, const char *want,
			    unsigned char uuid[UUID_LEN],
			    char key_id[TOKEN_KEY_ID_MAX + 1])
{
	char *service;

	if (len < UUID_TEXT_LEN + 3 || text[len - 1] != '\n' ||
	    text[UUID_TEXT_LEN] != ' ')
		return -EBADMSG;
	text[len - 1] = '\0';
	text[UUID_TEXT_LEN] = '\0';
	service = strchr(text + UUID_TEXT_LEN + 1, ' ');
	if (service)
		*service++ = '\0';
	if (strcmp(service ? service : "", want) != 0)
		return -EBADMSG;
	if (uuid_parse(text, uuid) || !token_key_id_valid(text + UUID_TEXT_LEN + 1))
		return -EBADMSG;
	text_cut(key_id, TOKEN_KEY_ID_MAX + 1, text + UUID_TEXT_LEN + 1);
	return 0;
}

vcf_err_t sitekey_read_file(const char *path, const char *service,
			    unsigned char uuid[UUID_LEN],
			    char key_id[TOKEN_KEY_ID_MAX + 1])
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[FILE_LEN_MAX];
	ssize_t n;

	*key_id = '\0';
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	n = io_pread_full(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return (vcf_err_t)n;
	text[n] = '\0';
	return parse_file(text, (size_t)n, service, uuid, key_id);
}

static vcf_err_t read_file(struct sitekey *k)
{
	vcf_err_t err = sitekey_read_file(k->path, k->service, k->uuid, k->key_id);

	if (!err && *k->key_id)
		k->state = SITE_IDLE;
	if (err == -EBADMSG)
		log_err("%s: damaged; it names the secret of all derived images: restore "
			"it "
			"from a backup, or remove it if there are none",
			k->path);
	return err;
}

static void sync_folder(const char *path)
{
	auto_free char *copy = strdup(path);
	auto_close int fd =
		copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0 || fsync(fd) < 0)
		log_warn("%s: its folder could not be synced: %s", path, strerror(errno));
}

vcf_err_t sitekey_write_file(const char *path, const char *service,
			     const unsigned char uuid_bytes[UUID_LEN], const char *key_id)
{
	char tmp[4096], text[FILE_LEN_MAX], uuid[UUID_TEXT_LEN + 1];
	auto_close int fd = -1;
	vcf_err_t err;

	if (snprintf(tmp, sizeof(tmp), "%s~", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	uuid_unparse_lower(uuid_bytes, uuid);
	snprintf(text, sizeof(text), "%s %s%s%s\n", uuid, key_id, *service ? " " : "",
		 service);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	err = io_write_full(fd, text, strlen(text));
	if (!err && fsync(fd) < 0)
		err = -errno;
	CRASHPOINT("site-written");
	if (!err && rename(tmp, path) < 0)
		err = -errno;
	CRASHPOINT("site-renamed");
	if (!err)
		sync_folder(path);
	CRASHPOINT("site-synced");
	return err;
}

vcf_err_t sitekey_new(struct sitekey **out, struct keyservice *ks, struct reserve *r,
		      const char *path, const char *service)
{
	struct sitekey *k = calloc(1, sizeof(*k));
	vcf_err_t err;

	if (!k)
		return -ENOMEM;
	mutex_init(&k->lock, RANK_SITE);
	k->ks = ks;
	k->reserve = r;
	TEXT_CUT(k->service, service ? service : "");
	k->path = strdup(path);
	err = k->path ? read_file(k) : -ENOMEM;
	if (err) {
		sitekey_free(k);
		return err;
	}
	*out = k;
	return 0;
}

static void wake(struct waiter *w, vcf_err_t err)
{
	while (w) {
		struct waiter *next = w->next;

		w->ready(w->arg, err);
		free(w);
		w = next;
	}
}

/* Leaves BUSY; all waiters are told. */
static void settle(struct sitekey *k, vcf_err_t err)
{
	struct waiter *w;

	mutex_lock(&k->lock);
	k->state = k->secret ? SITE_HAVE : k->key_id[0] ? SITE_IDLE : SITE_NONE;
	w = k->waiters;
	k->waiters = NULL;
	mutex_unlock(&k->lock);
	wake(w, err);
}

void sitekey_cancel(struct sitekey *k)
{
	mutex_lock(&k->lock);
	k->canceled = true;
	mutex_unlock(&k->lock);
	settle(k, -ECANCELED);
}

void sitekey_free(struct sitekey *k)
{
	secret_free(k->secret);
	mutex_fini(&k->lock);
	free(k->path);
	free(k);
}

bool sitekey_is(struct sitekey *k, const unsigned char *uuid, const char *key_id)
{
	SCOPED_LOCK(&k->lock);

	if (!k->key_id[0])
		return false;
	if (uuid && memcmp(uuid, k->uuid, UUID_LEN) == 0)
		return true;
	return key_id && strcmp(key_id, k->key_id) == 0;
}

static void fetched(void *arg, const struct keyservice_result *res)
{
	struct sitekey *k = arg;
	vcf_err_t err = res->err;

	keyaudit_fetched(&k->audit, "(site secret)", k->uuid,
			 *k->service ? k->service : CONFIG_SERVICE_DEFAULT, k->key_id,
			 res);
	if (err)
		log_err("site secret: key service: %s %s", strerror(-err), res->text);
	mutex_lock(&k->lock);
	if (!err && !k->secret)
		err = secret_dup(&k->secret, res->secret);
	mutex_unlock(&k->lock);
	settle(k, err);
}

/* The file names it before anything is derived from it. */
static vcf_err_t adopt(struct sitekey *k, struct reserved *res)
{
	vcf_err_t err = reserve_using(k->reserve, res, 0, 0, "(site secret)");

	CRASHPOINT("site-using");
	if (!err)
		err = sitekey_write_file(k->path, k->service, res->uuid, res->key_id);
	if (err) {
		log_err("%s: cannot be written: %s", k->path, strerror(-err));
		reserve_put_back(k->reserve, res);
		return err;
	}
	mutex_lock(&k->lock);
	memcpy(k->uuid, res->uuid, UUID_LEN);
	TEXT_CUT(k->key_id, res->key_id);
	err = secret_dup(&k->secret, res->secret);
	mutex_unlock(&k->lock);
	reserve_used(k->reserve, res);
	return err;
}

static void reserve_ready(void *arg, vcf_err_t err)
{
	settle(arg,
	       err); /* the waiters ask again, the first of them takes from the reserve */
}

/* BUSY was set by the caller, who is also among the waiters unless the answer is at hand. */
static vcf_err_t make(struct sitekey *k)
{
	struct reserved res;
	const struct reserve_wanted wanted = keyaudit_wanted(&k->audit, "(site secret)");
	vcf_err_t err = reserve_take(k->reserve, &res, &wanted, reserve_ready, k);

	if (err == -EINPROGRESS)
		return err;
	if (!err)
		err = adopt(k, &res);
	settle(k, err);
	return err;
}

static vcf_err_t give_locked(struct sitekey *k, struct secret **out,
			     char key_id[TOKEN_KEY_ID_MAX + 1])
{
	memcpy(key_id, k->key_id, sizeof(k->key_id));
	return secret_dup(out, k->secret);
}

static vcf_err_t wait_locked(struct sitekey *k, reserve_ready_fn *ready, void *arg)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct waiter){.ready = ready, .arg = arg, .next = k->waiters};
	k->waiters = w;
	return -EINPROGRESS;
}

vcf_err_t sitekey_get(struct sitekey *k, struct secret **out,
		      char key_id[TOKEN_KEY_ID_MAX + 1], reserve_ready_fn *ready,
		      void *arg)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	enum site_state was;
	vcf_err_t err;

	mutex_lock(&k->lock);
	was = k->state;
	if (k->canceled)
		err = -ECANCELED;
	else if (was == SITE_HAVE)
		err = give_locked(k, out, key_id);
	else
		err = wait_locked(k, ready, arg);
	if (err == -EINPROGRESS)
		k->state = SITE_BUSY;
	memcpy(id, k->key_id, sizeof(id));
	mutex_unlock(&k->lock);
	if (err != -EINPROGRESS || was == SITE_BUSY)
		return err;
	keyaudit_opener(&k->audit);
	if (was == SITE_IDLE) {
		err = keyservice_get(k->ks, id, fetched, k);
		if (err)
			settle(k, err); /* the caller is told as a waiter */
	} else {
		err = make(
			k); /* ends in settle() or reserve_ready(): the caller is told there */
	}
	return -EINPROGRESS;
}
