/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <string.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/container_parts.h"
#include "crypto/luks2_copies.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "tests/unit/made.h"
#include "tests/unit/unit.h"
#include "util/io.h"

enum { D = CONTAINER_DATA_OFF };

/* Files that are no container: `head`, then zeros, len bytes in all. */
static const struct {
	const char *name;
	const char *head;
	size_t head_len;
	size_t len;
	uint64_t size;
	enum peek_kind want;
} other_rows[] = {
	{"nothing", "", 0, 0, 0, PEEK_EMPTY},
	{"one zero", "", 0, 1, 1, PEEK_EMPTY},
	{"4095 zeros", "", 0, 4095, 4095, PEEK_EMPTY},
	{"4096 zeros", "", 0, 4096, 4096, PEEK_EMPTY},
	{"32 KiB of zeros", "", 0, 32768, 32768, PEEK_EMPTY},
	{"an unfinished creation", "", 0, 32768, D, PEEK_EMPTY},
	{"zeros of more than D", "", 0, 32768, D + 1, PEEK_PLAINTEXT},
	{"a sparse raw image", "", 0, 32768, 1ull << 40, PEEK_PLAINTEXT},
	{"one byte", "x", 1, 1, 1, PEEK_PLAINTEXT},
	{"qcow2", "QFI\xfb", 4, 32768, D, PEEK_PLAINTEXT},
	{"half a magic", "LUKS\xba", 5, 5, 5, PEEK_PLAINTEXT},
	{"text of LUKS", "LUKS is", 7, 32768, D, PEEK_PLAINTEXT},
	{"the magic alone", "LUKS\xba\xbe", 6, 6, 6, PEEK_DAMAGED},
	{"version 1 alone", "LUKS\xba\xbe\0\1", 8, 8, 8, PEEK_DAMAGED},
	{"version 1, zeros", "LUKS\xba\xbe\0\1", 8, 32768, D, PEEK_DAMAGED},
	{"version 2, zeros", "LUKS\xba\xbe\0\2", 8, 32768, D, PEEK_DAMAGED},
	{"version 3", "LUKS\xba\xbe\0\3", 8, 32768, D, PEEK_DAMAGED},
	{"a second magic at the start", "SKUL\xba\xbe\0\2", 8, 32768, D, PEEK_PLAINTEXT},
};

START_TEST(others)
{
	auto_free unsigned char *buf = calloc(1, other_rows[_i].len + 1);
	auto_free unsigned char *exact = NULL;
	struct peek peek;

	memcpy(buf, other_rows[_i].head, other_rows[_i].head_len);
	exact = malloc(other_rows[_i].len ? other_rows[_i].len : 1); /* for ASan */
	memcpy(exact, buf, other_rows[_i].len);
	size_peek(&peek, exact, other_rows[_i].len, other_rows[_i].size);
	ck_assert_msg(peek.kind == other_rows[_i].want, "%s: %d", other_rows[_i].name,
		      (int)peek.kind);
}
END_TEST

/* Noise from byte 4096 on does not make an unfinished creation less empty. */
START_TEST(unfinished_with_second_copy)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	struct peek peek;

	memset(hdr, 0, 4096);
	size_peek(&peek, hdr, CONTAINER_PEEK_LEN, D);
	ck_assert_int_eq(peek.kind, PEEK_EMPTY);
	size_peek(&peek, hdr, CONTAINER_PEEK_LEN, D + 4096);
	ck_assert_int_eq(peek.kind,
			 PEEK_CONTAINER); /* it has data: the first copy is lost */
}
END_TEST

/* What a device begins with, and one byte somewhere behind it. */
static const struct {
	const char *name;
	const char *head;
	size_t other; /* where a byte is that is not zero, 0: nowhere */
	uint64_t size;
	enum peek_kind want;
} device_rows[] = {
	{"zeros", "", 0, 4 * D, PEEK_EMPTY},
	{"zeros, too small", "", 0, D, PEEK_PLAINTEXT},
	{"something in the first page", "", 4095, 4 * D, PEEK_PLAINTEXT},
	{"something behind it", "", 4096, 4 * D, PEEK_PLAINTEXT},
	{"something at the header's end", "", D - 1, 4 * D, PEEK_PLAINTEXT},
	{"old data behind the header", "", D, 4 * D, PEEK_EMPTY},
	{"a creation that was cut short", CREATION_MARK, 20000, 4 * D, PEEK_EMPTY},
	{"some text", "vmcryptfs: a container", 0, 4 * D, PEEK_PLAINTEXT},
	{"a magic", "LUKS\xba\xbe", 0, 4 * D, PEEK_DAMAGED},
};

