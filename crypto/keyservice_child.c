/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keyservice_child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

enum { LISTEN_READS = 32 }; /* 128 KiB: twice what a pipe holds */

struct keychild_memory {
	char in[KEYPROTO_REPLY_MAX];
	char out[KEYPROTO_REQUEST_MAX + 1];
	struct key_request request;
	struct key_reply reply;
};

static vcf_err_t memory_new(struct keychild_memory **out)
{
	size_t len = sizeof(struct keychild_memory);
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		return -errno;
	if (mlock(p, len) < 0) {
		vcf_err_t err = -errno;

		munmap(p, len);
		return err;
	}
	madvise(p, len, MADV_DONTDUMP);
	madvise(p, len, MADV_WIPEONFORK);
	*out = p;
	return 0;
}

static void memory_free(struct keychild_memory *mem)
{
	secret_free(mem->reply.secret);
	secret_wipe(mem, sizeof(*mem));
	munmap(mem, sizeof(*mem));
}

DEFINE_AUTO(keychild, struct keychild *, keychild_free)
#define auto_keychild __attribute__((cleanup(cleanup_keychild)))

/* Records are claimed by several services: a reload may have two at a time. */
static void claim_record(struct keychild *c)
{
	for (unsigned int i = 0; i < c->cfg->kept_cnt && c->cfg->kept; i++) {
		struct keyservice_helper *r = &c->cfg->kept[i];
		int32_t none = 0;

		if (!atomic_compare_exchange_strong(&r->pid, &none, c->pid))
			continue;
		r->to = c->to;
		r->from = c->from;
		r->err = c->err;
		r->config = c->cfg->kept_config;
		c->record = r;
		return;
	}
}

static void set_idle(struct keychild *c, bool idle)
{
	if (!c->record)
		return;
	c->record->caps = c->caps;
	c->record->idle = idle;
}

/* idle goes first: a free record never has it. */
static void drop_record(struct keychild *c)
{
	if (!c->record)
		return;
	c->record->idle = 0;
	c->record->pid = 0;
	c->record = NULL;
}

static void end(struct keychild *c)
{
	drop_record(c);
	if (c->to >= 0)
		close(c->to);
	if (c->from >= 0 && c->from != c->to)
		close(c->from);
	if (c->err >= 0)
		close(c->err);
	if (c->pid > 0)
		c->cfg->reap(c->cfg->spawn_arg, c->pid);
}

static vcf_err_t child_new(struct keychild **out, const struct keyservice_config *cfg)
{
	auto_keychild struct keychild *c = calloc(1, sizeof(*c));
	vcf_err_t err;

	if (!c)
		return -ENOMEM;
	c->cfg = cfg;
	c->to = c->from = c->err = -1;
	c->pid = -1;
	err = memory_new(&c->mem);
	if (err)
		return err;
	*out = STEAL_PTR(&c);
	return 0;
}

vcf_err_t keychild_new(struct keychild **out, const struct keyservice_config *cfg,
		       uint64_t deadline_ms)
{
	const struct keyservice_program program = {
		.path = cfg->helper,
		.uid = cfg->own_user ? cfg->uid : KEYSERVICE_SAME_USER,
		.gid = cfg->gid,
		.log_stderr = cfg->log_stderr,
	};
	struct keyservice_ends ends;
	auto_keychild struct keychild *c = NULL;
	vcf_err_t err = child_new(&c, cfg);

	if (!err)
		err = cfg->spawn(cfg->spawn_arg, &program, &ends, &c->pid);
	if (err)
		return err;
	c->to = ends.to;
	c->from = ends.from;
	c->err = ends.err;
	c->deadline_ms = deadline_ms;
	claim_record(c);
	*out = STEAL_PTR(&c);
	return 0;
}

static void take_record(struct keychild *c, struct keyservice_helper *r)
{
	c->record = r;
	c->pid = r->pid;
	c->to = r->to;
	c->from = r->from;
	c->err = r->err;
	c->caps = r->caps;
	c->option = c->cfg->option_cnt + 1;
	c->state = KEYCHILD_IDLE;
}

vcf_err_t keychild_adopt(struct keychild **out, const struct keyservice_config *cfg,
			 struct keyservice_helper *record)
{
	auto_keychild struct keychild *c = NULL;
	vcf_err_t err;

	if (!record->idle || record->config != cfg->kept_config)
		return -ESTALE;
	err = child_new(&c, cfg);
	if (err)
		return err;
	take_record(c, record);
	*out = STEAL_PTR(&c);
	return 0;
}

