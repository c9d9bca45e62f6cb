/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/http_parts.h"
#include "tests/unit/unit.h"
#include "util/clock.h"

#define X128                                                                             \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"               \
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* --- URLs --- */

static const struct {
	const char *url, *want; /* want NULL: refused */
	const char *fault;	/* a part of the text */
	bool loopback;
} url_rows[] = {
	{"https://kms", "https://kms"},
	{"https://kms:9311/", "https://kms:9311"},
	{"https://kms/a/b//", "https://kms/a/b"},
	{"https://[::1]:1/x", "https://[::1]:1/x"},
	{"HTTPS://kms", "HTTPS://kms"},
	{"http://localhost:1", "http://localhost:1", NULL, true},
	{"http://127.0.0.1", "http://127.0.0.1", NULL, true},
	{"http://127.255.3.4:80", "http://127.255.3.4:80", NULL, true},
	{"http://[::1]", "http://[::1]", NULL, true},
	{"http://localhost", NULL, "insecure-loopback"},
	{"http://kms", NULL, "does not begin with https://", true},
	{"http://127.0.0.1.evil.example", NULL, "does not begin with https://", true},
	{"http://localhost.evil.example", NULL, "does not begin with https://", true},
	{"http://127.999.0.1", NULL, "does not begin with https://", true}, /* a name */
	{"http://127.-1.0.1", NULL, "does not begin with https://", true},
	{"http://127.0.0.1@evil.example", NULL, "does not begin with https://", true},
	{"ftp://kms", NULL, "does not begin with https://", true},
	{"file:///etc/passwd", NULL, "", true},
	{"kms", NULL, "is no URL"},
	{"", NULL, "is empty"},
	{"https://", NULL, "is no URL"},
	{"https:/kms", NULL, "is no URL"},
	{"https:///kms", NULL, "is no URL"},
	{"https:kms", NULL, "is no URL"},
	{"https:/kms/://x", NULL, "is no URL"},
	{"https://user@kms", NULL, "has a user"},
	{"https://user:pw@kms", NULL, "has a user"},
	{"https://kms?x", NULL, "query"},
	{"https://kms#x", NULL, "fragment"},
	{"https://kms x", NULL, "characters"},
	{"https://kms\r\nX: y", NULL, "characters"},
	{"https://k\xc3\xa9", NULL, "characters"},
	{"https://" X128 X128 X128 X128, NULL, "too long"},
};

START_TEST(urls)
{
	char dst[HTTP_URL_MAX] = "";
	const char *fault = http_url_check(
		dst, url_rows[_i].url, strlen(url_rows[_i].url), url_rows[_i].loopback);

	if (url_rows[_i].want) {
		ck_assert_ptr_null(fault);
		ck_assert_str_eq(dst, url_rows[_i].want);
		return;
	}
	ck_assert_msg(fault && strstr(fault, url_rows[_i].fault), "%s: %s",
		      url_rows[_i].url, fault ? fault : "accepted");
}
END_TEST

static const struct {
	const char *urls;
	size_t cnt; /* 0: refused */
} list_rows[] = {
	{"https://a", 1},
	{"https://a,https://b/x/", 2},
	{" https://a , https://b", 2},
	{"https://a,https://a,https://a,https://a,https://a,https://a,https://a,https://a",
	 8},
	{"https://a,https://a,https://a,https://a,https://a,https://a,https://a,https://a,"
	 "https://a",
	 0},
	{"https://a,", 0},
	{",https://a", 0},
	{"https://a https://b", 0},
	{"https://a,http://b", 0},
};

START_TEST(url_lists)
{
	struct http_options o = {0};
	struct helper_failure f = {0};
	struct http *h = NULL;
	vcf_err_t err = http_new(&h, "Service", "endpoint", list_rows[_i].urls, &o, &f);

	ck_assert_int_eq(err == 0, list_rows[_i].cnt > 0);
	if (err)
		ck_assert_ptr_nonnull(strstr(f.text, "endpoint"));
	else
		ck_assert_str_eq(http_endpoint(h), "https://a");
	http_free(h);
}
END_TEST

/* --- options --- */

