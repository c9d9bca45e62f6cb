/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/ttlv.h"
#include "tests/unit/kmip_vectors.h"
#include "tests/unit/unit.h"
#include "util/parse.h"

static unsigned char buf[4096];

/* Hex without blanks, to buf; the length. */
static size_t bytes(const char *hex)
{
	size_t len = strlen(hex) / 2;

	ck_assert_int_eq(hex_decode(buf, len, hex, 2 * len), 0);
	return len;
}

/* KMIP specification 1.4, section 9.1.2: the examples of encodings */
static const struct {
	enum ttlv_type type;
	int64_t number;
	const char *text, *hex;
} example_rows[] = {
	{TTLV_INTEGER, 8, NULL, "42002002000000040000000800000000"},
	{TTLV_INTEGER, -2, NULL, "4200200200000004fffffffe00000000"},
	{TTLV_LONG, 123456789000000000, NULL, "420020030000000801b69b4ba5749200"},
	{TTLV_BIG, 0, NULL, "42002004000000100000000003fd35eb6bc2df4618080000"},
	{TTLV_ENUM, 255, NULL, "4200200500000004000000ff00000000"},
	{TTLV_ENUM, 0xfffffffe, NULL, "4200200500000004fffffffe00000000"},
	{TTLV_BOOL, 1, NULL, "42002006000000080000000000000001"},
	{TTLV_TEXT, 0, "Hello World", "420020070000000b48656c6c6f20576f726c640000000000"},
	{TTLV_BYTES, 0, "\1\2\3", "42002008000000030102030000000000"},
	{TTLV_DATE, 0x47da67f8, NULL, "42002009000000080000000047da67f8"},
	{TTLV_INTERVAL, 864000, NULL, "4200200a00000004000d2f0000000000"},
};

START_TEST(examples_read)
{
	size_t len = bytes(example_rows[_i].hex);
	struct ttlv_item item;
	struct ttlv_reader r;
	char text[32];

	ck_assert_int_eq(ttlv_check(buf, len), 0);
	ttlv_reader_init(&r, buf, len);
	ck_assert_int_eq(ttlv_next(&r, &item), 0);
	ck_assert_int_eq(item.tag, 0x420020);
	ck_assert_int_eq(item.type, example_rows[_i].type);
	if (example_rows[_i].text) {
		ck_assert_int_eq(ttlv_text(&item, text, sizeof(text)), 0);
		ck_assert_str_eq(text, example_rows[_i].text);
	} else if (item.type != TTLV_BIG) {
		ck_assert(ttlv_number(&item) == example_rows[_i].number);
	}
	ck_assert_int_eq(ttlv_next(&r, &item), -ENODATA);
}
END_TEST

START_TEST(examples_write)
{
	unsigned char out[64];
	struct ttlv_writer w;
	size_t len = bytes(example_rows[_i].hex);
	const char *text = example_rows[_i].text;

	ttlv_writer_init(&w, out, sizeof(out));
	switch (example_rows[_i].type) {
	case TTLV_INTEGER:
		ttlv_put_int(&w, 0x420020, (int32_t)example_rows[_i].number);
		break;
	case TTLV_ENUM:
		ttlv_put_enum(&w, 0x420020, (uint32_t)example_rows[_i].number);
		break;
	case TTLV_TEXT:
		ttlv_put_text(&w, 0x420020, text);
		break;
	case TTLV_BYTES:
		ttlv_put_bytes(&w, 0x420020, text, strlen(text));
		break;
	default:
		return; /* not needed, not written */
	}
	ck_assert_int_eq(ttlv_finish(&w), (ssize_t)len);
	ck_assert_mem_eq(out, buf, len);
}
END_TEST

static const struct {
	const char *what, *hex;
} bad_rows[] = {
	{"a cut header", "42002002000000"},
	{"an integer of 8 bytes", "42002002000000080000000800000000"},
	{"an enumeration of 0 bytes", "4200200500000000"},
	{"a date of 4 bytes", "42002009000000040000000000000000"},
	{"a boolean of 4 bytes", "42002006000000040000000100000000"},
	{"a big integer of 4 bytes", "42002004000000040000000100000000"},
	{"a big integer of 0 bytes", "4200200400000000"},
	{"type 0", "4200200000000000"},
	{"type 11", "4200200b00000000"},
	{"a text without its padding", "42002007000000014100"},
	{"a text beyond the end", "4200200700000009414141414141414141"},
	{"a length of 2^32 - 1", "42002007ffffffff4141414141414141"},
	{"a length of 2^32 - 8", "42002001fffffff84141414141414141"},
	{"a structure of 4 bytes", "42002001000000040000000000000000"},
	{"a structure beyond the end", "4200200100000010420020020000000400000008"},
	{"an item beyond its structure", "42002001000000084200200700000008"
					 "4141414141414141"},
	{"rubbish in a structure", "42002001000000080000000000000000"},
	{"rubbish behind it", "4200200200000004000000080000000000"},
};

START_TEST(bad)
{
	ck_assert_msg(ttlv_check(buf, bytes(bad_rows[_i].hex)) == -EBADMSG, "%s",
		      bad_rows[_i].what);
}
END_TEST

/* Structures in structures: as deep as allowed, and one more. */
static vcf_err_t check_depth(size_t depth)
{
	for (size_t i = 0; i < depth; i++) {
		unsigned char *at = buf + 8 * i;

		memcpy(at, "\x42\x00\x20\x01\0\0\0\0", 8);
		at[6] = (unsigned char)(8 * (depth - 1 - i) >> 8);
		at[7] = (unsigned char)(8 * (depth - 1 - i));
	}
	return ttlv_check(buf, 8 * depth);
}

