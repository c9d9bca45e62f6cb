/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/reform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/datacopy.h"
#include "fs/exitcode.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/oldsecret.h"
#include "fs/outfile.h"
#include "fs/replace.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/text.h"

enum { THREADS_MAX = 4 };

/* One file under way. */
struct job {
	struct reform *r;
	struct tool_file *f;
	struct tool_place place;
	struct offline_file old; /* its container: NULL where it is plaintext */
	struct newsecret secret;
	struct container *c; /* the new one; NULL: plaintext */
	struct datacopy copy;
	uint64_t data; /* bytes to be read, about */
	bool second;   /* the comparison is under way */
};

/* --- what is there --- */

/*
 * What a daemon would take for an empty file, or a creation that was cut short, may be a plaintext
 * that begins with zeros. A creation has a header's length.
 */
static bool may_be_creation(const struct peek *peek, uint64_t size)
{
	return peek->kind == PEEK_EMPTY && size == CONTAINER_DATA_OFF;
}

static vcf_err_t say_already(struct job *j)
{
	struct container *c = NULL;
	vcf_err_t err = container_load(&c, j->old.fd, NULL, NULL);

	container_free(c);
	if (err)
		return tool_fail(j->f, -EBADMSG,
				 "a LUKS header that is not ours, or is damaged: see "
				 "vmcryptfs info, and adopt");
	tool_say(j->f, "is encrypted already");
	return -EALREADY;
}

/* 0: to be encrypted; -EALREADY: nothing to do. */
static vcf_err_t judge_plaintext(struct job *j, const struct stat *st)
{
	struct peek peek;
	vcf_err_t err = size_peek_fd(&peek, j->old.fd, (uint64_t)st->st_size);

	if (err)
		return err;
	if (peek.kind == PEEK_CONTAINER)
		return say_already(j);
	if (peek.kind == PEEK_DAMAGED)
		return tool_fail(j->f, -EBADMSG, "a damaged LUKS header");
	if (!st->st_size) {
		tool_say(j->f, "is empty: nothing to encrypt");
		return -EALREADY;
	}
	if (may_be_creation(&peek, (uint64_t)st->st_size))
		return tool_fail(
			j->f, -EPERM,
			"begins with zeros and is as long as a header: it may be an "
			"image whose creation was cut short; copy it through the mount "
			"if it is none");
	return 0;
}

static vcf_err_t check_place(struct job *j)
{
	if (!*j->place.rel)
		return tool_fail(j->f, -EPERM,
				 "is not below the configuration's backing folder");
	if (!rules_is_image(rules_class(j->r->offline.rules, j->place.rel)))
		return tool_fail(j->f, -EPERM,
				 "a passthrough rule covers it: the mount would show its "
				 "ciphertext");
	return 0;
}

static vcf_err_t check_file(struct job *j, struct stat *st)
{
	if (fstat(j->old.fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return tool_fail(j->f, -EPERM, "is no regular file");
	if (replace_is_temp(j->old.path))
		return tool_fail(j->f, -EPERM, "is what a run makes or has left");
	if (st->st_nlink > 1)
		return tool_fail(j->f, -EPERM,
				 "has %lu names: the others would keep the old file",
				 (unsigned long)st->st_nlink);
	return 0;
}

static vcf_err_t unlock_old(struct job *j)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err = container_load(&j->old.c, j->old.fd, j->old.path, NULL);

	if (err)
		return tool_fail(j->f, err, "%s",
				 err == -EPERM ? "is plaintext" : offline_refusal(err));
	err = offline_fetch(&j->r->offline, &j->old, &secret);
	if (!err)
		err = container_unlock(j->old.c, secret, j->old.path);
	return err ? tool_fail(j->f, err, "its key cannot be had: %s", strerror(-err))
		   : 0;
}

static vcf_err_t open_old(struct job *j)
{
	struct stat st;
	vcf_err_t err = offline_claim(&j->old, j->place.path, j->r->tool.runtime, true);

	if (err)
		return tool_fail(j->f, err, "%s", offline_refusal(err));
	err = check_file(j, &st);
	if (!err)
		err = j->r->kind == REFORM_ENCRYPT ? judge_plaintext(j, &st)
						   : unlock_old(j);
	if (!err)
		err = replace_check_alone(j->old.fd);
	if (err == -EBUSY)
		return tool_fail(j->f, err, "somebody has it open");
	j->data = (uint64_t)st.st_blocks * 512;
	return err;
}

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
		if (rep.fd >= 0)
			replace_discard(&rep);
		else
			newsecret_undo(&j->secret);
		oldsecret_cancel(&j->r->offline, note);
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

/* --- one file, all of them --- */

static vcf_err_t reform_opened(struct job *j)
{
	struct wanted w;
	vcf_err_t err = open_old(j);

	if (!err)
		err = want(j, &w);
	if (err)
		return err;
	if (j->r->kind == REFORM_DECRYPT && !j->r->replace)
		return reform_to_file(j);
	return reform_in_place(j, &w);
}

static vcf_err_t reform_one(void *arg, struct tool_file *f)
{
	struct job j = {.r = arg, .f = f, .old.fd = -1};
	vcf_err_t err = tool_place(&j.r->tool, f->path, &j.place);

	if (!err && j.r->kind == REFORM_ENCRYPT)
		err = check_place(&j);
	if (!err)
		err = reform_opened(&j);
	container_free(j.c);
	offline_close(&j.old);
	return err == -EALREADY ? 0 : err;
}

static bool is_wanted(void *arg, const struct treescan_file *f)
{
	const struct reform *r = arg;

	if (!rules_is_image(f->cls) || f->err || replace_is_temp(f->path))
		return false;
	if (r->kind == REFORM_ENCRYPT)
		return f->st.st_size &&
		       (f->peek.kind == PEEK_PLAINTEXT ||
			(f->peek.kind == PEEK_EMPTY &&
			 !may_be_creation(&f->peek, (uint64_t)f->st.st_size)));
	return f->peek.kind == PEEK_CONTAINER;
}

static int run_found(struct reform *r)
{
	struct tool_list list;
	vcf_err_t err = tool_find(&r->tool, &list, is_wanted, r);
	int code;

	if (err) {
		fprintf(stderr, "vmcryptfs %s: %s: %s\n", r->tool.command,
			r->tool.cfg->backing, strerror(-err));
		return exit_code_of(err);
	}
	code = tool_run(&r->tool, list.paths, list.cnt, reform_one, r);
	tool_list_free(&list);
	return code;
}

static int run_offline(struct reform *r, int argc, char **argv)
{
	int code = offline_init_crypto();

	if (code)
		return code;
	prctl(PR_SET_DUMPABLE, 0);
	code = offline_init(&r->offline, r->tool.command, r->tool.cfg, r->tool.runtime);
	if (!code)
		code = r->all ? run_found(r)
			      : tool_run(&r->tool, argv, (size_t)argc, reform_one, r);
	offline_fini(&r->offline);
	return code;
}

int reform_run(struct reform *r, int argc, char **argv)
{
	int code;

	if (!r->tool.source.path || (r->all ? argc > 0 : argc < 1)) {
		config_source_fini(&r->tool.source);
		return command_usage(r->tool.command);
	}
	code = tool_begin(&r->tool);
	if (!code)
		code = run_offline(r, argc, argv);
	tool_end(&r->tool);
	return code;
}
