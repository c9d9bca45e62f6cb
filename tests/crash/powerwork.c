/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workload of a power-loss run: random operations on a mount, each with a mark before and
 * after it in the record, so that powercheck.c knows what had been promised at any moment.
 *
 * usage: powerwork MOUNT RECORD SEED OPERATIONS
 *
 * Two workers, each with files of its own; the folders are common. A file is one slot, whose
 * class (by its name) does not change: images, derived images (.part), plain ones (pass/). Files
 * that are open past the page cache are also written by several at once, with syncs in between.
 */
#include "tests/crash/record.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { WORKERS = 2, SLOTS = 9, FOLDERS = 2, SIZE_MAX_ = 100000, LEN_MAX = 24000 };
enum { BLOCK = 4096, DEPTH = 8, QUEUED = 24 };

struct slot {
	uint32_t id, folder;
	char name[WORK_NAME_MAX + 1];
	int fd; /* -1: no such file */
	bool derived, plain, direct;
	uint64_t size;
};

/* A write of one block that may be under way. */
struct queued {
	struct iocb cb;
	struct work_op op;
	unsigned char *buf;
	bool busy;
};

struct worker {
	pthread_t thread;
	aio_context_t ctx;
	struct queued queue[DEPTH];
	unsigned int number, ops;
	uint64_t random;
	uint32_t next_id;
	struct slot slots[SLOTS];
	struct slot folders[FOLDERS]; /* fd 1: it is there */
};

static struct record_file *rec;
static int mnt;

/* Paths of folders by number: a worker's own change name, so they are looked up there. */
static struct worker workers[WORKERS];

enum { FOLDER_PASS = 1 };

static void die(const char *what, const struct work_op *op)
{
	fprintf(stderr, "powerwork: %s: operation %u on %u '%s' '%s' %llu %llu: %s\n",
		what, op->kind, op->id, op->name, op->name2, (unsigned long long)op->off,
		(unsigned long long)op->len, strerror(errno));
	exit(1);
}

static void begin(const struct work_op *op)
{
	record_lock(rec);
	record_append(rec, &(struct record){.kind = RECORD_BEGIN}, op, sizeof(*op), NULL,
		      0);
	record_unlock(rec);
}

static void end(const struct work_op *op, int rc, int fd)
{
	struct record r = {.kind = RECORD_END, .value = rc < 0 ? -errno : 0};
	struct stat st;

	if (rc < 0 && (op->kind != WORK_ZERO || errno != EOPNOTSUPP))
		die("failed", op);
	if (fd >= 0 && fstat(fd, &st) == 0)
		r.ino = st.st_ino;
	record_lock(rec);
	record_append(rec, &r, op, sizeof(*op), NULL, 0);
	record_unlock(rec);
}

static uint64_t below(struct worker *w, uint64_t n)
{
	return work_random(&w->random) % n;
}

static bool chance(struct worker *w, unsigned int percent)
{
	return below(w, 100) < percent;
}

static const char *folder_name(uint32_t folder)
{
	if (folder == FOLDER_PASS)
		return "pass";
	for (int i = 0; i < WORKERS; i++)
		for (int k = 0; k < FOLDERS; k++)
			if (folder && workers[i].folders[k].id == folder)
				return workers[i].folders[k].name;
	return ".";
}

static void path_of(char path[80], uint32_t folder, const char *name)
{
	snprintf(path, 80, "%s/%s", folder_name(folder), name);
}

static void create(struct worker *w, struct slot *s)
{
	struct work_op op = {.kind = WORK_CREATE, .id = ++w->next_id};
	char path[80];

	s->id = op.id;
	s->size = 0;
	s->folder = s->plain ? FOLDER_PASS : 0;
	if (!s->plain && w->folders[0].fd >= 0 && chance(w, 30))
		s->folder = w->folders[0].id;
	snprintf(s->name, sizeof(s->name), "w%u-%u%s", w->number, op.id % 10000,
		 s->derived ? ".part" : "");
	op.folder = s->folder;
	op.len = s->plain ? WORK_PLAIN : 0;
	memcpy(op.name, s->name, sizeof(op.name));
	path_of(path, s->folder, s->name);
	begin(&op);
	s->fd = openat(mnt, path, O_RDWR | O_CREAT | O_EXCL | (s->direct ? O_DIRECT : 0),
		       0600);
	end(&op, s->fd, s->fd);
}