void keychild_end(const struct keyservice_config *cfg, struct keyservice_helper *record)
{
	struct keychild c = {.cfg = cfg};

	take_record(&c, record);
	end(&c);
}

void keychild_free(struct keychild *c)
{
	end(c);
	if (c->mem)
		memory_free(c->mem);
	secret_wipe(&c->said, sizeof(c->said)); /* a stranger's words */
	free(c);
}

void keychild_poll(const struct keychild *c, struct pollfd p[KEYCHILD_FDS])
{
	p[0] = (struct pollfd){.fd = c->from, .events = POLLIN};
	p[1] = (struct pollfd){.fd = c->out_len ? c->to : -1, .events = POLLOUT};
	p[2] = (struct pollfd){.fd = c->err, .events = POLLIN};
}

/* It has closed its stderr. The record goes first: nobody takes over another's descriptor. */
static void close_stderr(struct keychild *c)
{
	if (c->record)
		c->record->err = -1;
	close(STEAL_FD(&c->err));
}

void keychild_listen(struct keychild *c, uint64_t now_ms, keysaid_emit_fn *emit,
		     void *arg)
{
	char buf[4096];
	ssize_t n = 0;

	for (int i = 0; i < LISTEN_READS && c->err >= 0; i++) {
		n = read(c->err, buf, sizeof(buf));
		if (n > 0)
			keysaid_feed(&c->said, buf, (size_t)n, now_ms, emit, arg);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			close_stderr(c);
		else
			break;
	}
	secret_wipe(buf, sizeof(buf)); /* a script may say anything */
	keysaid_tick(&c->said, now_ms, emit, arg);
}

static vcf_err_t fail(struct keychild *c, vcf_err_t err, const char *why)
{
	c->why = why;
	return err;
}

/* Formats mem->request into the empty output buffer. */
static vcf_err_t queue_request(struct keychild *c)
{
	struct keychild_memory *mem = c->mem;
	ssize_t n = keyproto_format_request(mem->out, sizeof(mem->out), &mem->request);

	mem->request.secret = NULL; /* the job's */
	secret_wipe(&mem->request, sizeof(mem->request));
	if (n < 0)
		return fail(c, (vcf_err_t)n, "was to be sent a line that is none");
	c->out_pos = 0;
	c->out_len = (size_t)n;
	return 0;
}

/* Not sent to those that did not ask for it: a helper may refuse what it does not know. */
static vcf_err_t queue_deadline(struct keychild *c)
{
	struct key_request *r = &c->mem->request;

	c->told_deadline = true;
	r->verb = KEY_OPTION;
	snprintf(r->id, sizeof(r->id), "deadline-ms");
	snprintf(r->value, sizeof(r->value), "%u", c->cfg->request_timeout_ms);
	return queue_request(c);
}

/* The options one at a time, then `ready`. */
static vcf_err_t queue_option(struct keychild *c)
{
	struct key_request *r = &c->mem->request;
	const struct keyservice_option *o;

	if (c->option > c->cfg->option_cnt)
		return 0;
	if (c->caps & KEY_CAP_DEADLINE && !c->told_deadline)
		return queue_deadline(c);
	if (c->option == c->cfg->option_cnt) {
		r->verb = KEY_READY;
	} else {
		o = &c->cfg->options[c->option];
		if (strlen(o->name) >= sizeof(r->id) ||
		    strlen(o->value) >= sizeof(r->value))
			return fail(c, -EINVAL,
				    "was to be sent an option that is too long");
		r->verb = KEY_OPTION;
		memcpy(r->id, o->name, strlen(o->name) + 1);
		memcpy(r->value, o->value, strlen(o->value) + 1);
	}
	c->option++;
	return queue_request(c);
}

vcf_err_t keychild_send(struct keychild *c, struct keyjob *job, uint64_t tag,
			uint64_t deadline_ms)
{
	keyjob_request(job, c->caps, &c->mem->request);
	c->mem->request.tag = tag;
	c->tag = tag;
	c->job = job;
	c->sent_ns = clock_now_ns();
	c->deadline_ms = deadline_ms;
	c->state = KEYCHILD_BUSY;
	set_idle(c, false);
	return queue_request(c);
}

