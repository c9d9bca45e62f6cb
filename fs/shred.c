/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/shred.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "crypto/header_wipe.h"
#include "fs/jsonlines.h"
#include "fs/nodelock.h"
#include "fs/oldsecret_destroy.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

/* One image on its way out. */
struct victim {
	struct shred *s;
	struct journal_entry e;
	int fd; /* -1: it is not there any more */
	bool wiped;
	uint64_t data_off;
	unsigned char hdr[CONTAINER_PEEK_LEN];
	struct oldsecret_answer answer;
};

/* --- the steps after the note --- */

static vcf_err_t wipe(struct victim *v)
{
	struct stat st;
	vcf_err_t err;

	if (v->fd < 0 || v->wiped)
		return 0;
	err = header_overwrite(v->fd, v->data_off);
	CRASHPOINT("shred-wiped");
	if (err || v->s->keep_file)
		return err;
	if (fstat(v->fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) && (ftruncate(v->fd, 0) < 0 || fsync(v->fd) < 0))
		return -errno;
	return 0;
}

static vcf_err_t destroy(struct victim *v)
{
	vcf_err_t err;

	v->answer.word = "local";
	if (v->e.derived)
		return 0;
	err = oldsecret_check(&v->s->offline, &v->e, v->hdr, &v->answer);
	if (err == -ENOKEY) { /* by a run that was cut short */
		v->answer.word = "gone";
		return 0;
	}
	return err ? err : oldsecret_destroy(&v->s->offline, &v->e, &v->answer);
}

static struct json_object *make_receipt(const struct victim *v)
{
	struct json_object *o = json_object_new_object();
	char uuid[UUID_TEXT_LEN + 1];

	uuid_unparse_lower(v->e.uuid, uuid);
	json_put_text(o, "type", "vmcryptfs-shredded");
	json_put_time(o, "time", time(NULL));
	json_put_shown(o, "path", v->e.path);
	json_put_text(o, "uuid", uuid);
	json_put_text(o, "key_id", v->e.key_id);
	json_put_text(o, "service", v->e.service);
	json_put_flag(o, "derived", v->e.derived);
	json_put_text(o, "header", v->fd < 0 ? "not there" : "overwritten");
	json_put_text(o, "answer", v->answer.word);
	json_put_text(o, "file", v->s->keep_file ? "kept" : "removed");
	return o;
}

