/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fsx: random operations on a file under test and the same ones on a plain model file;
 * the two must agree in every byte, every size and every errno.
 *
 * usage: fsx [-s SEED] [-n OPS] [-l MAXLEN] [-a ALIGN] [-c EVERY] [-r COMMAND [-R EVERY] [-k]]
 *            [-D] [-M] [-W] [-Z] [-2 TWIN] FILE MODEL
 *   -s  seed (default: the clock); printed first, so that a failure can be repeated
 *   -n  operations (default 10000)         -l  the file's largest size (default 300000)
 *   -a  alignment of direct I/O (4096)     -c  whole compare every so many (default 500)
 *   -r  shell command that unmounts and mounts again, every -R operations (default 1000);
 *       all handles are closed before it, but with -k
 *   -D  no direct I/O                      -M  no memory mapping
 *   -Z  no fallocate that zeroes a range
 *   -2  the same file in another mount of the same folder (implies -M). Each operation goes to either
 *       of them, and the other one must show what it did; so there are also appends, names that
 *       change, and files that take another's place.
 *   -W  the kernel has a write-back cache: it knows a size that the server has not heard of, and gives
 *       a direct read beyond the server's end short. Such reads come after an fsync.
 *
 * Two handles on FILE are open at any time, each buffered or direct as chance has it, and
 * change places with new ones. The model is always buffered. Holes that SEEK_HOLE reports
 * must read as zeros in the model; where they lie is the file system's affair.
 * Single-threaded. Status 0: equal. 1: a difference, with the last operations listed.
 * The idea is Apple's and the Linux Test Project's fsx; the code is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SIDES = 2, HANDLES = 2, HISTORY = 60, LINE_LEN = 120, PAGE = 4096 };

struct handle {
	int fd;
	unsigned int side;
	bool direct;
};

static struct {
	uint64_t seed, ops, max_len, align, compare_every, remount_every;
	const char *remount, *path[SIDES], *model_path;
	bool no_direct, no_mmap, no_zero, writeback, keep_open;
} opt = {.ops = 10000,
	 .max_len = 300000,
	 .align = 4096,
	 .compare_every = 500,
	 .remount_every = 1000};

static struct handle handles[SIDES * HANDLES];
static unsigned int side_cnt = 1, side; /* where the operation goes */
static int model;
static unsigned char *buf, *buf2; /* page-aligned, max_len + PAGE each */
static uint64_t rng_state, op_no;
static char history[HISTORY][LINE_LEN];

static uint64_t rnd(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(uint64_t n)
{
	return n ? (rnd() >> 11) % n : 0;
}

__attribute__((format(printf, 1, 2))) static void remember(const char *fmt, ...)
{
	char *line = history[op_no % HISTORY];
	int n = snprintf(line, LINE_LEN, "%8llu  ", (unsigned long long)op_no);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, LINE_LEN - (size_t)n, fmt, ap);
	va_end(ap);
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	for (unsigned int i = 1; i <= HISTORY; i++) {
		const char *line = history[(op_no + i) % HISTORY];

		if (*line)
			fprintf(stderr, "%s\n", line);
	}
	fprintf(stderr, "fsx: seed %llu, operation %llu: ", (unsigned long long)opt.seed,
		(unsigned long long)op_no);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		fail("fstat: %s", strerror(errno));
	return (uint64_t)st.st_size;
}

/* Both calls' results (a count, or -errno) must be the same. */
static void agree(const char *what, long long got, long long want)
{
	if (got != want)
		fail("%s: the file gives %lld (%s), the model %lld (%s)", what, got,
		     got < 0 ? strerror((int)-got) : "ok", want,
		     want < 0 ? strerror((int)-want) : "ok");
}

static long long result(long long r)
{
	return r < 0 ? -errno : r;
}

static void agree_bytes(const unsigned char *got, const unsigned char *want, size_t len,
			uint64_t off)
{
	if (!memcmp(got, want, len))
		return;
	for (size_t i = 0; i < len; i++) {
		size_t bad = 0;

		if (got[i] == want[i])
			continue;
		for (size_t k = i; k < len; k++)
			bad += got[k] != want[k];
		fail("byte %llu (sector %llu) is %02x, should be %02x; %zu bytes differ",
		     (unsigned long long)(off + i),
		     (unsigned long long)((off + i) / PAGE), got[i], want[i], bad);
	}
}