START_TEST(depth)
{
	ck_assert_int_eq(check_depth(1), 0);
	ck_assert_int_eq(check_depth(TTLV_DEPTH_MAX), 0);
	ck_assert_int_eq(check_depth(TTLV_DEPTH_MAX + 1), -EBADMSG);
	ck_assert_int_eq(check_depth(400), -EBADMSG);
}
END_TEST

/* A recorded message, cut or grown anywhere, is never well-formed and never read beyond. */
START_TEST(cut_anywhere)
{
	static unsigned char whole[KMIP_VECTOR_MAX];
	size_t len = kmip_vector(whole, "attributes-reply");

	ck_assert_int_eq(ttlv_check(whole, len), 0);
	for (size_t cut = 1; cut < len; cut++) {
		unsigned char *copy = malloc(cut); /* for the address sanitizer */

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, whole, cut);
		ck_assert_int_eq(ttlv_check(copy, cut), -EBADMSG);
		free(copy);
	}
}
END_TEST

static const struct {
	const char *hex;
	size_t max;
	ssize_t want;
} message_rows[] = {
	{"42007b0100000110", 65536, 280},
	{"42007b0100000000", 65536, 8},
	{"42007b010000fff8", 65536, 65536},
	{"42007b0100010000", 65536, -EMSGSIZE},
	{"42007b01fffffff8", 65536, -EMSGSIZE},
	{"42007b0100000110", 7, -EMSGSIZE},
	{"42007b0100000004", 65536, -EBADMSG},
	{"42007b0200000008", 65536, -EBADMSG},
	{"4200780100000110", 65536, -EBADMSG},
	{"485454502f312e31", 65536, -EBADMSG}, /* HTTP/1.1 */
};

START_TEST(message_lengths)
{
	bytes(message_rows[_i].hex);
	ck_assert_int_eq(ttlv_message_len(buf, 0x42007b, message_rows[_i].max),
			 message_rows[_i].want);
}
END_TEST

/* Every room that is too small is noticed, and nothing is written beyond it. */
START_TEST(small_rooms)
{
	for (size_t room = 0; room <= 72; room++) {
		unsigned char *out = malloc(room + 1);
		struct ttlv_writer w;

		ck_assert_ptr_nonnull(out);
		out[room] = 0x5a;
		ttlv_writer_init(&w, out, room);
		ttlv_begin(&w, 0x420001);
		ttlv_put_text(&w, 0x420002, "eight by");
		ttlv_put_text(&w, 0x420002, "nine byte");
		ttlv_begin(&w, 0x420003);
		ttlv_put_int(&w, 0x420004, 1);
		ttlv_end(&w);
		ttlv_end(&w);
		ck_assert_int_eq(ttlv_finish(&w), room < 72 ? -ENOSPC : 72);
		ck_assert_int_eq(out[room], 0x5a);
		free(out);
	}
}
END_TEST

START_TEST(unmatched_structures)
{
	struct ttlv_writer w;

	ttlv_writer_init(&w, buf, sizeof(buf));
	ttlv_begin(&w, 0x420001);
	ck_assert_int_eq(ttlv_finish(&w), -ENOSPC);
	ttlv_end(&w);
	ck_assert_int_eq(ttlv_finish(&w), 8);
	ttlv_end(&w);
	ck_assert_int_eq(ttlv_finish(&w), -ENOSPC);
	ttlv_writer_init(&w, buf, sizeof(buf));
	for (int i = 0; i <= TTLV_DEPTH_MAX; i++)
		ttlv_begin(&w, 0x420001);
	for (int i = 0; i <= TTLV_DEPTH_MAX; i++)
		ttlv_end(&w);
	ck_assert_int_eq(ttlv_finish(&w), -ENOSPC);
}
END_TEST

START_TEST(finding)
{
	static const char three[] = "42000102000000040000000100000000"
				    "42000202000000040000000200000000"
				    "42000202000000040000000300000000"
				    "42000307000000034100410000000000";
	struct ttlv_reader r;
	struct ttlv_item item;
	int64_t n = 0;
	char text[4];

	ttlv_reader_init(&r, buf, bytes(three));
	ck_assert_int_eq(ttlv_find_number(&r, 0x420001, TTLV_INTEGER, &n), 0);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(ttlv_find_number(&r, 0x420001, TTLV_ENUM, &n), -EBADMSG);
	ck_assert_int_eq(ttlv_find_number(&r, 0x420002, TTLV_INTEGER, &n), -EBADMSG);
	ck_assert_int_eq(ttlv_find_number(&r, 0x420009, TTLV_INTEGER, &n), -ENODATA);
	ck_assert_int_eq(ttlv_find_text(&r, 0x420003, text, sizeof(text)), -EBADMSG);
	ck_assert_int_eq(ttlv_find(&r, 0x420003, TTLV_TEXT, &item), 0);
	item.len = 1;
	ck_assert_int_eq(ttlv_text(&item, text, 1), -EBADMSG);
	ck_assert_int_eq(ttlv_text(&item, text, 2), 0);
	ck_assert_str_eq(text, "A");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("ttlv");
	TCase *t = tcase_create("ttlv");

	tcase_add_loop_test(t, examples_read, 0, ROWS(example_rows));
	tcase_add_loop_test(t, examples_write, 0, ROWS(example_rows));
	tcase_add_loop_test(t, bad, 0, ROWS(bad_rows));
	tcase_add_test(t, depth);
	tcase_add_test(t, cut_anywhere);
	tcase_add_loop_test(t, message_lengths, 0, ROWS(message_rows));
	tcase_add_test(t, small_rooms);
	tcase_add_test(t, unmatched_structures);
	tcase_add_test(t, finding);
	suite_add_tcase(s, t);
	return s;
}
