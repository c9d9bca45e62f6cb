/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What state_new() makes of damaged tables. Of each damage the sound records know nothing: they
 * stay, and can be used up to their end.
 */
#include <errno.h>

#include "tests/unit/state_rig.h"

/*
 * The tables before the damage:   root - d0 - d1 - f0 (open)
 *                                      - f1 (open)  - d2 - f2
 * Lookups: one each.
 */
static struct srig r;
static struct node *d0, *d1, *d2, *f0, *f1, *f2;
static struct handle *h0, *h1;
static uint64_t d0_id, d1_id, d2_id, f0_id, f1_id, f2_id, h0_id, h1_id;

static void fill(void)
{
	srig_start(&r);
	d0 = srig_get(&r, "d0");
	d1 = srig_lookup(&r, "d1", d0, "d1", NULL);
	f0 = srig_lookup(&r, "f0", d1, "f0", NULL);
	f1 = srig_get(&r, "f1");
	d2 = srig_get(&r, "d2");
	f2 = srig_lookup(&r, "f2", d2, "f2", NULL);
	h0_id = srig_open(&r, f0, NULL);
	h1_id = srig_open(&r, f1, NULL);
	h0 = state_handle(r.st, h0_id);
	h1 = state_handle(r.st, h1_id);
	d0_id = d0->id;
	d1_id = d1->id;
	d2_id = d2->id;
	f0_id = f0->id;
	f1_id = f1->id;
	f2_id = f2->id;
	srig_counts(&r, 7, 2);
}

static const char *path_of(const struct node *n)
{
	static char path[STATE_PATH_MAX];

	ck_assert_int_eq(state_path(r.st, n, path), 0);
	return path;
}

/* Everything that is left is used and given back; then nothing is left but the root. */
static void use_up(void)
{
	char path[STATE_PATH_MAX];

	for (uint32_t i = 0; i < r.s->head->node_high; i++) {
		if (r.s->nodes[i].id)
			ck_assert_int_eq(state_path(r.st, &r.s->nodes[i], path), 0);
	}
	for (uint32_t i = 0; i < r.s->head->handle_high; i++)
		state_handle_del(r.st, r.s->handles[i].id);
	for (uint32_t i = 1; i < r.s->head->node_high; i++)
		state_node_forget(r.st, r.s->nodes[i].id, UINT64_MAX, NULL);
	srig_counts(&r, 1, 0);
}

static void end(void)
{
	state_free(r.st);
	r.st = NULL;
	session_free(r.s, true);
	srig_sweep(&r); /* a dropped record's descriptors */
}

START_TEST(sound)
{
	off_t logged;

	fill();
	logged = srig_logged();
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(srig_next(&r), 0);
		srig_counts(&r, 7, 2);
	}
	ck_assert_uint_eq(r.s->head->dropped, 0);
	ck_assert_int_eq(srig_logged(), logged);
	ck_assert_str_eq(path_of(f0), "d0/d1/f0");
	ck_assert_str_eq(path_of(f2), "d2/f2");
	ck_assert_ptr_eq(state_node(r.st, f0_id), f0);
	ck_assert_ptr_eq(state_handle_of(r.st, h1_id, f1_id), h1);
	ck_assert_ptr_eq(srig_get(&r, "f1"), f1);
	ck_assert_uint_eq(f1->nlookup, 2);
	state_node_forget(r.st, f1_id, 1, NULL);
	/* Folders stay for what is in them, files for who has them open. */
	state_node_forget(r.st, d0_id, 1, NULL);
	state_node_forget(r.st, d1_id, 1, NULL);
	state_node_forget(r.st, f0_id, 1, NULL);
	ck_assert_int_eq(srig_next(&r), 0);
	srig_counts(&r, 7, 2);
	state_handle_del(r.st, h0_id);
	srig_counts(&r, 4, 1);
	state_handle_del(r.st, h1_id);
	state_node_forget(r.st, f1_id, 1, NULL);
	state_node_forget(r.st, d2_id, 1, NULL);
	ck_assert_int_eq(srig_next(&r), 0);
	srig_counts(&r, 3, 0);
	state_node_forget(r.st, f2_id, 1, NULL);
	srig_counts(&r, 1, 0);
	srig_end(&r);
}
END_TEST

