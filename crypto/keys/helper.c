/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/helper.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "crypto/kdf.h"
#include "crypto/keys/deadline.h"
#include "util/clock.h"
#include "util/io.h"
#include "util/parse.h"
#include "util/sysfilter.h"

/* All that may hold a secret, in locked memory. */
struct memory {
	char in[KEYPROTO_REQUEST_MAX];
	char out[KEYPROTO_REPLY_MAX + 1];
	struct key_request request;
	struct key_reply reply;
};

struct helper {
	const struct helper_ops *ops;
	void *ctx;
	struct memory *mem;
	size_t in_pos, in_len; /* unused input: [in_pos, in_len) */
	uint64_t tag;
	bool started;
	vcf_err_t broken; /* stdout cannot be written */
};

static const char *log_name = "key helper";
static uint64_t given_ms;    /* for each request; 0: not known */
static uint64_t deadline_ms; /* of the request under way */

void helper_log(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "vmcryptfs-key-%s: %s\n", log_name, text);
}

vcf_err_t helper_fail(struct helper_failure *f, enum key_error kind, const char *fmt, ...)
{
	va_list ap;

	f->kind = kind;
	f->retry_after_s = 0;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return keyproto_errno(kind);
}

static void begin_time(void)
{
	deadline_ms = clock_now_ms() + deadline_budget_ms(given_ms);
}

uint64_t helper_deadline_ms(void)
{
	return given_ms ? deadline_ms : UINT64_MAX;
}

static enum key_error kind_of_errno(vcf_err_t err)
{
	switch (-err) {
	case ENOENT:
		return KEY_NOTFOUND;
	case EACCES:
	case EPERM:
	case ELOOP:
		return KEY_DENIED;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return KEY_QUOTA;
	default:
		return KEY_UNAVAILABLE;
	}
}

vcf_err_t helper_fail_errno(struct helper_failure *f, vcf_err_t err, const char *what)
{
	return helper_fail(f, kind_of_errno(err), "%.300s: %s", what, strerror(-err));
}

void helper_format_time(char dst[32], time_t t)
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(dst, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		snprintf(dst, 32, "-");
}

/* --- writing --- */

static void send_reply(struct helper *h, struct key_reply *r)
{
	char *out = h->mem->out;
	ssize_t n;

	r->tag = h->tag;
	n = keyproto_format_reply(out, sizeof(h->mem->out), r);
	if (n < 0)
		helper_log("a reply does not fit the protocol: %s", strerror((int)-n));
	if (n > 0 && !h->broken)
		h->broken = io_write_full(STDOUT_FILENO, out, (size_t)n);
	else if (!h->broken)
		h->broken = (vcf_err_t)n;
	secret_wipe(out, n > 0 ? (size_t)n : 0);
}

static void send_kind(struct helper *h, enum key_reply_kind kind)
{
	struct key_reply r = {.kind = kind};

	send_reply(h, &r);
}

static void send_failure(struct helper *h, const struct helper_failure *f)
{
	struct key_reply r = {.kind = KEY_REPLY_ERROR,
			      .error = f->kind,
			      .retry_after_s = f->retry_after_s};

	snprintf(r.text, sizeof(r.text), "%s", f->text);
	send_reply(h, &r);
}

static void send_invalid(struct helper *h, const char *text)
{
	struct helper_failure f = {.kind = KEY_INVALID};

	snprintf(f.text, sizeof(f.text), "%s", text);
	send_failure(h, &f);
}

static void send_hello(struct helper *h)
{
	struct key_reply r = {.kind = KEY_REPLY_HELLO, .caps = h->ops->caps};

	snprintf(r.text, sizeof(r.text), "%s", h->ops->name);
	send_reply(h, &r);
}

static void send_ready(struct helper *h)
{
	struct key_reply r = {.kind = KEY_REPLY_READY};

	if (h->ops->ready_caps)
		r.caps = h->ops->ready_caps(h->ctx);
	send_reply(h, &r);
}

void helper_item(struct helper *h, const char *id, const char *label, const char *created)
{
	struct key_reply r = {.kind = KEY_REPLY_ITEM};

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.label, sizeof(r.label), "%s", label);
	snprintf(r.created, sizeof(r.created), "%s", created);
	send_reply(h, &r);
	begin_time();
}

