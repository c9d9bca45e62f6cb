/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One writer, so three rules carry it all:
 *
 *  - A record is on the disk before the next one is written. So only the last can be torn
 *    by a crash; bad bytes before a good record are damage, and said as such.
 *  - write_off moves only after a record is whole and synced: a failed append is
 *    overwritten by the next.
 *  - The lock belongs to the file that PATH names. A compacted file is locked before it
 *    is renamed over; one who opened the old file before that and gets its lock after it
 *    sees that PATH is another file now and tries again.
 */
#include "crypto/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parse.h"

enum {
	ROOM_LOW = 1024 * 1024,	      /* allocate more when less than this is left ... */
	ROOM_STEP = 1024 * 1024,      /* ... in steps of this */
	ROOM_AHEAD = 4 * 1024 * 1024, /* ... until this much is */
	OPEN_TRIES = 16,
	WINDOW_LEN = 256 * 1024, /* no record is as long */
};

/* The folders above path, 0700. */
static vcf_err_t make_folders(const char *path)
{
	auto_free char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = strchr(copy + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST) {
			/* an existing folder on a read-only disk answers EROFS */
			int err = -errno;

			if (access(copy, F_OK) < 0)
				return err;
		}
		*p = '/';
	}
	return 0;
}

static vcf_err_t sync_folder(const char *path)
{
	auto_free char *copy = strdup(path);
	auto_close int fd = -1;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* This machine's id, or zeros. */
static void host_id(unsigned char id[JOURNAL_ID_LEN])
{
	auto_close int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	char text[2 * JOURNAL_ID_LEN];

	memset(id, 0, JOURNAL_ID_LEN);
	if (fd < 0 || io_pread_full(fd, text, sizeof(text), 0) != (ssize_t)sizeof(text))
		return;
	if (hex_decode(id, JOURNAL_ID_LEN, text, sizeof(text)))
		memset(id, 0, JOURNAL_ID_LEN);
}

static vcf_err_t lock_file(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* 0 if path still names fd's file, -EAGAIN if not. */
static vcf_err_t same_file(int fd, const char *path)
{
	struct stat ours, named;

	if (fstat(fd, &ours) < 0)
		return -errno;
	if (!S_ISREG(ours.st_mode))
		return -EBADMSG;
	if (lstat(path, &named) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	return ours.st_dev == named.st_dev && ours.st_ino == named.st_ino ? 0 : -EAGAIN;
}

static vcf_err_t open_once(int *out, const char *path)
{
	auto_close int fd =
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	vcf_err_t err;

	if (fd < 0)
		return -errno;
	err = lock_file(fd);
	if (!err)
		err = same_file(fd, path);
	if (!err && fchmod(fd, 0600) < 0)
		err = -errno;
	if (err)
		return err;
	*out = STEAL_FD(&fd);
	return 0;
}

static vcf_err_t open_locked(int *out, const char *path)
{
	vcf_err_t err = -EAGAIN;

	for (int i = 0; i < OPEN_TRIES && err == -EAGAIN; i++)
		err = open_once(out, path);
	return err == -EAGAIN ? -EBUSY : err;
}

static vcf_err_t write_zeros(int fd, uint64_t from, uint64_t to)
{
	static const char zeros[64 * 1024];
	vcf_err_t err = 0;

	while (from < to && !err) {
		size_t n =
			to - from < sizeof(zeros) ? (size_t)(to - from) : sizeof(zeros);

		err = io_pwrite_full(fd, zeros, n, (off_t)from);
		from += n;
	}
	return err;
}

/* Real blocks where the file system has fallocate(2), written zeros elsewhere. */
static vcf_err_t allocate(int fd, uint64_t from, uint64_t len)
{
	int rc;

	do
		rc = fallocate(fd, 0, (off_t)from, (off_t)len);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	return errno == EOPNOTSUPP ? write_zeros(fd, from, from + len) : -errno;
}

/* Best effort: without it deletes go on until the room at hand is used up. */
static void keep_room(struct journal_file *f)
{
	vcf_err_t err = 0;

	if (f->room_off >= f->write_off + ROOM_LOW)
		return;
	while (!err && f->room_off < f->write_off + ROOM_AHEAD) {
		err = allocate(f->fd, f->room_off, ROOM_STEP);
		if (!err)
			f->room_off += ROOM_STEP;
	}
	if (err && !f->short_said)
		log_warn("%s: cannot allocate more room for the journal: %s; %" PRIu64
			 " KiB are left for deletes and new images",
			 f->path, strerror(-err),
			 f->room_off > f->write_off ? (f->room_off - f->write_off) / 1024
						    : 0);
	f->short_said = err != 0;
}

static vcf_err_t write_header(struct journal_file *f)
{
	unsigned char block[JOURNAL_HEADER_LEN];
	vcf_err_t err = journal_header_encode(block, &f->header);

	if (!err)
		err = io_pwrite_full(f->fd, block, sizeof(block), 0);
	if (!err && fdatasync(f->fd) < 0)
		err = -errno;
	return err;
}

/* Makes f->fd, an empty file, a journal without records. */
static vcf_err_t start_file(struct journal_file *f, uint64_t first_seq, uint64_t next_id)
{
	f->header = (struct journal_header){
		.created = time(NULL), .first_seq = first_seq, .next_id = next_id};
	secret_random(f->header.file_id, JOURNAL_ID_LEN);
	host_id(f->header.host_id);
	f->seq = first_seq - 1;
	f->write_off = JOURNAL_HEADER_LEN;
	f->room_off = JOURNAL_HEADER_LEN;
	return write_header(f);
}

static vcf_err_t read_header(struct journal_file *f, uint64_t size)
{
	static const unsigned char unknown[JOURNAL_ID_LEN];
	unsigned char block[JOURNAL_HEADER_LEN] = {0}, host[JOURNAL_ID_LEN];
	ssize_t n = io_pread_full(f->fd, block, sizeof(block), 0);
	vcf_err_t err;

	if (n < 0)
		return (vcf_err_t)n;
	/* new, or its creation was cut short before the header was durable */
	if (io_is_zero(block, sizeof(block)) && size <= sizeof(block)) {
		err = start_file(f, 1, 1);
		return err ? err : sync_folder(f->path);
	}
	err = journal_header_decode(&f->header, block);
	if (err)
		return err;
	host_id(host);
	f->foreign = memcmp(host, f->header.host_id, sizeof(host)) != 0 &&
		     memcmp(unknown, f->header.host_id, sizeof(host)) != 0;
	f->seq = f->header.first_seq - 1;
	f->write_off = JOURNAL_HEADER_LEN;
	f->room_off = size > JOURNAL_HEADER_LEN ? size : JOURNAL_HEADER_LEN;
	return 0;
}

static vcf_err_t init_struct(struct journal_file *f, const char *path)
{
	*f = (struct journal_file){.fd = -1};
	f->path = strdup(path);
	f->buf = malloc(JOURNAL_RECORD_MAX);
	return f->path && f->buf ? 0 : -ENOMEM;
}

static vcf_err_t open_inner(struct journal_file *f, const char *path)
{
	vcf_err_t err = init_struct(f, path);
	struct stat st;

	if (!err)
		err = make_folders(path);
	if (!err)
		err = io_check_folder_of(path);
	if (err == -EPERM)
		log_err("%s: its folder belongs to somebody else, or others may write to "
			"it",
			path);
	if (!err)
		err = open_locked(&f->fd, path);
	if (!err && fstat(f->fd, &st) < 0)
		err = -errno;
	return err ? err : read_header(f, (uint64_t)st.st_size);
}

static const char *open_reason(vcf_err_t err)
{
	switch (err) {
	case -EBUSY:
		return "another process serves this backing directory";
	case -EBADMSG:
		return "this is no journal, or its first block is damaged; move it away "
		       "to start without it";
	case -ENOTSUP:
		return "it was written by a later version";
	default:
		return strerror(-err);
	}
}

vcf_err_t journal_file_open(struct journal_file *f, const char *path)
{
	vcf_err_t err = open_inner(f, path);

	if (!err)
		return 0;
	log_err("%s: cannot open the journal: %s", path, open_reason(err));
	journal_file_close(f);
	return err;
}

void journal_file_close(struct journal_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f->buf);
	*f = (struct journal_file){.fd = -1};
}

/* Of replay, which looks at each 512 bytes of the file: a part of it in memory. */
static vcf_err_t fill_window(struct journal_file *f, uint64_t off)
{
	ssize_t n;

	if (!f->window)
		f->window = malloc(WINDOW_LEN);
	if (!f->window)
		return -ENOMEM;
	n = io_pread_full(f->fd, f->window, WINDOW_LEN, (off_t)off);
	if (n < 0)
		return (vcf_err_t)n;
	f->window_off = off;
	f->window_len = (size_t)n;
	return 0;
}

/* As io_pread_full(). */
static ssize_t read_at(struct journal_file *f, void *buf, size_t len, uint64_t off)
{
	vcf_err_t err;

	if (!f->replaying)
		return io_pread_full(f->fd, buf, len, (off_t)off);
	if (off < f->window_off || off + len > f->window_off + f->window_len) {
		err = fill_window(f, off);
		if (err)
			return err;
	}
	if (len > f->window_len - (off - f->window_off))
		len = f->window_len - (off - f->window_off);
	memcpy(buf, f->window + (off - f->window_off), len);
	return (ssize_t)len;
}

static void drop_window(struct journal_file *f)
{
	free(f->window);
	f->window = NULL;
	f->window_len = 0;
	f->window_off = 0;
	f->replaying = false;
}

/*
 * Reads the record at off into f->buf and checks all of it but the sequence number.
 * Its padded length, 0 at the end (zeros, or the file's end), -EBADMSG, or -errno.
 */
static ssize_t load_record(struct journal_file *f, struct journal_record *r, void *hdr,
			   uint64_t off)
{
	ssize_t n, len;
	vcf_err_t err;

	memset(f->buf, 0, JOURNAL_ALIGN);
	n = read_at(f, f->buf, JOURNAL_ALIGN, off);
	if (n < 0)
		return n;
	len = journal_record_peek(f->buf);
	if (len <= 0)
		return len;
	if (len > JOURNAL_ALIGN) {
		memset(f->buf + JOURNAL_ALIGN, 0, (size_t)len - JOURNAL_ALIGN);
		n = read_at(f, f->buf + JOURNAL_ALIGN, (size_t)len - JOURNAL_ALIGN,
			    off + JOURNAL_ALIGN);
		if (n < 0)
			return n;
	}
	err = journal_record_decode(r, hdr, f->header.file_id, f->buf, (size_t)len);
	return err ? err : len;
}

/* Room that was never written to is not looked at: it is megabytes, and a start waits for it. */
static bool is_untouched(const struct journal_file *f, uint64_t off)
{
	return lseek(f->fd, (off_t)off, SEEK_DATA) < 0 && errno == ENXIO;
}

/* The first place from off on with a later record than f->seq, or 0. -errno. */
static vcf_err_t find_later(struct journal_file *f, uint64_t off, uint64_t *found)
{
	struct journal_record r;

	*found = 0;
	if (is_untouched(f, off))
		return 0;
	for (; off < f->room_off; off += JOURNAL_ALIGN) {
		ssize_t n = load_record(f, &r, NULL, off);

		if (n < 0 && n != -EBADMSG)
			return (vcf_err_t)n;
		if (n > 0 && r.seq > f->seq) {
			*found = off;
			return 0;
		}
	}
	return 0;
}

/* Nothing of a torn record may stay behind the place of the next one. */
static vcf_err_t zero_tail(struct journal_file *f)
{
	unsigned char block[4096];
	bool dirty = false;
	uint64_t off = f->write_off;

	if (is_untouched(f, off))
		return 0;
	while (off < f->room_off) {
		ssize_t n = read_at(f, block, sizeof(block), off);
		vcf_err_t err = 0;

		if (n <= 0)
			return (vcf_err_t)n;
		if (!io_is_zero(block, (size_t)n)) {
			err = write_zeros(f->fd, off, off + (uint64_t)n);
			dirty = true;
		}
		if (err)
			return err;
		off += (uint64_t)n;
	}
	if (!dirty)
		return 0;
	log_info("%s: dropped a torn record at offset %" PRIu64
		 " (the crash came before it counted)",
		 f->path, f->write_off);
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

/* Replay has come to something that is not the next record. *more: there are others. */
static vcf_err_t bad_place(struct journal_file *f, uint64_t *off, bool *more)
{
	uint64_t next;
	vcf_err_t err = find_later(f, *off, &next);

	*more = next != 0;
	if (err || !next)
		return err;
	log_warn("%s: damaged between offsets %" PRIu64 " and %" PRIu64
		 ": the records there are lost; secrets that wait for use are parked as "
		 "suspect (vmcryptfs keys), the file is kept as %s.damaged",
		 f->path, *off, next, f->path);
	f->damaged = true;
	*off = next;
	return 0;
}

static vcf_err_t replay(struct journal_file *f, journal_replay_fn *fn, void *arg)
{
	uint64_t off = f->write_off;
	struct journal_record r;
	vcf_err_t err = 0;
	bool more = true;

	while (more && !err) {
		ssize_t n = load_record(f, &r, NULL, off);

		if (n < 0 && n != -EBADMSG)
			return (vcf_err_t)n;
		if (n <= 0 || r.seq <= f->seq || (r.seq != f->seq + 1 && !f->damaged)) {
			err = bad_place(f, &off, &more);
			continue;
		}
		err = fn(arg, &r, off, (size_t)n);
		f->seq = r.seq;
		off += (uint64_t)n;
		f->write_off = off;
	}
	if (!err && !f->damaged)
		err = zero_tail(f);
	if (!err)
		keep_room(f);
	return err;
}

vcf_err_t journal_file_replay(struct journal_file *f, journal_replay_fn *fn, void *arg)
{
	vcf_err_t err;

	f->replaying = true;
	err = replay(f, fn, arg);
	drop_window(f);
	return err;
}

static vcf_err_t sync_or_fail(struct journal_file *f)
{
	vcf_err_t err;

	if (fdatasync(f->fd) == 0)
		return 0;
	/* The kernel may have dropped the pages and reports it once: nobody knows what
	 * the disk holds until the next replay. */
	err = -errno;
	f->failed = true;
	log_err("%s: cannot sync the journal: %s; no image can be made or deleted until "
		"vmcryptfs is started again",
		f->path, strerror(-err));
	return -EIO;
}

vcf_err_t journal_file_append(struct journal_file *f, struct journal_record *r,
			      const void *hdr, bool sync, uint64_t *off, size_t *len)
{
	vcf_err_t err;
	ssize_t n;

	if (f->failed)
		return -EIO;
	r->seq = f->seq + 1;
	n = journal_record_encode(f->buf, f->header.file_id, r, hdr);
	if (n < 0)
		return (vcf_err_t)n;
	err = io_pwrite_full(f->fd, f->buf, (size_t)n, (off_t)f->write_off);
	CRASHPOINT("journal-written");
	if (!err && sync)
		err = sync_or_fail(f);
	if (err)
		return err;
	*off = f->write_off;
	*len = (size_t)n;
	f->seq++;
	f->write_off += (uint64_t)n;
	if (f->room_off < f->write_off)
		f->room_off = f->write_off;
	keep_room(f);
	return 0;
}

vcf_err_t journal_file_read(struct journal_file *f, struct journal_record *r, void *hdr,
			    uint64_t off)
{
	ssize_t n = load_record(f, r, hdr, off);

	if (n < 0)
		return (vcf_err_t)n;
	return n == 0 ? -EBADMSG : 0;
}

vcf_err_t journal_file_beside(struct journal_file *f, const struct journal_file *old,
			      uint64_t next_id)
{
	auto_free char *path = NULL;
	vcf_err_t err;

	if (asprintf(&path, "%s.new", old->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	err = init_struct(f, path);
	/* left by a crash: only the holder of old's lock makes this file */
	if (!err && unlink(path) < 0 && errno != ENOENT)
		err = -errno;
	if (!err)
		err = open_locked(&f->fd, path);
	if (!err)
		err = start_file(f, old->seq + 1, next_id);
	if (err)
		journal_file_discard(f);
	return err;
}

static vcf_err_t keep_damaged(const struct journal_file *f)
{
	auto_free char *path = NULL;

	if (asprintf(&path, "%s.damaged", f->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (link(f->path, path) < 0 && errno != EEXIST) /* the first one tells most */
		return -errno;
	return 0;
}

vcf_err_t journal_file_replace(struct journal_file *old, struct journal_file *f)
{
	vcf_err_t err = old->damaged ? keep_damaged(old) : 0;

	if (!err && fsync(f->fd) < 0)
		err = -errno;
	CRASHPOINT("journal-beside");
	if (!err && rename(f->path, old->path) < 0)
		err = -errno;
	CRASHPOINT("journal-replaced");
	if (err)
		return err;
	free(f->path);
	f->path = STEAL_PTR(&old->path);
	journal_file_close(old);
	*old = *f;
	*f = (struct journal_file){.fd = -1};
	/* Were the rename lost, the next start would find the old file, without what is
	 * appended from now on. */
	err = sync_folder(old->path);
	if (err)
		old->failed = true;
	return err;
}

void journal_file_discard(struct journal_file *f)
{
	if (f->path && f->fd >= 0)
		unlink(f->path);
	journal_file_close(f);
}
