/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * makeimages FOLDER SECRETS FIRST LAST: containers FOLDER/iFIRST ... with one sector of plaintext
 * each (a hole), and their secrets as helper.py keeps them. Many images are there sooner than
 * through a mount, which syncs each.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "util/io.h"

enum { SECTOR = 4096 };

static void must(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static void keep_secret(const char *dir, const char *label, const struct secret *secret)
{
	char path[4096], hex[2 * SECRET_LEN + 1] = "";
	FILE *f;

	for (size_t i = 0; i < SECRET_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", secret_bytes(secret)[i]);
	snprintf(path, sizeof(path), "%s/id-%s", dir, label);
	f = fopen(path, "wxe");
	must(f && fprintf(f, "%s %s\n", hex, label) > 0 && fclose(f) == 0, path);
}

/* What is not zero; without the syncs that a container is made with. */
static void copy_pages(int to, int from, size_t len)
{
	static unsigned char page[SECTOR];

	for (size_t off = 0; off < len; off += SECTOR) {
		must(pread(from, page, SECTOR, (off_t)off) == SECTOR, "read");
		if (!io_is_zero(page, SECTOR))
			must(pwrite(to, page, SECTOR, (off_t)off) == SECTOR, "write");
	}
	must(!ftruncate(to, (off_t)len + SECTOR), "ftruncate");
}

static void make(const char *folder, const char *secrets, int n)
{
	struct container_params p = {.format = FORMAT_LUKS2, .sector_len = SECTOR};
	struct token t = {.service = "default", .holes = HOLES_ZERO, .generation = 1};
	auto_container struct container *c = NULL;
	auto_secret struct secret *secret = NULL;
	char path[4096], label[UUID_TEXT_LEN + 1];
	auto_close int memory = memfd_create("container", MFD_CLOEXEC);
	auto_close int fd = -1;

	uuid_generate_random(p.uuid);
	uuid_unparse_lower(p.uuid, label);
	snprintf(t.key_id, sizeof(t.key_id), "id-%s", label);
	snprintf(path, sizeof(path), "%s/i%d", folder, n);
	must(!secret_new_random(&secret), "secret");
	keep_secret(secrets, label, secret);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(fd >= 0, path);
	must(!container_format(&c, &p, &t, secret), "container_format");
	must(!container_write_new(c, memory, NULL, NULL), "container_write_new");
	copy_pages(fd, memory, container_subject(c)->data_off);
}

int main(int argc, char **argv)
{
	must(argc == 5 && (mkdir(argv[2], 0700) == 0 || access(argv[2], W_OK) == 0),
	     "makeimages FOLDER SECRETS FIRST LAST");
	must(!crypto_init() && !secret_arena_init() && !container_init(), "init");
	for (int i = atoi(argv[3]); i <= atoi(argv[4]); i++)
		make(argv[1], argv[2], i);
	return 0;
}