static const struct {
	const char *name, *value;
	int err;
} option_rows[] = {
	{"ca-file", "/a", 0},
	{"ca-file", "a", -EINVAL},
	{"ca-file", "", -EINVAL},
	{"ca-dir", "/a", 0},
	{"client-cert", "name", 0},
	{"client-key", "name", 0},
	{"client-key", "a/b", -EINVAL},
	{"connect-timeout", "3", 0},
	{"connect-timeout", "0", -EINVAL},
	{"request-timeout", "1m", 0},
	{"request-timeout", "2h", -EINVAL},
	{"insecure-loopback", "yes", 0},
	{"insecure-loopback", "maybe", -EINVAL},
	{"insecure", "yes", -ENOENT},
};

START_TEST(options)
{
	struct http_options o = {0};

	ck_assert_int_eq(http_option(&o, option_rows[_i].name, option_rows[_i].value),
			 option_rows[_i].err);
}
END_TEST

/* --- what went wrong --- */

static const struct {
	struct http_fault x;
	const char *want;
} fault_rows[] = {
	{{.code = CURLE_COULDNT_RESOLVE_HOST}, "DNS"},
	{{.code = CURLE_COULDNT_CONNECT, .os_errno = ECONNREFUSED}, "Connection refused"},
	{{.code = CURLE_COULDNT_CONNECT, .said = "words"}, "cannot connect: words"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION, .verify = 20}, "set ca-file"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION, .verify = 18, .ca = "/x/ca.pem"},
	 "/x/ca.pem"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION, .verify = 10}, "expired"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION, .verify = 9}, "not valid yet"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION,
	  .verify = 1,
	  .said = "SSL: no alternative certificate subject name matches target host name"},
	 "another host"},
	{{.code = CURLE_PEER_FAILED_VERIFICATION, .verify = 99, .said = "odd"},
	 "(99): odd"},
	{{.code = CURLE_SSL_CACERT_BADFILE, .ca = "/x"}, "(/x) cannot be read"},
	{{.code = CURLE_SSL_CERTPROBLEM}, "client-cert and client-key cannot be used"},
	{{.code = CURLE_SSL_CONNECT_ERROR, .said = "sslv3 alert handshake failure"},
	 "set client-cert"},
	{{.code = CURLE_RECV_ERROR,
	  .said = "OpenSSL SSL_read: tlsv13 alert certificate required",
	  .client_cert = true},
	 "check client-cert"},
	{{.code = CURLE_SSL_CONNECT_ERROR, .said = "wrong version number"},
	 "not speak TLS"},
	{{.code = CURLE_RECV_ERROR,
	  .said = "OpenSSL SSL_read: unexpected eof while reading"},
	 "without a whole reply"},
	{{.code = CURLE_SEND_ERROR, .said = "getpeername() failed"}, "set client-cert"},
	{{.code = CURLE_RECV_ERROR, .said = "Send failure: Broken pipe"},
	 "set client-cert"},
	{{.code = CURLE_HTTP2, .said = "Send failure: Broken pipe"}, "set client-cert"},
	{{.code = CURLE_RECV_ERROR,
	  .said = "Connection reset by peer",
	  .client_cert = true},
	 "check client-cert"},
	{{.code = CURLE_SEND_ERROR, .endpoint = "kms:5696", .client_cert = true},
	 "check client-cert"}, /* KMIP */
	{{.code = CURLE_PARTIAL_FILE}, "cut off"},
	{{.code = CURLE_GOT_NOTHING}, "without a reply"},
	{{.code = CURLE_WRITE_ERROR, .too_large = true, .reply_max = 65536},
	 "65536 bytes"},
	{{.code = CURLE_OPERATION_TIMEDOUT, .stage = HTTP_CONNECTING, .seconds = 5},
	 "no connection within 5 s"},
	{{.code = CURLE_OPERATION_TIMEDOUT, .stage = HTTP_HANDSHAKE, .seconds = 5},
	 "no TLS handshake within 5 s"},
	{{.code = CURLE_OPERATION_TIMEDOUT, .stage = HTTP_WAITING, .seconds = 15},
	 "no whole reply within 15 s"},
	{{.code = CURLE_WEIRD_SERVER_REPLY}, "does not speak HTTP"},
	{{.code = CURLE_OUT_OF_MEMORY}, "Out of memory"},
};

