/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/control.h"
#include "tests/unit/unit.h"

/* How many descriptors are sent, how many are wanted, and how many of these come. */
static const struct row {
	int sent, wanted, got;
} rows[] = {
	{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {2, 1, 1}, {3, 3, 3},
	{3, 2, 2}, {1, 2, 1}, {1, 0, 0}, {0, 2, 0},
};

/* The lowest free one: nothing was left open below it. */
static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void open_pair(int pair[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
}

static void close_pair(const int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

START_TEST(descriptors)
{
	const struct row *row = &rows[_i];
	const int send[3] = {0, 1, 2};
	struct control c = {.kind = CONTROL_SPAWNED, .value = 7};
	int got[3] = {-1, -1, -1}, pair[2], before;

	open_pair(pair);
	before = next_fd();
	ck_assert_int_eq(control_send(pair[0], &c, send, row->sent), 0);
	ck_assert_int_eq(control_recv(pair[1], &c, got, row->wanted), 0);
	ck_assert_int_eq(c.value, 7);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(got[i] >= 0, i < row->got);
		if (got[i] >= 0)
			close(got[i]);
	}
	ck_assert_int_eq(next_fd(), before);
	close_pair(pair);
}
END_TEST

/* What is no message of ours is refused, and its descriptor is not kept. */
START_TEST(too_short)
{
	char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {.iov_base = space, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = space,
			     .msg_controllen = sizeof(space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int fd = -1, pair[2], before;
	struct control c;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int)); /* of descriptor 0 */
	open_pair(pair);
	before = next_fd();
	ck_assert_int_eq(sendmsg(pair[0], &msg, 0), 1);
	ck_assert_int_eq(control_recv(pair[1], &c, &fd, 1), -EPIPE);
	ck_assert_int_eq(fd, -1);
	ck_assert_int_eq(next_fd(), before);
	close_pair(pair);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("control");
	TCase *tc = tcase_create("control");

	tcase_add_loop_test(tc, descriptors, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tc, too_short);
	suite_add_tcase(s, tc);
	return s;
}