static struct work_op op_on(enum work_kind kind, const struct slot *s)
{
	struct work_op op = {.kind = kind, .id = s->id, .folder = s->folder};

	memcpy(op.name, s->name, sizeof(op.name));
	return op;
}

static void write_some(struct worker *w, struct slot *s)
{
	static _Thread_local unsigned char buf[LEN_MAX] __attribute__((aligned(4096)));
	struct work_op op = op_on(WORK_WRITE, s);
	uint64_t mask = s->direct ? ~511ull : chance(w, 20) ? ~4095ull : ~0ull;

	op.off = below(w, s->size + 9000) & mask;
	op.len = (1 + below(w, chance(w, 50) ? 700 : LEN_MAX)) & mask;
	if (!op.len)
		op.len = s->direct ? 512 : 1;
	if (op.off + op.len > SIZE_MAX_)
		op.off = 0;
	op.seed = work_random(&w->random);
	work_fill(buf, op.len, op.off, op.seed);
	begin(&op);
	end(&op, pwrite(s->fd, buf, op.len, (off_t)op.off) == (ssize_t)op.len ? 0 : -1,
	    -1);
	if (s->size < op.off + op.len)
		s->size = op.off + op.len;
}

static void truncate_to(struct slot *s, uint64_t size)
{
	struct work_op op = op_on(WORK_TRUNCATE, s);

	op.len = size;
	begin(&op);
	end(&op, ftruncate(s->fd, (off_t)size), -1);
	s->size = size;
}

static void resize(struct worker *w, struct slot *s)
{
	uint64_t size = chance(w, 60) ? below(w, s->size + 1) : s->size + below(w, 20000);

	if (chance(w, 25))
		size -= size % 4096;
	truncate_to(s, size < SIZE_MAX_ ? size : SIZE_MAX_);
}

static void allocate(struct worker *w, struct slot *s, enum work_kind kind)
{
	struct work_op op = op_on(kind, s);
	int mode = 0;
	int rc;

	if (kind == WORK_PUNCH)
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	else if (kind == WORK_ZERO)
		mode = FALLOC_FL_ZERO_RANGE;
	else if (kind == WORK_ALLOC_KEEP)
		mode = FALLOC_FL_KEEP_SIZE;
	op.off = below(w, s->size + 2000);
	op.len = 1 + below(w, 20000);
	if (chance(w, 30)) {
		op.off -= op.off % 4096;
		op.len += 4096 - op.len % 4096;
	}
	begin(&op);
	rc = fallocate(s->fd, mode, (off_t)op.off, (off_t)op.len);
	end(&op, rc, -1);
	if (rc == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && s->size < op.off + op.len)
		s->size = op.off + op.len;
}

static void sync_file(struct slot *s, bool data)
{
	struct work_op op = op_on(data ? WORK_FDATASYNC : WORK_FSYNC, s);

	begin(&op);
	end(&op, data ? fdatasync(s->fd) : fsync(s->fd), -1);
}

static void sync_folder(uint32_t folder)
{
	struct work_op op = {.kind = WORK_FSYNC_FOLDER, .folder = folder, .id = folder};
	int fd = openat(mnt, folder_name(folder), O_RDONLY | O_DIRECTORY);

	begin(&op);
	end(&op, fd < 0 ? fd : fsync(fd), -1);
	close(fd);
}

/* --- several at once --- */

/* A block that none of those under way writes. */
static uint64_t draw_block(struct worker *w, uint64_t blocks)
{
	for (;;) {
		uint64_t block = below(w, blocks);
		int i = 0;

		while (i < DEPTH &&
		       !(w->queue[i].busy && w->queue[i].op.off == block * BLOCK))
			i++;
		if (i == DEPTH)
			return block;
	}
}

static void submit(struct worker *w, const struct slot *s, struct queued *q)
{
	struct iocb *list[] = {&q->cb};

	q->op = op_on(WORK_QUEUED, s);
	q->op.off = draw_block(w, s->size / BLOCK) * BLOCK;
	q->op.len = BLOCK;
	q->op.seed = work_random(&w->random);
	work_fill(q->buf, BLOCK, q->op.off, q->op.seed);
	q->cb = (struct iocb){
		.aio_data = (uintptr_t)q,
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (uint32_t)s->fd,
		.aio_buf = (uintptr_t)q->buf,
		.aio_nbytes = BLOCK,
		.aio_offset = (int64_t)q->op.off,
	};
	q->busy = true;
	begin(&q->op);
	if (syscall(SYS_io_submit, w->ctx, 1L, list) != 1)
		die("io_submit", &q->op);
}

