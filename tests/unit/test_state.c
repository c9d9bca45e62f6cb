/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>

#include "tests/unit/state_rig.h"

static struct srig r;
static char path[STATE_PATH_MAX];

static const char *path_of(const struct node *n)
{
	ck_assert_int_eq(state_path(r.st, n, path), 0);
	return path;
}

START_TEST(the_root)
{
	struct node *root;

	srig_start(&r);
	root = state_root(r.st);
	ck_assert_uint_eq(root->id, 1);
	ck_assert_ptr_eq(state_node(r.st, 1), root);
	ck_assert_str_eq(path_of(root), "");
	srig_counts(&r, 1, 0);
	/* The kernel never forgets it. */
	state_node_forget(r.st, 1, 100, NULL);
	state_node_unlookup(r.st, 1, NULL);
	ck_assert_ptr_eq(state_node(r.st, 1), root);
	/* Found as an entry of itself: no name of its own. */
	ck_assert_ptr_eq(srig_lookup(&r, ".", root, "loop", NULL), root);
	ck_assert_str_eq(path_of(root), "");
	srig_end(&r);
}
END_TEST

START_TEST(lookups)
{
	struct session_slot *slot;
	struct node *n;
	uint64_t id;
	int fd;

	srig_start(&r);
	slot = &r.s->slots[3];
	n = srig_lookup(&r, "f0", state_root(r.st), "f0", slot);
	id = n->id;
	fd = n->fd;
	ck_assert_uint_eq(n->nlookup, 1);
	ck_assert_ptr_eq(srig_lookup(&r, "f0", state_root(r.st), "f0", slot), n);
	ck_assert_uint_eq(n->nlookup, 2);
	ck_assert_int_eq(n->fd, fd);
	ck_assert_uint_eq(slot->mark_cnt, 2);
	ck_assert_uint_eq(slot->marks[0], id);
	ck_assert_uint_eq(slot->marks[1], id);
	srig_counts(&r, 2, 0);
	state_node_forget(r.st, id, 1, slot);
	ck_assert_uint_eq(n->nlookup, 1);
	ck_assert_uint_eq(slot->forget_cnt, 1);
	ck_assert_ptr_eq(state_node(r.st, id), n);
	state_node_forget(r.st, id, 77, slot); /* more than there are */
	ck_assert_ptr_null(state_node(r.st, id));
	ck_assert(!srig_is_open(fd));
	srig_counts(&r, 1, 0);
	/* Of what is not there: done all the same. */
	state_node_forget(r.st, id, 1, slot);
	state_node_forget(r.st, 0, 1, slot);
	state_node_forget(r.st, 0xffffffffull, 1, slot);
	ck_assert_uint_eq(slot->forget_cnt, 5);
	srig_end(&r);
}
END_TEST

/* Two containers of one inode cannot be, two contexts of it can: each has its own node. */
START_TEST(domains)
{
	struct node proto = {.mode = S_IFREG, .cls = CLASS_ENCRYPT};
	struct node_key key = {.dev = 1, .ino = 2, .domain = 3};
	struct node *a, *b;
	bool used;

	srig_start(&r);
	proto.fd = dup(0);
	ck_assert_int_eq(state_node_lookup(r.st, &key, &proto, state_root(r.st), "a",
					   NULL, &a, &used),
			 0);
	key.domain = 4;
	proto.fd = dup(0);
	ck_assert_int_eq(state_node_lookup(r.st, &key, &proto, state_root(r.st), "b",
					   NULL, &b, &used),
			 0);
	ck_assert(used);
	ck_assert_ptr_ne(a, b);
	ck_assert(state_node_of_inode(r.st, 1, 2) == a);
	ck_assert_ptr_null(state_node_of_inode(r.st, 2, 2));
	state_node_moved(r.st, &key, state_root(r.st), "c", CLASS_DERIVED);
	ck_assert_str_eq(path_of(a), "a");
	ck_assert_str_eq(path_of(b), "c");
	ck_assert_uint_eq(b->cls, CLASS_DERIVED);
	srig_end(&r);
}
END_TEST