START_TEST(faults)
{
	struct helper_failure f = {0};
	struct http_fault x = fault_rows[_i].x;

	x.service = "Service";
	x.endpoint = x.endpoint ? x.endpoint : "https://kms:1";
	x.said = x.said ? x.said : "";
	x.ca = x.ca ? x.ca : "";
	ck_assert_int_eq(http_fail_fault(&x, &f), keyproto_errno(KEY_UNAVAILABLE));
	ck_assert_int_eq(f.kind, KEY_UNAVAILABLE);
	ck_assert_ptr_eq(strstr(f.text, "Service at "), f.text);
	ck_assert_ptr_eq(strstr(f.text, x.endpoint), f.text + strlen("Service at "));
	ck_assert_msg(strstr(f.text, fault_rows[_i].want), "%s", f.text);
}
END_TEST

/* --- what a service says --- */

static const struct {
	const char *body, *type, *want;
} text_rows[] = {
	{"{\"code\":403,\"title\":\"Forbidden\",\"description\":\"Not you\"}", "",
	 "Not you"},
	{"{\"error\":{\"code\":401,\"message\":\"Who?\"}}", "application/json", "Who?"},
	{"{\"error\":\"flat\"}", "", "flat"},
	{"{\"errors\":[\"permission denied\"]}", "", "permission denied"},
	{"{\"message\":\"m\"}", "", "m"},
	{"{\"message\":\"token " X128 "\"}", "", "token [... 128 characters]"},
	{"{\"errors\":[]}", "", "13 bytes that are no known form of error"},
	{"{\"description\":7}", "", "17 bytes that are no known form of error"},
	{"{\"description\":\"a\\r\\nb\\u0007 \\u00e9c\"}", "", "a b c"},
	{"{\"description\":\"a\"} x", "", "21 bytes that are no known form of error"},
	{"{\"description\":\"a\"", "", "18 bytes that are no known form of error"},
	{"{\"description\":\"a\\u0000b\"}", "",
	 "26 bytes that are no known form of error"},
	{"<html><body>secret</body></html>", "", "a page of HTML, perhaps of a proxy"},
	{"\n <!DOCTYPE html>", "", "a page of HTML, perhaps of a proxy"},
	{"text", "text/html", "a page of HTML, perhaps of a proxy"},
	{"text", "text/plain", "4 bytes that are no known form of error"},
	{"", "", "no text"},
};

START_TEST(texts)
{
	struct http_reply r = {.body = text_rows[_i].body,
			       .len = strlen(text_rows[_i].body)};
	char dst[64];

	snprintf(r.content_type, sizeof(r.content_type), "%s", text_rows[_i].type);
	http_error_text(&r, dst, sizeof(dst));
	ck_assert_str_eq(dst, text_rows[_i].want);
}
END_TEST

static const struct {
	const char *body;
	bool good;
} json_rows[] = {
	{"{}", true},
	{"{\"a\":[1,2,{\"b\":null}]}", true},
	{" {} \n", true},
	{"", false},
	{"{", false},
	{"{}{}", false},
	{"{} x", false},
	{"{\"a\":1,}", false},
	{"{\"a\":\"\xff\"}", false},
	{"[[[[[[[[[[[[[[]]]]]]]]]]]]]]", true},
	{"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", false},
};

START_TEST(json)
{
	struct http_reply r = {.body = json_rows[_i].body,
			       .len = strlen(json_rows[_i].body)};
	struct json_object *o = http_json(&r);

	ck_assert_int_eq(o != NULL, json_rows[_i].good);
	json_object_put(o);
}
END_TEST

