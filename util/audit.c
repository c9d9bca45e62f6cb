/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring: `head` counts the lines put in, `tail` those written; a line counts from the store of
 * `head` on, so a death at any instruction leaves it or not. Producers hold `lock` (memory only);
 * the writer alone moves `tail`, after the write: the last line may be written twice, never left
 * out. Nothing in it is a pointer.
 */
#include "util/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"

enum {
	RING_CNT = 1024,
	RETRY_MS = 1000,
	STOP_MS = 2000, /* at the end, for a disk that does not take it */
	SYSLOG_MS = 200,
};

struct ring {
	_Atomic uint64_t head, tail;
	_Atomic uint64_t lost;	/* events that found no room */
	_Atomic uint64_t told;	/* of these, as lines say */
	_Atomic uint32_t parts; /* of the line at `tail`: PART_ bits that are done */
	struct ring_line {
		uint32_t len;
		char text[AUDIT_LINE_MAX];
	} lines[RING_CNT];
};

enum { PART_FILE = 1, PART_SYSLOG = 2 };

static struct {
	struct mutex lock; /* what is marked (l) */
	pthread_cond_t wake, idle;
	pthread_t thread;
	struct ring *ring;   /* (c) while running; NULL: no trail */
	bool running;	     /* (l) */
	bool ended;	     /* (l) the writer has */
	bool stopping;	     /* (l) */
	char *path;	     /* (l) of the file, NULL: none */
	bool syslog, reopen; /* (l) */
	_Atomic bool wanted, used;
	struct audit_origin origin; /* (c) */
	char mount[4096], host[65], command[32];
	/* the writer's */
	int fd;
	bool failing;
	bool torn; /* the file's last line is not whole */
} trail = {.lock = MUTEX_INIT(RANK_AUDIT), .fd = -1};

/* --- producers --- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void put_locked(struct ring *r, const struct audit_event *e)
{
	uint64_t head = r->head;
	uint64_t missing = r->lost - r->told;
	struct ring_line *l = &r->lines[head % RING_CNT];

	if (head - r->tail >= RING_CNT) {
		r->lost++;
		return;
	}
	l->len = (uint32_t)audit_format(l->text, e, &trail.origin, trail.host, head + 1,
					missing, now_ms());
	r->head = head + 1;
	r->told += missing;
}

void audit_event(const struct audit_event *e)
{
	int saved = errno;

	if (!trail.wanted)
		return;
	mutex_lock(&trail.lock);
	if (trail.running) {
		put_locked(trail.ring, e);
		pthread_cond_signal(&trail.wake);
	}
	mutex_unlock(&trail.lock);
	errno = saved;
}

void audit_answer(const struct audit_event *answer)
{
	struct audit_event e = *answer;

	if (e.err == -ECANCELED) /* the end of the server, no answer */
		return;
	if (e.err == -EKEYREJECTED)
		e.event = "denied";
	else if (e.err)
		e.event = "failed";
	else if (strcmp(e.verb, "get") == 0)
		e.event = "fetched";
	else
		e.event = strcmp(e.verb, "destroy") == 0 ? "destroyed" : "created";
	audit_event(&e);
}

int64_t audit_since(uint64_t start_ms)
{
	return (int64_t)(clock_now_ms() - start_ms);
}

bool audit_wants_used(void)
{
	return trail.wanted && trail.used;
}

void audit_counts(uint64_t *waiting, uint64_t *lost)
{
	SCOPED_LOCK(&trail.lock);

	*waiting = trail.ring ? trail.ring->head - trail.ring->tail : 0;
	*lost = trail.ring ? trail.ring->lost : 0;
}

/* --- the writer --- */

/* Who wrote the last line was killed in the middle of it, or the disk was full. */
static bool ends_torn(int fd)
{
	struct stat st;
	char last;

	return fstat(fd, &st) == 0 && st.st_size > 0 &&
	       pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
}