/* The end of a request: ok, or the failure that came with err. */
static void finish(struct helper *h, vcf_err_t err, enum key_reply_kind ok,
		   const struct helper_failure *f)
{
	if (err)
		send_failure(h, f);
	else
		send_kind(h, ok);
}

/* --- requests --- */

static void do_new(struct helper *h, const struct key_request *q)
{
	struct key_reply r = {.kind = KEY_REPLY_CREATED};
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	if (!h->ops->new_secret)
		send_invalid(h, "this helper stores no secrets");
	else if (h->ops->new_secret(h->ctx, q->label, q->secret, r.id, &f))
		send_failure(h, &f);
	else
		send_reply(h, &r);
}

static void do_get(struct helper *h, const struct key_request *q)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};
	struct key_reply r = {.kind = KEY_REPLY_SECRET};

	if (!h->ops->get)
		send_invalid(h, "get is not supported");
	else if (h->ops->get(h->ctx, q->id, &r.secret, &f))
		send_failure(h, &f);
	else
		send_reply(h, &r);
	secret_free(r.secret);
}

static void do_find(struct helper *h, const struct key_request *q)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	if (!h->ops->find)
		send_invalid(h, "find is not supported");
	else
		finish(h, h->ops->find(h->ctx, q->label, h, &f), KEY_REPLY_END, &f);
}

static void do_list(struct helper *h, const struct key_request *q)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	if (!h->ops->list)
		send_invalid(h, "list is not supported");
	else
		finish(h, h->ops->list(h->ctx, q->label, h, &f), KEY_REPLY_END, &f);
}

static void do_destroy(struct helper *h, const struct key_request *q)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};
	bool gone = false;
	vcf_err_t err;

	if (!h->ops->destroy) {
		send_invalid(h, "destroy is not supported");
		return;
	}
	err = h->ops->destroy(h->ctx, q->id, q->label, &gone, &f);
	finish(h, err, gone ? KEY_REPLY_GONE : KEY_REPLY_DESTROYED, &f);
}

static void do_ping(struct helper *h)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	finish(h, h->ops->ping ? h->ops->ping(h->ctx, &f) : 0, KEY_REPLY_PONG, &f);
}

static void answer(struct helper *h, const struct key_request *q)
{
	begin_time();
	switch (q->verb) {
	case KEY_NEW:
		do_new(h, q);
		break;
	case KEY_GET:
		do_get(h, q);
		break;
	case KEY_FIND:
		do_find(h, q);
		break;
	case KEY_LIST:
		do_list(h, q);
		break;
	case KEY_DESTROY:
		do_destroy(h, q);
		break;
	default:
		do_ping(h);
		break;
	}
}

static vcf_err_t set_deadline(const char *value)
{
	vcf_err_t err = parse_u64(value, 1, DEADLINE_MAX_MS, &given_ms);

	if (err)
		helper_log("deadline-ms: a number from 1 to %d is wanted",
			   DEADLINE_MAX_MS);
	return err;
}

/*
 * What the resolver and the TLS library read. Folders, not files: resolv.conf and the like are
 * replaced by other programs. Their other files are for the owner's and mode's protection.
 */
