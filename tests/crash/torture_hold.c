/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is held for long.
 *	readdir  a large folder read slowly in small pieces, also from places noted before; each
 *		 name once, always in the same order
 *	locks    POSIX, open-file-description and flock locks, tried by others all the time. The
 *		 POSIX one by another process: closing any descriptor of the file would drop it.
 */
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- readdir --- */

enum { ENTRIES = 3000, PLACES = ENTRIES + 2 };

struct entry { /* of getdents64 */
	uint64_t ino;
	int64_t next;
	uint16_t len;
	uint8_t type;
	char name[];
};

struct stream {
	int fd;
	size_t pos, known;	/* the next place; how many are known in this pass */
	int16_t order[PLACES];	/* entry at a place; -1 ".", -2 ".." */
	int64_t cookie[PLACES]; /* that leads behind it */
	bool seen[ENTRIES];
	_Alignas(8) char buf[2048];
};

static void stream_begin(struct worker *w)
{
	struct stream *s = w->model;

	s->pos = s->known = 0;
	memset(s->seen, 0, sizeof(s->seen));
	s->fd = (int)OP(
		w, openat(root, "readdir0/many", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	expect(w, s->fd, 0, "open of a large folder");
}

static void readdir_init(struct worker *w)
{
	char name[NAME_LEN];
	int fd;

	w->model = xalloc(sizeof(struct stream));
	if (w->index == 0 && mkdirat(w->dir, "many", 0755) < 0)
		die("a large folder");
	for (int i = 0; i < ENTRIES && w->index == 0; i++) {
		snprintf(name, sizeof(name), "many/entry-%04d", i);
		fd = openat(w->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || close(fd) < 0)
			die("a large folder's entry");
	}
	stream_begin(w);
}

static int entry_number(const char *name)
{
	if (strcmp(name, ".") == 0)
		return -1;
	if (strcmp(name, "..") == 0)
		return -2;
	if (strncmp(name, "entry-", 6) != 0 || strlen(name) != 10)
		return -3;
	return atoi(name + 6);
}

static bool stream_take(struct worker *w, const struct entry *e)
{
	struct stream *s = w->model;
	int n = entry_number(e->name);

	if (n < -2 || n >= ENTRIES || s->pos >= PLACES) {
		wrong_meta(w, "the folder lists %s at place %zu", e->name, s->pos);
		return false;
	}
	if (s->pos < s->known && s->order[s->pos] != n) {
		wrong_meta(w, "place %zu is %s, was %d", s->pos, e->name,
			   s->order[s->pos]);
		return false;
	}
	if (s->pos == s->known) {
		if (n >= 0 && s->seen[n]) {
			wrong_meta(w, "%s is listed twice", e->name);
			return false;
		}
		if (n >= 0)
			s->seen[n] = true;
		s->order[s->known++] = (int16_t)n;
	}
	s->cookie[s->pos++] = e->next;
	return true;
}

static void stream_again(struct worker *w)
{
	struct stream *s = w->model;

	if (s->fd >= 0)
		expect(w, OP(w, close(s->fd)), 0, "close of a large folder");
	stream_begin(w);
}

static void stream_end(struct worker *w)
{
	struct stream *s = w->model;

	if (s->pos != PLACES)
		wrong_meta(w, "the folder ends after %zu of %d", s->pos, PLACES);
	stream_again(w);
}

static void stream_seek(struct worker *w)
{
	struct stream *s = w->model;
	size_t to = below(w, s->known);

	if (expect(w, OP(w, lseek(s->fd, s->cookie[to], SEEK_SET)), 0,
		   "seek in a folder"))
		s->pos = to + 1;
}

static void readdir_step(struct worker *w)
{
	struct stream *s = w->model;
	size_t len = 256 + below(w, sizeof(s->buf) - 256);
	long r;

	if (s->known > 0 && below(w, 50) == 0)
		stream_seek(w);
	r = OP(w, syscall(SYS_getdents64, s->fd, s->buf, len));
	if (r < 0) {
		failed(w, "getdents at place %zu", s->pos);
		stream_again(w);
		return;
	}
	if (r == 0)
		stream_end(w);
	for (long i = 0; i < r;) {
		const struct entry *e = (const void *)(s->buf + i);

		if (!stream_take(w, e)) {
			stream_again(w);
			return;
		}
		i += e->len;
	}
	nap_ms((unsigned int)below(w, 4));
}

static void readdir_finish(struct worker *w, FILE *manifest)
{
	struct manifest_entry d = {.type = 'd', .mode = 0755};
	struct manifest_entry e = {.type = 'f', .mode = 0600, .nlink = 1};

	close(((struct stream *)w->model)->fd);
	if (w->index != 0)
		return;
	manifest_add(manifest, &d, "%s/many", w->name);
	for (int i = 0; i < ENTRIES; i++)
		manifest_add(manifest, &e, "%s/many/entry-%04d", w->name, i);
}

const struct kind kind_readdir = {"readdir", 2, readdir_init, readdir_step,
				  readdir_finish};

/* --- locks --- */

enum { FIRST, SECOND }; /* halves of the POSIX file: held for ever; held now and then */

struct locks {
	int posix, ofd, ofd_other, flock, flock_other, child;
};

static struct flock range(int half)
{
	return (struct flock){.l_type = F_WRLCK, .l_start = half * 100, .l_len = 100};
}

/* The other process: tries the half that it is asked for, answers with the errno. */
static _Noreturn void lock_child(struct worker *w, int sock)
{
	int fd = openat(w->dir, "posix", O_RDWR | O_CLOEXEC), e;
	unsigned char half, answer;

	for (int i = 3; i < 1024; i++)
		if (i != fd && i != sock)
			close(i); /* the locks' own descriptors above all */
	while (read(sock, &half, 1) == 1) {
		struct flock f = range(half);

		e = fcntl(fd, F_SETLK, &f) < 0 ? errno : 0;
		f.l_type = F_UNLCK;
		if (e == 0)
			fcntl(fd, F_SETLK, &f);
		answer = (unsigned char)e;
		if (write(sock, &answer, 1) != 1)
			break;
	}
	_exit(0);
}

static int new_file(struct worker *w, const char *name)
{
	int fd = openat(w->dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || pwrite(fd, "lock", 4, 0) != 4)
		die(name);
	return fd;
}

static void locks_init(struct worker *w)
{
	struct locks *l = xalloc(sizeof(*l));
	struct flock f = range(FIRST);
	int pair[2];

	l->posix = new_file(w, "posix");
	l->ofd = new_file(w, "ofd");
	l->ofd_other = new_file(w, "ofd");
	l->flock = new_file(w, "flock");
	l->flock_other = new_file(w, "flock");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	l->child = pair[0];
	switch (fork()) {
	case -1:
		die("fork");
	case 0:
		lock_child(w, pair[1]);
	}
	close(pair[1]);
	if (fcntl(l->posix, F_SETLK, &f) < 0 || fcntl(l->ofd, F_OFD_SETLK, &f) < 0 ||
	    flock(l->flock, LOCK_EX | LOCK_NB) < 0)
		die("a lock");
	w->model = l;
}

static void try_posix(struct worker *w, unsigned char half, int want)
{
	struct locks *l = w->model;
	unsigned char answer;

	if (write(l->child, &half, 1) != 1 || read(l->child, &answer, 1) != 1) {
		failed(w, "the lock tester is gone");
		nap_ms(100);
		return;
	}
	errno = answer;
	expect(w, answer ? -1 : 0, want, "lock of another process's half %d", half);
}

static void posix_cycle(struct worker *w)
{
	struct locks *l = w->model;
	struct flock f = range(SECOND);

	expect(w, OP(w, fcntl(l->posix, F_SETLK, &f)), 0, "a POSIX lock");
	try_posix(w, SECOND, EAGAIN);
	f.l_type = F_UNLCK;
	expect(w, OP(w, fcntl(l->posix, F_SETLK, &f)), 0, "a POSIX unlock");
	try_posix(w, SECOND, 0);
}

static void locks_step(struct worker *w)
{
	struct locks *l = w->model;
	struct flock f = range(FIRST);

	try_posix(w, FIRST, EAGAIN);
	posix_cycle(w);
	expect(w, OP(w, fcntl(l->ofd_other, F_OFD_SETLK, &f)), EAGAIN, "a held OFD lock");
	f = range(SECOND);
	expect(w, OP(w, fcntl(l->ofd_other, F_OFD_SETLK, &f)), 0, "a free OFD lock");
	f.l_type = F_UNLCK;
	expect(w, OP(w, fcntl(l->ofd_other, F_OFD_SETLK, &f)), 0, "an OFD unlock");
	expect(w, OP(w, flock(l->flock_other, LOCK_EX | LOCK_NB)), EAGAIN,
	       "a held flock");
	nap_ms(5);
}

static void locks_finish(struct worker *w, FILE *manifest)
{
	struct locks *l = w->model;
	struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1, .size = 4};

	e.hash = hash_bytes(0, "lock", 4);
	for (const int *fd = &l->posix; fd <= &l->child; fd++)
		expect(w, close(*fd), 0, "close of a locked file");
	manifest_add(manifest, &e, "%s/posix", w->name);
	manifest_add(manifest, &e, "%s/ofd", w->name);
	manifest_add(manifest, &e, "%s/flock", w->name);
}

const struct kind kind_locks = {"locks", 1, locks_init, locks_step, locks_finish};