/*
 * Damage
 */

static int other_fd(void)
{
	return f2->fd;
}

static void node_generation(void)
{
	f2->id += 1ull << 32;
}

static void node_gen(void)
{
	f2->gen += 5;
}

static void node_slot(void)
{
	f2->id += 1;
}

static void node_fd_dead(void)
{
	f2->fd = 3999;
}

static void node_fd_none(void)
{
	f2->fd = -1;
}

static void node_fd_other(void)
{
	f2->fd = f1->fd;
}

static void node_mode(void)
{
	f2->mode = S_IFLNK;
}

static void node_class(void)
{
	f2->cls = 77;
}

static void node_name_empty(void)
{
	f2->name[0] = '\0';
}

static void node_name_slash(void)
{
	f2->name[1] = '/';
}

static void node_name_endless(void)
{
	memset(f2->name, 'x', sizeof(f2->name));
}

static void parent_far(void)
{
	f2->parent = 0xffffffff;
}

static void parent_unused(void)
{
	f2->parent = r.s->head->node_high;
}

static void folder_dies(void)
{
	d2->fd = -1;
}

static void cycle_of_one(void)
{
	d2->parent = (uint32_t)(d2 - r.s->nodes);
}

static void cycle_of_two(void)
{
	d0->parent = (uint32_t)(d1 - r.s->nodes);
}

static void root_in_folder(void)
{
	state_root(r.st)->parent = (uint32_t)(d0 - r.s->nodes);
}

static void open_node_dies(void)
{
	f0->fd = -1;
}

static void handle_id(void)
{
	h1->id += 1ull << 32;
}

static void handle_kind(void)
{
	h1->kind = 3;
}

static void handle_fd_dead(void)
{
	h1->fd = 3999;
}

static void handle_fd_other(void)
{
	h1->fd = other_fd();
}

static void handle_twin_other(void)
{
	h1->direct_fd = other_fd();
}

static void handle_node_other(void)
{
	h1->node = (uint32_t)(f2 - r.s->nodes);
}

static void handle_node_far(void)
{
	h1->node = 0xfffffff0;
}

static void refs_wrong(void)
{
	f2->refs = 1000;
	d0->refs = 0;
}

static void slots_unused(void)
{
	r.s->head->node_high += 10;
	r.s->head->handle_high += 10;
}

static const struct {
	const char *name;
	void (*spoil)(void);
	unsigned int dropped, nodes, handles;
} damages[] = {
	{"a node's id has another generation", node_generation, 1, 6, 2},
	{"a node's generation is another", node_gen, 1, 6, 2},
	{"a node's id has another slot", node_slot, 1, 6, 2},
	{"a node's descriptor is closed", node_fd_dead, 1, 6, 2},
	{"a node has no descriptor", node_fd_none, 1, 6, 2},
	{"a node's descriptor is another's", node_fd_other, 1, 6, 2},
	{"a node's type", node_mode, 1, 6, 2},
	{"a node's class", node_class, 1, 6, 2},
	{"no name", node_name_empty, 1, 6, 2},
	{"a name with a slash", node_name_slash, 1, 6, 2},
	{"a name without an end", node_name_endless, 1, 6, 2},
	/* Not a record's fault that its folder is unknown: it stays, in the root. */
	{"a parent out of range", parent_far, 0, 7, 2},
	{"a parent that never was", parent_unused, 0, 7, 2},
	{"a folder with something in it", folder_dies, 1, 6, 2},
	{"a folder in itself", cycle_of_one, 1, 7, 2},
	{"two folders in each other", cycle_of_two, 1, 7, 2},
	{"the root in a folder", root_in_folder, 0, 7, 2},
	{"a node that is open", open_node_dies, 2, 6, 1},
	{"a handle's id", handle_id, 1, 7, 1},
	{"a handle's kind", handle_kind, 1, 7, 1},
	{"a handle's descriptor is closed", handle_fd_dead, 1, 7, 1},
	{"a handle's descriptor is another's", handle_fd_other, 1, 7, 1},
	{"a handle's second descriptor", handle_twin_other, 1, 7, 1},
	{"a handle of another file", handle_node_other, 1, 7, 1},
	{"a handle of a slot that is none", handle_node_far, 1, 7, 1},
	{"reference counts", refs_wrong, 0, 7, 2},
	{"slots that were taken and not used", slots_unused, 0, 7, 2},
};

