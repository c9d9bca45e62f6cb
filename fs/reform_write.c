/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/oldsecret.h"
#include "fs/outfile.h"
#include "fs/reform_impl.h"
#include "fs/replace.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/text.h"

enum { THREADS_MAX = 4 };

/* --- the new container --- */

struct wanted {
	struct container_params p;
	struct token t;
	enum newsecret_kind kind;
};

static void want_as_configured(struct job *j, struct wanted *w)
{
	const struct offline *o = &j->r->offline;

	w->p.format = o->cfg->format;
	w->p.sector_len = (uint32_t)o->cfg->sector_size;
	w->t.derived = rules_class(o->rules, j->place.rel) == CLASS_DERIVED;
}

/* What is not asked for stays, but that LUKS1 has one sector size. */
static void want_as_it_is(struct job *j, struct wanted *w)
{
	const struct token_subject *s = container_subject(j->old.c);

	w->p.format = j->r->has_format ? j->r->format : s->format;
	w->p.sector_len = j->r->sector_len		? j->r->sector_len
			  : w->p.format == FORMAT_LUKS1 ? 512
							: s->sector_len;
	w->p.data_off = j->r->data_off ? j->r->data_off : s->data_off;
	w->t.derived = container_token(j->old.c)->derived;
	w->t.holes = container_token(j->old.c)->holes;
	TEXT_CUT(w->t.service, container_token(j->old.c)->service);
	TEXT_CUT(w->t.context, container_token(j->old.c)->context);
}

static vcf_err_t check_wanted(struct job *j, const struct wanted *w)
{
	const struct token_subject *s = container_subject(j->old.c);

	if (w->p.format == FORMAT_LUKS1 && w->p.sector_len != 512)
		return tool_fail(j->f, -EINVAL, "LUKS1 has sectors of 512 bytes alone");
	if (w->p.format == FORMAT_LUKS1 && w->p.data_off < CONTAINER_DATA_OFF)
		return tool_fail(j->f, -EINVAL, "LUKS1's key slots need 2 MiB");
	if (w->p.format != s->format || w->p.sector_len != s->sector_len ||
	    w->p.data_off != s->data_off)
		return 0;
	tool_say(j->f, "is so already");
	return -EALREADY;
}

static vcf_err_t want(struct job *j, struct wanted *w)
{
	const struct offline *o = &j->r->offline;
	vcf_err_t err = 0;

	*w = (struct wanted){.t = {.holes = HOLES_ZERO, .generation = 1},
			     .p.escrow = config_escrow(o->cfg)};
	if (j->r->kind == REFORM_ENCRYPT) {
		want_as_configured(j, w);
	} else if (j->r->kind == REFORM_CONVERT) {
		want_as_it_is(j, w);
		err = check_wanted(j, w);
	}
	if (*j->place.rel) {
		TEXT_CUT(w->t.service, rules_service(o->rules, j->place.rel));
		rules_context(o->rules, j->place.rel, w->t.context);
	}
	w->kind = j->r->kind == REFORM_DECRYPT ? NEWSECRET_NONE
		  : w->t.derived	       ? NEWSECRET_DERIVED
					       : NEWSECRET_OWN;
	return err;
}

static vcf_err_t make_container(struct job *j, struct wanted *w, int fd)
{
	vcf_err_t err;

	if (w->kind == NEWSECRET_NONE)
		return 0;
	memcpy(w->p.uuid, j->secret.uuid, UUID_LEN);
	TEXT_CUT(w->t.service, j->secret.service);
	TEXT_CUT(w->t.key_id, j->secret.key_id);
	err = container_format(&j->c, &w->p, &w->t, j->secret.secret);
	return err ? err : container_write_new(j->c, fd, NULL, NULL);
}

/* --- the data --- */