START_TEST(marks_full)
{
	struct session_slot *slot;
	struct node *n, *other;

	srig_start(&r);
	slot = &r.s->slots[0];
	for (int i = 0; i < SESSION_MARKS_MAX; i++)
		n = srig_lookup(&r, "f0", state_root(r.st), "f0", slot);
	ck_assert_uint_eq(n->nlookup, SESSION_MARKS_MAX);
	ck_assert_int_eq(srig_try(&r, "f0", state_root(r.st), "f0", slot, &other),
			 -ENOSPC);
	ck_assert_int_eq(srig_try(&r, "f1", state_root(r.st), "f1", slot, &other),
			 -ENOSPC);
	ck_assert_uint_eq(n->nlookup, SESSION_MARKS_MAX);
	srig_counts(&r, 2, 0);
	/* One that is given back makes room for one. */
	state_node_unlookup(r.st, n->id, slot);
	ck_assert_int_eq(srig_try(&r, "f1", state_root(r.st), "f1", slot, &other), 0);
	ck_assert_int_eq(srig_try(&r, "f1", state_root(r.st), "f1", slot, &other),
			 -ENOSPC);
	state_unmark(r.st, slot);
	ck_assert_uint_eq(slot->mark_cnt, 0);
	srig_counts(&r, 1, 0);
	srig_end(&r);
}
END_TEST

START_TEST(unlookup)
{
	struct session_slot *slot;
	struct node *a, *b;

	srig_start(&r);
	slot = &r.s->slots[0];
	a = srig_lookup(&r, "f0", state_root(r.st), "f0", slot);
	b = srig_lookup(&r, "f1", state_root(r.st), "f1", slot);
	srig_lookup(&r, "f0", state_root(r.st), "f0", slot);
	state_node_unlookup(r.st, b->id, slot);
	ck_assert_uint_eq(slot->mark_cnt, 2);
	ck_assert_uint_eq(slot->marks[0], a->id);
	ck_assert_uint_eq(slot->marks[1], a->id);
	srig_counts(&r, 2, 0);
	/* Not one of the slot's: the marks stay. */
	b = srig_get(&r, "f1");
	state_node_unlookup(r.st, b->id, slot);
	ck_assert_uint_eq(slot->mark_cnt, 2);
	state_node_unlookup(r.st, a->id, slot);
	ck_assert_uint_eq(a->nlookup, 1);
	state_node_unlookup(r.st, a->id, slot);
	ck_assert_uint_eq(slot->mark_cnt, 0);
	srig_counts(&r, 1, 0);
	srig_end(&r);
}
END_TEST

/* A mark of a node that has gone meanwhile, and a number of marks that cannot be. */
START_TEST(unmark_odd)
{
	struct session_slot *slot;
	struct node *n;

	srig_start(&r);
	slot = &r.s->slots[SESSION_SLOTS_MAX - 1];
	n = srig_lookup(&r, "f0", state_root(r.st), "f0", slot);
	state_node_forget(r.st, n->id, 1, NULL);
	state_unmark(r.st, slot);
	ck_assert_uint_eq(slot->mark_cnt, 0);
	slot->marks[0] = 1; /* the root */
	slot->mark_cnt = 1;
	state_unmark(r.st, slot);
	ck_assert_uint_eq(state_root(r.st)->nlookup, 1);
	slot->mark_cnt = 0xffffffff;
	state_unmark(r.st, slot);
	ck_assert_uint_eq(slot->mark_cnt, 0);
	srig_counts(&r, 1, 0);
	srig_end(&r);
}
END_TEST

