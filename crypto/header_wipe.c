/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/header_wipe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/secret.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

enum { CHUNK = 64 * 1024, PAGE = 4096 };

/* Page-aligned throughout: fd may be O_DIRECT. */
static vcf_err_t overwrite(int fd, void *buf, uint64_t from, uint64_t to)
{
	vcf_err_t err = 0;

	while (from < to && !err) {
		size_t n = to - from < CHUNK ? (size_t)(to - from) : CHUNK;

		secret_random(buf, n);
		err = io_pwrite_full(fd, buf, n, (off_t)from);
		from += n;
		CRASHPOINT("wipe-chunk");
	}
	return err;
}

/* The next allocated bytes of [off, to); *end == *from: none. */
static vcf_err_t next_data(int fd, uint64_t off, uint64_t to, uint64_t *from,
			   uint64_t *end)
{
	off_t data = lseek(fd, (off_t)off, SEEK_DATA), hole;

	*from = *end = to;
	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0 && errno == EINVAL)
		data = (off_t)off; /* the file system cannot tell */
	if (data < 0)
		return -errno;
	if ((uint64_t)data >= to)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (uint64_t)data & ~(uint64_t)(PAGE - 1);
	*end = hole < 0 ? to : ((uint64_t)hole + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	if (*end > to)
		*end = to;
	return 0;
}

static vcf_err_t wipe_range(int fd, void *buf, uint64_t from, uint64_t to)
{
	vcf_err_t err = 0;

	while (from < to && !err) {
		uint64_t data, end;

		err = next_data(fd, from, to, &data, &end);
		if (!err)
			err = overwrite(fd, buf, data, end);
		from = end;
	}
	if (!err && fdatasync(fd) < 0)
		err = -errno;
	return err;
}

static vcf_err_t wipe(int fd, uint64_t to)
{
	uint64_t metadata = to < CONTAINER_PEEK_LEN ? to : CONTAINER_PEEK_LEN;
	auto_free void *buf = NULL;
	vcf_err_t err, err2;

	if (posix_memalign(&buf, PAGE, CHUNK)) {
		buf = NULL;
		return -ENOMEM;
	}
	err = wipe_range(fd, buf, metadata, to);
	CRASHPOINT("wipe-half");
	err2 = wipe_range(fd, buf, 0, metadata); /* even if the first failed */
	return err ? err : err2;
}

vcf_err_t header_overwrite(int fd, uint64_t data_off)
{
	uint64_t len;
	vcf_err_t err = io_file_len(fd, &len);

	if (err)
		return err;
	len = (len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	return wipe(fd, len < data_off ? len : data_off);
}

void header_wipe(int fd, uint64_t data_off, const char *name)
{
	struct stat st;
	vcf_err_t err = 0;

	if (fstat(fd, &st) < 0)
		err = -errno;
	if (!err && st.st_nlink > 0) {
		log_info("%s: its header is not overwritten: the file has a name", name);
		return;
	}
	if (!err)
		err = header_overwrite(fd, data_off);
	if (!err && ftruncate(fd, 0) < 0)
		err = -errno;
	if (err)
		log_warn("%s: deleted, but its header could not be overwritten: %s", name,
			 strerror(-err));
}
