/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/loginshare.h"

#include <errno.h>
#include <gcrypt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/keys/loginshare_msg.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/parse.h"

enum { WAIT_MS = 16000, ANSWER_MS = 1000, TRIES = 3 };

struct loginshare {
	struct sockaddr_un addr;
	socklen_t addr_len;
	struct share_msg *msg;
	struct lockbuf *login; /* on its way, else empty */
	uint64_t gen;	       /* of the log-in that we had last */
	bool refused;	       /* that one was */
	int turn;	       /* the connection over which we have the turn; -1 */
};

/* --- messages --- */

struct share_msg *share_msg_new(void)
{
	void *p = mmap(NULL, sizeof(struct share_msg), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (mlock(p, sizeof(struct share_msg)) < 0) {
		munmap(p, sizeof(struct share_msg));
		return NULL;
	}
	madvise(p, sizeof(struct share_msg), MADV_DONTDUMP);
	return p;
}

bool share_same_user(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       cred.uid == geteuid();
}

vcf_err_t share_send(int fd, const struct share_msg *m)
{
	size_t len = offsetof(struct share_msg, data) + m->len;

	if (send(fd, m, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	return 0;
}

vcf_err_t share_recv(int fd, struct share_msg *m, int wait_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int rc = poll(&p, 1, wait_ms);
	ssize_t n;

	if (rc <= 0)
		return rc ? -errno : -ETIMEDOUT;
	n = recv(fd, m, sizeof(*m), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0)
		return -errno;
	if ((size_t)n < offsetof(struct share_msg, data) || (size_t)n > sizeof(*m) ||
	    m->len != (size_t)n - offsetof(struct share_msg, data))
		return -EBADMSG;
	return 0;
}

/* --- a process's own side --- */

/* Names of credentials in an identity mean another file with another folder of them. */
static vcf_err_t hash(unsigned char digest[32], const char *identity)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	gcry_md_hd_t md;

	if (gcry_md_open(&md, GCRY_MD_SHA256, 0))
		return -ENOMEM;
	gcry_md_write(md, identity, strlen(identity) + 1);
	gcry_md_write(md, folder ? folder : "", folder ? strlen(folder) : 0);
	memcpy(digest, gcry_md_read(md, GCRY_MD_SHA256), 32);
	gcry_md_close(md);
	return 0;
}

/* An abstract name, so that nothing is left behind in any file system. */
static vcf_err_t set_address(struct loginshare *s, const char *identity)
{
	unsigned char digest[32];
	char hex[2 * sizeof(digest) + 1];
	int n;

	if (hash(digest, identity))
		return -ENOMEM;
	hex_encode(hex, digest, sizeof(digest));
	s->addr.sun_family = AF_UNIX;
	n = snprintf(s->addr.sun_path + 1, sizeof(s->addr.sun_path) - 1,
		     "vmcryptfs-login-%u-%.64s", geteuid(), hex);
	s->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	return 0;
}

DEFINE_AUTO(loginshare, struct loginshare *, loginshare_free)

vcf_err_t loginshare_new(struct loginshare **out, const char *identity)
{
	struct loginshare *s __attribute__((cleanup(cleanup_loginshare))) =
		calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->turn = -1;
	s->msg = share_msg_new();
	if (!s->msg || lockbuf_new(&s->login, LOGINSHARE_MAX) || set_address(s, identity))
		return -ENOMEM;
	*out = STEAL_PTR(&s);
	return 0;
}

static void end_turn(struct loginshare *s)
{
	if (s->turn >= 0)
		close(s->turn);
	s->turn = -1;
}

void loginshare_free(struct loginshare *s)
{
	if (!s)
		return;
	end_turn(s);
	lockbuf_free(s->login);
	if (s->msg) {
		secret_wipe(s->msg, sizeof(*s->msg));
		munmap(s->msg, sizeof(*s->msg));
	}
	free(s);
}

static vcf_err_t connect_once(const struct loginshare *s, int *out)
{
	auto_close int fd =
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&s->addr, s->addr_len) < 0)
		return -errno;
	if (!share_same_user(fd))
		return -EPERM;
	*out = STEAL_FD(&fd);
	return 0;
}

/* To the broker; if there is none, we have one. */
static vcf_err_t connect_broker(const struct loginshare *s, int *out)
{
	vcf_err_t err = -ECONNREFUSED;

	for (int i = 0; err == -ECONNREFUSED && i < TRIES; i++) {
		err = connect_once(s, out);
		if (err != -ECONNREFUSED)
			break;
		err = share_broker_start(&s->addr, s->addr_len);
		if (err == -EADDRINUSE)
			usleep(20 * 1000); /* bound, but not yet listening */
		if (!err || err == -EADDRINUSE)
			err = -ECONNREFUSED;
	}
	return err;
}