/* Waits for one at least; how many it were. */
static unsigned int reap(const struct worker *w)
{
	struct io_event events[DEPTH];
	long n = syscall(SYS_io_getevents, w->ctx, 1L, (long)DEPTH, events, NULL);

	for (long i = 0; i < n; i++) {
		struct queued *q = (struct queued *)(uintptr_t)events[i].data;

		errno = events[i].res < 0 ? (int)-events[i].res : EIO;
		end(&q->op, events[i].res == BLOCK ? 0 : -1, -1);
		q->busy = false;
	}
	return n < 0 ? 0 : (unsigned int)n;
}

static void write_many(struct worker *w, struct slot *s)
{
	unsigned int begun = 0, ended = 0;

	if (s->size < 2 * DEPTH * BLOCK)
		truncate_to(s, 2 * DEPTH * BLOCK + below(w, 9000));
	while (ended < QUEUED) {
		for (int i = 0; i < DEPTH && begun < QUEUED; i++) {
			if (w->queue[i].busy)
				continue;
			submit(w, s, &w->queue[i]);
			begun++;
		}
		if (chance(w, 20))
			sync_file(s, chance(w, 70));
		ended += reap(w);
	}
}

static void close_slot(struct slot *s)
{
	close(s->fd);
	s->fd = -1;
}

/* Over another one, which is closed before or after. */
static void rename_over(struct worker *w, struct slot *from, struct slot *to)
{
	struct work_op op = op_on(WORK_RENAME, from);
	char path[80], path2[80];
	bool early = chance(w, 50);

	if (from == to || from->plain != to->plain || from->derived < to->derived)
		return;
	if (chance(w, 40))
		sync_file(from, chance(w, 50));
	op.folder2 = to->folder;
	memcpy(op.name2, to->name, sizeof(op.name2));
	path_of(path, from->folder, from->name);
	path_of(path2, to->folder, to->name);
	if (early)
		close_slot(to);
	begin(&op);
	end(&op, renameat(mnt, path, mnt, path2), -1);
	if (!early)
		close_slot(to);
	to->id = from->id;
	to->size = from->size;
	close_slot(from);
	to->fd = openat(mnt, path2, O_RDWR | (to->direct ? O_DIRECT : 0));
	if (to->fd < 0)
		die("open after rename", &op);
}

static void rename_new(struct worker *w, struct slot *s)
{
	struct work_op op = op_on(WORK_RENAME, s);
	char path[80], path2[80];

	op.folder2 = s->folder;
	if (!s->plain && w->folders[1].fd >= 0 && chance(w, 50))
		op.folder2 = s->folder ? 0 : w->folders[1].id;
	snprintf(op.name2, sizeof(op.name2), "w%u-to%u%s", w->number,
		 ++w->next_id % 10000, s->derived ? ".part" : "");
	path_of(path, s->folder, s->name);
	path_of(path2, op.folder2, op.name2);
	begin(&op);
	end(&op, renameat(mnt, path, mnt, path2), -1);
	s->folder = op.folder2;
	memcpy(s->name, op.name2, sizeof(s->name));
}

static void unlink_slot(struct worker *w, struct slot *s)
{
	struct work_op op = op_on(WORK_UNLINK, s);
	bool early = chance(w, 60);
	char path[80];

	path_of(path, s->folder, s->name);
	if (early)
		close_slot(s);
	begin(&op);
	end(&op, unlinkat(mnt, path, 0), -1);
	if (!early)
		close_slot(s);
}

static bool in_use(const struct worker *w, uint32_t folder)
{
	for (int i = 0; i < SLOTS; i++)
		if (w->slots[i].fd >= 0 && w->slots[i].folder == folder)
			return true;
	return false;
}