static void allow_network(struct fence *fence)
{
	static const char *const paths[] = {
		"/usr",
		"/lib",
		"/lib64",
		"/etc",
		"/run/systemd/resolve",
		"/run/NetworkManager",
		"/run/resolvconf",
		"/sys/devices/system/cpu",
		"/dev/null",
		"/dev/random",
		"/dev/urandom",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		fence_allow(fence, FENCE_READ, paths[i]);
}

/* The server says where the kernel has none. */
static vcf_err_t fence_in(const struct helper *h)
{
	struct fence *fence;
	vcf_err_t err = fence_new(&fence, h->ops->network);

	if (err)
		return err == -EOPNOTSUPP ? 0 : err;
	if (h->ops->network)
		allow_network(fence);
	if (h->ops->paths)
		h->ops->paths(h->ctx, fence);
	return fence_close(fence);
}

/*
 * From here on with what strangers send: options come from the configuration. The fence first, since
 * the filter has no call for it.
 */
static vcf_err_t confine(const struct helper *h)
{
	vcf_err_t err;

	sysfilter_take_mode();
	if (sysfilter_is_off())
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	err = fence_in(h);
	if (!err)
		err = sysfilter_helper(h->ops->network);
	if (err)
		helper_log("seccomp, Landlock: %s; [mount] seccomp = off goes without",
			   strerror(-err));
	return err;
}

/* An option, or the end of them. */
static vcf_err_t set_up(struct helper *h, const struct key_request *q)
{
	vcf_err_t err = 0;

	if (q->verb == KEY_OPTION && h->ops->caps & KEY_CAP_DEADLINE &&
	    strcmp(q->id, "deadline-ms") == 0)
		return set_deadline(q->value);
	if (q->verb == KEY_OPTION) {
		if (h->ops->option)
			return h->ops->option(h->ctx, q->id, q->value);
		helper_log("no option is known, least of all %s", q->id);
		return -EINVAL;
	}
	err = confine(h);
	if (!err && h->ops->start)
		err = h->ops->start(h->ctx);
	if (err)
		return err;
	h->started = true;
	send_ready(h);
	return 0;
}

/* One line. An error ends the helper: the stream is out of step or the set-up failed. */
static vcf_err_t handle(struct helper *h, const char *line, size_t len)
{
	struct key_request *q = &h->mem->request;
	vcf_err_t err = keyproto_parse_request(q, line, len);

	h->tag = q->tag;
	if (err == -EPROTO && h->tag && h->started) {
		send_invalid(h, "not a request of this protocol");
		return 0;
	}
	if (!err && (q->verb == KEY_OPTION || q->verb == KEY_READY) == h->started)
		err = -EPROTO;
	if (err) {
		helper_log("out of step with the server: %s", strerror(-err));
		return err;
	}
	if (!h->started)
		return set_up(h, q);
	answer(h, q);
	return 0;
}

/* --- reading --- */

/* More input behind what is there. 1, 0 at its end, -errno. */
static int fill(struct helper *h)
{
	char *in = h->mem->in;
	size_t left = h->in_len - h->in_pos;
	ssize_t n;

	memmove(in, in + h->in_pos, left);
	secret_wipe(in + left, h->in_len - left);
	h->in_pos = 0;
	h->in_len = left;
	if (left == sizeof(h->mem->in)) {
		helper_log("a request is longer than %d bytes", KEYPROTO_REQUEST_MAX);
		return -EMSGSIZE;
	}
	do {
		n = read(STDIN_FILENO, in + left, sizeof(h->mem->in) - left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	h->in_len += (size_t)n;
	return n > 0;
}

static vcf_err_t handle_lines(struct helper *h)
{
	vcf_err_t err = 0;

	while (!err && !h->broken) {
		char *line = h->mem->in + h->in_pos;
		char *lf = memchr(line, '\n', h->in_len - h->in_pos);

		if (!lf)
			return 0;
		err = handle(h, line, (size_t)(lf - line));
		secret_free(h->mem->request.secret);
		secret_wipe(&h->mem->request, sizeof(h->mem->request));
		h->in_pos += (size_t)(lf - line) + 1;
		secret_wipe(line, (size_t)(lf - line));
	}
	return err ? err : h->broken;
}

static vcf_err_t run(struct helper *h)
{
	vcf_err_t err = 0;
	int more;

	send_hello(h);
	while (!err && (more = fill(h)) > 0)
		err = handle_lines(h);
	if (!err && more < 0)
		err = more;
	if (h->started && h->ops->stop)
		h->ops->stop(h->ctx);
	return err;
}

static struct memory *lock_memory(void)
{
	struct memory *mem = mmap(NULL, sizeof(*mem), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED || mlock(mem, sizeof(*mem)) < 0) {
		helper_log("cannot lock memory: %s; raise RLIMIT_MEMLOCK",
			   strerror(errno));
		return NULL;
	}
	madvise(mem, sizeof(*mem), MADV_DONTDUMP);
	return mem;
}

/* A program may be started by hand, too, so it does not rely on its parent for this. */
static void harden(void)
{
	struct rlimit core = {1, 1}; /* not 0: a pipe in core_pattern would not heed it */

	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &core);
	signal(SIGPIPE, SIG_IGN);
}

int helper_main(const struct helper_ops *ops, void *ctx)
{
	struct helper h = {.ops = ops, .ctx = ctx};
	vcf_err_t err;

	log_name = ops->name;
	harden();
	if (crypto_init() || secret_arena_init())
		return 1;
	h.mem = lock_memory();
	if (!h.mem)
		return 1;
	err = run(&h);
	secret_wipe(h.mem, sizeof(*h.mem));
	munmap(h.mem, sizeof(*h.mem));
	return err ? 1 : 0;
}