/* --- names --- */

/* Where the file is, beside the name that was given; one folder, which has two names as well. */
static const char *const places[] = {"", ".r", ".d/n"};
static unsigned int place;
static char folder = 'd';

static const char *name_in(unsigned int on, unsigned int at)
{
	static char names[4][4096];
	static unsigned int turn;
	char *name = names[turn++ % 4], *dot;

	snprintf(name, sizeof(names[0]), "%s%s", opt.path[on], places[at]);
	dot = strrchr(name, '.');
	if (at == 2 && dot)
		dot[1] = folder;
	return name;
}

static const char *name_on(unsigned int on)
{
	return name_in(on, place);
}

static const char *folder_on(unsigned int on, char letter)
{
	static char names[2][4096];
	static unsigned int turn;
	char *name = names[turn++ % 2];

	snprintf(name, sizeof(names[0]), "%s.%c", opt.path[on], letter);
	return name;
}

/* --- handles --- */

static void handle_open(struct handle *h)
{
	h->direct = !opt.no_direct && below(3) == 0;
	h->fd = open(name_on(h->side), O_RDWR | O_CLOEXEC | (h->direct ? O_DIRECT : 0));
	if (h->fd < 0)
		fail("open%s on %u: %s", h->direct ? " O_DIRECT" : "", h->side,
		     strerror(errno));
}

static void handles_open(void)
{
	for (unsigned int i = 0; i < side_cnt * HANDLES; i++) {
		handles[i].side = i / HANDLES;
		handle_open(&handles[i]);
	}
}

static void handles_close(void)
{
	for (unsigned int i = 0; i < side_cnt * HANDLES; i++) {
		if (close(handles[i].fd))
			fail("close: %s", strerror(errno));
	}
}

static struct handle *handle_on(unsigned int on)
{
	return &handles[on * HANDLES + below(HANDLES)];
}

static struct handle *any_handle(void)
{
	return handle_on(side);
}

/* A range that fits h's alignment; lengths small and large, often around the end. */
static void range(const struct handle *h, uint64_t *off, size_t *len)
{
	uint64_t a = h && h->direct ? opt.align : 1;
	uint64_t max = opt.max_len / opt.align * opt.align;
	uint64_t want = 1 + below(1ULL << (1 + below(18)));

	switch (below(4)) {
	case 0:
		*off = below(size_of(model) + 1);
		break;
	case 1: /* near the end */
		*off = size_of(model) -
		       below(size_of(model) < 9000 ? size_of(model) : 9000);
		break;
	default:
		*off = below(max);
	}
	*off = *off / a * a;
	if (*off >= max)
		*off = max - opt.align;
	if (want > max - *off)
		want = max - *off;
	*len = (want + a - 1) / a * a;
}

static void check_size(void)
{
	for (unsigned int on = 0; on < side_cnt; on++)
		agree("fstat size", (long long)size_of(handle_on(on)->fd),
		      (long long)size_of(model));
}

static void compare_at(int fd, uint64_t off, size_t len)
{
	long long got, want;

	if (opt.writeback && fcntl(fd, F_GETFL) & O_DIRECT && fsync(fd))
		fail("fsync: %s", strerror(errno));
	got = result(pread(fd, buf, len, (off_t)off));
	want = result(pread(model, buf2, len, (off_t)off));
	agree("pread", got, want);
	if (got > 0)
		agree_bytes(buf, buf2, (size_t)got, off);
}

static void compare_all(void)
{
	unsigned int on = side_cnt - 1 - side; /* where the operation was not */
	struct stat st;

	if (stat(name_on(on), &st))
		fail("stat: %s", strerror(errno));
	agree("stat size", (long long)st.st_size, (long long)size_of(model));
	compare_at(handle_on(on)->fd, 0, (opt.max_len / PAGE + 1) * PAGE);
}