static vcf_err_t show(void *arg, uint64_t done)
{
	struct job *j = arg;
	uint64_t total = j->r->no_verify ? j->data : 2 * j->data;

	done += j->second ? j->data : 0;
	tool_progress(j->f, done < total ? done : total, total);
	return tool_interrupted() ? -EINTR : 0;
}

/* As many as there are processors, and one that waits for the disk. */
static unsigned int threads_of(const struct tool *t)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int threads = (unsigned int)(cpus + 1) / t->parallel;

	return threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;
}

/* From the disk, if the kernel lets go of what it keeps. */
static vcf_err_t verify(struct job *j)
{
	vcf_err_t err;

	posix_fadvise(j->copy.to.fd, 0, 0, POSIX_FADV_DONTNEED);
	j->second = true;
	err = datacopy_compare(&j->copy);
	if (err != -EBADMSG)
		return err;
	return tool_fail(j->f, -EIO,
			 "what was written reads differently: nothing is changed");
}

static vcf_err_t copy_data(struct job *j, int fd)
{
	struct datacopy *c = &j->copy;
	vcf_err_t err = dataside_open(&c->from, j->old.fd, j->old.c);

	*c = (struct datacopy){.from = c->from,
			       .to.fd = -1,
			       .threads = threads_of(&j->r->tool),
			       .progress = show,
			       .arg = j};
	if (!err)
		err = dataside_open(&c->to, fd, j->c);
	if (!err)
		err = dataside_len(&c->from, &c->plen);
	if (!err)
		err = datacopy_run(c);
	CRASHPOINT("reform-copied");
	if (!err && fsync(fd) < 0)
		err = -errno;
	if (!err && !j->r->no_verify)
		err = verify(j);
	CRASHPOINT("reform-verified");
	dataside_close(&c->from);
	dataside_close(&c->to);
	return err;
}

/* --- in its place --- */

static vcf_err_t note_old(struct job *j, uint64_t *id)
{
	auto_free unsigned char *hdr = calloc(1, CONTAINER_PEEK_LEN);
	ssize_t n;

	*id = 0;
	if (!j->old.c)
		return 0;
	if (!hdr)
		return -ENOMEM;
	n = io_pread_full(j->old.fd, hdr, CONTAINER_PEEK_LEN, 0);
	if (n != CONTAINER_PEEK_LEN)
		return n < 0 ? (vcf_err_t)n : -EIO;
	return oldsecret_note(&j->r->offline, j->old.c, j->old.path, hdr, id);
}

static void say_result(struct job *j, const char *old)
{
	char uuid[UUID_TEXT_LEN + 1] = "";

	if (j->c)
		TEXT_CUT(uuid, container_subject(j->c)->uuid_text);
	if (j->f->json && j->c) {
		json_put_text(j->f->json, "uuid", uuid);
		json_put_text(j->f->json, "key_id", j->secret.key_id);
		json_put_text(j->f->json, "service", j->secret.service);
	}
	if (!j->c)
		tool_say(j->f, "is plaintext now; %s", old);
	else
		tool_say(j->f, "%s %s, key %s at %s%s%s",
			 j->r->kind == REFORM_ENCRYPT ? "encrypted, uuid"
						      : "converted, uuid",
			 uuid, j->secret.key_id, j->secret.service, *old ? "; " : "",
			 old);
}

/* The file is replaced: what is left to be done is about the old one. */
static vcf_err_t let_go(struct job *j, struct replace *rep, uint64_t note)
{
	struct oldsecret_end end;
	char old[512] = "";
	vcf_err_t err = replace_finish(rep, j->old.fd, j->r->wipe);

	if (err)
		return tool_fail(
			j->f, err,
			"is replaced, but %s stays: %s; the next run tries again",
			rep->beside, strerror(-err));
	if (j->c && j->secret.kind == NEWSECRET_OWN)
		keycall_assigned(&(const struct keycall){NULL, j->secret.service,
							 j->old.path, j->secret.uuid},
				 j->secret.key_id);
	if (j->old.c) {
		err = oldsecret_gone(&j->r->offline, note, j->r->destroy_now, &end);
		if (err)
			return tool_fail(
				j->f, err,
				"is replaced, but its old secret stays: %s; the next "
				"run tries again",
				strerror(-err));
		oldsecret_describe(old, sizeof(old), &end);
	}
	say_result(j, old);
	return 0;
}

