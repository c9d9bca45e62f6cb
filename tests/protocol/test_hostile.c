/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages that no kernel sends. The server refuses them or does something harmless, and serves on.
 *
 * VCF_FUZZ_SECONDS  of each round (default 2)  VCF_FUZZ_SEED  default: the time
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/protocol/rig.h"
#include "util/log.h"

enum { ROOM = 8192, FILES = 4, HANDLES = 6, VICTIMS = 3, VICTIM_LEN = 50000 };

static const char *const victims[VICTIMS] = {"victim of class encrypt", "victim.part",
					     "victim in the clear"};

/* Still alive and right? */
static void check_alive(struct rig *r)
{
	struct fuse_open_out open;
	uint64_t node;
	char buf[8];

	ck_assert_int_eq(fc_create(r->c, ROOT, "alive", O_RDWR, &node, &open), 0);
	ck_assert_int_eq(fc_write(r->c, node, open.fh, 0, "alive", 5), 0);
	ck_assert_int_eq(fc_read(r->c, node, open.fh, 0, buf, 8), 5);
	ck_assert(!memcmp(buf, "alive", 5));
	ck_assert_int_eq(fc_release(r->c, node, open.fh), 0);
	ck_assert_int_eq(fc_unlink(r->c, ROOT, "alive"), 0);
	fc_forget(r->c, node, 1);
}

/* {opcode, body, its length}: each is refused with EINVAL. */
static const struct {
	uint32_t opcode;
	const char *body;
	uint32_t len;
} malformed[] = {
	{FUSE_LOOKUP, "no end", 6},
	{FUSE_LOOKUP, "", 0},
	{FUSE_LOOKUP, "\0", 1},
	{FUSE_LOOKUP, "..", 3},
	{FUSE_LOOKUP, ".", 2},
	{FUSE_LOOKUP, "a/b", 4},
	{FUSE_UNLINK, "../../x", 8},
	{FUSE_GETATTR, "short", 5},
	{FUSE_SETATTR, "", 0},
	{FUSE_OPEN, "1234567", 7},
	{FUSE_READ, "", 0},
	{FUSE_MKDIR, "12345678no end", 14},
	{FUSE_SYMLINK, "name\0no end", 11},
	{FUSE_RENAME2, "1234567890123456one\0two", 23},
	{FUSE_CREATE, "1234567890123456", 16},
	{FUSE_SETXATTR, "\377\377\377\377....user.x\0v", 17},
	{FUSE_GETXATTR, "\377\377\377\377....user.x", 15},
	{FUSE_LISTXATTR, "\377\377\377\177....", 8},
	{FUSE_WRITE,
	 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\377\0\0....\0\0\0\0\0\0\0\0........"
	 "payload",
	 47},
	{FUSE_READDIR,
	 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\377\377\377\377....\0\0\0\0\0\0\0\0........",
	 40},
};

START_TEST(malformed_messages)
{
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < ROWS(malformed); i++) {
		unsigned char body[64] = {0};

		memcpy(body, malformed[i].body, malformed[i].len);
		fc_msg_node(&m, malformed[i].opcode, ROOT);
		if (malformed[i].len)
			m.part[m.cnt++] = (struct iovec){body, malformed[i].len};
		ck_assert_msg(fc_do(r.c, &m, NULL, 0, NULL) == -EINVAL, "row %d", i);
	}
	fc_msg_node(&m, FUSE_BATCH_FORGET, 0); /* dropped without an answer */
	m.part[m.cnt++] = (struct iovec){(char[]){"\377\377\377\377...."}, 8};
	fc_post(r.c, &m);
	fc_msg_node(&m, FUSE_FORGET, ROOT);
	fc_post(r.c, &m);
	fc_msg_node(&m, FUSE_INTERRUPT, 0);
	fc_post(r.c, &m);
	check_alive(&r);
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