START_TEST(damaged)
{
	size_t nodes, handles;
	off_t logged;

	fill();
	logged = srig_logged();
	damages[_i].spoil();
	ck_assert_int_eq(srig_next(&r), 0);
	state_counts(r.st, &nodes, &handles);
	ck_assert_msg(r.s->head->dropped == damages[_i].dropped &&
			      nodes == damages[_i].nodes &&
			      handles == damages[_i].handles,
		      "%s: %u dropped, %zu nodes, %zu handles", damages[_i].name,
		      r.s->head->dropped, nodes, handles);
	ck_assert((srig_logged() > logged) == (damages[_i].dropped > 0));
	/* A second look finds nothing new. */
	ck_assert_int_eq(srig_next(&r), 0);
	ck_assert_uint_eq(r.s->head->dropped, damages[_i].dropped);
	srig_counts(&r, nodes, handles);
	use_up();
	end();
}
END_TEST

static void no_root(void)
{
	state_root(r.st)->fd = -1;
}

static void too_many_nodes(void)
{
	r.s->head->node_high = STATE_NODES_MAX + 1;
}

static void too_many_handles(void)
{
	r.s->head->handle_high = 0xffffffff;
}

static void no_nodes(void)
{
	r.s->head->node_high = 0;
}

static void (*const hopeless[])(void) = {no_root, no_nodes, too_many_nodes,
					 too_many_handles};

START_TEST(refused)
{
	fill();
	hopeless[_i]();
	ck_assert_int_eq(srig_next(&r), -EBADMSG);
	ck_assert_ptr_null(r.st);
	/* Nor does the next one begin with a root of its own. */
	ck_assert_int_eq(state_new(&r.st, r.s, r.rootfd), -EBADMSG);
	session_free(r.s, true);
	srig_sweep(&r);
}
END_TEST

/*
 * Deaths: what one leaves between two stores. f3 and its folder d0 are the request's; the slot is 0.
 * f3 has three lookups before.
 */

static struct session_slot *slot;
static struct node *f3;
static uint64_t kept_handle;

static void made_not_counted(void)
{
	f3 = srig_lookup(&r, "f4", d0, "f4", slot);
	f3->nlookup = 0;
	slot->mark_cnt = 0;
}

static void counted_not_marked(void)
{
	session_txn_begin(r.s, f3, slot);
	f3->nlookup++;
}

static void new_counted_not_marked(void)
{
	made_not_counted();
	counted_not_marked();
}

static void marked_not_ended(void)
{
	counted_not_marked();
	slot->marks[slot->mark_cnt] = f3->id;
	slot->mark_cnt++;
}

static void counted(void)
{
	srig_lookup(&r, "f3", d0, "f3", slot);
}

/* The name is that of the new place, the folder still the old one. */
static void half_named(void)
{
	srig_lookup(&r, "f3", d0, "new", slot);
	f3->parent = 0;
}

static void forgot_not_noted(void)
{
	session_txn_begin(r.s, f3, slot);
	f3->nlookup = 0;
}

static void forgot_not_ended(void)
{
	forgot_not_noted();
	slot->forget_cnt = 1;
}

static void forgot_not_released(void)
{
	forgot_not_ended();
	session_txn_end(r.s);
}

static void handle_not_published(void)
{
	kept_handle = srig_open(&r, f3, slot);
	state_handle(r.st, kept_handle)->id = 0;
}

static void handle_not_answered(void)
{
	kept_handle = srig_open(&r, f3, slot);
}

static void handle_half_closed(void)
{
	kept_handle = srig_open(&r, f3, NULL);
	forgot_not_released();
	state_handle(r.st, kept_handle)->id = 0;
}

static void released_half(void)
{
	f3->id = 0;
}