static vcf_err_t write_some(struct keychild *c)
{
	char *p = c->mem->out + c->out_pos;
	ssize_t n = write(c->to, p, c->out_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return fail(c, -errno, "ended");
	secret_wipe(p, (size_t)n);
	c->out_pos += (size_t)n;
	c->out_len -= (size_t)n;
	return 0;
}

static vcf_err_t write_pending(struct keychild *c)
{
	vcf_err_t err = 0;

	if (!c->out_len && c->state == KEYCHILD_OPTIONS)
		err = queue_option(c);
	if (!err && c->out_len)
		err = write_some(c);
	if (!err && !c->out_len && c->state == KEYCHILD_OPTIONS)
		err = queue_option(c); /* so that poll() waits for room for it */
	return err;
}

/* Moves the unused bytes to the front, wiping where they were. */
static void compact(struct keychild *c)
{
	char *in = c->mem->in;
	size_t left = c->in_len - c->in_pos;

	if (!c->in_pos)
		return;
	memmove(in, in + c->in_pos, left);
	secret_wipe(in + left, c->in_len - left);
	c->in_pos = 0;
	c->in_len = left;
}

static vcf_err_t read_some(struct keychild *c)
{
	ssize_t n;

	compact(c);
	if (c->in_len == sizeof(c->mem->in))
		return fail(c, -EPROTO, "sent a line that is too long");
	n = read(c->from, c->mem->in + c->in_len, sizeof(c->mem->in) - c->in_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return fail(c, -errno, "cannot be read");
	c->eof = n == 0;
	c->in_len += (size_t)n;
	return 0;
}

vcf_err_t keychild_io(struct keychild *c)
{
	vcf_err_t err = read_some(c);

	/* A helper that answered and ended: its answer counts, the broken pipe does not
	 * (keychild_next() tells of the end). */
	if (!err && !c->eof)
		err = write_pending(c);
	if (err == -EPIPE) {
		c->eof = true;
		err = 0;
	}
	return err;
}

static vcf_err_t on_hello(struct keychild *c, const struct key_reply *r)
{
	if (r->kind != KEY_REPLY_HELLO)
		return fail(c, -EPROTO, "did not begin with a hello");
	c->caps = r->caps;
	c->state = KEYCHILD_OPTIONS;
	return write_pending(c);
}

static vcf_err_t on_ready(struct keychild *c, const struct key_reply *r)
{
	if (r->kind != KEY_REPLY_READY || c->out_len || c->option <= c->cfg->option_cnt)
		return fail(c, -EPROTO, "did not answer ready to its options");
	c->caps |= r->caps;
	c->state = KEYCHILD_IDLE;
	set_idle(c, true);
	return 0;
}

static int on_line(struct keychild *c)
{
	const struct key_reply *r = &c->mem->reply;

	switch (c->state) {
	case KEYCHILD_HELLO:
		return on_hello(c, r);
	case KEYCHILD_OPTIONS:
		return on_ready(c, r);
	case KEYCHILD_BUSY:
		if (r->tag != c->tag)
			return fail(c, -EPROTO, "answered what it was not asked");
		if (c->out_len)
			return fail(c, -EPROTO, "answered before it was asked");
		return 1;
	default:
		return fail(c, -EPROTO, "spoke without being asked");
	}
}

/* Parses the next whole line and wipes it. 1, 0 if there is none, or -errno and `why`. */
static int parse_line(struct keychild *c)
{
	char *line = c->mem->in + c->in_pos;
	char *lf = memchr(line, '\n', c->in_len - c->in_pos);
	vcf_err_t err;

	if (!lf)
		return 0;
	err = keyproto_parse_reply(&c->mem->reply, line, (size_t)(lf - line));
	c->in_pos += (size_t)(lf - line) + 1;
	secret_wipe(line, (size_t)(lf - line));
	if (err == -EPROTONOSUPPORT)
		return fail(c, err, "speaks another version of the protocol");
	if (err)
		return fail(c, err, "sent what is not of the protocol");
	return 1;
}

static void drop_reply(struct keychild *c)
{
	secret_free(STEAL_PTR(&c->mem->reply.secret));
	secret_wipe(&c->mem->reply, sizeof(c->mem->reply));
}

int keychild_next(struct keychild *c, struct key_reply **reply)
{
	int rc;

	do {
		drop_reply(c);
		rc = parse_line(c);
		if (rc == 0 && c->eof)
			return fail(c, -EPIPE, "ended");
		if (rc > 0)
			rc = on_line(c);
		else
			return rc;
	} while (rc == 0);
	*reply = &c->mem->reply;
	return rc;
}

void keychild_done(struct keychild *c)
{
	c->job = NULL;
	c->state = KEYCHILD_IDLE;
	keysaid_forget(&c->said);
	set_idle(c, true);
}