/* A folder stays while something was last seen in it. */
START_TEST(parents)
{
	struct node *d0, *d1, *f;
	int fd0;

	srig_start(&r);
	d0 = srig_get(&r, "d0");
	d1 = srig_lookup(&r, "d1", d0, "d1", NULL);
	f = srig_lookup(&r, "f0", d1, "f0", NULL);
	ck_assert_str_eq(path_of(f), "d0/d1/f0");
	ck_assert_int_eq(state_child_path(r.st, d1, "new", path), 0);
	ck_assert_str_eq(path, "d0/d1/new");
	ck_assert_int_eq(state_child_path(r.st, state_root(r.st), "new", path), 0);
	ck_assert_str_eq(path, "new");
	fd0 = d0->fd;
	state_node_forget(r.st, d0->id, 1, NULL);
	state_node_forget(r.st, d1->id, 1, NULL);
	srig_counts(&r, 4, 0);
	ck_assert_str_eq(path_of(f), "d0/d1/f0");
	/* Seen elsewhere: both folders go at once. */
	srig_lookup(&r, "f0", state_root(r.st), "other", NULL);
	ck_assert_str_eq(path_of(f), "other");
	srig_counts(&r, 2, 0);
	ck_assert(!srig_is_open(fd0));
	d0 = srig_get(&r, "d0");
	srig_lookup(&r, "f0", d0, "f0", NULL);
	state_node_forget(r.st, d0->id, 1, NULL);
	state_node_forget(r.st, f->id, 3, NULL);
	srig_counts(&r, 1, 0);
	srig_end(&r);
}
END_TEST

START_TEST(long_paths)
{
	char name[SESSION_NAME_MAX + 1], longer[SESSION_NAME_MAX + 2];
	struct node *n;

	srig_start(&r);
	memset(name, 'x', SESSION_NAME_MAX);
	name[SESSION_NAME_MAX] = '\0';
	n = srig_lookup(&r, "d0", state_root(r.st), name, NULL);
	for (int i = 1; i < 3; i++) {
		char folder[16];

		snprintf(folder, sizeof(folder), "d%d", i);
		n = srig_lookup(&r, folder, n, name, NULL);
	}
	for (int i = 0; i < SRIG_FILES; i++) {
		char file[16];

		snprintf(file, sizeof(file), "f%d", i);
		n = srig_lookup(&r, file, n, name, NULL);
	}
	ck_assert_uint_eq(strlen(path_of(n)), 11 * 256 - 1);
	/* 4096 bytes with the NUL are the most: five more names of 255 are too many. */
	for (int i = 0; i < 4; i++) {
		struct node proto = {.fd = dup(0), .mode = S_IFDIR};
		struct node_key key = {.ino = 100 + (uint64_t)i};
		bool used;

		ck_assert_int_eq(
			state_node_lookup(r.st, &key, &proto, n, name, NULL, &n, &used),
			0);
	}
	ck_assert_uint_eq(strlen(path_of(n)), 15 * 256 - 1);
	ck_assert_int_eq(state_child_path(r.st, n, name, path), 0);
	ck_assert_uint_eq(strlen(path), 4095);
	/* Longer than any name of a file may be. */
	memset(longer, 'y', SESSION_NAME_MAX + 1);
	longer[SESSION_NAME_MAX + 1] = '\0';
	ck_assert_int_eq(state_child_path(r.st, n, longer, path), -ENAMETOOLONG);
	srig_end(&r);
}
END_TEST

START_TEST(handles)
{
	struct session_slot *slot;
	struct node *n, *d;
	uint64_t a, b, c;
	int fd;

	srig_start(&r);
	slot = &r.s->slots[1];
	n = srig_get(&r, "f0");
	d = srig_get(&r, "d0");
	a = srig_open(&r, n, slot);
	ck_assert_uint_eq(slot->handle, a);
	b = srig_open(&r, d, NULL);
	ck_assert_uint_eq(slot->handle, a);
	srig_counts(&r, 3, 2);
	ck_assert_ptr_eq(state_handle_of(r.st, a, n->id), state_handle(r.st, a));
	ck_assert_ptr_null(state_handle_of(r.st, a, d->id));
	ck_assert_ptr_null(state_handle_of(r.st, a, 0));
	ck_assert_ptr_null(state_handle(r.st, 0));
	ck_assert_ptr_null(state_handle(r.st, a + (1ull << 32)));
	ck_assert_ptr_null(state_handle(r.st, 0xfffffffful));
	/* An open file needs no lookups. */
	state_node_forget(r.st, n->id, 1, NULL);
	srig_counts(&r, 3, 2);
	fd = state_handle(r.st, a)->fd;
	state_handle_del(r.st, a);
	ck_assert(!srig_is_open(fd));
	srig_counts(&r, 2, 1);
	ck_assert_ptr_null(state_handle(r.st, a));
	state_handle_del(r.st, a); /* a second time: nothing */
	c = srig_open(&r, d, NULL);
	ck_assert_uint_eq((uint32_t)c, (uint32_t)a); /* the same slot, */
	ck_assert_uint_ne(c, a);		     /* another file */
	state_handle_del(r.st, a);
	ck_assert_ptr_nonnull(state_handle(r.st, c));
	ck_assert_ptr_nonnull(state_handle(r.st, b));
	srig_end(&r);
}
END_TEST

