/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/kmip_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/deadline.h"
#include "util/clock.h"
#include "util/parse.h"

static const struct kmip_version first_version = {1, 2};

const char *kmip_client_endpoint(const struct kmip_client *c)
{
	return c->servers[c->current];
}

/* --- servers --- */

static bool is_host(const char *host, size_t len)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789.-";
	bool v6 = len > 2 && host[0] == '[' && host[len - 1] == ']';

	if (v6)
		return strspn(host + 1, "0123456789abcdefABCDEF:.") == len - 2;
	return len > 0 && strspn(host, plain) >= len;
}

static const char *add_server(struct kmip_client *c, const char *text, size_t len)
{
	const char *bracket = memchr(text, ']', len);
	const char *from = bracket ? bracket : text;
	const char *colon = memchr(from, ':', len - (size_t)(from - text));
	size_t host_len = colon ? (size_t)(colon - text) : len;
	uint64_t port = KMIP_PORT;
	char digits[8];

	if (c->server_cnt == KMIP_SERVERS_MAX)
		return "too many servers";
	if (host_len > KMIP_ENDPOINT_MAX - 8 || !is_host(text, host_len))
		return "HOST:PORT is wanted, or [V6ADDRESS]:PORT";
	if (colon) {
		snprintf(digits, sizeof(digits), "%.*s", (int)(len - host_len - 1),
			 colon + 1);
		if (len - host_len - 1 > 5 || parse_u64(digits, 1, 65535, &port))
			return "a port from 1 to 65535 is wanted";
	}
	snprintf(c->servers[c->server_cnt++], KMIP_ENDPOINT_MAX, "%.*s:%u", (int)host_len,
		 text, (unsigned int)port);
	return NULL;
}

const char *kmip_client_servers(struct kmip_client *c, const char *text)
{
	const char *fault = NULL;

	c->server_cnt = 0;
	for (;;) {
		size_t len;

		text += strspn(text, " \t");
		len = strcspn(text, ", \t");
		fault = add_server(c, text, len);
		text += len + strspn(text + len, " \t");
		if (fault || !*text)
			return fault;
		if (*text++ != ',')
			return "separate servers with commas";
	}
}

vcf_err_t kmip_client_start(struct kmip_client *c, struct helper_failure *f)
{
	vcf_err_t err = tls_prepare(&c->tls, f);

	if (err)
		return err;
	if (lockbuf_new(&c->request, KMIP_REQUEST_ROOM) ||
	    lockbuf_new(&c->reply, KMIP_REPLY_MAX))
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for messages: raise RLIMIT_MEMLOCK");
	return 0;
}

static void hang_up(struct kmip_client *c)
{
	tls_stream_close(STEAL_PTR(&c->stream));
}

void kmip_client_stop(struct kmip_client *c)
{
	hang_up(c);
	lockbuf_free(STEAL_PTR(&c->request));
	lockbuf_free(STEAL_PTR(&c->reply));
}

void kmip_client_forget(struct kmip_client *c)
{
	lockbuf_reset(c->request);
	lockbuf_reset(c->reply);
}

/* --- one message to and fro --- */

static vcf_err_t fail_message(const struct kmip_client *c, const struct kmip_call *call,
			      const char *what, struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE, "%s at %s: %s %s", c->tls.service,
			   kmip_client_endpoint(c), kmip_op_name(call->op), what);
}

static vcf_err_t fail_refused(const struct kmip_client *c, const struct kmip_call *call,
			      const struct kmip_reply *r, struct helper_failure *f)
{
	return helper_fail(f, kmip_reason_kind(r->reason),
			   "%s at %s refuses %s: %s (0x%02x)%s%s", c->tls.service,
			   kmip_client_endpoint(c), kmip_op_name(call->op),
			   kmip_reason_name(r->reason), (unsigned int)r->reason,
			   *r->message ? ": " : "", r->message);
}

static ssize_t write_call(void *buf, struct kmip_version v, const struct kmip_call *call)
{
	switch (call->op) {
	case KMIP_DISCOVER_VERSIONS:
		return kmip_write_discover(buf, KMIP_REQUEST_ROOM, v);
	case KMIP_QUERY:
		return kmip_write_query(buf, KMIP_REQUEST_ROOM, v);
	case KMIP_REGISTER:
		return kmip_write_register(buf, KMIP_REQUEST_ROOM, v, call->name,
					   call->key);
	case KMIP_REVOKE:
		return kmip_write_revoke(buf, KMIP_REQUEST_ROOM, v, call->id);
	case KMIP_GET_ATTRIBUTES:
		return kmip_write_get_attributes(buf, KMIP_REQUEST_ROOM, v, call->id);
	case KMIP_LOCATE:
		return kmip_write_locate(buf, KMIP_REQUEST_ROOM, v, call->name,
					 call->offset, call->max);
	default:
		return kmip_write_simple(buf, KMIP_REQUEST_ROOM, v, call->op, call->id);
	}
}

static uint64_t reply_deadline(const struct kmip_client *c)
{
	uint64_t mine = clock_now_ms() + c->tls.o.request_timeout_s * UINT64_C(1000);

	return mine < c->try_deadline_ms ? mine : c->try_deadline_ms;
}