static void op_read(void)
{
	struct handle *h = any_handle();
	uint64_t off;
	size_t len;

	range(h, &off, &len);
	remember("read%s %llu +%zu", h->direct ? " direct" : "", (unsigned long long)off,
		 len);
	compare_at(h->fd, off, len);
}

static void fill(size_t len)
{
	unsigned char zero_chance = below(10) == 0;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t x = zero_chance ? 0 : rnd();

		memcpy(buf + i, &x, len - i < 8 ? len - i : 8);
	}
}

static void op_write(void)
{
	struct handle *h = any_handle();
	uint64_t off;
	size_t len;

	range(h, &off, &len);
	remember("write%s %llu +%zu", h->direct ? " direct" : "", (unsigned long long)off,
		 len);
	fill(len);
	agree("pwrite", result(pwrite(h->fd, buf, len, (off_t)off)),
	      result(pwrite(model, buf, len, (off_t)off)));
}

static void op_truncate(void)
{
	uint64_t len = below(3) ? below(opt.max_len) : below(opt.max_len) / PAGE * PAGE;
	bool by_path = below(2);
	long long got;

	if (below(40) == 0)
		len = 0;
	remember("truncate%s %llu -> %llu", by_path ? " path" : "",
		 (unsigned long long)size_of(model), (unsigned long long)len);
	got = by_path ? result(truncate(name_on(side), (off_t)len))
		      : result(ftruncate(any_handle()->fd, (off_t)len));
	agree("truncate", got, result(ftruncate(model, (off_t)len)));
}