static const struct {
	int status;
	enum key_error kind;
} status_rows[] = {
	{301, KEY_UNAVAILABLE}, {400, KEY_INVALID},	{401, KEY_DENIED},
	{403, KEY_DENIED},	{404, KEY_NOTFOUND},	{405, KEY_INVALID},
	{408, KEY_UNAVAILABLE}, {410, KEY_NOTFOUND},	{413, KEY_INVALID},
	{429, KEY_UNAVAILABLE}, {500, KEY_UNAVAILABLE}, {503, KEY_UNAVAILABLE},
	{507, KEY_QUOTA},	{599, KEY_UNAVAILABLE},
};

START_TEST(statuses)
{
	struct http_reply r = {.status = status_rows[_i].status,
			       .body = "{\"description\":\"words\"}",
			       .len = 23,
			       .retry_after_s = 7};
	struct http_options o = {0};
	struct helper_failure f = {0};
	struct http *h = NULL;
	char number[8];

	ck_assert_int_eq(http_new(&h, "Service", "endpoint", "https://a", &o, &f), 0);
	ck_assert_int_eq(http_fail_status(h, &r, "GET of a thing", &f),
			 keyproto_errno(status_rows[_i].kind));
	snprintf(number, sizeof(number), "%d", r.status);
	ck_assert_ptr_nonnull(strstr(f.text, number));
	ck_assert_ptr_nonnull(strstr(f.text, "GET of a thing: words"));
	ck_assert_int_eq((int)f.retry_after_s, 7);
	http_free(h);
}
END_TEST

/* --- endpoints --- */

static int listen_on(unsigned int *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, len), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* A process that answers each connection to fd in the same way, until it is killed. */
static pid_t answer_with(int fd, int other, const char *reply)
{
	char request[4096];
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	alarm(20);
	close(other);
	for (;;) {
		int c = accept(fd, NULL, NULL);

		if (read(c, request, sizeof(request)) < 0 ||
		    write(c, reply, strlen(reply)) < 0)
			_exit(1);
		close(c);
	}
}

static const struct {
	const char *method;
	size_t first, next; /* whose reply it is, and whose turn it is then */
} turn_rows[] = {
	{"POST", 0, 1}, /* the other one may not be asked, too */
	{"GET", 1, 0},
};

/* The text blames the one that answered, not the one whose turn is next. */
START_TEST(blame)
{
	struct http_options o = {.insecure_loopback = true};
	struct http_request q = {.method = turn_rows[_i].method, .path = "/x"};
	char both[160], want[2][64];
	struct helper_failure f = {0};
	struct http *h = NULL;
	struct http_reply r;
	unsigned int port[2];
	int fd[2] = {listen_on(&port[0]), listen_on(&port[1])};
	pid_t pid[2];

	for (int i = 0; i < 2; i++) {
		pid[i] = answer_with(fd[i], fd[!i],
				     "HTTP/1.1 503 No\r\nContent-Length: 0\r\n"
				     "Connection: close\r\n\r\n");
		snprintf(want[i], sizeof(want[i]), "http://127.0.0.1:%u", port[i]);
	}
	snprintf(both, sizeof(both), "%s,%s", want[0], want[1]);
	ck_assert_int_eq(http_new(&h, "Service", "endpoint", both, &o, &f), 0);
	ck_assert_int_eq(http_do(h, &q, &r, &f), 0);
	ck_assert_int_eq(r.status, 503);
	ck_assert_int_ne(http_fail_status(h, &r, "a thing", &f), 0);
	ck_assert_ptr_eq(strstr(f.text, want[turn_rows[_i].first]), f.text);
	ck_assert_str_eq(http_endpoint(h), want[turn_rows[_i].first]);
	kill(pid[turn_rows[_i].next], SIGKILL);
	close(fd[turn_rows[_i].next]);
	q.method = "POST";
	waitpid(pid[turn_rows[_i].next], NULL, 0);
	ck_assert_int_eq(http_do(h, &q, &r, &f), 0); /* refused: not sent, so the other */
	ck_assert_str_eq(http_endpoint(h), want[turn_rows[_i].first]);
	kill(pid[turn_rows[_i].first], SIGKILL);
	waitpid(pid[turn_rows[_i].first], NULL, 0);
	close(fd[turn_rows[_i].first]);
	http_free(h);
}
END_TEST