/* A frame that cannot be one: the connection ends, and nothing else happens. */
START_TEST(bad_frames)
{
	static const uint32_t lens[] = {0, 1, 39, 0x7fffffff, 0xffffffff, 2 << 20};
	struct fuse_in_header in = {.opcode = FUSE_LOOKUP, .unique = 2, .nodeid = ROOT};
	struct rig r;

	rig_start(&r, NULL);
	in.len = lens[_i];
	fc_send_raw(r.c, &in, sizeof(in));
	server_wait(r.sv); /* ends by itself */
	rig_end(&r);
}
END_TEST

/* Half a message and then nothing. */
START_TEST(cut_off)
{
	struct fuse_in_header in = {.len = 100, .opcode = FUSE_LOOKUP, .nodeid = ROOT};
	struct rig r;

	rig_start(&r, NULL);
	fc_send_raw(r.c, &in, (size_t)_i);
	rig_end(&r);
}
END_TEST

struct fuzz {
	struct rig r;
	unsigned int rng;
	uint64_t node[FILES], fh[HANDLES], fh_node[HANDLES];
	unsigned char body[ROOM] __attribute__((aligned(8)));
	long sent;
	/* Images that no message of the fuzzer means. */
	uint64_t victim[VICTIMS], victim_fh[VICTIMS];
};

static unsigned int seed;

static uint32_t pick(struct fuzz *z, uint32_t below)
{
	return (uint32_t)rand_r(&z->rng) % below;
}

static const char *const names[] = {"a", "b", "c", "d", "dir", "a.part", "plain", "x y"};

#define A85                                                                                 \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaa"
static const char *const odd_names[] = {
	"",
	".",
	"..",
	"/",
	"a/b",
	"../a",
	"a/",
	"\xff\xfe",
	"\xc3",
	"a\nb",
	"\x1b[31m",
	A85 A85 A85,
	A85 A85 A85 "b",
	A85 A85 A85 A85 A85 A85,
};

static uint64_t odd_number(struct fuzz *z)
{
	static const uint64_t odd[] = {0,
				       1,
				       511,
				       4096,
				       4097,
				       65535,
				       1u << 20,
				       UINT32_MAX,
				       1ull << 32,
				       INT64_MAX,
				       1 + (uint64_t)INT64_MAX,
				       UINT64_MAX,
				       (uint64_t)INT64_MAX - 4096};

	return odd[pick(z, ROWS(odd))] + pick(z, 3) - 1;
}

static size_t put_name(struct fuzz *z, size_t at)
{
	const char *name = pick(z, 12) ? names[pick(z, ROWS(names))]
				       : odd_names[pick(z, ROWS(odd_names))];
	size_t len = strlen(name) + 1;

	memcpy(z->body + at, name, len);
	if (pick(z, 30) == 0)
		z->body[at + len - 1] = 'X';
	if (pick(z, 30) == 0)
		z->body[at + pick(z, (uint32_t)len)] = (unsigned char)pick(z, 256);
	return at + len;
}

struct template
{
	uint32_t opcode;
	uint32_t arg_len;
	int names;
	int fh_at;     /* of a handle in the fixed part, -1: none */
	int number_at; /* 64-bit numbers worth being odd, so many */
	int number_cnt;
	uint32_t tail; /* bytes behind it at most */
};

