/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rekey: a new secret for images. Under a mount that is served its server does it (rekeyer.h), else
 * this process (offline.h), where the old secret is noted before the header changes (oldsecret.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/cmd.h"
#include "fs/jsonlines.h"
#include "fs/offline.h"
#include "fs/oldsecret.h"
#include "fs/oldsecret_destroy.h"
#include "fs/rekey_online.h"
#include "fs/statusfile.h"
#include "fs/tool.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/text.h"

struct rekey_run {
	struct tool tool;
	const char *service; /* "": none was named */
	uint64_t older_than_s;
	bool all, destroy_now;
	struct rules *rules; /* NULL: without a configuration */
	struct mutex lock;
	struct offline offline; /* after begin_offline() */
	bool offline_begun;	/* (l) */
	int offline_code;	/* (l) */
};

/* One image, as its file is before anything is asked. */
struct target {
	struct tool_file *f;
	struct tool_place place;
	struct stat st;
	struct token token;
	char uuid[UUID_TEXT_LEN + 1];
};

/* --- what is to be changed --- */

static const char *refusal(vcf_err_t err)
{
	switch (err) {
	case -ENODATA:
		return "an empty image: it has no header and no secret";
	case -EPERM:
		return "no container";
	case -EBADMSG:
		return "its header is damaged or refused; see vmcryptfs verify";
	case -ELOOP:
		return "a symbolic link";
	case -EXDEV:
		return "the mount hides its own backing folder: give the name below the mount";
	default:
		return strerror(-err);
	}
}

static vcf_err_t read_header(struct target *t)
{
	auto_close int fd =
		io_open_file(AT_FDCWD, t->place.path, O_RDONLY | O_NONBLOCK, true);
	auto_container struct container *c = NULL;
	vcf_err_t err;

	if (fd < 0)
		return fd;
	if (fstat(fd, &t->st) < 0)
		return -errno;
	err = container_load(&c, fd, t->f->path, NULL);
	if (err)
		return err;
	t->token = *container_token(c);
	TEXT_CUT(t->uuid, container_subject(c)->uuid_text);
	return 0;
}

static bool is_derived_by_rule(const struct rekey_run *r, const struct target *t)
{
	return t->token.derived && (!*t->place.rel || !r->rules ||
				    rules_class(r->rules, t->place.rel) == CLASS_DERIVED);
}

/* With words, if it is. */
static bool is_left_alone(const struct rekey_run *r, const struct target *t)
{
	time_t created = utc_parse(t->token.created);

	if (r->older_than_s && created >= 0 &&
	    time(NULL) - created < (time_t)r->older_than_s) {
		if (!r->all)
			tool_say(t->f, "left alone: its secret is of %s",
				 t->token.created);
		return true;
	}
	return r->all && (is_derived_by_rule(r, t) ||
			  (*r->service && strcmp(t->token.service, r->service) == 0));
}

static void put_outcome(struct tool_file *f, const char *uuid, const char *key_id,
			const char *service)
{
	if (!f->json)
		return;
	json_put_text(f->json, "uuid", uuid);
	json_put_text(f->json, "key_id", key_id);
	json_put_text(f->json, "service", service);
}

static void say_changed(const struct target *t, const char *uuid, const char *key_id,
			const char *service, const struct oldsecret_end *end,
			bool escrow_lost)
{
	char old[600];

	oldsecret_describe(old, sizeof(old), end);
	put_outcome(t->f, uuid, key_id, service);
	if (t->f->json)
		json_put_text(t->f->json, "old_key_id", t->token.key_id);
	tool_say(t->f, "uuid %s is %s now, key %s at %s; %s%s", t->uuid, uuid, key_id,
		 service, old,
		 escrow_lost ? "; its escrow token was of that: for a new one the "
			       "configuration needs [escrow] public-key"
			     : "");
}

/* --- of a mount that is served --- */

static struct oldsecret_end end_of(struct json_object *answer)
{
	const char *old = json_text(answer, "old");
	struct oldsecret_end end = {.how = OLDSECRET_QUEUED};

	if (strcmp(old, "site") == 0)
		end.how = OLDSECRET_SITE;
	else if (strcmp(old, "kept") == 0)
		end.how = OLDSECRET_KEPT;
	end.due = json_time(answer, "due");
	TEXT_CUT(end.service, json_text(answer, "old_service"));
	TEXT_CUT(end.key_id, json_text(answer, "old_key_id"));
	return end;
}

static void say_done(const struct target *t, struct json_object *answer)
{
	const char *uuid = json_text(answer, "uuid"),
		   *key_id = json_text(answer, "key_id");
	const char *service = json_text(answer, "service");
	struct oldsecret_end end = end_of(answer);

	if (json_flag(answer, "changed")) {
		say_changed(t, uuid, key_id, service, &end,
			    json_flag(answer, "escrow_lost"));
		return;
	}
	put_outcome(t->f, uuid, key_id, service);
	tool_say(t->f, "uuid %s is %s now, key %s at %s; what had been begun is complete",
		 t->uuid, uuid, key_id, service);
}

static vcf_err_t fail_online(struct tool_file *f, vcf_err_t err,
			     struct json_object *answer)
{
	switch (err) {
	case -EHOSTDOWN:
		return tool_fail(f, err,
				 "nobody answers for the mount any more; run it "
				 "again when it is served, or unmounted");
	case -EINTR:
		return tool_fail(f, err, "interrupted; the daemon goes on with it");
	case -EREMOTEIO:
		return tool_fail(f, err, "the daemon: %s", json_text(answer, "error"));
	default:
		return answer ? tool_fail(f, err, "%s; it is as it was",
					  json_text(answer, "text"))
			      : err;
	}
}

/* -ECONNREFUSED: nobody serves it, and nothing was said. */
static vcf_err_t change_online(const struct rekey_run *r, const struct target *t)
{
	const char *runtime = r->tool.runtime;
	struct rekey_request q = {.mountpoint = t->place.mountpoint,
				  .path = t->place.name,
				  .dev = t->st.st_dev,
				  .ino = t->st.st_ino,
				  .uuid = t->uuid,
				  .service = r->service,
				  .now = r->destroy_now};
	struct json_object *answer = NULL;
	vcf_err_t err;

	if (!*q.mountpoint && *t->place.rel) {
		q.mountpoint = r->tool.cfg->mountpoint;
		q.path = t->place.rel;
	}
	if (!*q.mountpoint)
		return -ECONNREFUSED;
	q.runtime = runtime ? runtime : statusfile_default_directory();
	err = rekey_online(&q, &answer);
	if (!err)
		say_done(t, answer);
	else if (err != -ECONNREFUSED)
		err = fail_online(t->f, err, answer);
	json_object_put(answer);
	return err;
}

/* --- where nobody serves it --- */

static int begin_offline(struct rekey_run *r)
{
	SCOPED_LOCK(&r->lock);

	if (!r->offline_begun)
		r->offline_code = offline_init(&r->offline, r->tool.command, r->tool.cfg,
					       r->tool.runtime);
	r->offline_begun = true;
	return r->offline_code;
}

/* Here and now: not where the mount would not either. */
static bool may_destroy(const struct rekey_run *r, const struct target *t)
{
	const struct config *s = config_service(r->tool.cfg, t->token.service);

	return s && !s->keep && !s->controller;
}

static void end_old(struct rekey_run *r, const struct target *t, uint64_t note,
		    const struct offline_file *f, const struct offline_change *ch)
{
	struct oldsecret_end end = {.how = OLDSECRET_SITE};
	struct oldsecret_answer answer = {.word = NULL};
	vcf_err_t err = 0;

	if (r->destroy_now && note && may_destroy(r, t))
		err = oldsecret_end_now(&r->offline, note, &answer);
	if (!answer.word)
		err = oldsecret_gone(&r->offline, note, r->destroy_now, &end);
	if (answer.word) {
		end = (struct oldsecret_end){.how = OLDSECRET_DESTROYED};
		TEXT_CUT(end.service, t->token.service);
		TEXT_CUT(end.key_id, t->token.key_id);
	}
	say_changed(t, container_subject(f->c)->uuid_text, ch->key_id, ch->service, &end,
		    ch->escrow_lost);
	if (err)
		log_warn("%s: its old secret %s at %s stays noted: %s", t->f->path,
			 t->token.key_id, t->token.service, strerror(-err));
}

static vcf_err_t note_old(struct rekey_run *r, const struct offline_file *f,
			  uint64_t *note)
{
	auto_free void *hdr = malloc(CONTAINER_PEEK_LEN);
	ssize_t n = hdr ? io_pread_full(f->fd, hdr, CONTAINER_PEEK_LEN, 0) : -ENOMEM;

	if (n < 0)
		return (vcf_err_t)n;
	return n == CONTAINER_PEEK_LEN
		       ? oldsecret_note(&r->offline, f->c, f->path, hdr, note)
		       : -EIO;
}

/* It is unlocked. */
static vcf_err_t change_unlocked(struct rekey_run *r, const struct target *t,
				 struct offline_file *f)
{
	struct offline_change ch = {.stays_bound = true};
	uint64_t note = 0;
	vcf_err_t err;

	TEXT_CUT(ch.service, *r->service	? r->service
			     : t->token.derived ? rules_service(r->rules, t->place.rel)
						: t->token.service);
	err = note_old(r, f, &note);
	if (err)
		return err;
	err = offline_change_secret(&r->offline, f, &ch);
	if (ch.outcome == REKEY_NEW)
		end_old(r, t, note, f, &ch);
	else if (ch.outcome == REKEY_OLD)
		oldsecret_cancel(&r->offline, note);
	return err ? tool_fail(t->f, err, "%s", ch.text) : 0;
}

static vcf_err_t change_file(struct rekey_run *r, const struct target *t,
			     struct offline_file *f)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err;

	if (strcmp(container_subject(f->c)->uuid_text, t->uuid) != 0)
		return tool_fail(t->f, -ESTALE, "somebody else has just changed it");
	err = offline_fetch(&r->offline, f, &secret);
	if (err)
		return tool_fail(t->f, err,
				 "no secret from its key service; it is as it was");
	err = container_unlock(f->c, secret, f->path);
	return err ? tool_fail(t->f, err, "its secret does not open it")
		   : change_unlocked(r, t, f);
}