/* The name, if it is still that file's. */
static vcf_err_t remove_file(struct victim *v)
{
	auto_close int folder = -1;
	char path[PATH_MAX];
	struct stat st;

	if (v->fd < 0 || v->s->keep_file || io_is_device(v->fd))
		return 0;
	if (lstat(v->e.path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (st.st_dev != v->e.dev || st.st_ino != v->e.ino)
		return -ESTALE;
	TEXT_CUT(path, v->e.path);
	folder = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 || unlink(v->e.path) < 0 || fsync(folder) < 0)
		return -errno;
	return 0;
}

/* *what: where it failed. */
static vcf_err_t finish(struct victim *v, struct json_object **receipt, const char **what)
{
	vcf_err_t err;

	*what = "its header cannot be overwritten";
	err = wipe(v);
	if (err)
		return err;
	*what = "its header is overwritten; its secret is not destroyed";
	err = destroy(v);
	CRASHPOINT("shred-destroyed");
	if (err)
		return err;
	*what = "its secret is destroyed; the receipt cannot be written";
	*receipt = make_receipt(v);
	err = v->s->receipt(v->s->receipt_arg, *receipt);
	CRASHPOINT("shred-told");
	if (err)
		return err;
	*what = "its secret is destroyed; the file is not removed";
	err = remove_file(v);
	CRASHPOINT("shred-removed");
	if (err)
		return err;
	*what = "the journal cannot be written";
	return journal_set(v->s->offline.journal, v->e.id, JOURNAL_CLOSED, NULL, 0);
}

/* --- before the note --- */

static void fill(struct victim *v, const struct offline_file *f, const struct stat *st)
{
	const struct token *t = container_token(f->c);

	v->fd = f->fd;
	v->data_off = container_subject(f->c)->data_off;
	v->e.state = JOURNAL_WIPED;
	memcpy(v->e.uuid, container_subject(f->c)->uuid, UUID_LEN);
	TEXT_CUT(v->e.service, t->service);
	TEXT_CUT(v->e.key_id, t->key_id);
	TEXT_CUT(v->e.path, f->path);
	v->e.derived = t->derived;
	v->e.dev = st->st_dev;
	v->e.ino = st->st_ino;
}

static vcf_err_t check_secret(struct victim *v, struct tool_file *f)
{
	const struct oldsecret_but but = {v->e.dev, v->e.ino};
	const struct config *service = config_service(v->s->offline.cfg, v->e.service);
	char used[PATH_MAX];
	vcf_err_t err;

	if (v->e.derived)
		return 0;
	if (service && service->controller)
		return tool_fail(f, -EOPNOTSUPP,
				 "destroyer = controller: this host may not destroy "
				 "secrets; remove the file, and reap");
	err = oldsecret_is_free(&v->s->offline, &v->e, &but, used);
	if (err == -EBUSY)
		return tool_fail(f, err,
				 "%s has the same secret, it is a copy: adopt --reclone "
				 "that one before",
				 used);
	if (err)
		return tool_fail(f, err,
				 "whether another container has its secret cannot "
				 "be seen: %s",
				 strerror(-err));
	err = oldsecret_check(&v->s->offline, &v->e, v->hdr, &v->answer);
	return err ? tool_fail(f, err, "%s; nothing is changed", v->answer.text) : 0;
}

static vcf_err_t look(struct victim *v, struct tool_file *f,
		      const struct offline_file *of)
{
	struct stat st;
	ssize_t n;

	if (fstat(of->fd, &st) < 0)
		return -errno;
	if (strlen(of->path) >= sizeof(v->e.path))
		return -ENAMETOOLONG;
	fill(v, of, &st);
	if (S_ISREG(st.st_mode) && st.st_nlink != 1)
		return tool_fail(f, -EOPNOTSUPP,
				 "it has %lu names: remove the others before",
				 (unsigned long)st.st_nlink);
	n = io_pread_full(of->fd, v->hdr, CONTAINER_PEEK_LEN, 0);
	if (n != CONTAINER_PEEK_LEN)
		return n < 0 ? (vcf_err_t)n : -EIO;
	return check_secret(v, f);
}

static vcf_err_t shred_open(struct victim *v, struct tool_file *f,
			    const struct offline_file *of)
{
	struct json_object *receipt = NULL;
	const char *what = "";
	vcf_err_t err = look(v, f, of);

	if (err)
		return err;
	err = journal_add(v->s->offline.journal, &v->e, v->hdr);
	CRASHPOINT("shred-noted");
	if (err)
		return tool_fail(f, err, "the journal cannot be written: %s",
				 strerror(-err));
	err = finish(v, &receipt, &what);
	if (err)
		err = tool_fail(f, err, "%s: %s; shred again completes it", what,
				*v->answer.text ? v->answer.text : strerror(-err));
	if (f->json && receipt)
		json_object_object_add(f->json, "receipt", receipt);
	else
		json_object_put(receipt);
	return err;
}

vcf_err_t shred_file(struct shred *s, struct tool_file *f, const struct tool_place *place)
{
	auto_free struct victim *v = calloc(1, sizeof(*v));
	struct offline_file of;
	vcf_err_t err;

	if (!v)
		return -ENOMEM;
	v->s = s;
	err = offline_open(&of, s->offline.command, place->path, s->offline.runtime,
			   true);
	if (err)
		return tool_fail(f, err, err == -EBUSY ? "in use" : "nothing is changed");
	err = shred_open(v, f, &of);
	offline_close(&of);
	return err;
}

/* --- what was cut short --- */

/* The file, if it is there and still that one; nobody opens it meanwhile. */
static vcf_err_t open_again(struct victim *v)
{
	struct stat st;
	int fd = io_open_file(AT_FDCWD, v->e.path, O_RDWR | O_NONBLOCK, true);

	v->fd = -1;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) == 0 && st.st_dev == v->e.dev && st.st_ino == v->e.ino)
		v->fd = fd;
	else
		close(fd); /* another one has the name by now */
	if (v->fd < 0)
		return 0;
	return flock(v->fd, LOCK_EX | LOCK_NB) < 0 ||
			       nodelock_byte(v->fd, NODELOCK_OPEN, true, false) == -EAGAIN
		       ? -EBUSY
		       : 0;
}

static vcf_err_t read_note(struct victim *v)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = journal_header(v->s->offline.journal, v->e.id, v->hdr);

	if (!err)
		err = container_load_saved(&c, v->hdr, CONTAINER_PEEK_LEN, v->e.path);
	if (!err)
		v->data_off = container_subject(c)->data_off;
	return err;
}

/* What is found where the victim was. */
enum left {
	LEFT_WHOLE, /* cut short before the first byte; may have been in use since */
	LEFT_HALF,  /* its metadata may be there, its key slots hardly */
	LEFT_WIPED, /* all key slots are: they come first */
	LEFT_OTHER, /* an empty file was left, and somebody has written to it */
};