static void make_folder(struct worker *w, struct slot *f)
{
	struct work_op op = {.kind = WORK_MKDIR, .id = ++w->next_id};
	int fd;

	snprintf(op.name, sizeof(op.name), "w%u-dir%u", w->number, op.id % 10000);
	begin(&op);
	if (mkdirat(mnt, op.name, 0700))
		die("mkdir", &op);
	fd = openat(mnt, op.name, O_RDONLY | O_DIRECTORY);
	end(&op, fd, fd);
	close(fd);
	memcpy(f->name, op.name, sizeof(f->name));
	f->id = op.id;
	f->fd = 1;
}

static void move_folder(struct worker *w, struct slot *f)
{
	struct work_op op = op_on(WORK_RENAME, f);

	snprintf(op.name2, sizeof(op.name2), "w%u-dir%u", w->number,
		 ++w->next_id % 10000);
	begin(&op);
	end(&op, renameat(mnt, op.name, mnt, op.name2), -1);
	memcpy(f->name, op.name2, sizeof(f->name));
}

static void folder_step(struct worker *w)
{
	struct slot *f = &w->folders[below(w, FOLDERS)];
	struct work_op op = op_on(WORK_UNLINK, f);

	if (f->fd < 0) {
		make_folder(w, f);
	} else if (in_use(w, f->id) || chance(w, 60)) {
		move_folder(w, f);
	} else {
		begin(&op);
		end(&op, unlinkat(mnt, f->name, AT_REMOVEDIR), -1);
		f->fd = -1;
		f->id = 0;
	}
}

static void step(struct worker *w)
{
	struct slot *s = &w->slots[below(w, SLOTS)], *other = &w->slots[below(w, SLOTS)];
	uint64_t what = below(w, 100);

	if (s->fd < 0)
		create(w, s);
	else if (s->direct && what < 20)
		write_many(w, s);
	else if (what < 34)
		write_some(w, s);
	else if (what < 48)
		resize(w, s);
	else if (what < 54)
		allocate(w, s, WORK_PUNCH);
	else if (what < 57)
		allocate(w, s, WORK_ZERO);
	else if (what < 61)
		allocate(w, s, chance(w, 50) ? WORK_ALLOC : WORK_ALLOC_KEEP);
	else if (what < 77)
		sync_file(s, what < 68);
	else if (what < 85 && other->fd >= 0)
		rename_over(w, s, other);
	else if (what < 88)
		rename_new(w, s);
	else if (what < 93)
		unlink_slot(w, s);
	else if (what < 96)
		sync_folder(s->folder);
	else
		folder_step(w);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < w->ops; i++)
		step(w);
	return NULL;
}

static void init(struct worker *w, unsigned int number, uint64_t seed, unsigned int ops)
{
	*w = (struct worker){.number = number, .ops = ops, .random = seed + number};
	w->next_id = 10000 * (number + 1);
	for (int i = 0; i < SLOTS; i++) {
		w->slots[i].fd = -1;
		w->slots[i].derived = i >= SLOTS - 3;
		w->slots[i].plain = i == SLOTS - 1;
		w->slots[i].direct = i == 0 || i == 1 || i == SLOTS - 2;
		if (w->slots[i].plain)
			w->slots[i].derived = false;
	}
	for (int i = 0; i < FOLDERS; i++)
		w->folders[i].fd = -1;
	for (int i = 0; i < DEPTH; i++)
		w->queue[i].buf = aligned_alloc(BLOCK, BLOCK);
	if (syscall(SYS_io_setup, DEPTH, &w->ctx) < 0)
		die("io_setup", &(struct work_op){0});
}

static void make_pass(void)
{
	struct work_op op = {.kind = WORK_MKDIR, .id = FOLDER_PASS, .name = "pass"};
	int fd;

	begin(&op);
	if (mkdirat(mnt, "pass", 0700))
		die("mkdir", &op);
	fd = openat(mnt, "pass", O_RDONLY | O_DIRECTORY);
	end(&op, fd, fd);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	mnt = open(argv[1], O_RDONLY | O_DIRECTORY);
	rec = record_map(argv[2]);
	if (mnt < 0 || !rec) {
		perror("powerwork");
		return 1;
	}
	make_pass();
	for (unsigned int i = 0; i < WORKERS; i++) {
		init(&workers[i], i, strtoull(argv[3], NULL, 0),
		     (unsigned int)atoi(argv[4]) / WORKERS);
		if (pthread_create(&workers[i].thread, NULL, run, &workers[i]))
			return 1;
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	return 0;
}