static vcf_err_t change_offline(struct rekey_run *r, const struct target *t)
{
	struct offline_file f;
	vcf_err_t err;

	if (!r->tool.cfg)
		return tool_fail(t->f, -EINVAL,
				 "nobody serves it: -c CONFIG is needed to change it");
	if (begin_offline(r))
		return tool_fail(t->f, r->offline_code == EXIT_BUSY ? -EBUSY : -EIO,
				 "another such command is at work, or its journal cannot "
				 "be used");
	if (is_derived_by_rule(r, t))
		return tool_fail(t->f, -EOPNOTSUPP,
				 "its secret is derived from the site's, as its rule "
				 "says: there is none of its own to change");
	err = offline_open(&f, r->tool.command, t->place.path, r->tool.runtime, true);
	if (err)
		return tool_fail(t->f, err, err == -EBUSY ? "in use" : "not changed");
	err = change_file(r, t, &f);
	offline_close(&f);
	return err;
}

static vcf_err_t rekey_one(void *arg, struct tool_file *f)
{
	struct rekey_run *r = arg;
	auto_free struct target *t = calloc(1, sizeof(*t));
	vcf_err_t err;

	if (!t)
		return -ENOMEM;
	t->f = f;
	err = tool_place(&r->tool, f->path, &t->place);
	if (!err)
		err = read_header(t);
	if (err)
		return tool_fail(f, err, "%s", refusal(err));
	if (is_left_alone(r, t))
		return 0;
	err = change_online(r, t);
	return err == -ECONNREFUSED ? change_offline(r, t) : err;
}

