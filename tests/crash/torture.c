/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * torture: a load that knows what every answer must be. It works in one folder and neither
 * mounts nor kills anything; whoever starts it does, from another process.
 *
 * usage: torture run [-t SECONDS] [-s SEED] [-k KIND,...] [-m MANIFEST] [-g GAPS] FOLDER
 *	until the time is over (default: none) or SIGTERM; the folder must be empty.
 *	-m  the final state by the model, for `check`
 *	-g  lines "BEGIN END" (ns, CLOCK_MONOTONIC): no call of any thread ended in between
 *	The last line is one JSON object. Status 0: no error, nothing wrong; 1: some; 3: a call
 *	hung for a minute.
 * usage: torture check MANIFEST FOLDER
 *	compares the folder with the manifest. Status 0: the same.
 */
#include "torture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	REPORTS_MAX = 100,
	WORKER_REPORTS_MAX = 8,
	GAPS_MAX = 1 << 20,
	WORKERS_MAX = 128,
	HANG_S = 60
};
static const uint64_t gap_min_ns = 500000;

static const struct kind *const kinds[] = {
	&kind_direct, &kind_bytes,  &kind_sizes,   &kind_chain,
	&kind_weave,  &kind_append, &kind_meta,	   &kind_readdir,
	&kind_locks,  &kind_lazy,   &kind_victims,
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

int root = -1;
static struct worker *workers[WORKERS_MAX];
static size_t worker_cnt;
static volatile sig_atomic_t stop;
static _Atomic uint64_t errors, wrong_results, wrong_bytes, reports, last_end;
static struct {
	uint64_t begin, end;
} * gaps;
static _Atomic size_t gap_cnt;
static uint64_t started_at;
static _Atomic bool running;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

_Noreturn void die(const char *what)
{
	fprintf(stderr, "torture: %s: %s\n", what, strerror(errno));
	_exit(2);
}

void *xalloc(size_t len)
{
	void *p = calloc(1, len);

	if (!p)
		die("memory");
	return p;
}

void *xalloc_aligned(size_t len)
{
	void *p;

	errno = posix_memalign(&p, 4096, len);
	if (errno)
		die("memory");
	memset(p, 0, len);
	return p;
}

void nap_ms(unsigned int ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* --- measuring --- */

static size_t hist_index(uint64_t ns)
{
	unsigned int octave = 63 - (unsigned int)__builtin_clzll(ns | 4);

	return octave * 4 + ((ns | 4) >> (octave - 2) & 3);
}

static double hist_ms(size_t i) /* the upper end of a step */
{
	return (double)((5 + i % 4) * (1ULL << (i / 4 - 2))) / 1e6;
}

uint64_t op_begin(struct worker *w, const char *call)
{
	uint64_t now = now_ns();

	atomic_store(&w->call, call);
	atomic_store(&w->begun, now);
	return now;
}

void op_end(struct worker *w, uint64_t begun)
{
	int e = errno;
	uint64_t now = now_ns(), before = atomic_exchange(&last_end, now);

	atomic_store(&w->begun, 0);
	w->ops++;
	w->hist[hist_index(now - begun)]++;
	if (now - begun > w->slowest_ns) {
		w->slowest_ns = now - begun;
		w->slowest = w->call;
	}
	if (running && now > before && now - before >= gap_min_ns) {
		size_t i = gap_cnt++;

		if (i < GAPS_MAX) {
			gaps[i].begin = before;
			gaps[i].end = now;
		}
	}
	errno = e;
}

/* --- reporting --- */

static void say(struct worker *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct worker *w, const char *fmt, ...)
{
	struct timespec t;
	struct tm tm;
	char text[512], at[32];
	va_list ap;

	if (w->reports++ >= WORKER_REPORTS_MAX || reports++ >= REPORTS_MAX)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	strftime(at, sizeof(at), "%T", gmtime_r(&t.tv_sec, &tm));
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s.%03ld torture: %s: %s\n", at, t.tv_nsec / 1000000, w->name,
		text);
}

void failed(struct worker *w, const char *fmt, ...)
{
	int e = errno;
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	errors++;
	say(w, "ERROR: %s: %s", text, strerror(e));
	errno = e;
}

void wrong_meta(struct worker *w, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	wrong_results++;
	say(w, "WRONG RESULT: %s", text);
}

/* The answers that a wrong replay would give. */
static bool is_answer(int e)
{
	static const int answers[] = {0,       EEXIST, ENOENT, ENOTEMPTY, ENODATA,
				      ENOTDIR, EISDIR, EAGAIN, EPERM};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (answers[i] == e)
			return true;
	return false;
}

bool expect(struct worker *w, long r, int want, const char *fmt, ...)
{
	int got = r < 0 ? errno : 0;
	char text[256], wanted[64];
	va_list ap;

	if (got == want)
		return true;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(wanted, sizeof(wanted), "%s", strerror(want));
	if (is_answer(got))
		wrong_results++;
	else
		errors++;
	say(w, "%s: %s: wanted %s, got %s", is_answer(got) ? "WRONG RESULT" : "ERROR",
	    text, wanted, strerror(got));
	return false;
}

bool expect_len(struct worker *w, long r, size_t want, const char *what, off_t off)
{
	if (r == (long)want)
		return true;
	if (r < 0) {
		failed(w, "%s of %zu at %jd", what, want, (intmax_t)off);
		return false;
	}
	errors++;
	say(w, "ERROR: %s of %zu at %jd: only %ld", what, want, (intmax_t)off, r);
	return false;
}

static uint64_t word_at(const unsigned char *p, size_t len, size_t i)
{
	uint64_t v = 0;

	if ((i + 1) * 8 <= len)
		memcpy(&v, p + i * 8, 8);
	return v;
}

bool same_bytes(struct worker *w, const void *got, const void *want, size_t len,
		off_t off)
{
	const unsigned char *g = got, *h = want;
	size_t bad = 0, first = 0, last = 0;

	if (memcmp(got, want, len) == 0)
		return true;
	for (size_t i = 0; i < len; i++) {
		if (g[i] == h[i])
			continue;
		if (bad++ == 0)
			first = i;
		last = i;
	}
	wrong_bytes += bad;
	say(w,
	    "WRONG BYTES: %zu of %zu at %jd: %jd..%jd; begins %" PRIx64 " %" PRIx64
	    ", wanted %" PRIx64 " %" PRIx64,
	    bad, len, (intmax_t)off, (intmax_t)off + (intmax_t)first,
	    (intmax_t)off + (intmax_t)last, word_at(g, len, 0), word_at(g, len, 1),
	    word_at(h, len, 0), word_at(h, len, 1));
	return false;
}

/* --- numbers --- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint64_t rnd(struct worker *w)
{
	return mix(w->rng++);
}

uint64_t below(struct worker *w, uint64_t n)
{
	return rnd(w) % n;
}

void stamp(void *buf, size_t len, uint64_t seed, uint64_t block, uint64_t version)
{
	unsigned char *p = buf;
	uint64_t state = mix(seed) ^ mix(block * 3 + 1) ^ mix(version * 5 + 2), word;

	if (version == 0) {
		memset(buf, 0, len);
		return;
	}
	for (size_t i = 0; i * 8 < len; i++) {
		word = i == 0 ? block : i == 1 ? version : mix(state + i);
		memcpy(p + i * 8, &word, len - i * 8 < 8 ? len - i * 8 : 8);
	}
}

uint64_t hash_bytes(uint64_t hash, const void *buf, size_t len)
{
	const unsigned char *p = buf;

	hash ^= hash == 0 ? 0xcbf29ce484222325 : 0;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3;
	return hash;
}

/* --- a mapping whose page cannot be had --- */

static _Thread_local sigjmp_buf bus_jump;
static _Thread_local volatile sig_atomic_t bus_armed;

static void on_bus(int sig)
{
	if (bus_armed)
		siglongjmp(bus_jump, 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

bool guarded_copy(struct worker *w, void *to, const void *from, size_t len)
{
	if (sigsetjmp(bus_jump, 1)) {
		bus_armed = 0;
		errno = EFAULT;
		failed(w, "SIGBUS in a mapping of %zu bytes", len);
		return false;
	}
	bus_armed = 1;
	memcpy(to, from, len);
	bus_armed = 0;
	return true;
}

/* --- running --- */

static void on_stop(int sig)
{
	stop = 1;
}

static void handle_signals(void)
{
	struct sigaction s = {.sa_handler = on_stop}, b = {.sa_handler = on_bus};

	s.sa_flags = SA_RESTART;
	sigaction(SIGTERM, &s, NULL);
	sigaction(SIGINT, &s, NULL);
	sigaction(SIGBUS, &b, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!stop)
		w->kind->step(w);
	return NULL;
}

static bool chosen(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	}
	return !list;
}

static void add_worker(const struct kind *k, unsigned int index, uint64_t seed)
{
	struct worker *w = xalloc(sizeof(*w));

	if (worker_cnt == WORKERS_MAX)
		die("too many workers");
	w->kind = k;
	w->index = index;
	w->rng = mix(seed + worker_cnt * 1000003);
	snprintf(w->name, sizeof(w->name), "%s%u", k->name, index);
	if (mkdirat(root, w->name, 0755) < 0)
		die(w->name);
	w->dir = openat(root, w->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->dir < 0)
		die(w->name);
	workers[worker_cnt++] = w;
	k->init(w);
}

static void quit_if_hung(void)
{
	uint64_t now = now_ns(), begun;

	for (size_t i = 0; i < worker_cnt; i++) {
		begun = workers[i]->begun;
		if (begun == 0 || now < begun || now - begun < HANG_S * 1000000000ULL)
			continue;
		fprintf(stderr, "torture: %s hangs in %s\n", workers[i]->name,
			workers[i]->call);
		printf("{\"hung\": true, \"errors\": %ju}\n", (uintmax_t)errors + 1);
		fflush(stdout);
		_exit(3);
	}
}

static void *watch(void *arg)
{
	for (;;) {
		quit_if_hung();
		nap_ms(500);
	}
	return NULL;
}

static void run_threads(unsigned int seconds)
{
	uint64_t end = now_ns() + seconds * 1000000000ULL;
	pthread_t watchdog;

	last_end = now_ns();
	running = true;
	if (pthread_create(&watchdog, NULL, watch, NULL))
		die("thread");
	for (size_t i = 0; i < worker_cnt; i++)
		if (pthread_create(&workers[i]->thread, NULL, work, workers[i]))
			die("thread");
	fprintf(stderr, "torture: running\n");
	while (!stop && (seconds == 0 || now_ns() < end))
		nap_ms(20);
	stop = 1;
	for (size_t i = 0; i < worker_cnt; i++)
		pthread_join(workers[i]->thread, NULL);
}

static void finish_all(const char *manifest)
{
	FILE *f = fopen(manifest ? manifest : "/dev/null", "w");

	if (!f)
		die(manifest);
	for (size_t i = 0; i < worker_cnt; i++) {
		struct manifest_entry e = {.type = 'd', .mode = 0755};

		manifest_add(f, &e, "%s", workers[i]->name);
		workers[i]->kind->finish(workers[i], f);
		close(workers[i]->dir);
	}
	if (fclose(f))
		die(manifest);
}

/* --- the result --- */

static size_t gaps_kept(void)
{
	return gap_cnt < GAPS_MAX ? gap_cnt : GAPS_MAX;
}

static void write_gaps(const char *path)
{
	FILE *f = path ? fopen(path, "w") : NULL;

	if (!path)
		return;
	if (!f)
		die(path);
	for (size_t i = 0; i < gaps_kept(); i++)
		fprintf(f, "%ju %ju\n", (uintmax_t)gaps[i].begin, (uintmax_t)gaps[i].end);
	if (fclose(f))
		die(path);
}

static double longest_gap_ms(void)
{
	uint64_t most = 0;

	for (size_t i = 0; i < gaps_kept(); i++)
		if (gaps[i].end - gaps[i].begin > most)
			most = gaps[i].end - gaps[i].begin;
	return (double)most / 1e6;
}

static double percentile(const uint64_t *hist, uint64_t total, double part)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < HIST_LEN; i++) {
		sum += hist[i];
		if (sum > 0 && (double)sum >= part * (double)total)
			return hist_ms(i);
	}
	return 0;
}