START_TEST(devices)
{
	auto_close int fd = unit_tmpfile();
	struct peek peek;

	ck_assert_int_eq(ftruncate(fd, (off_t)device_rows[_i].size), 0);
	ck_assert_int_eq(io_pwrite_full(fd, device_rows[_i].head,
					strlen(device_rows[_i].head) + 1, 0),
			 0);
	if (device_rows[_i].other)
		ck_assert_int_eq(io_pwrite_full(fd, "x", 1, (off_t)device_rows[_i].other),
				 0);
	ck_assert_int_eq(size_peek_device(&peek, fd, device_rows[_i].size), 0);
	ck_assert_msg(peek.kind == device_rows[_i].want, "%s: %d", device_rows[_i].name,
		      (int)peek.kind);
}
END_TEST

static void expect_container(const struct peek *peek, int kind)
{
	ck_assert_int_eq(peek->kind, PEEK_CONTAINER);
	ck_assert_int_eq(peek->format, made[kind].params.format);
	ck_assert_uint_eq(peek->sector_len, made[kind].params.sector_len);
	ck_assert_uint_eq(peek->data_off, D);
	ck_assert_str_eq(peek->uuid_text, container_subject(made[kind].c)->uuid_text);
}

START_TEST(containers)
{
	struct peek peek;
	auto_close int fd = made_file(made[_i].header, 2 * D);

	size_peek(&peek, made[_i].header, CONTAINER_PEEK_LEN, D);
	expect_container(&peek, _i);
	ck_assert_int_eq(size_peek_fd(&peek, fd, 2 * D), 0);
	expect_container(&peek, _i);
}
END_TEST

/* Every length of the buffer: a container, or damaged, never a read past its end. */
START_TEST(short_buffers)
{
	for (size_t len = 0; len < CONTAINER_PEEK_LEN; len += len < 700 ? 1 : 509) {
		auto_free unsigned char *buf = malloc(len ? len : 1);
		struct peek peek;

		memcpy(buf, made[_i].header, len);
		size_peek(&peek, buf, len, 2 * D);
		if (made[_i].params.format == FORMAT_LUKS2 && len >= LUKS2_HDR_LEN)
			ck_assert_int_eq(peek.kind, PEEK_CONTAINER);
		if (len >= 6 && len < sizeof(struct luks1_hdr_disk))
			ck_assert_int_eq(peek.kind, PEEK_DAMAGED);
	}
}
END_TEST

static const struct {
	const char *find, *replace;
	enum peek_kind want;
} luks2_rows[] = {
	{"\"2097152\"", "\"1048576\"", PEEK_CONTAINER},
	{"\"2097152\"", "\"1044480\"", PEEK_DAMAGED},
	{"\"2097152\"", "\"67108864\"", PEEK_CONTAINER},
	{"\"2097152\"", "\"67112960\"", PEEK_DAMAGED},
	{"\"2097152\"", "\"2097153\"", PEEK_DAMAGED},
	{"\"2097152\"", "2097152", PEEK_DAMAGED},
	{"\"2097152\"", "\"-1\"", PEEK_DAMAGED},
	{"\"2097152\"", "\"\"", PEEK_DAMAGED},
	{"\"2097152\"", "\"18446744073709551616\"", PEEK_DAMAGED},
	{"\"2097152\"", "\"2097152\\u0000\"", PEEK_DAMAGED},
	{"\"sector_size\":4096", "\"sector_size\":512", PEEK_CONTAINER},
	{"\"sector_size\":4096", "\"sector_size\":0", PEEK_DAMAGED},
	{"\"sector_size\":4096", "\"sector_size\":2048", PEEK_DAMAGED},
	{"\"sector_size\":4096", "\"sector_size\":-4096", PEEK_DAMAGED},
	{"\"sector_size\":4096", "\"sector_size\":\"4096\"", PEEK_DAMAGED},
	{"\"sector_size\":4096", "\"sector_size\":4096.0", PEEK_DAMAGED},
	{"\"segments\":{\"0\"", "\"segments\":{\"1\"", PEEK_DAMAGED},
	{"\"segments\":{\"0\":", "\"segments\":[],\"x\":{\"0\":", PEEK_DAMAGED},
	{"{\"keyslots\"", "[\"keyslots\"", PEEK_DAMAGED},
	{"{\"keyslots\"", "", PEEK_DAMAGED},
};