static const struct template templates[] = {
	{FUSE_LOOKUP, 0, 1, -1, 0, 0, 0},
	{FUSE_GETATTR, 16, 0, 8, 0, 0, 0},
	{FUSE_SETATTR, 88, 0, 8, 16, 2, 0},
	{FUSE_SYMLINK, 0, 2, -1, 0, 0, 0},
	{FUSE_READLINK, 0, 0, -1, 0, 0, 0},
	{FUSE_MKNOD, 16, 1, -1, 0, 0, 0},
	{FUSE_MKDIR, 8, 1, -1, 0, 0, 0},
	{FUSE_UNLINK, 0, 1, -1, 0, 0, 0},
	{FUSE_RMDIR, 0, 1, -1, 0, 0, 0},
	{FUSE_RENAME, 8, 2, -1, 0, 0, 0},
	{FUSE_RENAME2, 16, 2, -1, 0, 0, 0},
	{FUSE_LINK, 8, 1, -1, 0, 0, 0},
	{FUSE_OPEN, 8, 0, -1, 0, 0, 0},
	{FUSE_READ, 40, 0, 0, 8, 1, 0},
	{FUSE_WRITE, 40, 0, 0, 8, 1, 5000},
	{FUSE_STATFS, 0, 0, -1, 0, 0, 0},
	{FUSE_FSYNC, 16, 0, 0, 0, 0, 0},
	{FUSE_SETXATTR, 8, 1, -1, 0, 0, 100},
	{FUSE_GETXATTR, 8, 1, -1, 0, 0, 0},
	{FUSE_LISTXATTR, 8, 0, -1, 0, 0, 0},
	{FUSE_REMOVEXATTR, 0, 1, -1, 0, 0, 0},
	{FUSE_FLUSH, 24, 0, 0, 0, 0, 0},
	{FUSE_OPENDIR, 8, 0, -1, 0, 0, 0},
	{FUSE_READDIR, 40, 0, 0, 8, 1, 0},
	{FUSE_READDIRPLUS, 40, 0, 0, 8, 1, 0},
	{FUSE_CREATE, 16, 1, -1, 0, 0, 0},
	{FUSE_FALLOCATE, 32, 0, 0, 8, 2, 0},
	{FUSE_LSEEK, 24, 0, 0, 8, 1, 0},
	{FUSE_ACCESS, 8, 0, -1, 0, 0, 0},
	{FUSE_GETLK, 48, 0, 0, 8, 4, 0},
	{FUSE_IOCTL, 32, 0, 0, 0, 0, 200},
	{FUSE_POLL, 24, 0, 0, 0, 0, 0},
	{FUSE_COPY_FILE_RANGE, 56, 0, 0, 8, 5, 0},
	{FUSE_NOTIFY_REPLY, 40, 0, -1, 0, 0, 100},
	{FUSE_SETLK, 48, 0, 0, 8, 4, 0},
	{FUSE_FSYNCDIR, 16, 0, 0, 0, 0, 0},
	{FUSE_BMAP, 16, 0, -1, 0, 1, 0},
	{FUSE_SYNCFS, 8, 0, -1, 0, 0, 0},
	{FUSE_SETUPMAPPING, 48, 0, 0, 8, 4, 0},
	{FUSE_REMOVEMAPPING, 4, 0, -1, 0, 0, 100},
	{51 /* TMPFILE */, 16, 1, -1, 0, 0, 0},
	{52 /* STATX */, 24, 0, 16, 0, 0, 0},
	{0, 0, 0, -1, 0, 0, 100},
	{7, 40, 0, 0, 8, 2, 100}, /* not in use */
	{53, 40, 0, 0, 8, 2, 100},
	{4096 /* CUSE_INIT */, 16, 0, -1, 0, 0, 100},
	{UINT32_MAX, 40, 1, 0, 8, 2, 100},
	/* The kernel sends these only when nothing is under way: not in the concurrent round. */
	{FUSE_RELEASE, 24, 0, 0, 0, 0, 0},
	{FUSE_RELEASEDIR, 24, 0, 0, 0, 0, 0},
	{FUSE_FORGET, 8, 0, -1, 0, 1, 0},
	{FUSE_BATCH_FORGET, 8, 0, -1, 0, 0, 200},
};
enum { QUIET_CNT = 4 };

/*
 * No test may fill the disk: what would be allocated stays small or is beyond all bounds. Nor may
 * it lock itself out of a folder.
 */
static void tame(const struct template *t, unsigned char *body)
{
	struct fuse_fallocate_in *alloc = (void *)body;
	struct fuse_setattr_in *attr = (void *)body;
	struct fuse_mkdir_in *dir = (void *)body;

	if (t->opcode == FUSE_FALLOCATE && alloc->length < 1ull << 62)
		alloc->length &= 0xffff;
	if (t->opcode == FUSE_SETATTR)
		attr->mode |= 0700;
	if (t->opcode == FUSE_MKDIR)
		dir->mode |= 0700;
}