static void slots_not_used(void)
{
	r.s->head->node_high++;
	r.s->head->handle_high++;
}

static const struct {
	const char *name;
	void (*die)(void);
	unsigned int nodes, handles, lookups, marks, forgets;
} deaths[] = {
	{"made, not counted", made_not_counted, 8, 2, 3, 0, 0},
	{"counted, not marked", counted_not_marked, 8, 2, 3, 0, 0},
	{"made and counted, not marked", new_counted_not_marked, 8, 2, 3, 0, 0},
	{"marked, not ended", marked_not_ended, 8, 2, 3, 0, 0},
	{"counted and marked", counted, 8, 2, 4, 1, 0},
	{"half named", half_named, 8, 2, 4, 1, 0},
	{"forgotten, not noted", forgot_not_noted, 8, 2, 3, 0, 0},
	{"forgotten, not ended", forgot_not_ended, 8, 2, 3, 0, 0},
	{"forgotten, not released", forgot_not_released, 7, 2, 0, 0, 1},
	{"handle marked, not published", handle_not_published, 8, 2, 3, 0, 0},
	{"handle published, not answered", handle_not_answered, 8, 3, 3, 0, 0},
	{"handle half closed", handle_half_closed, 7, 2, 0, 0, 1},
	{"released half", released_half, 7, 2, 0, 0, 0},
	{"slots taken", slots_not_used, 8, 2, 3, 0, 0},
};

START_TEST(death)
{
	uint64_t id;
	size_t nodes, handles;

	fill();
	slot = &r.s->slots[0];
	for (int i = 0; i < 3; i++)
		f3 = srig_lookup(&r, "f3", d0, "f3", NULL);
	id = f3->id;
	deaths[_i].die();
	for (int again = 0; again < 2; again++) { /* and once more while taking over */
		ck_assert_int_eq(srig_next(&r), 0);
		state_counts(r.st, &nodes, &handles);
		ck_assert_msg(nodes == deaths[_i].nodes && handles == deaths[_i].handles,
			      "%s: %zu nodes, %zu handles", deaths[_i].name, nodes,
			      handles);
		f3 = state_node(r.st, id);
		ck_assert_uint_eq(f3 ? f3->nlookup : 0, deaths[_i].lookups);
		ck_assert_uint_eq(slot->mark_cnt, deaths[_i].marks);
		ck_assert_uint_eq(slot->forget_cnt, deaths[_i].forgets);
	}
	ck_assert_uint_eq(r.s->head->dropped, 0);
	/* What was marked is taken back; an id that was promised is not another one's. */
	state_unmark(r.st, slot);
	ck_assert_uint_eq(f3 ? f3->nlookup : 0, deaths[_i].lookups ? 3 : 0);
	if (slot->handle && !state_handle(r.st, slot->handle))
		ck_assert_uint_ne(srig_open(&r, f3, NULL), slot->handle);
	use_up();
	end();
}
END_TEST

/*
 * Fuzz: some fields, some bytes; descriptors among them that lead somewhere. What is left is used
 * up. Each round begins with the same sound tables.
 */

enum { FUZZ_NODES = 8, FUZZ_HANDLES = 4, FUZZ_FDS = 64 };

static uint32_t seed;