/* A whole reply into c->reply. *answered: a byte of it has come. */
static vcf_err_t receive(struct kmip_client *c, const struct kmip_call *call,
			 uint64_t deadline_ms, bool *answered, struct helper_failure *f)
{
	unsigned char *buf = (unsigned char *)c->reply->data;
	size_t got = 0;
	ssize_t len;
	vcf_err_t err =
		tls_stream_recv(c->stream, buf, TTLV_HEADER_LEN, deadline_ms, &got, f);

	c->reply->len = got;
	*answered = got > 0;
	if (err)
		return err;
	len = ttlv_message_len(buf, KMIP_REPLY_TAG, KMIP_REPLY_MAX);
	if (len == -EMSGSIZE)
		return fail_message(c, call, "has a reply of more than 64 KiB", f);
	if (len < 0)
		return fail_message(c, call, "has a reply that is no KMIP message", f);
	c->reply->len = (size_t)len;
	return tls_stream_recv(c->stream, buf + TTLV_HEADER_LEN,
			       (size_t)len - TTLV_HEADER_LEN, deadline_ms, &got, f);
}

/* Over the connection that is there. *sent: the server may have it. */
static vcf_err_t exchange(struct kmip_client *c, const struct kmip_call *call, bool *sent,
			  bool *answered, struct kmip_reply *out,
			  struct helper_failure *f)
{
	uint64_t deadline_ms = reply_deadline(c);
	ssize_t len;
	vcf_err_t err;

	*answered = false;
	kmip_client_forget(c);
	len = write_call(c->request->data, c->version, call);
	c->request->len = len < 0 ? c->request->room : (size_t)len;
	if (len < 0)
		return helper_fail(f, KEY_INVALID, "a request does not fit");
	*sent = true;
	err = tls_stream_send(c->stream, c->request->data, c->request->len, deadline_ms,
			      f);
	if (!err)
		err = receive(c, call, deadline_ms, answered, f);
	if (err)
		return err;
	err = kmip_read_reply(c->reply->data, c->reply->len, c->version, call->op, out);
	if (err == -EREMOTEIO)
		return fail_refused(c, call, out, f);
	return err ? fail_message(c, call, "has a reply that does not fit the request", f)
		   : 0;
}

/* --- connections --- */

static vcf_err_t discover(struct kmip_client *c, struct helper_failure *f)
{
	static const struct kmip_call call = {.op = KMIP_DISCOVER_VERSIONS};
	struct kmip_reply r = {.reason = 0};
	bool sent, answered;
	vcf_err_t err;

	c->version = first_version;
	err = exchange(c, &call, &sent, &answered, &r, f);
	if (err && r.reason == KMIP_OPERATION_NOT_SUPPORTED)
		return 0; /* it has answered in 1.2 */
	if (!err && kmip_read_versions(&r, &c->version))
		err = helper_fail(f, KEY_INVALID,
				  "%s at %s speaks none of KMIP 1.2 to 1.4 and 2.0",
				  c->tls.service, kmip_client_endpoint(c));
	return err;
}

static vcf_err_t dial(struct kmip_client *c, struct helper_failure *f)
{
	vcf_err_t err = tls_stream_open(&c->stream, &c->tls, kmip_client_endpoint(c),
					c->try_deadline_ms, f);

	if (err)
		return err;
	c->version = c->fixed;
	if (!c->fixed.major)
		err = discover(c, f);
	if (err)
		hang_up(c);
	return err;
}

/* One try with the current server, two when the first was over a connection that had died. */
static vcf_err_t try_server(struct kmip_client *c, const struct kmip_call *call,
			    bool *sent, struct kmip_reply *out, struct helper_failure *f)
{
	bool kept = c->stream && tls_stream_alive(c->stream);
	bool answered = false;
	vcf_err_t err = 0;

	if (!kept)
		hang_up(c);
	if (!kept)
		err = dial(c, f);
	if (err)
		return err;
	err = exchange(c, call, sent, &answered, out, f);
	if (!err || out->reason)
		return err;
	hang_up(c); /* whatever else comes on it would be taken for the next answer */
	if (!kept || answered || call->op == KMIP_REGISTER ||
	    clock_now_ms() >= c->try_deadline_ms)
		return err;
	err = dial(c, f);
	if (!err)
		err = exchange(c, call, sent, &answered, out, f);
	if (err && !out->reason)
		hang_up(c);
	return err;
}

/* cnt: how many servers have not been asked, with the one that comes now. */
static void begin_try(struct kmip_client *c, size_t cnt)
{
	uint64_t end = helper_deadline_ms(), now = clock_now_ms(), left;

	if (end > c->deadline_ms)
		end = c->deadline_ms;
	left = end > now ? end - now : 0;
	c->try_deadline_ms = now + deadline_share_ms(left, cnt, DEADLINE_MAX_MS);
}

static void turn(struct kmip_client *c, const struct helper_failure *f)
{
	hang_up(c);
	c->current = (c->current + 1) % c->server_cnt;
	helper_log("%s; going on with %s", f->text, kmip_client_endpoint(c));
}

vcf_err_t kmip_client_do(struct kmip_client *c, const struct kmip_call *call,
			 struct kmip_reply *out, struct helper_failure *f)
{
	vcf_err_t err = 0;

	for (size_t i = 0; i < c->server_cnt; i++) {
		bool sent = false;

		*out = (struct kmip_reply){.reason = 0};
		begin_try(c, c->server_cnt - i);
		err = try_server(c, call, &sent, out, f);
		if (!err || f->kind != KEY_UNAVAILABLE || c->server_cnt == 1)
			return err;
		turn(c, f);
		if (sent && call->op == KMIP_REGISTER)
			return err;
		if (clock_now_ms() >= c->deadline_ms)
			return err;
	}
	return err;
}