static void fill_fixed(struct fuzz *z, const struct template *t)
{
	uint64_t number;

	for (uint32_t i = 0; i < t->arg_len; i++)
		z->body[i] = pick(z, 3) ? 0 : (unsigned char)pick(z, 256);
	for (int i = 0; i < t->number_cnt; i++) {
		number = pick(z, 2) ? odd_number(z) : pick(z, 100000);
		memcpy(z->body + t->number_at + 8 * i, &number, sizeof(number));
	}
	if (t->opcode == FUSE_WRITE || t->opcode == FUSE_READ ||
	    t->opcode == FUSE_READDIR || t->opcode == FUSE_READDIRPLUS) {
		uint32_t size = pick(z, 10) ? pick(z, 5000) : pick(z, UINT32_MAX);

		memcpy(z->body + 16, &size, sizeof(size));
	}
}

/* Of LINK and RENAME: a second node. */
static void put_other_node(struct fuzz *z, uint32_t opcode)
{
	uint64_t node = pick(z, 3) ? ROOT : z->node[pick(z, FILES)];

	if (pick(z, 20) == 0)
		node = odd_number(z);
	if (opcode == FUSE_LINK || opcode == FUSE_RENAME || opcode == FUSE_RENAME2)
		memcpy(z->body, &node, sizeof(node));
}

static size_t build(struct fuzz *z, const struct template *t, uint64_t *node)
{
	uint32_t h = pick(z, HANDLES);
	size_t len = t->arg_len;

	fill_fixed(z, t);
	*node = pick(z, 3) ? ROOT : z->node[pick(z, FILES)];
	if (t->fh_at >= 0 && pick(z, 10)) {
		memcpy(z->body + t->fh_at, &z->fh[h], 8);
		*node = z->fh_node[h];
	}
	if (pick(z, 20) == 0)
		*node = odd_number(z);
	put_other_node(z, t->opcode);
	tame(t, z->body);
	for (int i = 0; i < t->names; i++)
		len = put_name(z, len);
	if (t->tail)
		len += pick(z, t->tail);
	if (pick(z, 20) == 0)
		len = pick(z, (uint32_t)len + 20);
	return len;
}

/* Handles that OPEN and CREATE hand out are used from then on. */
static void learn(struct fuzz *z, uint32_t opcode, uint64_t node, const void *answer)
{
	const struct fuse_entry_out *entry = answer;
	const struct fuse_open_out *open = answer;
	uint32_t h = pick(z, HANDLES);

	if (opcode == FUSE_CREATE) {
		open = (const void *)(entry + 1);
		node = entry->nodeid;
	} else if (opcode == FUSE_LOOKUP || opcode == FUSE_MKDIR) {
		z->node[pick(z, FILES)] = entry->nodeid;
		return;
	} else if (opcode != FUSE_OPEN && opcode != FUSE_OPENDIR) {
		return;
	}
	z->fh[h] = open->fh;
	z->fh_node[h] = node;
}

static bool answered(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET &&
	       opcode != FUSE_NOTIFY_REPLY;
}

static struct fc_call *send_one(struct fuzz *z, const struct template *t, uint64_t *node)
{
	struct fc_msg m;
	size_t len = build(z, t, node);

	fc_msg_node(&m, t->opcode, *node);
	m.part[m.cnt++] = (struct iovec){z->body, len};
	z->sent++;
	if (answered(t->opcode))
		return fc_send(z->r.c, &m);
	fc_post(z->r.c, &m);
	return NULL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double seconds(void)
{
	const char *text = getenv("VCF_FUZZ_SECONDS");

	return text ? atof(text) : 2;
}

static void open_victim(struct fuzz *z, int i)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;