/* A name server that takes questions and never answers. False where that is not allowed. */
static bool silent_dns(const char *resolv_conf)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
				      .sin_port = htons(53),
				      .sin_addr.s_addr = htonl(0x7f000042)};
	FILE *f = fopen(resolv_conf, "w");

	if (!f || fputs("nameserver 127.0.0.66\n", f) < 0 || fclose(f))
		return false;
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(resolv_conf, "/etc/resolv.conf", NULL, MS_BIND, NULL) == 0 &&
	       bind(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
		    (const struct sockaddr *)&a, sizeof(a)) == 0;
}

/* Exit code: 0 good, 77 not possible here. */
static int dns_child(const char *resolv_conf)
{
	struct http_options o = {.connect_timeout_s = 1};
	struct http_request q = {.method = "GET", .path = "/x"};
	uint64_t begin = clock_now_ms();
	struct helper_failure f = {0};
	struct http *h = NULL;
	struct http_reply r;

	if (!silent_dns(resolv_conf))
		return 77;
	if (http_new(&h, "Service", "endpoint", "https://kms.example", &o, &f) ||
	    !http_do(h, &q, &r, &f) || f.kind != KEY_UNAVAILABLE)
		return 1;
	return clock_now_ms() - begin < 3000 ? 0 : 2; /* the resolver itself takes 10 s */
}

START_TEST(dns)
{
	char resolv_conf[256];
	int status;
	pid_t pid;

	snprintf(resolv_conf, sizeof(resolv_conf), "%s/resolv.conf", unit_tmpdir());
	pid = fork();
	if (pid == 0)
		_exit(dns_child(resolv_conf));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) != 77)
		ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* --- locked buffers --- */

static const struct {
	char how; /* t text, j json, b base64, u URL */
	const char *in;
	size_t room;
	const char *want; /* NULL: full */
} buf_rows[] = {
	{'t', "abc", 3, "abc"},
	{'t', "abcd", 3, NULL},
	{'j', "a\"b\\c", 20, "\"a\\\"b\\\\c\""},
	{'j', "\x01\n\x7f", 32, "\"\\u0001\\u000a\\u007f\""},
	{'j', "\xc3\xa9", 8, "\"\xc3\xa9\""},
	{'j', "abc", 4, NULL},
	{'b', "abc", 4, "YWJj"},
	{'b', "abcd", 7, NULL},
	{'b', "", 0, ""},
	{'u', "a-Z0._~", 10, "a-Z0._~"},
	{'u', "a+b=@:", 20, "a%2Bb%3D%40%3A"},
	{'u', "&#?/% \xc3", 30, "%26%23%3F%2F%25%20%C3"},
};

START_TEST(buffers)
{
	struct lockbuf *b = NULL;
	const char *in = buf_rows[_i].in;

	ck_assert_int_eq(lockbuf_new(&b, buf_rows[_i].room), 0);
	if (buf_rows[_i].how == 't')
		lockbuf_add_text(b, in);
	else if (buf_rows[_i].how == 'j')
		lockbuf_add_json(b, in, strlen(in));
	else if (buf_rows[_i].how == 'b')
		lockbuf_add_base64(b, in, strlen(in));
	else
		lockbuf_add_url(b, in);
	ck_assert_int_eq(b->full, !buf_rows[_i].want);
	if (buf_rows[_i].want) {
		ck_assert_str_eq(b->data, buf_rows[_i].want);
		ck_assert_uint_eq(b->len, strlen(buf_rows[_i].want));
	}
	lockbuf_reset(b);
	for (size_t i = 0; i < buf_rows[_i].room; i++)
		ck_assert_int_eq(b->data[i], 0);
	lockbuf_free(b);
}
END_TEST

/* --- credentials --- */

static const struct {
	const char *content;
	mode_t mode;
	bool systemd, link;
	const char *want, *fault;
} cred_rows[] = {
	{"pass", 0600, false, false, "pass", NULL},
	{"pass\n", 0400, false, false, "pass", NULL},
	{"pa ss\r\n\n", 0400, false, false, "pa ss", NULL},
	{"pass", 0440, true, false, "pass", NULL},
	{"pass", 0440, false, false, NULL, "chmod"},
	{"pass", 0604, false, false, NULL, "chmod"},
	{"pass", 0444, true, false, NULL, "chmod"},
	{"pass", 0660, true, false, NULL, "chmod"},
	{"", 0600, false, false, NULL, "is empty"},
	{"\n", 0600, false, false, NULL, "is empty"},
	{"pass", 0600, false, true, NULL, "symbolic link"},
};

