/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes the golden containers of the present format in the current folder, by make.sh.
 * Run it for a NEW format under new names only: released ones never change.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "tests/golden/golden.h"
#include "util/io.h"

static void must(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void write_data(int fd, const struct golden *g, const unsigned char *key)
{
	uint32_t len = g->sector_len;
	unsigned char sector[4096];

	for (uint64_t i = 0; i <= GOLDEN_SECTORS; i++) {
		uint32_t used = i < GOLDEN_SECTORS ? len : GOLDEN_TAIL;

		if (i == GOLDEN_HOLE)
			continue;
		memset(sector, 0, sizeof(sector));
		for (uint32_t k = 0; k < used; k++)
			sector[k] = golden_byte(i * len + k);
		must(golden_xts(true, sector, len, i, key), "xts");
		must(!io_pwrite_full(fd, sector, len,
				     (off_t)(CONTAINER_DATA_OFF + i * len)),
		     "write");
	}
	must(!ftruncate(fd, (off_t)(CONTAINER_DATA_OFF + (GOLDEN_SECTORS + 1) * len) +
				    GOLDEN_TAIL),
	     "ftruncate");
}

static void write_pages(int fd, const char *name)
{
	uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
	uint64_t size_le = htole64(size);
	char path[256];
	FILE *out;

	snprintf(path, sizeof(path), "%s.pages", name);
	out = fopen(path, "wx");
	must(out && fwrite(GOLDEN_MAGIC, 1, 8, out) == 8 &&
		     fwrite(&size_le, 1, 8, out) == 8,
	     path);
	for (uint64_t off = 0; off < size; off += GOLDEN_PAGE) {
		unsigned char page[GOLDEN_PAGE] = {0};
		uint64_t off_le = htole64(off);

		must(io_pread_full(fd, page, sizeof(page), (off_t)off) > 0, "read");
		if (io_is_zero(page, sizeof(page)))
			continue;
		must(fwrite(&off_le, 1, 8, out) == 8 &&
			     fwrite(page, 1, sizeof(page), out) == sizeof(page),
		     path);
	}
	must(fclose(out) == 0, path);
}

static void make(const struct golden *g, const struct secret *secret)
{
	struct container_params p = {g->format, g->sector_len, {0}};
	auto_container struct container *c = NULL;
	auto_close int fd = open(".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	memcpy(p.uuid, g->uuid, UUID_LEN);
	must(fd >= 0, "O_TMPFILE");
	must(!container_format(&c, &p, &golden_token, secret), "container_format");
	must(!container_write_new(c, fd, NULL, NULL), "container_write_new");
	write_data(fd, g, container_volume_key(c));
	write_pages(fd, g->name);
}

int main(void)
{
	auto_secret struct secret *secret = NULL;

	must(!crypto_init() && !secret_arena_init() && !container_init(), "init");
	must(!secret_new(&secret), "secret");
	for (int i = 0; i < SECRET_LEN; i++)
		secret_bytes(secret)[i] = (unsigned char)i;
	for (size_t i = 0; i < sizeof(golden_list) / sizeof(golden_list[0]); i++)
		make(&golden_list[i], secret);
	return 0;
}