static vcf_err_t explain(struct job *j, vcf_err_t err)
{
	if (*j->f->text)
		return err;
	if (err == -ESTALE)
		return tool_fail(j->f, err, "was changed, or replaced, meanwhile");
	if (err == -EBUSY)
		return tool_fail(j->f, err, "somebody has opened it meanwhile");
	if (err == -EINTR)
		return tool_fail(j->f, err, "interrupted; it is as it was");
	return err;
}

static vcf_err_t write_in_place(struct job *j, struct wanted *w, struct replace *rep,
				uint64_t *note)
{
	vcf_err_t err = replace_begin(rep, &j->secret, j->old.path, j->old.fd);

	if (err == -EEXIST)
		return tool_fail(
			j->f, err,
			"%s is in the way, and no run that this journal knows has left "
			"it",
			rep->beside);
	if (!err)
		err = note_old(j, note);
	if (!err)
		err = make_container(j, w, rep->fd);
	if (!err)
		err = copy_data(j, rep->fd);
	return err ? err : replace_switch(rep, j->old.fd);
}

static void take_back(struct job *j, struct replace *rep, uint64_t note)
{
	vcf_err_t err = 0;

	if (rep->fd >= 0)
		err = replace_discard(rep);
	else
		newsecret_undo(&j->secret);
	if (!err)
		oldsecret_cancel(&j->r->offline, note);
}

static vcf_err_t reform_in_place(struct job *j, struct wanted *w)
{
	struct replace rep = {.fd = -1, .dirfd = -1};
	char beside[PATH_MAX];
	uint64_t note = 0;
	vcf_err_t err = oldsecret_beside(beside, j->old.path);

	if (!err)
		err = newsecret_get(&j->secret, &j->r->offline, w->kind, w->t.service,
				    beside);
	if (err && *j->secret.why)
		err = tool_fail(j->f, err, "%s", j->secret.why);
	if (!err)
		err = write_in_place(j, w, &rep, &note);
	if (!err) {
		err = let_go(j, &rep, note);
	} else if (err != -EUCLEAN) {
		err = explain(j, err);
		take_back(j, &rep, note);
	}
	replace_fini(&rep);
	newsecret_fini(&j->secret);
	return err;
}

/* --- somewhere else --- */

static vcf_err_t reform_to_file(struct job *j)
{
	struct outfile out;
	vcf_err_t err = outfile_begin(&out, j->r->output, j->r->output_dir, j->old.path,
				      j->place.rel, j->r->tool.cfg->backing);
	struct stat st;

	if (!err)
		err = copy_data(j, out.fd);
	if (!err && fstat(j->old.fd, &st) < 0)
		err = -errno;
	if (!err)
		err = replace_copy_attributes(j->old.fd, out.fd, &st);
	if (!err)
		err = outfile_end(&out);
	if (!err)
		tool_say(j->f, "decrypted to %s; the image stays as it is", out.path);
	else if (!*j->f->text)
		err = tool_fail(j->f, err, "%s: %s", out.path,
				err == -EEXIST	? "is there already"
				: err == -EPERM ? "lies in the backing folder"
						: strerror(-err));
	outfile_fini(&out);
	return err;
}

vcf_err_t reform_write(struct job *j)
{
	struct wanted w;
	vcf_err_t err = want(j, &w);

	if (err)
		return err;
	if (j->r->kind == REFORM_DECRYPT && !j->r->replace)
		return reform_to_file(j);
	return reform_in_place(j, &w);
}