static void print_kinds(void)
{
	uint64_t ops;

	printf("\"kinds\": {");
	for (size_t k = 0, n = 0; k < KINDS; k++) {
		ops = 0;
		for (size_t i = 0; i < worker_cnt; i++)
			ops += workers[i]->kind == kinds[k] ? workers[i]->ops : 0;
		if (ops)
			printf("%s\"%s\": %ju", n++ ? ", " : "", kinds[k]->name,
			       (uintmax_t)ops);
	}
	printf("}");
}

static void print_slowest(void)
{
	const struct worker *s = workers[0];

	for (size_t i = 1; i < worker_cnt; i++)
		if (workers[i]->slowest_ns > s->slowest_ns)
			s = workers[i];
	printf("\"slowest\": \"%s: %.40s\", ", s->name, s->slowest ? s->slowest : "-");
}

static void print_result(double seconds)
{
	uint64_t hist[HIST_LEN] = {0}, ops = 0;

	for (size_t i = 0; i < worker_cnt; i++) {
		ops += workers[i]->ops;
		for (size_t j = 0; j < HIST_LEN; j++)
			hist[j] += workers[i]->hist[j];
	}
	printf("{\"seconds\": %.1f, \"ops\": %ju, \"errors\": %ju, \"wrong_meta\": %ju, "
	       "\"wrong_bytes\": %ju, \"op_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"p999\": %.3f, "
	       "\"max\": %.3f}, \"gap_max_ms\": %.3f, ",
	       seconds, (uintmax_t)ops, (uintmax_t)errors, (uintmax_t)wrong_results,
	       (uintmax_t)wrong_bytes, percentile(hist, ops, 0.5),
	       percentile(hist, ops, 0.99), percentile(hist, ops, 0.999),
	       percentile(hist, ops, 1), longest_gap_ms());
	print_slowest();
	print_kinds();
	printf("}\n");
}

