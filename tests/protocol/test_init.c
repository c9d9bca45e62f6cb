/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What INIT agrees on, and how the connection ends. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/protocol/rig.h"

/* One more server on the rig's folders, to see INIT's answer. */
static void init_again(struct rig *r, uint64_t flags, struct fuse_init_out *out)
{
	rig_down(r);
	rig_up(r);
	/* rig_up() said INIT already: a second one is refused. */
	ck_assert_int_eq(fc_init(r->c, flags, out), -EIO);
}

static uint64_t flags_of(const struct fuse_init_out *out)
{
	return out->flags | (uint64_t)out->flags2 << 32;
}

static void negotiate(const char *const *settings, struct fuse_init_out *out)
{
	struct server_params p = {.stream = true};
	char journal[600], site[600];
	struct server *sv;
	struct rig r;
	struct fc *c;
	char byte[1] = {0};
	int pair[2];

	rig_new(&r, settings);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	snprintf(journal, sizeof(journal), "%s/state/journal", r.dir);
	snprintf(site, sizeof(site), "%s/state/site", r.dir);
	p.cfg = r.cfg;
	p.rootfd = r.rootfd;
	p.devfd = pair[0];
	p.journal_path = journal;
	p.site_path = site;
	ck_assert_int_eq(server_new(&sv, &p), 0);
	ck_assert_int_eq(server_start(sv, NULL, NULL), 0);
	c = fc_new(pair[1]);
	/* Before INIT all is refused. */
	ck_assert_int_eq(fc_getattr(c, ROOT, NULL), -EIO);
	ck_assert_int_eq(fc_read(c, ROOT, 1, 0, byte, 1), -EIO);
	ck_assert_int_eq(fc_write(c, ROOT, 1, 0, byte, 1), -EIO);
	ck_assert_int_eq(fc_init(c, RIG_INIT_FLAGS, out), 0);
	fc_close(c);
	server_wait(sv);
	server_free(sv);
	fc_free(c);
	close(pair[0]);
	rig_free(&r);
}

START_TEST(flags)
{
	struct fuse_init_out out;
	uint64_t f;

	negotiate(NULL, &out);
	f = flags_of(&out);
	ck_assert_uint_eq(f & FUSE_ATOMIC_O_TRUNC, 0);
	ck_assert_uint_eq(f & FUSE_HANDLE_KILLPRIV, 0);
	ck_assert_uint_ne(f & FUSE_HANDLE_KILLPRIV_V2, 0);
	ck_assert_uint_eq(f & FUSE_WRITEBACK_CACHE, 0);
	ck_assert_uint_ne(f & FC_DIRECT_IO_ALLOW_MMAP, 0);
	ck_assert_uint_ne(f & FUSE_INIT_EXT, 0);
	ck_assert_uint_ne(f & FUSE_ASYNC_READ, 0);
	ck_assert_uint_ne(f & FUSE_ASYNC_DIO, 0);
	ck_assert_uint_ne(f & FUSE_PARALLEL_DIROPS, 0);
	ck_assert_uint_ne(f & FUSE_DO_READDIRPLUS, 0);
	ck_assert_uint_eq(out.major, FUSE_KERNEL_VERSION);
	ck_assert_uint_eq(out.max_background, 4096);
	ck_assert_uint_eq(out.congestion_threshold, 3072);
	ck_assert_uint_eq(out.max_write, 1024 * 1024);
	ck_assert_uint_eq(out.max_pages, 256);
}
END_TEST

START_TEST(writeback)
{
	const char *const settings[] = {"mount.writeback=yes", NULL};
	struct fuse_init_out out;

	negotiate(settings, &out);
	ck_assert_uint_ne(out.flags & FUSE_WRITEBACK_CACHE, 0);
}
END_TEST

START_TEST(second_init)
{
	struct fuse_init_out out;
	struct rig r;

	rig_start(&r, NULL);
	init_again(&r, RIG_INIT_FLAGS, &out);
	ck_assert_int_eq(fc_getattr(r.c, ROOT, NULL), 0);
	rig_end(&r);
}
END_TEST

START_TEST(unknown_opcodes)
{
	static const uint32_t opcodes[] = {0,	      7,	   FUSE_IOCTL, FUSE_POLL,
					   FUSE_BMAP, FUSE_SYNCFS, 52,	       1000,
					   4095,      0xffffffffu};
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < ROWS(opcodes); i++) {
		unsigned char body[128] = {0};

		fc_msg_node(&m, opcodes[i], ROOT);
		m.part[m.cnt++] = (struct iovec){body, sizeof(body)};
		ck_assert_int_eq(fc_do(r.c, &m, NULL, 0, NULL), -ENOSYS);
	}
	rig_end(&r);
}
END_TEST

START_TEST(statfs)
{
	struct fuse_statfs_out out;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	fc_msg_node(&m, FUSE_STATFS, ROOT);
	ck_assert_int_eq(fc_do(r.c, &m, &out, sizeof(out), NULL), 0);
	ck_assert_uint_ne(out.st.blocks, 0);
	ck_assert_uint_ne(out.st.bsize, 0);
	rig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_init");
	TCase *t = tcase_create("init");

	tcase_add_test(t, flags);
	tcase_add_test(t, writeback);
	tcase_add_test(t, second_init);
	tcase_add_test(t, unknown_opcodes);
	tcase_add_test(t, statfs);
	suite_add_tcase(s, t);
	return s;
}
