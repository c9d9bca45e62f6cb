/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/made.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

struct made made[MADE_CNT] = {
	{.params = {FORMAT_LUKS2, 4096, {1, 2, 3}}},
	{.params = {FORMAT_LUKS2, 512, {1, 2, 4}}},
	{.params = {FORMAT_LUKS1, 512, {1, 2, 5}}},
	{.params = {FORMAT_LUKS2, 4096, {1, 2, 3}}},
};

const struct token made_token = {
	.service = "default",
	.key_id = "5cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0",
	.context = "4a4e2f0e-5b1c-4b7e-9c53-0d5f8f3a1c11",
	.generation = 1,
};

static int log_fd;

static void make(struct made *m)
{
	auto_close int fd = unit_tmpfile();

	ck_assert_int_eq(container_format(&m->c, &m->params, &made_token, m->secret), 0);
	ck_assert_int_eq(container_write_new(m->c, fd, NULL, NULL), 0);
	m->header = malloc(CONTAINER_DATA_OFF);
	ck_assert_int_eq(io_pread_full(fd, m->header, CONTAINER_DATA_OFF, 0),
			 CONTAINER_DATA_OFF);
}

void made_setup(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(path), 0);
	log_fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(container_init(), 0);
	for (int i = 0; i < MADE_CNT; i++) {
		if (i == MADE_TWIN)
			ck_assert_int_eq(
				secret_dup(&made[i].secret, made[MADE_LUKS2].secret), 0);
		else
			ck_assert_int_eq(secret_new_random(&made[i].secret), 0);
		make(&made[i]);
	}
}

void made_teardown(void)
{
	for (int i = 0; i < MADE_CNT; i++) {
		secret_free(made[i].secret);
		container_free(made[i].c);
		free(made[i].header);
	}
	close(log_fd);
}

/* Everything that is not zero in a new header lies in its first 512 KiB. */
int made_file(const unsigned char *header, uint64_t size)
{
	size_t len = size < 512 * 1024 ? (size_t)size : 512 * 1024;
	int fd = unit_tmpfile();

	ck_assert_int_eq(io_pwrite_full(fd, header, len, 0), 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	return fd;
}

unsigned char *made_copy(int kind)
{
	unsigned char *p = malloc(CONTAINER_DATA_OFF);

	memcpy(p, made[kind].header, CONTAINER_DATA_OFF);
	return p;
}

const char *made_log(void)
{
	static char text[4096];
	ssize_t n = io_pread_full(log_fd, text, sizeof(text) - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	ck_assert_int_eq(ftruncate(log_fd, 0), 0);
	return text;
}