static uint32_t rnd(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* A number that somebody might take for his. */
static uint32_t likely(void)
{
	static const uint32_t edges[] = {0,	     1,		 0xffffffff,
					 0x7fffffff, 0x80000000, 1 << 20};

	switch (rnd() % 3) {
	case 0:
		return edges[rnd() % 6];
	case 1:
		return rnd() % 12;
	default:
		return rnd();
	}
}

static void spoil(void *record, size_t len)
{
	uint32_t value = likely();

	if (rnd() % 2) {
		memcpy((char *)record + rnd() % (len / 4) * 4, &value, 4);
		return;
	}
	for (uint32_t i = rnd() % 8; i > 0; i--)
		((unsigned char *)record)[rnd() % len] = (unsigned char)rnd();
}

static void spoil_some(void)
{
	for (uint32_t i = 1 + rnd() % 6; i > 0; i--) {
		/* The root's descriptor is what all rounds stand on. */
		if (rnd() % 3)
			spoil(&r.s->nodes[1 + rnd() % (FUZZ_NODES - 1)],
			      rnd() % 2 ? sizeof(struct node) : 80);
		else
			spoil(&r.s->handles[rnd() % FUZZ_HANDLES], sizeof(struct handle));
	}
	if (rnd() % 4 == 0)
		spoil(&r.s->head->txn, sizeof(r.s->head->txn));
	if (rnd() % 4 == 0)
		spoil(&r.s->slots[0], sizeof(struct session_slot));
	if (rnd() % 8 == 0)
		r.s->head->node_high = rnd() % 12;
	if (rnd() % 8 == 0)
		r.s->head->handle_high = rnd() % 8;
}

static struct {
	struct node nodes[16];
	struct handle handles[16];
	struct session_slot slot;
	uint32_t node_high, handle_high;
	int fds[FUZZ_FDS];
	const char *files[FUZZ_FDS];
	int fd_cnt;
} saved;

static void save_fd(int fd, const char *file)
{
	saved.fds[saved.fd_cnt] = fd;
	saved.files[saved.fd_cnt++] = file;
}

static void save(void)
{
	memcpy(saved.nodes, r.s->nodes, sizeof(saved.nodes));
	memcpy(saved.handles, r.s->handles, sizeof(saved.handles));
	saved.slot = r.s->slots[0];
	saved.node_high = r.s->head->node_high;
	saved.handle_high = r.s->head->handle_high;
	saved.fd_cnt = 0;
	save_fd(d0->fd, "d0");
	save_fd(d1->fd, "d1");
	save_fd(d2->fd, "d2");
	save_fd(f0->fd, "f0");
	save_fd(f1->fd, "f1");
	save_fd(f2->fd, "f2");
	save_fd(h0->fd, "f0");
	save_fd(h1->fd, "f1");
}

static void restore_fds(void)
{
	for (int i = 0; i < saved.fd_cnt; i++) {
		int fd = openat(r.rootfd, saved.files[i], O_PATH | O_CLOEXEC);

		ck_assert_int_ge(fd, 0);
		if (fd == saved.fds[i])
			continue;
		ck_assert_int_eq(dup3(fd, saved.fds[i], O_CLOEXEC), saved.fds[i]);
		close(fd);
	}
}

static void restore(void)
{
	memcpy(r.s->nodes, saved.nodes, sizeof(saved.nodes));
	memcpy(r.s->handles, saved.handles, sizeof(saved.handles));
	r.s->slots[0] = saved.slot;
	r.s->head->node_high = saved.node_high;
	r.s->head->handle_high = saved.handle_high;
	memset(&r.s->head->txn, 0, sizeof(r.s->head->txn));
	restore_fds();
}

START_TEST(fuzz)
{
	const char *rounds = getenv("VCF_ROUNDS");
	int taken = 0;

	seed = (uint32_t)_i;
	fill();
	save();
	for (int i = rounds ? atoi(rounds) : 2000; i > 0; i--) {
		vcf_err_t err;

		state_leave(r.st);
		r.st = NULL;
		restore();
		spoil_some();
		err = state_new(&r.st, r.s, r.rootfd);
		if (err) {
			ck_assert_int_eq(err, -EBADMSG);
			restore();
			ck_assert_int_eq(state_new(&r.st, r.s, r.rootfd), 0);
			continue;
		}
		taken++;
		state_unmark(r.st, &r.s->slots[0]);
		use_up();
	}
	ck_assert_int_gt(taken, 10);
	ck_assert_uint_gt(r.s->head->dropped, 10);
	end();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("state_takeover");
	TCase *t = tcase_create("takeover");

	tcase_add_test(t, sound);
	tcase_add_loop_test(t, damaged, 0, ROWS(damages));
	tcase_add_loop_test(t, refused, 0, ROWS(hopeless));
	tcase_add_loop_test(t, death, 0, ROWS(deaths));
	tcase_add_loop_test(t, fuzz, 0, 2);
	suite_add_tcase(s, t);
	return s;
}