/* What only a header that is half overwritten gives; anything else may be another time's. */
static bool is_damage(vcf_err_t err)
{
	return err == -EBADMSG || err == -EPERM || err == -ENODATA ||
	       err == -EKEYREJECTED;
}

/* Does its secret open it? -errno: that cannot be told. */
static vcf_err_t try_secret(struct victim *v, enum left *left)
{
	auto_secret struct secret *secret = NULL;
	struct offline_file f = {.fd = v->fd};
	auto_container struct container *c = NULL;
	vcf_err_t err;

	*left = LEFT_HALF;
	err = container_load(&c, v->fd, NULL, NULL);
	if (err)
		return is_damage(err) ? 0 : err;
	TEXT_CUT(f.path, v->e.path);
	f.c = c;
	err = offline_fetch(&v->s->offline, &f, &secret);
	if (err)
		return err == -ENOKEY ? 0 : err;
	err = container_unlock(c, secret, NULL);
	if (!err)
		*left = LEFT_WHOLE;
	return is_damage(err) ? 0 : err;
}

static vcf_err_t look_again(struct victim *v, enum left *left)
{
	char uuid[UUID_TEXT_LEN + 1];
	struct peek peek;
	struct stat st;
	vcf_err_t err;

	if (fstat(v->fd, &st) < 0)
		return -errno;
	err = size_peek_fd(&peek, v->fd, (uint64_t)st.st_size);
	if (err)
		return err;
	uuid_unparse_lower(v->e.uuid, uuid);
	if (peek.kind == PEEK_CONTAINER && strcmp(peek.uuid_text, uuid) == 0)
		return try_secret(v, left);
	if (peek.kind == PEEK_CONTAINER || (peek.kind == PEEK_EMPTY && st.st_size))
		*left = LEFT_OTHER;
	else
		*left = peek.kind == PEEK_DAMAGED ? LEFT_HALF : LEFT_WIPED;
	return 0;
}

static vcf_err_t let_go(struct victim *v)
{
	fprintf(stderr,
		"vmcryptfs shred: %s: was cut short before anything was changed\n",
		v->e.path);
	return journal_set(v->s->offline.journal, v->e.id, JOURNAL_CLOSED, NULL, 0);
}

/* *done: it is shredded. */
static vcf_err_t resume_open(struct victim *v, bool *done, const char **what)
{
	const struct oldsecret_but but = {v->e.dev, v->e.ino};
	struct json_object *receipt = NULL;
	enum left left = LEFT_OTHER;
	char used[PATH_MAX];
	vcf_err_t err;

	*what = "its note cannot be read";
	err = read_note(v);
	if (err)
		return err;
	*what = "what is left of it cannot be told";
	if (v->fd >= 0)
		err = look_again(v, &left);
	if (err || left == LEFT_WHOLE)
		return err ? err : let_go(v);
	v->wiped = left == LEFT_WIPED;
	if (left == LEFT_OTHER && v->fd >= 0)
		close(STEAL_FD(&v->fd));
	*what = "its secret may be in use";
	if (!v->e.derived)
		err = oldsecret_is_free(&v->s->offline, &v->e, v->fd >= 0 ? &but : NULL,
					used);
	if (!err)
		err = finish(v, &receipt, what);
	json_object_put(receipt);
	*done = !err;
	return err;
}

static vcf_err_t resume(struct shred *s, const struct journal_entry *e, bool *done)
{
	auto_free struct victim *v = calloc(1, sizeof(*v));
	const char *what = "it cannot be opened";
	vcf_err_t err;

	if (!v)
		return -ENOMEM;
	v->s = s;
	v->e = *e;
	err = open_again(v);
	if (!err)
		err = resume_open(v, done, &what);
	if (v->fd >= 0)
		close(v->fd);
	if (err)
		fprintf(stderr, "vmcryptfs shred: %s: was cut short, and %s: %s\n",
			e->path, what, *v->answer.text ? v->answer.text : strerror(-err));
	return err;
}

struct resumption {
	struct shred *s;
	struct tool_list *done;
	vcf_err_t err;
};

static int resume_one(void *arg, const struct journal_entry *e)
{
	struct resumption *r = arg;
	bool done = false;
	vcf_err_t err;

	if (e->state != JOURNAL_WIPED)
		return 0;
	err = resume(r->s, e, &done);
	if (done)
		err = tool_list_add(r->done, e->path);
	if (err && !r->err)
		r->err = err;
	return 0;
}

vcf_err_t shred_resume(struct shred *s, struct tool_list *done)
{
	struct resumption r = {.s = s, .done = done};
	vcf_err_t err = journal_each(s->offline.journal, resume_one, &r);

	return err ? err : r.err;
}