struct arguments {
	unsigned int seconds;
	uint64_t seed;
	const char *list, *manifest, *gap_file, *folder;
};

static void run(const struct arguments *a)
{
	root = open(a->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		die(a->folder);
	gaps = xalloc(GAPS_MAX * sizeof(*gaps));
	umask(0);
	handle_signals();
	for (size_t k = 0; k < KINDS; k++)
		for (unsigned int i = 0;
		     i < kinds[k]->cnt && chosen(a->list, kinds[k]->name); i++)
			add_worker(kinds[k], i, a->seed);
	if (worker_cnt == 0)
		die("no such kind");
	started_at = now_ns();
	run_threads(a->seconds);
	finish_all(a->manifest);
	write_gaps(a->gap_file);
	print_result((double)(now_ns() - started_at) / 1e9);
}

static _Noreturn void usage(void)
{
	fprintf(stderr,
		"usage: torture run [-t SECONDS] [-s SEED] [-k KIND,...] [-m MANIFEST] [-g GAPS] "
		"FOLDER\n       torture check MANIFEST FOLDER\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct arguments a = {.seed = (uint64_t)time(NULL)};
	int c;

	if (argc == 4 && strcmp(argv[1], "check") == 0)
		return manifest_check(argv[2], argv[3]);
	if (argc < 3 || strcmp(argv[1], "run") != 0)
		usage();
	while ((c = getopt(argc - 1, argv + 1, "t:s:k:m:g:")) != -1) {
		switch (c) {
		case 't':
			a.seconds = (unsigned int)atoi(optarg);
			break;
		case 's':
			a.seed = strtoull(optarg, NULL, 0);
			break;
		case 'k':
			a.list = optarg;
			break;
		case 'm':
			a.manifest = optarg;
			break;
		case 'g':
			a.gap_file = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind + 2 != argc)
		usage();
	a.folder = argv[argc - 1];
	fprintf(stderr, "torture: seed %ju\n", (uintmax_t)a.seed);
	run(&a);
	return errors || wrong_results || wrong_bytes ? 1 : 0;
}