/* Less than what is left for the request, so that it can still be said what the matter is. */
static int wait_ms(void)
{
	uint64_t now = clock_now_ms(), until = helper_deadline_ms();

	if (until <= now + ANSWER_MS)
		return ANSWER_MS;
	return until - now - ANSWER_MS < WAIT_MS ? (int)(until - now - ANSWER_MS)
						 : WAIT_MS;
}

/* The broker's answer in s->msg. */
static vcf_err_t ask(struct loginshare *s, bool refused)
{
	vcf_err_t err = connect_broker(s, &s->turn);

	if (err)
		return err;
	*s->msg = (struct share_msg){.what = SHARE_TAKE, .gen = refused ? s->gen : 0};
	err = share_send(s->turn, s->msg);
	if (!err)
		err = share_recv(s->turn, s->msg, ANSWER_MS);
	if (!err && s->msg->what == SHARE_WAIT)
		err = share_recv(s->turn, s->msg, wait_ms());
	return err;
}

static vcf_err_t take_failure(const struct share_msg *m, struct helper_failure *f)
{
	vcf_err_t err;

	if (m->kind > KEY_INVALID || m->len > KEYPROTO_TEXT_MAX)
		return -EAGAIN;
	err = helper_fail(f, (enum key_error)m->kind, "%.*s", (int)m->len, m->data);
	f->retry_after_s = m->retry_after_s;
	return err;
}

vcf_err_t loginshare_take(struct loginshare *s, bool refused, struct lockbuf *login,
			  uint64_t *until_ms, struct helper_failure *f)
{
	struct share_msg *m = s->msg;
	vcf_err_t err;

	end_turn(s);
	err = ask(s, refused);
	if (!err && m->what == SHARE_TURN)
		return -EAGAIN;
	end_turn(s);
	if (err || (m->what != SHARE_LOGIN && m->what != SHARE_FAILED))
		return -EAGAIN;
	if (m->what == SHARE_FAILED)
		return take_failure(m, f);
	lockbuf_reset(login);
	lockbuf_add(login, m->data, m->len);
	*until_ms = m->until_ms;
	s->gen = m->gen;
	secret_wipe(m, sizeof(*m));
	return login->full ? -EAGAIN : 0;
}

void loginshare_put(struct loginshare *s, const struct lockbuf *login, uint64_t until_ms)
{
	struct share_msg *m = s->msg;

	s->gen = 0;
	if (s->turn < 0 || login->len > sizeof(m->data))
		return;
	m->what = SHARE_PUT;
	m->until_ms = until_ms;
	m->len = (uint32_t)login->len;
	memcpy(m->data, login->data, login->len);
	if (!share_send(s->turn, m) && !share_recv(s->turn, m, ANSWER_MS))
		s->gen = m->gen;
	secret_wipe(m, sizeof(*m));
	end_turn(s);
}

void loginshare_failed(struct loginshare *s, const struct helper_failure *f)
{
	struct share_msg *m = s->msg;

	if (s->turn < 0)
		return;
	*m = (struct share_msg){.what = SHARE_FAILED,
				.kind = f->kind,
				.retry_after_s = f->retry_after_s,
				.len = (uint32_t)strlen(f->text)};
	memcpy(m->data, f->text, m->len);
	if (share_send(s->turn, m))
		helper_log("a failed log-in could not be told to the other helpers");
	end_turn(s);
}

/* --- all of it --- */

static vcf_err_t log_in_here(struct loginshare *s, const struct login *l, void *arg,
			     struct helper_failure *f)
{
	vcf_err_t err = l->log_in(arg, f);
	uint64_t until_ms;

	if (!s)
		return err;
	if (err) {
		loginshare_failed(s, f);
		return err;
	}
	lockbuf_reset(s->login);
	until_ms = l->publish(arg, s->login);
	if (!s->login->full)
		loginshare_put(s, s->login, until_ms);
	lockbuf_reset(s->login);
	return 0;
}

static vcf_err_t take_over(struct loginshare *s, const struct login *l, void *arg,
			   struct helper_failure *f)
{
	uint64_t until_ms = 0;
	vcf_err_t err = loginshare_take(s, s->refused, s->login, &until_ms, f);

	if (!err)
		err = l->adopt(arg, s->login, until_ms);
	lockbuf_reset(s->login);
	return err;
}

vcf_err_t loginshare_renew(struct loginshare *s, const struct login *l, void *arg,
			   struct helper_failure *f)
{
	vcf_err_t err = s ? take_over(s, l, arg, f) : -EAGAIN;

	if (err == -EAGAIN)
		err = log_in_here(s, l, arg, f);
	if (s && !err)
		s->refused = false;
	return err;
}

void loginshare_refused(struct loginshare *s)
{
	if (s)
		s->refused = true;
}