/* Not through a link to elsewhere, and into nothing that forgets or answers (a FIFO, a tty). */
static vcf_err_t open_regular(const char *path, int *out)
{
	auto_close int fd = open(path,
				 O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY |
					 O_NONBLOCK | O_NOFOLLOW,
				 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*out = STEAL_FD(&fd);
	return 0;
}

/* The file that has this name now. */
static vcf_err_t open_file(const char *path, bool anew)
{
	struct stat ours, there;
	vcf_err_t err;

	if (trail.fd >= 0 && !anew && fstat(trail.fd, &ours) == 0 &&
	    lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	    ours.st_ino == there.st_ino)
		return 0;
	if (trail.fd >= 0)
		close(STEAL_FD(&trail.fd));
	err = open_regular(path, &trail.fd);
	trail.torn = !err && ends_torn(trail.fd);
	return err;
}

static vcf_err_t write_file(const char *path, bool anew, const struct ring_line *l)
{
	vcf_err_t err = open_file(path, anew);
	ssize_t n;

	if (err)
		return err;
	if (trail.torn && write(trail.fd, "\n", 1) != 1)
		return -errno;
	trail.torn = false;
	n = write(trail.fd, l->text, l->len);
	if (n < 0)
		return -errno;
	trail.torn = (size_t)n != l->len;
	return trail.torn ? -ENOSPC : 0;
}

static vcf_err_t write_syslog(const struct ring_line *l)
{
	static const struct sockaddr_un addr = {.sun_family = AF_UNIX,
						.sun_path = "/dev/log"};
	/* Each time anew: in a shared descriptor table nobody else keeps it (see log.c). */
	auto_close int sock =
		socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = {.fd = sock, .events = POLLOUT};
	char line[AUDIT_LINE_MAX + 64];
	int n;

	n = snprintf(line, sizeof(line), "<%d>vmcryptfs-audit[%d]: %.*s",
		     LOG_AUTHPRIV | LOG_NOTICE, (int)getpid(), (int)l->len - 1, l->text);
	if (sock < 0 || connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (send(sock, line, (size_t)n, MSG_NOSIGNAL) < 0 &&
	    (errno != EAGAIN || poll(&p, 1, SYSLOG_MS) != 1 ||
	     send(sock, line, (size_t)n, MSG_NOSIGNAL) < 0))
		return -errno;
	return 0;
}

static void say(const char *where, vcf_err_t err)
{
	if (!err && trail.failing)
		log_info("audit: lines can be written again");
	else if (err && !trail.failing)
		log_warn("audit: %s: %s: lines wait in memory, it is tried again", where,
			 strerror(-err));
	trail.failing = err != 0;
}

/* What the settings were when a line was taken. */
struct sink {
	char path[4096]; /* "": none */
	bool syslog, reopen;
};

static void get_sink_locked(struct sink *s)
{
	snprintf(s->path, sizeof(s->path), "%s", trail.path ? trail.path : "");
	s->syslog = trail.syslog;
	s->reopen = trail.reopen;
	trail.reopen = false;
}

/* The line at the tail. False: later. */
static bool write_one(const struct sink *s, struct ring *r)
{
	const struct ring_line *l = &r->lines[r->tail % RING_CNT];
	const char *where = "syslog";
	vcf_err_t err = 0;

	if (*s->path && !(r->parts & PART_FILE)) {
		where = s->path;
		err = l->len && l->len <= AUDIT_LINE_MAX
			      ? write_file(s->path, s->reopen, l)
			      : 0;
		if (!err)
			r->parts |= PART_FILE;
	}
	if (!err && s->syslog && !(r->parts & PART_SYSLOG))
		err = write_syslog(l);
	say(where, err);
	if (err)
		return false;
	r->parts = 0;
	r->tail++;
	return true;
}

static void wait_locked(uint64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&trail.wake, &trail.lock.m, &until);
}

static void *run(void *arg)
{
	struct ring *r = trail.ring;
	bool good = true;
	struct sink s;

	(void)arg;
	mutex_lock(&trail.lock);
	for (;;) {
		if (good && r->tail == r->head) {
			pthread_cond_signal(&trail.idle);
			if (trail.stopping)
				break;
			mutex_wait(&trail.lock, &trail.wake);
			continue;
		}
		if (!good)
			wait_locked(RETRY_MS);
		if (trail.stopping && !good && !trail.running)
			break;
		get_sink_locked(&s);
		mutex_unlock(&trail.lock);
		good = write_one(&s, r);
		mutex_lock(&trail.lock);
	}
	trail.ended = true;
	pthread_cond_signal(&trail.idle);
	mutex_unlock(&trail.lock);
	return NULL;
}

/* --- start and end --- */

static vcf_err_t map_ring(int *ring_fd)
{
	auto_close int fd = -1;
	struct ring *r;
	struct stat st;

	if (*ring_fd < 0) {
		fd = memfd_create("vmcryptfs-audit", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, sizeof(*r)) < 0)
			return -errno;
	} else if (fstat(*ring_fd, &st) < 0 || (size_t)st.st_size != sizeof(*r)) {
		return -EPROTO;
	}
	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED,
		 fd < 0 ? *ring_fd : fd, 0);
	if (r == MAP_FAILED)
		return -errno;
	if (r->head - r->tail > RING_CNT) /* nothing that this program wrote */
		r->tail = r->head;
	trail.ring = r;
	if (fd >= 0)
		*ring_fd = STEAL_FD(&fd);
	return 0;
}