static void op_fallocate(void)
{
	static const int modes[] = {
		0,
		FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	int mode = modes[below(sizeof(modes) / sizeof(modes[0]) - (opt.no_zero ? 2 : 0))];
	struct handle *h = any_handle();
	uint64_t off;
	size_t len;

	range(NULL, &off, &len);
	remember("fallocate 0x%x %llu +%zu", (unsigned int)mode, (unsigned long long)off,
		 len);
	agree("fallocate", result(fallocate(h->fd, mode, (off_t)off, (off_t)len)),
	      result(fallocate(model, mode, (off_t)off, (off_t)len)));
}

/* Writes or reads through a shared mapping of the whole file. */
static void op_mmap(void)
{
	struct handle *h = any_handle();
	uint64_t size = size_of(model), off = below(size);
	size_t len = (size_t)(1 + below(size - off < 20000 ? size - off : 20000));
	bool writes = below(2);
	unsigned char *map;

	if (!size || off + len > size)
		return;
	remember("mmap %s %llu +%zu", writes ? "write" : "read", (unsigned long long)off,
		 len);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
	if (map == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	if (writes) {
		fill(len);
		memcpy(map + off, buf, len);
		agree("model write", (long long)len, pwrite(model, buf, len, (off_t)off));
		if (below(2) && msync(map, size, MS_SYNC))
			fail("msync: %s", strerror(errno));
	} else {
		agree("model read", (long long)len, pread(model, buf2, len, (off_t)off));
		agree_bytes(map + off, buf2, len, off);
	}
	munmap(map, size);
}

static void op_sync(void)
{
	bool data = below(2);
	int fd = any_handle()->fd;

	remember(data ? "fdatasync" : "fsync");
	if (data ? fdatasync(fd) : fsync(fd))
		fail("sync: %s", strerror(errno));
}

static void op_reopen(void)
{
	struct handle *h = any_handle();

	if (close(h->fd))
		fail("close: %s", strerror(errno));
	handle_open(h);
	remember("reopen%s", h->direct ? " direct" : "");
}

/* Copies within the file, between ranges that do not overlap. */
static void op_copy(void)
{
	uint64_t half = size_of(model) / 2, from = below(half), to = half + below(half);
	size_t len = (size_t)below(half - from < 30000 ? half - from : 30000);
	struct handle *h = any_handle();
	off_t a = (off_t)from, b = (off_t)to;
	ssize_t done;

	remember("copy %llu -> %llu +%zu", (unsigned long long)from,
		 (unsigned long long)to, len);
	if (!len || to + len > opt.max_len || from + len > to)
		return;
	done = copy_file_range(h->fd, &a, h->fd, &b, len, 0);
	if (done < 0 && errno == EINVAL && h->direct)
		return; /* the fall-back cannot serve unaligned ranges of a direct handle
			 */
	if (done < 0)
		fail("copy_file_range: %s", strerror(errno));
	agree("model read", done, pread(model, buf, (size_t)done, (off_t)from));
	agree("model write", done, pwrite(model, buf, (size_t)done, (off_t)to));
}

/* Every hole that the file reports reads as zeros. */
static void op_seek(void)
{
	int fd = any_handle()->fd;
	off_t size = (off_t)size_of(model);
	off_t hole = lseek(fd, (off_t)below((uint64_t)size + 1), SEEK_HOLE), data;

	remember("seek -> hole %lld", (long long)hole);
	if (hole < 0 || hole >= size)
		return;
	data = lseek(fd, hole, SEEK_DATA);
	if (data < 0)
		data = size;
	memset(buf, 0, (size_t)(data - hole));
	agree("model read", data - hole, pread(model, buf2, (size_t)(data - hole), hole));
	agree_bytes(buf, buf2, (size_t)(data - hole), (uint64_t)hole);
}

/* --- two mounts --- */

static void op_append(void)
{
	int fd = open(name_on(side), O_WRONLY | O_APPEND | O_CLOEXEC);
	uint64_t size = size_of(model);
	size_t len = (size_t)(1 + below(9000));

	remember("append %llu +%zu", (unsigned long long)size, len);
	if (fd < 0)
		fail("open O_APPEND: %s", strerror(errno));
	if (len > opt.max_len - size)
		len = (size_t)(opt.max_len - size);
	fill(len);
	agree("append", result(write(fd, buf, len)),
	      result(pwrite(model, buf, len, (off_t)size)));
	if (close(fd))
		fail("close: %s", strerror(errno));
}

static void is_gone(const char *name)
{
	struct stat st;

	agree(name, result(stat(name, &st)), -ENOENT);
}

static void is_there(const char *name, ino_t ino)
{
	struct stat st;

	agree(name, result(stat(name, &st)), 0);
	if (st.st_ino != ino)
		fail("%s: another file", name);
}

static void rename_folder(void)
{
	char to = folder == 'd' ? 'e' : 'd';

	agree("rename of the folder",
	      result(rename(folder_on(side, folder), folder_on(side, to))), 0);
	folder = to;
}

static void make_empty(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0 || (below(2) && write(fd, "x", 1) != 1) || close(fd))
		fail("%s: %s", name, strerror(errno));
}

/* Sometimes there is a file of that name, made by the other one. */
static void op_rename(void)
{
	unsigned int other = side_cnt - 1 - side, from = place;
	unsigned int to = (unsigned int)below(3);
	bool there = to != from && below(3) == 0;
	struct stat st;

	remember("rename %u -> %u on %u%s", from, to, side, there ? ", is there" : "");
	if (fstat(any_handle()->fd, &st))
		fail("fstat: %s", strerror(errno));
	if (to == from) {
		rename_folder();
	} else {
		if (there)
			make_empty(name_in(other, to));
		agree("rename", result(rename(name_on(side), name_in(side, to))), 0);
		place = to;
		is_gone(name_in(other, from));
		is_gone(name_in(side, from));
	}
	is_there(name_on(other), st.st_ino);
	is_there(name_on(side), st.st_ino);
}

/* Another file gets the name; what is open goes on without one. */
static void op_replace(void)
{
	unsigned int other = side_cnt - 1 - side, maker = (unsigned int)below(2);

	remember("unlink on %u, create on %u", side, maker);
	agree("unlink", result(unlink(name_on(side))), 0);
	is_gone(name_on(other));
	is_gone(name_on(side));
	compare_at(handle_on(other)->fd, 0, (opt.max_len / PAGE + 1) * PAGE);
	compare_at(handle_on(side)->fd, 0, (opt.max_len / PAGE + 1) * PAGE);
	make_empty(name_on(maker));
	handles_close();
	handles_open();
	agree("truncate", result(ftruncate(any_handle()->fd, 0)),
	      result(ftruncate(model, 0)));
}

static void op_remount(void)
{
	remember("remount");
	if (!opt.keep_open)
		handles_close();
	if (system(opt.remount))
		fail("the remount command failed");
	if (!opt.keep_open)
		handles_open();
	compare_all();
}

static void one_op(void)
{
	static const struct {
		unsigned int weight;
		void (*fn)(void);
	} ops[] = {
		{22, op_read},
		{30, op_write},
		{8, op_truncate},
		{12, op_fallocate},
		{10, op_mmap},
		{3, op_sync},
		{4, op_reopen},
		{4, op_copy},
		{7, op_seek},
		/* with two mounts: */
		{6, op_append},
		{6, op_rename},
		{4, op_replace},
	};
	uint64_t pick = below(side_cnt == 1 ? 100 : 116);
	unsigned int i = 0;

	while (pick >= ops[i].weight)
		pick -= ops[i++].weight;
	if (ops[i].fn == op_mmap && opt.no_mmap)
		i = 0;
	side = side_cnt == 1 ? 0 : (unsigned int)below(SIDES);
	ops[i].fn();
	check_size();
	if (op_no % opt.compare_every == 0)
		compare_all();
	if (opt.remount && op_no % opt.remount_every == 0)
		op_remount();
}

static void usage(void)
{
	fprintf(stderr,
		"usage: fsx [-s SEED] [-n OPS] [-l MAXLEN] [-a ALIGN] [-c EVERY]\n"
		"           [-r COMMAND [-R EVERY] [-k]] [-D] [-M] [-W] [-Z] [-2 TWIN]\n"
		"           FILE MODEL\n");
	exit(2);
}

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 0);

	if (*end || !*text || !n)
		usage();
	return n;
}