	ck_assert_int_eq(fc_lookup(z->r.c, ROOT, victims[i], &entry), 0);
	ck_assert_int_eq(fc_open(z->r.c, entry.nodeid, O_RDONLY, &open), 0);
	z->victim[i] = entry.nodeid;
	z->victim_fh[i] = open.fh;
}

/* Some bytes of a victim. A message that no kernel sends may have taken its node away. */
static void check_victim(struct fuzz *z, int i, uint64_t off, uint32_t len)
{
	static unsigned char want[VICTIM_LEN], buf[VICTIM_LEN];
	long n = fc_read(z->r.c, z->victim[i], z->victim_fh[i], off, buf, len);

	if (n < 0) {
		open_victim(z, i);
		n = fc_read(z->r.c, z->victim[i], z->victim_fh[i], off, buf, len);
	}
	if (!want[0])
		rig_pattern(want, VICTIM_LEN, 1);
	ck_assert_int_eq(n, len);
	ck_assert_msg(!memcmp(buf, want + off, len), "%s: WRONG PLAINTEXT", victims[i]);
}

static void check_victims(struct fuzz *z)
{
	for (int i = 0; i < VICTIMS; i++)
		check_victim(z, i, 0, VICTIM_LEN);
}

/* Every now and then. */
static void glance(struct fuzz *z)
{
	uint64_t off = pick(z, VICTIM_LEN - 1);

	if (z->sent % 64 == 0)
		check_victim(z, (int)pick(z, VICTIMS), off,
			     1 + pick(z, VICTIM_LEN - (uint32_t)off) % 9000);
}

static void fuzz_start(struct fuzz *z, const char *const *settings)
{
	memset(z, 0, sizeof(*z));
	z->rng = seed;
	printf("VCF_FUZZ_SEED=%u\n", seed);
	if (!getenv("VCF_TEST_LOG")) /* each refusal is a line */
		ck_assert_int_eq(log_set_file("/dev/null"), 0);
	rig_start(&z->r, settings);
	for (int i = 0; i < FILES; i++)
		z->node[i] = rig_image(&z->r, ROOT, names[i], 1000);
	for (int i = 0; i < VICTIMS; i++) {
		rig_image(&z->r, ROOT, victims[i], VICTIM_LEN);
		open_victim(z, i);
	}
}

static void fuzz_end(struct fuzz *z)
{
	printf("%ld messages, 0 unanswered, 0 wrong\n", z->sent);
	check_alive(&z->r);
	check_victims(z);
	rig_down(&z->r);
	rig_up(&z->r);
	for (int i = 0; i < VICTIMS; i++)
		open_victim(z, i);
	check_victims(z);
	rig_end(&z->r);
}

/* One after the other: everything, also what the kernel sends only in peace. */
START_TEST(one_by_one)
{
	const char *const settings[] = {
		"mount.threads=1",	    "rules.passthrough=plain",
		"rules.passthrough=*clear", "rules.derived=*.part",
		"key-service.timeout=2",    NULL};
	static unsigned char answer[2 << 20];
	static struct fuzz z;
	double end;

	fuzz_start(&z, settings);
	end = now() + seconds();
	while (now() < end) {
		const struct template *t = &templates[pick(&z, ROWS(templates))];
		uint64_t node;
		struct fc_call *call = send_one(&z, t, &node);
		int err = call ? fc_end(call, answer, sizeof(answer), NULL) : 0;

		ck_assert_msg(err != FC_NO_ANSWER, "opcode %u: no answer", t->opcode);
		if (call && !err)
			learn(&z, t->opcode, node, answer);
		glance(&z);
	}
	fuzz_end(&z);
}
END_TEST

/* Many under way at once. */
enum { DEPTH = 24 };

