/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker of loginshare.h: one thread, started once in a process, that lives as long as it
 * does. All that it keeps is its own: no locks.
 *
 * A connection: waiting (has asked) -> answered and closed; or -> holder (has the turn) -> has
 * put its log-in, or failed, or ended, or been silent for too long.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/keys/loginshare_msg.h"
#include "util/cleanup.h"
#include "util/clock.h"

enum { PEERS_MAX = 80, TURN_MS = 20000, POLL_MS = 1000 };

struct peer {
	int fd;
	bool waiting, told;
};

struct broker {
	int listener;
	struct peer peers[PEERS_MAX];
	size_t peer_cnt;
	int holder; /* its descriptor; -1: nobody has the turn */
	uint64_t holder_until_ms;
	struct share_msg *kept; /* gen 0: none */
	struct share_msg *in;
};

static void drop(struct broker *b, size_t i)
{
	if (b->peers[i].fd == b->holder)
		b->holder = -1;
	close(b->peers[i].fd);
	b->peers[i] = b->peers[--b->peer_cnt];
}

static void forget(struct broker *b)
{
	secret_wipe(b->kept, sizeof(*b->kept));
}

/* Those who wait for the one that failed are told, and do not try themselves. */
static void fail_all(struct broker *b)
{
	for (size_t i = b->peer_cnt; i > 0; i--) {
		if (!b->peers[i - 1].waiting)
			continue;
		if (share_send(b->peers[i - 1].fd, b->in)) {
			/* it has gone, and will see that it is alone */
		}
		drop(b, i - 1);
	}
}

static void keep(struct broker *b, const struct peer *p)
{
	struct share_msg answer = {.what = SHARE_LOGIN};

	memcpy(b->kept, b->in, sizeof(*b->kept));
	b->kept->what = SHARE_LOGIN;
	secret_random(&b->kept->gen, sizeof(b->kept->gen));
	b->kept->gen |= 1; /* never 0 */
	answer.gen = b->kept->gen;
	if (share_send(p->fd, &answer))
		forget(b);
}

/* What a connection says. False: it is done with. */
static bool hear(struct broker *b, struct peer *p)
{
	bool holds = p->fd == b->holder;

	if (share_recv(p->fd, b->in, 0))
		return false;
	if (b->in->what == SHARE_TAKE && !holds) {
		if (b->in->gen && b->in->gen == b->kept->gen)
			forget(b);
		p->waiting = true;
		return true;
	}
	if (b->in->what == SHARE_PUT && holds)
		keep(b, p);
	else if (b->in->what == SHARE_FAILED && holds)
		fail_all(b);
	return false;
}

static void hear_all(struct broker *b, const struct pollfd *p, size_t cnt)
{
	for (size_t i = cnt; i > 0; i--) {
		int fd = p[i].fd; /* p[0] is the listener's */
		size_t at = 0;

		if (!p[i].revents)
			continue;
		while (at < b->peer_cnt && b->peers[at].fd != fd)
			at++;
		if (at < b->peer_cnt && !hear(b, &b->peers[at])) {
			/* fail_all() may have moved it */
			for (at = 0; at < b->peer_cnt && b->peers[at].fd != fd; at++)
				;
			drop(b, at);
		}
	}
}

/* Gives those who wait what there is, or one of them the turn. */
static void serve(struct broker *b)
{
	const struct share_msg turn = {.what = SHARE_TURN}, wait = {.what = SHARE_WAIT};
	uint64_t now = clock_now_ms();

	if (b->holder >= 0 && now >= b->holder_until_ms)
		b->holder = -1;
	if (b->kept->gen && now >= b->kept->until_ms)
		forget(b);
	for (size_t i = b->peer_cnt; i > 0; i--) {
		struct peer *p = &b->peers[i - 1];

		if (!p->waiting)
			continue;
		if (b->kept->gen) {
			if (share_send(p->fd, b->kept)) {
				/* it has gone */
			}
			drop(b, i - 1);
		} else if (b->holder < 0) {
			p->waiting = false;
			b->holder = p->fd;
			b->holder_until_ms = now + TURN_MS;
			if (share_send(p->fd, &turn))
				drop(b, i - 1);
		} else if (!p->told) { /* that we live */
			p->told = true;
			if (share_send(p->fd, &wait))
				drop(b, i - 1);
		}
	}
}

static void welcome(struct broker *b)
{
	int fd = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (b->peer_cnt == PEERS_MAX || !share_same_user(fd)) {
		close(fd);
		return;
	}
	b->peers[b->peer_cnt++] = (struct peer){.fd = fd};
}

static void *broker_main(void *arg)
{
	struct pollfd p[1 + PEERS_MAX];
	struct broker *b = arg;

	for (;;) {
		size_t cnt = b->peer_cnt;

		p[0] = (struct pollfd){.fd = b->listener, .events = POLLIN};
		for (size_t i = 0; i < cnt; i++)
			p[1 + i] =
				(struct pollfd){.fd = b->peers[i].fd, .events = POLLIN};
		if (poll(p, 1 + cnt, POLL_MS) < 0)
			continue;
		hear_all(b, p, cnt);
		if (p[0].revents)
			welcome(b);
		serve(b);
	}
	return NULL;
}

static vcf_err_t listen_at(const struct sockaddr_un *addr, socklen_t len, int *out)
{
	auto_close int fd =
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)addr, len) < 0 ||
	    listen(fd, PEERS_MAX) < 0)
		return -errno;
	*out = STEAL_FD(&fd);
	return 0;
}

/* With all signals blocked: they are for the process's own thread. */
static vcf_err_t start_thread(struct broker *b)
{
	sigset_t all, before;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, NULL, broker_main, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!rc)
		pthread_detach(thread);
	return -rc;
}

vcf_err_t share_broker_start(const struct sockaddr_un *addr, socklen_t len)
{
	static struct broker broker; /* for the rest of the process's life */
	static bool running;
	vcf_err_t err;

	if (running)
		return -EALREADY; /* it is at another address */
	if (!broker.kept)
		broker.kept = share_msg_new();
	if (!broker.in)
		broker.in = share_msg_new();
	if (!broker.kept || !broker.in)
		return -ENOMEM;
	broker.holder = -1;
	err = listen_at(addr, len, &broker.listener);
	if (err)
		return err;
	err = start_thread(&broker);
	running = !err;
	if (err)
		close(broker.listener);
	return err;
}