/* Whatever comes and goes, and whoever dies: an id names one thing in the life of a mount. */
START_TEST(ids_are_new)
{
	uint64_t node_id = 0, handle_id = 0;

	srig_start(&r);
	for (int i = 0; i < 200; i++) {
		struct node *n = srig_get(&r, "f0");
		uint64_t h = srig_open(&r, n, NULL);

		ck_assert_uint_eq((uint32_t)n->id, 2);
		ck_assert_uint_gt(n->id, node_id);
		ck_assert_uint_gt(h, handle_id);
		node_id = n->id;
		handle_id = h;
		if (i % 3 == 0)
			ck_assert_int_eq(srig_next(&r), 0);
		state_handle_del(r.st, h);
		if (i % 5 == 0)
			ck_assert_int_eq(srig_next(&r), 0);
		state_node_forget(r.st, node_id, 1, NULL);
		if (i % 7 == 0)
			ck_assert_int_eq(srig_next(&r), 0);
		srig_counts(&r, 1, 0);
	}
	ck_assert_uint_eq(r.s->head->node_high, 2);
	ck_assert_uint_eq(r.s->head->handle_high, 1);
	ck_assert_uint_eq(r.s->head->dropped, 0);
	srig_end(&r);
}
END_TEST

START_TEST(tables_full)
{
	struct handle proto = {.fd = -1, .direct_fd = -1};
	struct node *n;
	uint64_t id;

	srig_start(&r);
	for (int i = 0; i < STATE_HANDLES_MAX; i++)
		ck_assert_int_eq(
			state_handle_add(r.st, &proto, state_root(r.st), NULL, &id), 0);
	ck_assert_int_eq(state_handle_add(r.st, &proto, state_root(r.st), NULL, &id),
			 -ENFILE);
	state_handle_del(r.st, id);
	ck_assert_int_eq(state_handle_add(r.st, &proto, state_root(r.st), NULL, &id), 0);
	r.s->head->node_high = STATE_NODES_MAX;
	ck_assert_int_eq(srig_try(&r, "f0", state_root(r.st), "f0", NULL, &n), -ENFILE);
	r.s->head->node_high = 1;
	n = srig_get(&r, "f0");
	srig_end(&r);
}
END_TEST

static void count(void *arg, struct handle *h, struct node *n)
{
	ck_assert_ptr_eq(n, &r.s->nodes[h->node]);
	*(int *)arg += 1;
}

START_TEST(each_handle)
{
	int cnt = 0;
	uint64_t id;

	srig_start(&r);
	srig_open(&r, srig_get(&r, "f0"), NULL);
	id = srig_open(&r, srig_get(&r, "f1"), NULL);
	srig_open(&r, srig_get(&r, "f2"), NULL);
	state_handle_del(r.st, id);
	state_each_handle(r.st, count, &cnt);
	ck_assert_int_eq(cnt, 2);
	srig_end(&r);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("state");
	TCase *t = tcase_create("state");

	tcase_add_test(t, the_root);
	tcase_add_test(t, lookups);
	tcase_add_test(t, domains);
	tcase_add_test(t, marks_full);
	tcase_add_test(t, unlookup);
	tcase_add_test(t, unmark_odd);
	tcase_add_test(t, parents);
	tcase_add_test(t, long_paths);
	tcase_add_test(t, handles);
	tcase_add_test(t, ids_are_new);
	tcase_add_test(t, tables_full);
	tcase_add_test(t, each_handle);
	suite_add_tcase(s, t);
	return s;
}