START_TEST(side_by_side)
{
	const char *const settings[] = {
		"rules.passthrough=plain", "rules.passthrough=*clear",
		"rules.derived=*.part", "key-service.timeout=2", NULL};
	static unsigned char answer[2 << 20];
	static struct fuzz z;
	struct fc_call *call[DEPTH] = {0};
	uint32_t opcode[DEPTH];
	uint64_t node[DEPTH];
	double end;

	fuzz_start(&z, settings);
	end = now() + seconds();
	for (int i = 0; now() < end; i = (i + 1) % DEPTH) {
		const struct template *t =
			&templates[pick(&z, ROWS(templates) - QUIET_CNT)];

		if (call[i]) {
			int err = fc_end(call[i], answer, sizeof(answer), NULL);

			ck_assert_msg(err != FC_NO_ANSWER, "opcode %u: no answer",
				      opcode[i]);
			if (!err)
				learn(&z, opcode[i], node[i], answer);
		}
		opcode[i] = t->opcode;
		call[i] = send_one(&z, t, &node[i]);
		if (call[i] && pick(&z, 8) == 0)
			fc_interrupt(z.r.c, 2000000 + pick(&z, 100));
		glance(&z);
	}
	for (int i = 0; i < DEPTH; i++) {
		if (call[i])
			ck_assert_int_ne(fc_end(call[i], NULL, 0, NULL), FC_NO_ANSWER);
	}
	fuzz_end(&z);
}
END_TEST

/* INIT again, with the same and with other words, and DESTROY, which ends nothing here. */
START_TEST(init_again)
{
	struct fuse_init_out out;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < 4; i++) {
		fc_msg_init(&m, i & 1 ? 0 : RIG_INIT_FLAGS);
		if (i & 2)
			m.u.init.minor = 1;
		ck_assert_int_ne(fc_do(r.c, &m, &out, sizeof(out), NULL), FC_NO_ANSWER);
		check_alive(&r);
	}
	fc_msg_node(&m, FUSE_INIT, 0); /* without a body */
	ck_assert_int_ne(fc_do(r.c, &m, &out, sizeof(out), NULL), FC_NO_ANSWER);
	check_alive(&r);
	rig_check_empty(&r);
	fc_msg_node(&m, FUSE_DESTROY, 0);
	ck_assert_int_ne(fc_do(r.c, &m, NULL, 0, NULL), FC_NO_ANSWER);
	rig_end(&r);
}
END_TEST

/* More is forgotten than was ever looked up, by one message and by many in one. */
START_TEST(forgets)
{
	struct {
		struct fuse_batch_forget_in head;
		struct fuse_forget_one one[3];
	} batch = {.head.count = 3};
	uint64_t node;
	struct fc_msg m;
	struct rig r;

	rig_start(&r, NULL);
	for (int i = 0; i < 2; i++) {
		node = rig_image(&r, ROOT, "file", 100);
		for (int k = 0; k < 3; k++)
			batch.one[k] = (struct fuse_forget_one){node, UINT64_MAX / 2};
		if (i == 0)
			fc_forget(r.c, node, UINT64_MAX);
		fc_forget(r.c, node, 5);
		fc_forget(r.c, ROOT, UINT64_MAX);
		fc_forget(r.c, node + 1000, 1);
		fc_msg_node(&m, FUSE_BATCH_FORGET, 0);
		m.part[m.cnt++] = (struct iovec){&batch, sizeof(batch)};
		fc_post(r.c, &m);
		check_alive(&r);
		ck_assert_int_ne(fc_getattr(r.c, node, NULL), FC_NO_ANSWER);
		ck_assert_int_eq(fc_unlink(r.c, ROOT, "file"), 0);
	}
	rig_check_empty(&r);
	rig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("protocol_hostile");
	TCase *t = tcase_create("hostile");
	const char *text = getenv("VCF_FUZZ_SEED");

	seed = text ? (unsigned int)strtoul(text, NULL, 10) : (unsigned int)time(NULL);
	tcase_add_test(t, malformed_messages);
	tcase_add_loop_test(t, bad_frames, 0, 6);
	tcase_add_loop_test(t, cut_off, 0, 41);
	tcase_add_test(t, init_again);
	tcase_add_test(t, forgets);
	tcase_add_test(t, one_by_one);
	tcase_add_test(t, side_by_side);
	suite_add_tcase(s, t);
	return s;
}