/* --- the command --- */

static bool is_container(void *arg, const struct treescan_file *f)
{
	(void)arg;
	return !f->err && rules_is_image(f->cls) && f->peek.kind == PEEK_CONTAINER;
}

static int run(struct rekey_run *r, char **paths, size_t cnt)
{
	struct tool_list found = {0};
	vcf_err_t err = 0;
	int code;

	if (r->all)
		err = tool_find(&r->tool, &found, is_container, NULL);
	if (err) {
		fprintf(stderr, "vmcryptfs rekey: %s: %s\n", r->tool.cfg->backing,
			strerror(-err));
		return (int)exit_code_of(err);
	}
	code = tool_run(&r->tool, r->all ? found.paths : paths, r->all ? found.cnt : cnt,
			rekey_one, r);
	tool_list_free(&found);
	return code;
}

static int begin(struct rekey_run *r)
{
	int code = offline_init_crypto();

	if (!code)
		code = tool_begin(&r->tool);
	if (!code && r->tool.cfg && config_make_rules(r->tool.cfg, &r->rules))
		code = EXIT_CONFIG;
	if (!code && r->tool.cfg && *r->service &&
	    !config_service(r->tool.cfg, r->service)) {
		fprintf(stderr, "vmcryptfs rekey: there is no [service %s]\n",
			r->service);
		code = EXIT_CONFIG;
	}
	return code;
}