static vcf_err_t start_thread(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
	sigset_t set, before;
	vcf_err_t err;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&set, faults[i]);
	pthread_sigmask(SIG_SETMASK, &set, &before);
	err = -pthread_create(&trail.thread, NULL, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

static void set_locked(const struct audit_settings *s, char *path)
{
	free(trail.path);
	trail.path = path;
	trail.syslog = s->syslog;
	trail.reopen = true;
	trail.used = s->used;
	trail.wanted = path || s->syslog;
}

vcf_err_t audit_start(const struct audit_settings *s, const struct audit_origin *o,
		      int *ring_fd)
{
	pthread_condattr_t attr;
	vcf_err_t err = map_ring(ring_fd);

	if (err)
		return err;
	snprintf(trail.mount, sizeof(trail.mount), "%s", o->mount ? o->mount : "");
	snprintf(trail.command, sizeof(trail.command), "%s",
		 o->command ? o->command : "");
	trail.origin = (struct audit_origin){
		.mount = o->mount ? trail.mount : NULL,
		.generation = o->generation,
		.command = o->command ? trail.command : NULL,
	};
	if (gethostname(trail.host, sizeof(trail.host) - 1) < 0)
		trail.host[0] = '\0';
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&trail.wake, &attr);
	pthread_cond_init(&trail.idle, &attr);
	pthread_condattr_destroy(&attr);
	trail.stopping = trail.ended = trail.failing = trail.torn = false;
	trail.running = true;
	audit_change(s);
	err = start_thread();
	if (err) {
		trail.running = false;
		trail.wanted = false;
		munmap(STEAL_PTR(&trail.ring), sizeof(struct ring));
	}
	return err;
}

void audit_change(const struct audit_settings *s)
{
	char *path = s->file ? strdup(s->file) : NULL;
	SCOPED_LOCK(&trail.lock);

	if (trail.running)
		set_locked(s, path);
	else
		free(path);
}

/* Waits until all is written. False: it does not get on. */
static bool drain_locked(void)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_MS / 1000;
	while (trail.ring->tail != trail.ring->head) {
		if (pthread_cond_timedwait(&trail.idle, &trail.lock.m, &until))
			return false;
	}
	return true;
}

/* False: it hangs in the disk. */
static bool has_ended_locked(void)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	while (!trail.ended) {
		if (pthread_cond_timedwait(&trail.idle, &trail.lock.m, &until))
			return trail.ended;
	}
	return true;
}

void audit_stop(void)
{
	bool drained, ended;

	mutex_lock(&trail.lock);
	if (!trail.running) {
		mutex_unlock(&trail.lock);
		return;
	}
	trail.stopping = true;
	trail.wanted = false;
	pthread_cond_signal(&trail.wake);
	drained = drain_locked();
	trail.running = false;
	pthread_cond_signal(&trail.wake);
	ended = has_ended_locked();
	mutex_unlock(&trail.lock);
	if (!drained)
		log_warn("audit: %llu lines could not be written",
			 (unsigned long long)(trail.ring->head - trail.ring->tail));
	if (!ended)
		return; /* the process ends without it */
	pthread_join(trail.thread, NULL);
	munmap(STEAL_PTR(&trail.ring), sizeof(struct ring));
	if (trail.fd >= 0)
		close(STEAL_FD(&trail.fd));
	free(STEAL_PTR(&trail.path));
}