static void parse_options(int argc, char **argv)
{
	int c;

	opt.seed = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
	while ((c = getopt(argc, argv, "s:n:l:a:c:r:R:DMWZk2:")) != -1) {
		switch (c) {
		case 's':
			opt.seed = number(optarg);
			break;
		case 'n':
			opt.ops = number(optarg);
			break;
		case 'l':
			opt.max_len = number(optarg);
			break;
		case 'a':
			opt.align = number(optarg);
			break;
		case 'c':
			opt.compare_every = number(optarg);
			break;
		case 'r':
			opt.remount = optarg;
			break;
		case 'R':
			opt.remount_every = number(optarg);
			break;
		case 'D':
			opt.no_direct = true;
			break;
		case 'M':
			opt.no_mmap = true;
			break;
		case 'W':
			opt.writeback = true;
			break;
		case 'Z':
			opt.no_zero = true;
			break;
		case 'k':
			opt.keep_open = true;
			break;
		case '2':
			opt.path[1] = optarg;
			opt.no_mmap = true;
			side_cnt = 2;
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2 || opt.max_len < opt.align)
		usage();
	opt.path[0] = argv[optind];
	opt.model_path = argv[optind + 1];
}

static void prepare(void)
{
	size_t room = (opt.max_len / PAGE + 2) * PAGE;
	int fd = open(name_on(0), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (posix_memalign((void **)&buf, PAGE, room) ||
	    posix_memalign((void **)&buf2, PAGE, room))
		fail("no memory");
	model = open(opt.model_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || model < 0)
		fail("cannot make the files: %s", strerror(errno));
	close(fd);
	if (side_cnt > 1 && mkdir(folder_on(1, folder), 0755))
		fail("cannot make a folder: %s", strerror(errno));
	rng_state = opt.seed * 2 + 1;
	for (int i = 0; i < 20; i++)
		rnd();
	handles_open();
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	printf("fsx: seed %llu, %llu operations\n", (unsigned long long)opt.seed,
	       (unsigned long long)opt.ops);
	fflush(stdout);
	prepare();
	for (op_no = 1; op_no <= opt.ops; op_no++)
		one_op();
	handles_close();
	handles_open();
	for (side = 0; side < side_cnt; side++)
		compare_all();
	printf("fsx: all equal after %llu operations\n", (unsigned long long)opt.ops);
	return 0;
}