static int take_option(struct rekey_run *r, int opt)
{
	switch (opt) {
	case TOOL_OPT_OWN:
		r->all = true;
		return EXIT_OK;
	case TOOL_OPT_OWN + 1:
		if (parse_duration(optarg, &r->older_than_s) || !r->older_than_s) {
			fprintf(stderr, "vmcryptfs rekey: %s is no duration\n", optarg);
			return EXIT_USAGE;
		}
		return EXIT_OK;
	case TOOL_OPT_OWN + 2:
		r->service = optarg;
		return EXIT_OK;
	case TOOL_OPT_OWN + 3:
		r->destroy_now = true;
		return EXIT_OK;
	default:
		return tool_option(&r->tool, opt);
	}
}

static int parse(struct rekey_run *r, int argc, char **argv)
{
	static const struct option longs[] = {
		TOOL_LONG_OPTIONS,
		{"all", no_argument, NULL, TOOL_OPT_OWN},
		{"older-than", required_argument, NULL, TOOL_OPT_OWN + 1},
		{"service", required_argument, NULL, TOOL_OPT_OWN + 2},
		{"destroy-now", no_argument, NULL, TOOL_OPT_OWN + 3},
		{NULL, 0, NULL, 0}};
	int opt, code = EXIT_OK;

	while (!code &&
	       (opt = getopt_long(argc, argv, TOOL_SHORT_OPTIONS, longs, NULL)) != -1)
		code = take_option(r, opt);
	if (code)
		return code == EXIT_USAGE ? command_usage("rekey") : code;
	if (optind == argc && r->older_than_s)
		r->all = true;
	if (r->all == (optind < argc) || (r->all && !r->tool.source.path))
		return command_usage("rekey");
	return EXIT_OK;
}

int cmd_rekey(int argc, char **argv)
{
	struct rekey_run r = {.tool = {.command = "rekey"},
			      .service = "",
			      .lock = MUTEX_INIT(RANK_REKEY_RUN)};
	int code = parse(&r, argc, argv);

	if (!code)
		code = begin(&r);
	if (!code)
		code = run(&r, argv + optind, (size_t)(argc - optind));
	if (r.offline_begun)
		offline_fini(&r.offline);
	if (r.rules)
		rules_free(r.rules);
	tool_end(&r.tool);
	return code;
}
