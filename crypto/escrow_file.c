/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of escrow keys. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/escrow.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/parse.h"

#define PUBLIC_WORD "vmcryptfs-escrow-public-1 "
#define PRIVATE_WORD "vmcryptfs-escrow-private-1 "

enum { LINE_MAX_LEN = 128 };

/* "WORD BASE64" and at most one newline. */
static vcf_err_t parse_line(unsigned char *key, const char *text, size_t len,
			    const char *word)
{
	size_t word_len = strlen(word);

	if (len && text[len - 1] == '\n')
		len--;
	if (len < word_len || memcmp(text, word, word_len) != 0)
		return -EBADMSG;
	return base64_decode(key, ESCROW_KEY_LEN, text + word_len, len - word_len)
		       ? -EBADMSG
		       : 0;
}

static vcf_err_t read_key(unsigned char *key, int fd, const char *word)
{
	char text[LINE_MAX_LEN];
	ssize_t n = io_pread_full(fd, text, sizeof(text), 0);
	vcf_err_t err = n < 0 ? (vcf_err_t)n : parse_line(key, text, (size_t)n, word);

	secret_wipe(text, sizeof(text));
	return err;
}

vcf_err_t escrow_read_public(struct escrow_public *out, const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	vcf_err_t err;

	if (fd < 0)
		return -errno;
	err = read_key(out->key, fd, PUBLIC_WORD);
	return err ? err : escrow_public_of(out, NULL);
}

vcf_err_t escrow_read_private(struct secret **out, const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	auto_secret struct secret *s = NULL;
	struct stat st;
	vcf_err_t err;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_mode & 077)
		return -EPERM;
	err = secret_new(&s);
	if (!err)
		err = read_key(secret_bytes(s), fd, PRIVATE_WORD);
	if (!err)
		*out = STEAL_PTR(&s);
	return err;
}

static vcf_err_t write_key(const char *path, mode_t mode, const char *word,
			   const unsigned char *key)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	char text[LINE_MAX_LEN];
	size_t len;
	vcf_err_t err;

	if (fd < 0)
		return -errno;
	len = strlen(word);
	memcpy(text, word, len);
	base64_encode(text + len, key, ESCROW_KEY_LEN);
	len += BASE64_LEN(ESCROW_KEY_LEN);
	text[len++] = '\n';
	err = io_write_full(fd, text, len);
	secret_wipe(text, sizeof(text));
	if (!err && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		err = -errno;
	return err;
}

vcf_err_t escrow_make_key(const char *path, struct escrow_public *out)
{
	auto_secret struct secret *s = NULL;
	char pub_path[PATH_MAX];
	vcf_err_t err;

	if (snprintf(pub_path, sizeof(pub_path), "%s.pub", path) >= (int)sizeof(pub_path))
		return -ENAMETOOLONG;
	err = secret_new_random(&s);
	if (!err)
		err = escrow_public_of(out, s);
	if (!err)
		err = write_key(path, 0600, PRIVATE_WORD, secret_bytes(s));
	if (err)
		return err;
	err = write_key(pub_path, 0644, PUBLIC_WORD, out->key);
	if (err)
		unlink(path); /* ours: it was not there */
	return err;
}
