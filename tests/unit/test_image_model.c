/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random operations on an image against plain bytes in memory, in the manner of fsx, and
 * writers that share sectors but no byte.
 *
 * VCF_MODEL_OPS  operations of all rows (default 5000)  VCF_MODEL_SEED  default: the time
 */
#include <pthread.h>
#include <time.h>

#include "tests/unit/image_rig.h"

enum { MODEL_MAX = 200000 };

struct model {
	struct rig rig;
	unsigned char bytes[MODEL_MAX];
	uint64_t len;
	unsigned int rng;
};

static unsigned int seed;

static uint64_t pick(struct model *m, uint64_t below)
{
	return ((uint64_t)rand_r(&m->rng) << 15 ^ (uint64_t)rand_r(&m->rng)) % below;
}

/* Often at, just before or just after a sector's end. */
static uint64_t pick_off(struct model *m, uint64_t below)
{
	uint64_t v = pick(m, below), s = m->rig.p.geom.sector_len;

	if (pick(m, 3) == 0)
		v = v / s * s + pick(m, 3) - (v / s ? 1 : 0);
	return v < below ? v : below - 1;
}

/* A range whose end stays below MODEL_MAX. */
static void pick_range(struct model *m, uint64_t len_max, uint64_t *poff, uint64_t *len)
{
	uint64_t near = m->len + 3 * 4096 < MODEL_MAX ? m->len + 3 * 4096 : MODEL_MAX;

	*poff = pick_off(m, near);
	*len = 1 + pick_off(m, len_max);
	if (*len > MODEL_MAX - *poff)
		*len = MODEL_MAX - *poff;
}

/* Bytes beyond len are zero in the model always. */
static void model_resize(struct model *m, uint64_t len)
{
	if (len < m->len)
		memset(m->bytes + len, 0, m->len - len);
	m->len = len;
}

static void op_write(struct model *m)
{
	static unsigned char data[60000], copy[60000];
	uint64_t poff, len;

	pick_range(m, pick(m, 4) ? 9000 : sizeof(data), &poff, &len);
	for (uint64_t i = 0; i < len; i++)
		data[i] = (unsigned char)rand_r(&m->rng);
	if (pick(m, 10) == 0)
		memset(data, 0, len);
	memcpy(copy, data, len);
	ck_assert_int_eq(rig_write(&m->rig, data, len, poff), 0);
	ck_assert(!memcmp(copy, data, len));
	memcpy(m->bytes + poff, data, len);
	if (poff + len > m->len)
		m->len = poff + len;
}

static void op_read(struct model *m)
{
	uint64_t poff = pick_off(m, MODEL_MAX), len = 1 + pick(m, RIG_REQUEST_MAX);
	uint64_t want = poff >= m->len ? 0 : m->len - poff;
	void *data = NULL;

	if (want > len)
		want = len;
	ck_assert_int_eq(image_pread(m->rig.im, &m->rig.f, &m->rig.w, len, poff, &data),
			 want);
	if (want)
		ck_assert(!memcmp(data, m->bytes + poff, want));
}

static void op_truncate(struct model *m)
{
	uint64_t len = pick(m, 4) ? pick_off(m, MODEL_MAX) : m->len;

	if (pick(m, 4) == 0 && m->len)
		len = m->len - 1 - pick(m, m->len < 600 ? m->len : 600);
	ck_assert_int_eq(rig_truncate(&m->rig, len), 0);
	model_resize(m, len);
}

static const int modes[] = {
	0,
	FALLOC_FL_KEEP_SIZE,
	FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	FALLOC_FL_ZERO_RANGE,
	FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};

static void op_fallocate(struct model *m)
{
	int mode = modes[pick(m, sizeof(modes) / sizeof(modes[0]))];
	uint64_t poff, len, end;
	int err;

	pick_range(m, pick(m, 2) ? 20000 : 3000, &poff, &len);
	err = rig_fallocate(&m->rig, mode, poff, len);
	if (err == -EOPNOTSUPP && mode & FALLOC_FL_ZERO_RANGE && m->rig.p.holes_zero)
		return; /* tmpfs: and nothing may have changed */
	ck_assert_int_eq(err, 0);
	end = poff + len < m->len ? poff + len : m->len;
	if (mode & ~FALLOC_FL_KEEP_SIZE && end > poff)
		memset(m->bytes + poff, 0, end - poff);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && poff + len > m->len)
		model_resize(m, poff + len);
}

