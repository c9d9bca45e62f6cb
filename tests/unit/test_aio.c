/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers come out as they went in, on whatever file; what is not one is refused at once; the end
 * wakes who waits. And the sign of life: held, it is not over; over, nobody can hold it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/aio.h"
#include "fs/lifesign.h"
#include "tests/unit/unit.h"

enum { OPS = 8, LEN = 8192 };

static struct aio *make(void)
{
	struct aio *a = NULL;

	ck_assert_int_eq(aio_new(&a, OPS), 0);
	return a;
}

static int make_file(void)
{
	char path[] = "/var/tmp/vcf-aio.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	return fd;
}

/* All of them, in whatever order: each transferred its whole length. */
static void reap(struct aio *a, unsigned int cnt)
{
	struct aio_op *ops[OPS];

	while (cnt) {
		int n = aio_wait(a, ops, OPS);

		ck_assert_int_gt(n, 0);
		ck_assert_int_le(n, (int)cnt);
		for (int i = 0; i < n; i++)
			ck_assert_int_eq(ops[i]->res, LEN);
		cnt -= (unsigned int)n;
	}
}

static void transfer(struct aio *a, int fd, unsigned char *buf, bool write)
{
	static struct aio_op ops[OPS];

	for (unsigned int i = 0; i < OPS; i++)
		ck_assert_int_eq(aio_start(a, &ops[i], fd, buf + i * LEN, LEN,
					   (uint64_t)(OPS - 1 - i) * LEN, write),
				 0);
	reap(a, OPS);
}

START_TEST(there_and_back)
{
	unsigned char *out = aligned_alloc(4096, OPS * LEN);
	unsigned char *in = aligned_alloc(4096, OPS * LEN);
	struct aio *a = make();
	int fd = make_file();

	for (int i = 0; i < OPS * LEN; i++)
		out[i] = (unsigned char)(i / LEN * 31 + i);
	transfer(a, fd, out, true);
	transfer(a, fd, in, false);
	ck_assert(!memcmp(in, out, OPS * LEN));
	ck_assert_int_eq(pread(fd, in, LEN, 0), LEN);
	ck_assert(!memcmp(in, out + (OPS - 1) * LEN, LEN));
	close(fd);
	aio_free(a);
	free(out);
	free(in);
}
END_TEST

START_TEST(refused)
{
	static char buf[LEN];
	struct aio *a = make();
	struct aio_op op, *got[OPS];
	int fds[2];

	ck_assert_int_eq(aio_start(a, &op, -1, buf, LEN, 0, true), -EBADF);
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(aio_start(a, &op, fds[0], buf, LEN, 0, true), -EBADF);
	close(fds[0]);
	close(fds[1]);
	/* At the end of the file: under way, and short. */
	fds[0] = make_file();
	ck_assert_int_eq(aio_start(a, &op, fds[0], buf, LEN, 0, false), 0);
	ck_assert_int_eq(aio_wait(a, got, OPS), 1);
	ck_assert_ptr_eq(got[0], &op);
	ck_assert_int_eq(op.res, 0);
	close(fds[0]);
	aio_free(a);
}
END_TEST

static void *wait_for_end(void *arg)
{
	struct aio_op *ops[OPS];

	return (void *)(intptr_t)aio_wait(arg, ops, OPS);
}

START_TEST(stop_wakes)
{
	struct aio *a = make();
	struct aio_op *ops[OPS];
	pthread_t thread;
	void *rc;

	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_end, a), 0);
	usleep(20000);
	aio_stop(a);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_int_eq((intptr_t)rc, -EINVAL);
	ck_assert_int_eq(aio_wait(a, ops, OPS), -EINVAL);
	aio_free(a);
}
END_TEST

static void nothing(int sig)
{
	(void)sig;
}

START_TEST(signal_wakes)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct aio *a = make();
	pthread_t thread;
	void *rc;

	sigaction(SIGUSR1, &sa, NULL);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_end, a), 0);
	usleep(20000);
	pthread_kill(thread, SIGUSR1);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_int_eq((intptr_t)rc, -EINTR);
	aio_free(a);
}
END_TEST

/* A process that holds the sign of life until it is killed; so does a child of it not. */
static pid_t start_holder(int fd, pid_t *child)
{
	int fds[2];
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		pid_t own = lifesign_hold(fd) ? -1 : fork();

		if (!own)
			pause();
		if (write(fds[1], &own, sizeof(own)) < 0)
			_exit(1);
		pause();
	}
	ck_assert_int_eq(read(fds[0], child, sizeof(*child)), sizeof(*child));
	ck_assert_int_gt(*child, 0);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

START_TEST(life)
{
	int fd = lifesign_new();
	pid_t child, pid;

	ck_assert_int_ge(fd, 0);
	pid = start_holder(fd, &child);
	ck_assert(!lifesign_is_over(fd));
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 1000 && !lifesign_is_over(fd); i++)
		usleep(1000); /* somebody may be looking at it: that is the point */
	ck_assert(lifesign_is_over(fd));
	ck_assert_int_eq(lifesign_hold(fd), -EPERM);
	kill(child, SIGKILL);
	close(fd);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("aio");
	TCase *tc = tcase_create("aio");

	tcase_add_test(tc, there_and_back);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, stop_wakes);
	tcase_add_test(tc, signal_wakes);
	tcase_add_test(tc, life);
	suite_add_tcase(s, tc);
	return s;
}