static void make_credential(const char *path, int i)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(cred_rows[i].content);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq((int)write(fd, cred_rows[i].content, len), (int)len);
	ck_assert_int_eq(fchmod(fd, cred_rows[i].mode), 0);
	close(fd);
}

START_TEST(credentials)
{
	struct helper_failure f = {0};
	struct lockbuf *b = NULL;
	char path[256], name[32], link[272];
	const char *where = path;
	vcf_err_t err;

	snprintf(name, sizeof(name), "cred%d", _i);
	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	make_credential(path, _i);
	if (cred_rows[_i].systemd) {
		setenv("CREDENTIALS_DIRECTORY", unit_tmpdir(), 1);
		where = name;
	}
	if (cred_rows[_i].link) {
		snprintf(link, sizeof(link), "%s-link", path);
		ck_assert_int_eq(symlink(name, link), 0);
		where = link;
	}
	err = credential_read(&b, "password-file", where, &f);
	unsetenv("CREDENTIALS_DIRECTORY");
	ck_assert_int_eq(err == 0, cred_rows[_i].want != NULL);
	if (!err)
		ck_assert_str_eq(b->data, cred_rows[_i].want);
	else
		ck_assert_msg(strstr(f.text, cred_rows[_i].fault), "%s", f.text);
	lockbuf_free(b);
}
END_TEST

static const char *const bad_places[] = {"",	   "name",	 "a/b", ".name",
					 "./name", "/nowhere/x", "/"};

START_TEST(credential_places)
{
	struct helper_failure f = {0};
	struct lockbuf *b = NULL;

	ck_assert_int_ne(credential_read(&b, "password-file", bad_places[_i], &f), 0);
	ck_assert_ptr_eq(strstr(f.text, "password-file: "), f.text);
}
END_TEST

START_TEST(credential_size)
{
	static char content[CREDENTIAL_MAX + 2];
	struct helper_failure f = {0};
	struct lockbuf *b = NULL;
	char path[256];

	for (int over = 0; over < 2; over++) {
		FILE *file;

		memset(content, 'x', sizeof(content));
		snprintf(path, sizeof(path), "%s/size%d", unit_tmpdir(), over);
		file = fopen(path, "w");
		ck_assert_ptr_nonnull(file);
		ck_assert_int_eq(fchmod(fileno(file), 0600), 0);
		ck_assert_int_eq(
			(int)fwrite(content, 1, CREDENTIAL_MAX + (size_t)over, file),
			CREDENTIAL_MAX + over);
		fclose(file);
		ck_assert_int_eq(credential_read(&b, "token-file", path, &f) == 0, !over);
		lockbuf_free(STEAL_PTR(&b));
	}
	ck_assert_ptr_nonnull(strstr(f.text, "8192"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("http");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, urls, 0, ROWS(url_rows));
	tcase_add_loop_test(t, url_lists, 0, ROWS(list_rows));
	tcase_add_loop_test(t, options, 0, ROWS(option_rows));
	tcase_add_loop_test(t, faults, 0, ROWS(fault_rows));
	tcase_add_loop_test(t, texts, 0, ROWS(text_rows));
	tcase_add_loop_test(t, json, 0, ROWS(json_rows));
	tcase_add_loop_test(t, statuses, 0, ROWS(status_rows));
	tcase_add_loop_test(t, blame, 0, ROWS(turn_rows));
	tcase_add_test(t, dns);
	tcase_add_loop_test(t, buffers, 0, ROWS(buf_rows));
	tcase_add_loop_test(t, credentials, 0, ROWS(cred_rows));
	tcase_add_loop_test(t, credential_places, 0, ROWS(bad_places));
	tcase_add_test(t, credential_size);
	suite_add_tcase(s, t);
	return s;
}