static void op_seek(struct model *m)
{
	uint64_t poff = pick_off(m, MODEL_MAX);
	off_t data = image_seek(m->rig.im, &m->rig.f, poff, SEEK_DATA);
	off_t hole = image_seek(m->rig.im, &m->rig.f, poff, SEEK_HOLE);

	if (poff >= m->len) {
		ck_assert_int_eq(data, -ENXIO);
		ck_assert_int_eq(hole, -ENXIO);
		return;
	}
	if (data == -ENXIO)
		data = (off_t)m->len;
	ck_assert_int_ge(data, poff);
	ck_assert_int_ge(hole, poff);
	ck_assert_int_le(data, m->len);
	ck_assert_int_le(hole, m->len);
	ck_assert(data == (off_t)poff || hole == (off_t)poff);
	ck_assert(io_is_zero(m->bytes + poff, (size_t)data - poff));
	if (!m->rig.p.holes_zero)
		ck_assert_int_eq(hole, m->len);
}

static void check_all(struct model *m)
{
	ck_assert_uint_eq(image_size(m->rig.im), m->len);
	if (m->len)
		rig_expect(&m->rig, m->bytes, m->len, 0);
	rig_check_raw(&m->rig, m->bytes, m->len);
}

static void one_op(struct model *m, int direct_fd)
{
	/* The handle changes from call to call. */
	m->rig.f.direct_fd = pick(m, 2) ? direct_fd : -1;
	m->rig.f.direct_align = pick(m, 2) ? 512 : pick(m, 2) ? 4096 : 8192;
	switch (pick(m, 12)) {
	case 0:
	case 1:
		op_truncate(m);
		break;
	case 2:
	case 3:
		op_fallocate(m);
		break;
	case 4:
	case 5:
		op_seek(m);
		break;
	case 6:
	case 7:
	case 8:
		op_read(m);
		break;
	default:
		op_write(m);
	}
	ck_assert_uint_eq(image_size(m->rig.im), m->len);
}

struct row {
	uint32_t sector_len;
	bool holes_zero;
	bool shm;
};

static const struct row rows[] = {
	{512, true, false}, {512, false, false}, {512, true, true},
	{512, false, true}, {4096, true, false}, {4096, false, false},
	{4096, true, true}, {4096, false, true},
};

static int make_file(const struct row *row)
{
	if (row->shm)
		return memfd_create("image", MFD_CLOEXEC);
	return unit_tmpfile();
}

static long op_cnt(void)
{
	const char *text = getenv("VCF_MODEL_OPS");

	return (text ? atol(text) : 5000) / ROWS(rows);
}

START_TEST(model)
{
	static struct model m;
	long cnt = op_cnt();
	int direct_fd;

	memset(&m, 0, sizeof(m));
	m.rng = seed + (unsigned int)_i;
	printf("model row %d: VCF_MODEL_SEED=%u\n", _i, seed);
	fflush(stdout);
	rig_init(&m.rig, make_file(&rows[_i]), rows[_i].sector_len, rows[_i].holes_zero);
	direct_fd = rig_direct_twin(m.rig.f.fd);
	for (long i = 0; i < cnt; i++) {
		one_op(&m, direct_fd);
		if (i % 100 == 0)
			rig_reopen(&m.rig);
		if (i % 50 == 0)
			check_all(&m);
	}
	check_all(&m);
	m.rig.f.direct_fd = direct_fd;
	rig_fini(&m.rig);
}
END_TEST

/*
 * Writers on shared sectors: byte i belongs to writer (i / STRIPE) % WRITERS, and each
 * writer knows its bytes. A lost update shows as an old byte of another one's.
 */
enum { WRITERS = 4, STRIPE = 37, SHARED_LEN = 6 * 4096 + 100, ROUNDS = 400 };