START_TEST(luks2_geometry)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	struct peek peek;

	ck_assert(luks2_edit(hdr, luks2_rows[_i].find, luks2_rows[_i].replace));
	size_peek(&peek, hdr, CONTAINER_PEEK_LEN, 2 * D);
	ck_assert_int_eq(peek.kind, PEEK_DAMAGED); /* the checksum */
	luks2_repair(hdr);
	size_peek(&peek, hdr, CONTAINER_PEEK_LEN, 2 * D);
	ck_assert_msg(peek.kind == luks2_rows[_i].want, "%s -> %s", luks2_rows[_i].find,
		      luks2_rows[_i].replace);
}
END_TEST

/* What is read of a file piece by piece tells the same as all of it. */
static void agree(const unsigned char *hdr)
{
	auto_close int fd = made_file(hdr, 2 * D);
	struct peek whole, file;

	size_peek(&whole, hdr, CONTAINER_PEEK_LEN, 2 * D);
	ck_assert_int_eq(size_peek_fd(&file, fd, 2 * D), 0);
	ck_assert_int_eq(file.kind, whole.kind);
	ck_assert_uint_eq(file.sector_len, whole.sector_len);
	ck_assert_uint_eq(file.data_off, whole.data_off);
	ck_assert_str_eq(file.uuid_text, whole.uuid_text);
}

/* The newer of two good copies counts. */
START_TEST(newer_copy)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);
	struct luks2_hdr_disk *copy = (void *)(hdr + _i * LUKS2_HDR_LEN);
	struct peek peek;

	copy->seqid_be = htobe64(be64toh(copy->seqid_be) + 1);
	memcpy(strstr((char *)copy + LUKS2_BIN_LEN, "\"sector_size\":4096"),
	       "\"sector_size\": 512", 18);
	luks2_repair(hdr);
	size_peek(&peek, hdr, CONTAINER_PEEK_LEN, 2 * D);
	ck_assert_int_eq(peek.kind, PEEK_CONTAINER);
	ck_assert_uint_eq(peek.sector_len, 512);
	agree(hdr);
	memset(hdr + (1 - _i) * LUKS2_HDR_LEN, 0, 8);
	agree(hdr);
}
END_TEST

/* Which copy counts: rows of the two sequence numbers, and whether each checksum is right. */
static const struct {
	uint64_t seqid[2];
	bool good[2];
	int want; /* -1: none */
} copies_rows[] = {
	{{3, 3}, {true, true}, 0},    {{4, 3}, {true, true}, 0},
	{{3, 4}, {true, true}, 1},    {{3, 3}, {false, true}, 1},
	{{3, 3}, {true, false}, 0},   {{4, 3}, {false, true}, 1},
	{{3, 4}, {true, false}, 0},   {{4, 3}, {true, false}, 0},
	{{3, 4}, {false, true}, 1},   {{3, 3}, {false, false}, -1},
	{{3, 4}, {false, false}, -1}, {{4, 3}, {false, false}, -1},
};

START_TEST(which_copy)
{
	auto_free unsigned char *hdr = made_copy(MADE_LUKS2);

	for (int i = 0; i < 2; i++) {
		struct luks2_hdr_disk *copy = (void *)(hdr + i * LUKS2_HDR_LEN);

		copy->seqid_be = htobe64(copies_rows[_i].seqid[i]);
	}
	luks2_repair(hdr);
	for (int i = 0; i < 2; i++) /* behind the text, where only the checksum looks */
		hdr[i * LUKS2_HDR_LEN + LUKS2_HDR_LEN - 1] ^= !copies_rows[_i].good[i];
	agree(hdr);
	ck_assert_int_eq(luks2_newest(hdr, CONTAINER_PEEK_LEN), copies_rows[_i].want);
	ck_assert(luks2_mend(hdr) ==
		  (copies_rows[_i].want >= 0 &&
		   !(copies_rows[_i].good[0] && copies_rows[_i].good[1] &&
		     copies_rows[_i].seqid[0] == copies_rows[_i].seqid[1])));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("sizepeek");
	TCase *t = tcase_create("sizepeek");

	tcase_add_unchecked_fixture(t, made_setup, made_teardown);
	tcase_add_loop_test(t, others, 0, ROWS(other_rows));
	tcase_add_test(t, unfinished_with_second_copy);
	tcase_add_loop_test(t, devices, 0, ROWS(device_rows));
	tcase_add_loop_test(t, containers, 0, MADE_TWIN);
	tcase_add_loop_test(t, short_buffers, 0, MADE_TWIN);
	tcase_add_loop_test(t, luks2_geometry, 0, ROWS(luks2_rows));
	tcase_add_loop_test(t, newer_copy, 0, 2);
	tcase_add_loop_test(t, which_copy, 0, ROWS(copies_rows));
	suite_add_tcase(s, t);
	return s;
}