struct writer {
	struct rig *rig;
	struct image_file f;
	unsigned char *want;
	unsigned int id, rng;
	int failed;
	pthread_t thread;
};

static void write_stripe(struct writer *me, struct image_worker *w, unsigned int stripe)
{
	uint64_t poff = (uint64_t)stripe * STRIPE;
	unsigned char data[STRIPE];

	for (int i = 0; i < STRIPE; i++)
		data[i] = (unsigned char)rand_r(&me->rng);
	if (image_pwrite(me->rig->im, &me->f, w, data, STRIPE, poff))
		me->failed++;
	memcpy(me->want + poff, data, STRIPE);
}

static void check_stripe(struct writer *me, struct image_worker *w, unsigned int stripe)
{
	uint64_t poff = (uint64_t)stripe * STRIPE;
	void *data = NULL;

	if (image_pread(me->rig->im, &me->f, w, STRIPE, poff, &data) != STRIPE ||
	    memcmp(data, me->want + poff, STRIPE))
		me->failed++;
}

static void *write_own(void *arg)
{
	struct writer *me = arg;
	struct image_worker w;
	unsigned int stripes = SHARED_LEN / STRIPE / WRITERS;

	rig_worker_init(&w);
	for (int i = 0; i < ROUNDS; i++) {
		unsigned int stripe = (unsigned int)rand_r(&me->rng) % stripes;

		write_stripe(me, &w, stripe * WRITERS + me->id);
		stripe = (unsigned int)rand_r(&me->rng) % stripes;
		check_stripe(me, &w, stripe * WRITERS + me->id);
	}
	rig_worker_fini(&w);
	return NULL;
}

/* Meanwhile the size goes up and down beyond the shared part. */
static void resize_meanwhile(struct rig *rig)
{
	for (int i = 0; i < ROUNDS / 8; i++) {
		uint64_t plen = SHARED_LEN + (uint64_t)(i * 613) % 20000;

		ck_assert_int_eq(rig_truncate(rig, plen), 0);
	}
	ck_assert_int_eq(rig_truncate(rig, SHARED_LEN), 0);
}

static int start_writers(struct rig *rig, struct writer *ws, unsigned char *want)
{
	int direct_fd = rig_direct_twin(rig->f.fd);

	for (unsigned int i = 0; i < WRITERS; i++) {
		ws[i] = (struct writer){
			.rig = rig, .want = want, .id = i, .rng = seed + i};
		ws[i].f = (struct image_file){.fd = rig->f.fd,
					      .direct_fd = i % 2 ? direct_fd : -1,
					      .direct_align = 512};
		ck_assert_int_eq(pthread_create(&ws[i].thread, NULL, write_own, &ws[i]),
				 0);
	}
	return direct_fd;
}

START_TEST(shared_sectors)
{
	static unsigned char want[SHARED_LEN];
	struct writer ws[WRITERS];
	struct rig rig;
	int direct_fd;

	memset(want, 0, sizeof(want));
	rig_init(&rig, make_file(&rows[_i]), rows[_i].sector_len, rows[_i].holes_zero);
	ck_assert_int_eq(rig_truncate(&rig, SHARED_LEN), 0);
	direct_fd = start_writers(&rig, ws, want);
	resize_meanwhile(&rig);
	for (int i = 0; i < WRITERS; i++) {
		ck_assert_int_eq(pthread_join(ws[i].thread, NULL), 0);
		ck_assert_int_eq(ws[i].failed, 0);
	}
	rig_expect(&rig, want, SHARED_LEN, 0);
	rig_check_raw(&rig, want, SHARED_LEN);
	rig.f.direct_fd = direct_fd;
	rig_fini(&rig);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("image_model");
	TCase *t = tcase_create("image_model");
	const char *text = getenv("VCF_MODEL_SEED");

	seed = text ? (unsigned int)strtoul(text, NULL, 10) : (unsigned int)time(NULL);
	tcase_add_loop_test(t, model, 0, ROWS(rows));
	tcase_add_loop_test(t, shared_sectors, 0, ROWS(rows));
	tcase_set_timeout(t, 600);
	suite_add_tcase(s, t);
	return s;
}
