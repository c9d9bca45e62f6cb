/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/protocol/mutant.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/luks1_pages.h"
#include "crypto/luks_disk.h"
#include "tests/unit/luks_edit.h"
#include "util/io.h"

#define ROWS(list) (sizeof(list) / sizeof((list)[0]))

static void say(struct mutant *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct mutant *m, const char *fmt, ...)
{
	size_t have = strlen(m->what);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(m->what + have, sizeof(m->what) - have, fmt, ap);
	va_end(ap);
}

/*
 * JSON as libcryptsetup and we write it: no blanks that matter, right in itself.
 */

static size_t skip_string(const char *p, size_t at)
{
	for (at++; p[at] && p[at] != '"'; at++)
		at += p[at] == '\\';
	return at + 1;
}

/* Behind a value that begins there: where its brackets close, or before , } ] of its object. */
static size_t skip_value(const char *p, size_t at)
{
	int depth = 0;

	for (; p[at]; at++) {
		if (p[at] == '"')
			at = skip_string(p, at) - 1;
		else if (p[at] == '{' || p[at] == '[')
			depth++;
		else if ((p[at] == '}' || p[at] == ']' || p[at] == ',') && !depth)
			return at;
		else if (p[at] == '}' || p[at] == ']')
			depth--;
	}
	return at;
}

static void scan_text(struct mutant_text *t)
{
	size_t at = 0;

	t->len = strlen(t->json);
	while (t->json[at] && t->cnt < MUTANT_MEMBERS_MAX) {
		size_t end = t->json[at] == '"' ? skip_string(t->json, at) : at + 1;

		if (t->json[at] == '"' && t->json[end] == ':') {
			t->members[t->cnt++] = (struct mutant_member){
				at, end + 1, skip_value(t->json, end + 1)};
			end++;
		}
		at = end;
	}
}

static bool read_blob(struct mutant_text *t, const unsigned char *area, const char *magic)
{
	uint32_t len_le;
	size_t len;

	memcpy(&len_le, area + 8, sizeof(len_le));
	len = le32toh(len_le);
	if (memcmp(area, magic, 8) != 0 || len >= LUKS1_TOKEN_END - LUKS1_TOKEN_OFF)
		return false;
	memcpy(t->json, area + sizeof(struct luks1_token_disk), len);
	scan_text(t);
	return true;
}

bool original_scan(struct original *o)
{
	memset(&o->text, 0, sizeof(o->text));
	memset(&o->escrow, 0, sizeof(o->escrow));
	if (o->format == FORMAT_LUKS2) {
		snprintf(o->text.json, sizeof(o->text.json), "%s", luks2_json(o->head));
		scan_text(&o->text);
		return o->text.cnt > 30;
	}
	if (!read_blob(&o->text, o->head + LUKS1_TOKEN_OFF, LUKS1_TOKEN_MAGIC))
		return false;
	(void)read_blob(&o->escrow, o->head + LUKS1_ESCROW_OFF, LUKS1_ESCROW_MAGIC);
	return o->text.cnt > 8;
}

/*
 * Texts
 */

static const char *const values[] = {
	"null",
	"true",
	"false",
	"0",
	"1",
	"-1",
	"2",
	"8",
	"511",
	"512",
	"1000",
	"4000",
	"4096",
	"32768",
	"100000",
	"4294967295",
	"4294967296",
	"9223372036854775807",
	"9223372036854775808",
	"18446744073709551615",
	"99999999999999999999999999",
	"1e3",
	"1e308",
	"-0",
	"0.5",
	"NaN",
	"\"\"",
	"\"0\"",
	"\"1\"",
	"\"-1\"",
	"\"00\"",
	"\" 0\"",
	"\"7\"",
	"\"8\"",
	"\"4096\"",
	"\"16384\"",
	"\"32768\"",
	"\"33280\"",
	"\"1835008\"",
	"\"1839104\"",
	"\"2097152\"",
	"\"2097664\"",
	"\"4194304\"",
	"\"2097152x\"",
	"\"18446744073709289472\"",
	"\"18446744073709551615\"",
	"\"99999999999999999999\"",
	"\"dynamic\"",
	"\"cipher_null-ecb\"",
	"\"aes-cbc-essiv:sha256\"",
	"\"aes-xts-plain\"",
	"\"sha1\"",
	"\"argon2id\"",
	"\"reencrypt\"",
	"\"linear\"",
	"\"vmcryptfs\"",
	"\"vmcryptfs-escrow\"",
	"\"luks1\"",
	"\"none\"",
	"\"x\"",
	"\"..\"",
	"\"a/../b\"",
	"\"a\\nb\"",
	"\"\\u0000\"",
	"\"\\u0030\"",
	"\"\\ud800\"",
	"\"\xff\xfe\"",
	"\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"",
	"[]",
	"{}",
	"[[]]",
	"[0]",
	"[\"0\"]",
	"[\"1\"]",
	"[\"7\"]",
	"[\"0\",\"0\"]",
	"[\"0\",\"1\"]",
	"{\"0\":{}}",
	"{\"0\":null}",
	"{\"\":{}}",
	"{\"0\":{\"type\":\"linear\",\"offset\":\"2097152\",\"size\":\"dynamic\"}}",
	"\"unended",
	"",
};

/* Put before a member. */
static const char *const inserts[] = {
	"\"requirements\":{\"mandatory\":[\"online-reencrypt-v2\"]},",
	"\"requirements\":{\"mandatory\":[]},",
	"\"flags\":[\"in-reencryption\"],",
	"\"flags\":[\"allow-discards\",\"no-journal\"],",
	"\"integrity\":{\"type\":\"hmac(sha256)\",\"journal_integrity\":\"none\"},",
	"\"1\":{\"type\":\"linear\",\"offset\":\"2097152\",\"size\":\"dynamic\"},",
	"\"1\":{},",
	"\"0\":{},",
	"\"x\":0,",
	"\"\":0,",
	"0,",
	",",
	"}",
	"]",
	"{",
	"[",
	"\"",
};

enum {
	REMOVED,
	TWICE,
	OTHER_BEFORE,
	OTHER_BEHIND,
	RENAMED,
	NAME_CUT,
	NAME_ESCAPED,
	FROM_NEXT,
	FROM_FAR,
	CUT_HERE,
	VALUE_FIRST,
	INSERT_FIRST = VALUE_FIRST + ROWS(values),
	OP_CNT = INSERT_FIRST + ROWS(inserts),
};

struct draft {
	char text[40 * 1024];
	size_t len;
};

static void put(struct draft *d, const char *p, size_t len)
{
	if (len > sizeof(d->text) - 1 - d->len)
		len = sizeof(d->text) - 1 - d->len;
	memcpy(d->text + d->len, p, len);
	d->len += len;
	d->text[d->len] = '\0';
}

static void put_text(struct draft *d, const char *p)
{
	put(d, p, strlen(p));
}

static void put_range(struct draft *d, const struct mutant_text *t, size_t from,
		      size_t to)
{
	put(d, t->json + from, to - from);
}

static void put_value(struct draft *d, const struct mutant_text *t, unsigned int member)
{
	const struct mutant_member *x = &t->members[member % t->cnt];

	put_range(d, t, x->value, x->end);
}

/* What stands in place of "name":value. */
static void put_member(struct draft *d, const struct mutant_text *t, unsigned int i,
		       unsigned int op)
{
	const struct mutant_member *x = &t->members[i];
	const char *name = t->json + x->name;
	size_t name_len = x->value - x->name - 1;
	char escaped[16];

	if (op >= INSERT_FIRST)
		put_text(d, inserts[op - INSERT_FIRST]);
	if (op == TWICE || op == OTHER_BEFORE) {
		put(d, name, name_len);
		put_text(d, ":");
		put_value(d, t, op == TWICE ? i : i + 1);
		put_text(d, ",");
	}
	snprintf(escaped, sizeof(escaped), "\"\\u%04x", (unsigned char)name[1]);
	if (op == NAME_ESCAPED)
		put_text(d, escaped);
	put(d, op == NAME_ESCAPED ? name + 2 : name,
	    name_len - (op == NAME_ESCAPED ? 2 : op == NAME_CUT || op == RENAMED));
	put_text(d, op == RENAMED ? "x\":" : ":");
	if (op >= VALUE_FIRST && op < INSERT_FIRST)
		put_text(d, values[op - VALUE_FIRST]);
	else
		put_value(d, t, i + (op == FROM_NEXT) + 7 * (op == FROM_FAR));
	if (op == OTHER_BEHIND) {
		put_text(d, ",");
		put(d, name, name_len);
		put_text(d, ":");
		put_value(d, t, i + 1);
	}
}

static void edit_member(struct draft *d, const struct mutant_text *t, unsigned int i,
			unsigned int op)
{
	const struct mutant_member *x = &t->members[i];
	size_t from = x->name, to = x->end;

	if (op == CUT_HERE) {
		put_range(d, t, 0, x->value);
		return;
	}
	if (op == REMOVED && t->json[to] == ',')
		to++;
	else if (op == REMOVED && from && t->json[from - 1] == ',')
		from--;
	put_range(d, t, 0, from);
	if (op != REMOVED)
		put_member(d, t, i, op);
	put_range(d, t, to, t->len);
}

/*
 * Whole texts
 */

enum { WHOLE_CNT = 40 };

static void repeat(struct draft *d, const char *text, int cnt)
{
	for (int i = 0; i < cnt; i++)
		put_text(d, text);
}

/* cnt members with names of their own in front of the one with this name. */
static void many(struct draft *d, const struct mutant_text *t, const char *name, int cnt,
		 const char *value)
{
	const char *at = strstr(t->json, name);
	size_t pos = at ? (size_t)(at - t->json) + strlen(name) : 0;
	char member[64];

	put_range(d, t, 0, pos);
	for (int i = 0; i < cnt; i++) {
		snprintf(member, sizeof(member), "\"%d\":", i + 1);
		put_text(d, member);
		put_text(d, value);
		put_text(d, ",");
	}
	put_range(d, t, pos, t->len);
}

static void nested(struct draft *d, const struct mutant_text *t, const char *open,
		   int depth)
{
	put_range(d, t, 0, 1);
	put_text(d, "\"x\":");
	repeat(d, open, depth);
	put_text(d, ",");
	put_range(d, t, 1, t->len);
}

static void whole_text(struct draft *d, const struct mutant_text *t, unsigned int op)
{
	static const char *const texts[] = {"",	    "{",      "{}",	"[]",  "null",
					    "0",    "\"\"",   "{}{}",	"\"",  "{\"",
					    "{\":", "{\"a\"", "\xff{}", "//x", "/*"};
	static const char *const groups[] = {"\"tokens\":{", "\"keyslots\":{",
					     "\"segments\":{", "\"digests\":{", "{"};
	static const int depths[] = {10, 31, 32, 33, 1000, 12000};

	if (op < ROWS(texts)) {
		put_text(d, texts[op]);
	} else if ((op -= ROWS(texts)) < ROWS(groups)) {
		many(d, t, groups[op], 1000, "{}");
	} else if ((op -= ROWS(groups)) < ROWS(groups)) {
		many(d, t, groups[op], 30, "{\"type\":\"vmcryptfs\",\"keyslots\":[]}");
	} else if ((op -= ROWS(groups)) < ROWS(depths)) {
		nested(d, t, "[", depths[op]);
	} else if ((op -= ROWS(depths)) < ROWS(depths)) {
		nested(d, t, "{\"a\":", depths[op]);
	} else {
		put_range(d, t, 0, t->len);
		put_text(d, op & 1 ? " trailing" : "  \n");
	}
}

static void make_text(struct draft *d, struct mutant *m, const struct mutant_text *t,
		      unsigned int number)
{
	unsigned int i = number / OP_CNT, op = number % OP_CNT;

	d->len = 0;
	d->text[0] = '\0';
	if (number >= t->cnt * OP_CNT) {
		say(m, "text as a whole %u", number - t->cnt * OP_CNT);
		whole_text(d, t, number - t->cnt * OP_CNT);
		return;
	}
	say(m, "member %u %.*s op %u %s", i,
	    (int)(t->members[i].value - t->members[i].name - 1),
	    t->json + t->members[i].name, op,
	    op >= INSERT_FIRST	? inserts[op - INSERT_FIRST]
	    : op >= VALUE_FIRST ? values[op - VALUE_FIRST]
				: "");
	edit_member(d, t, i, op);
}

static unsigned int text_cnt(const struct mutant_text *t)
{
	return t->cnt ? t->cnt * OP_CNT + WHOLE_CNT : 0;
}

static void put_blob(unsigned char *area, size_t room, const struct draft *d)
{
	const size_t head = sizeof(struct luks1_token_disk);
	size_t len = d->len < room - head - 4 ? d->len : room - head - 4;
	uint32_t len_le = htole32((uint32_t)len);

	memset(area + head, 0, room - head);
	memcpy(area + 8, &len_le, sizeof(len_le));
	memcpy(area + head, d->text, len);
}

static void mutate_text(struct mutant *m, const struct original *o, unsigned int number)
{
	static struct draft d;
	bool escrow = number >= text_cnt(&o->text);

	if (escrow)
		say(m, "escrow ");
	make_text(&d, m, escrow ? &o->escrow : &o->text,
		  escrow ? number - text_cnt(&o->text) : number);
	if (o->format == FORMAT_LUKS2) {
		luks2_set_json(m->head, d.text);
		luks2_repair(m->head);
	} else if (escrow) {
		put_blob(m->head + LUKS1_ESCROW_OFF, LUKS1_TOKEN_END - LUKS1_ESCROW_OFF,
			 &d);
		luks1_repair_escrow(m->head);
	} else {
		put_blob(m->head + LUKS1_TOKEN_OFF,
			 (o->escrow.cnt ? LUKS1_ESCROW_OFF : LUKS1_TOKEN_END) -
				 LUKS1_TOKEN_OFF,
			 &d);
		luks1_repair(m->head);
	}
}

/*
 * Fields
 */

struct field {
	const char *name;
	size_t at, len;
};
#define FIELD(type, name)                                                                \
	{                                                                                \
#name, offsetof(struct type, name), sizeof(((struct type *)NULL)->name)  \
	}

static const struct field luks2_fields[] = {
	FIELD(luks2_hdr_disk, magic),	   FIELD(luks2_hdr_disk, version_be),
	FIELD(luks2_hdr_disk, hdr_len_be), FIELD(luks2_hdr_disk, seqid_be),
	FIELD(luks2_hdr_disk, label),	   FIELD(luks2_hdr_disk, csum_alg),
	FIELD(luks2_hdr_disk, salt),	   FIELD(luks2_hdr_disk, uuid),
	FIELD(luks2_hdr_disk, subsystem),  FIELD(luks2_hdr_disk, hdr_off_be),
	FIELD(luks2_hdr_disk, pad1),	   FIELD(luks2_hdr_disk, csum),
	FIELD(luks2_hdr_disk, pad2),
};

static const struct field luks1_fields[] = {
	FIELD(luks1_hdr_disk, magic),
	FIELD(luks1_hdr_disk, version_be),
	FIELD(luks1_hdr_disk, cipher_name),
	FIELD(luks1_hdr_disk, cipher_mode),
	FIELD(luks1_hdr_disk, hash_spec),
	FIELD(luks1_hdr_disk, payload_be),
	FIELD(luks1_hdr_disk, key_bytes_be),
	FIELD(luks1_hdr_disk, digest),
	FIELD(luks1_hdr_disk, digest_salt),
	FIELD(luks1_hdr_disk, digest_iterations_be),
	FIELD(luks1_hdr_disk, uuid),
	{"gap", sizeof(struct luks1_hdr_disk), 400},
	{"token magic", LUKS1_TOKEN_OFF, 8},
	{"token length", LUKS1_TOKEN_OFF + 8, 4},
	{"escrow magic", LUKS1_ESCROW_OFF, 8},
	{"escrow length", LUKS1_ESCROW_OFF + 8, 4},
};

static const struct field slot_fields[] = {
	FIELD(luks1_slot_disk, active_be),  FIELD(luks1_slot_disk, iterations_be),
	FIELD(luks1_slot_disk, salt),	    FIELD(luks1_slot_disk, material_be),
	FIELD(luks1_slot_disk, stripes_be),
};

/* Of a text its beginning, of a number (big-endian) its end is what these are laid over. */
static const uint64_t numbers[] = {
	1,
	2,
	7,
	8,
	512,
	4000,
	4096,
	8192,
	16384,
	65536,
	0xDEAD,
	0x00AC71F3,
	10000001,
	0x7fffffff,
	0xffffffff,
	0x80000000,
	1ull << 32,
	1ull << 63,
	0x8000000000000001,
	32768,
	100000,
};
static const char *const words[] = {"",
				    "aes",
				    "cipher_null",
				    "ecb",
				    "xts-plain",
				    "cbc-essiv:sha256",
				    "sha1",
				    "sha512",
				    "SHA256",
				    "sha256 ",
				    "LUKS\xba\xbe",
				    "SKUL\xba\xbe",
				    "VMCRYPTF",
				    "VMCRYPTE",
				    "../../../x",
				    "\xff\xff\xff"};

enum {
	FILL_0,
	FILL_FF,
	FILL_X,
	PLUS_1,
	MINUS_1,
	LAST_BYTE,
	FIELD_NUMBER,
	FIELD_WORD = FIELD_NUMBER + ROWS(numbers),
	FIELD_OPS = FIELD_WORD + ROWS(words),
};

static void add(unsigned char *p, size_t len, int by)
{
	for (size_t i = len; i-- > 0;) {
		p[i] = (unsigned char)(p[i] + by);
		if (p[i] != (by > 0 ? 0 : 0xff))
			return;
	}
}

static void set_number(unsigned char *p, size_t len, uint64_t number)
{
	for (size_t i = len; i-- > 0 && len - i <= 8; number >>= 8)
		p[i] = (unsigned char)number;
}

static void set_field(unsigned char *p, size_t len, unsigned int op)
{
	if (op <= FILL_X) {
		memset(p, (int[]){0, 0xff, 'x'}[op], len);
	} else if (op <= MINUS_1) {
		add(p, len, op == PLUS_1 ? 1 : -1);
	} else if (op == LAST_BYTE) {
		p[len - 1] ^= 0x20;
	} else if (op < FIELD_WORD) {
		set_number(p, len, numbers[op - FIELD_NUMBER]);
	} else {
		memset(p, 0, len);
		strncpy((char *)p, words[op - FIELD_WORD], len);
	}
}

/* Which copies, and whether the checksums are right: six ways. */
enum { LUKS2_WAYS = 6, SLOT_FIELDS = 5 };

static unsigned int field_cnt(const struct original *o)
{
	if (o->format == FORMAT_LUKS2)
		return ROWS(luks2_fields) * FIELD_OPS * LUKS2_WAYS;
	return (ROWS(luks1_fields) + LUKS1_SLOTS * ROWS(slot_fields)) * FIELD_OPS * 2;
}

static void mutate_luks2_field(struct mutant *m, unsigned int number)
{
	unsigned int way = number % LUKS2_WAYS;
	unsigned int op = number / LUKS2_WAYS % FIELD_OPS;
	const struct field *f = &luks2_fields[number / LUKS2_WAYS / FIELD_OPS];

	say(m, "field %s op %u copies %u%s", f->name, op, way / 2 + 1,
	    way & 1 ? ", mended" : "");
	for (unsigned int copy = 0; copy < 2; copy++) {
		if ((way / 2 + 1) & (1u << copy))
			set_field(m->head + copy * LUKS2_HDR_LEN + f->at, f->len, op);
	}
	if (way & 1)
		luks2_repair(m->head);
}

static void mutate_luks1_field(struct mutant *m, unsigned int number)
{
	unsigned int op = number / 2 % FIELD_OPS, i = number / 2 / FIELD_OPS;
	size_t base = 0;
	const struct field *f;

	if (i < ROWS(luks1_fields)) {
		f = &luks1_fields[i];
	} else {
		i -= ROWS(luks1_fields);
		f = &slot_fields[i % ROWS(slot_fields)];
		base = offsetof(struct luks1_hdr_disk, slot) +
		       i / ROWS(slot_fields) * sizeof(struct luks1_slot_disk);
	}
	say(m, "field %s at %zu op %u%s", f->name, base + f->at, op,
	    number & 1 ? ", mended" : "");
	set_field(m->head + base + f->at, f->len, op);
	if (number & 1) {
		luks1_repair(m->head);
		luks1_repair_escrow(m->head);
	}
}

static void mutate_field(struct mutant *m, const struct original *o, unsigned int number)
{
	if (o->format == FORMAT_LUKS2)
		mutate_luks2_field(m, number);
	else
		mutate_luks1_field(m, number);
}

/*
 * Lengths
 */

/* Relative to data_off where above 2^31, to the end where above 2^32. */
#define OF_DATA (1ll << 31)
#define OF_END (1ll << 33)
static const int64_t sizes[] = {
	0,
	1,
	5,
	6,
	7,
	8,
	511,
	512,
	591,
	592,
	593,
	1023,
	1024,
	1035,
	1036,
	1500,
	2048,
	3584,
	4095,
	4096,
	4097,
	5000,
	16383,
	16384,
	16389,
	16390,
	16391,
	20479,
	20480,
	20481,
	32767,
	32768,
	32769,
	100000,
	290815,
	290816,
	290817,
	1 << 20,
	OF_DATA - 4096,
	OF_DATA - 1,
	OF_DATA,
	OF_DATA + 1,
	OF_DATA + 100,
	OF_DATA + 511,
	OF_DATA + 512,
	OF_DATA + 513,
	OF_DATA + 1023,
	OF_DATA + 1024,
	OF_DATA + 1025,
	OF_DATA + 4095,
	OF_DATA + 4096,
	OF_DATA + 4097,
	OF_DATA + 8191,
	OF_DATA + 8192,
	OF_DATA + 8193,
	OF_END - 4096,
	OF_END - 512,
	OF_END - 101,
	OF_END - 100,
	OF_END - 99,
	OF_END - 1,
	OF_END + 1,
	OF_END + 412,
	OF_END + 512,
	OF_END + 4096,
	OF_END + (1ll << 30),
	OF_END + (1ll << 40),
	OF_END + (1ll << 43),
};

static void mutate_size(struct mutant *m, const struct original *o, unsigned int number)
{
	int64_t at = sizes[number];

	if (at > 3ll << 31)
		m->size = o->size + (uint64_t)(at - OF_END);
	else if (at > 3ll << 29)
		m->size = o->data_off + (uint64_t)(at - OF_DATA);
	else
		m->size = (uint64_t)at;
	say(m, "size %llu", (unsigned long long)m->size);
}

/*
 * Pages
 */

enum { PAGE_LEN = 4096, PAGES = 12, PAGE_OPS = 4, KEPT_CNT = 24 };

static void mutate_page(struct mutant *m, const struct original *o, unsigned int number)
{
	unsigned int page = number / PAGE_OPS, op = number % PAGE_OPS;
	unsigned char *p = m->head + page * PAGE_LEN;

	say(m, "page %u op %u", page, op);
	if (op == 0)
		memset(p, 0, PAGE_LEN);
	else if (op == 1)
		memset(p, 0xff, PAGE_LEN);
	else if (op == 2)
		memcpy(p, o->head + (page + 4) % 8 * PAGE_LEN, PAGE_LEN);
	else
		memset(p + PAGE_LEN / 2, 0, PAGE_LEN / 2);
}

/* LUKS1: pages that a change of the secret has kept, made up or with one that was changed. */
static void mutate_kept(struct mutant *m, unsigned int number)
{
	unsigned char other[PAGE_LEN];
	unsigned int torn = number % 4, op = number / 4;

	say(m, "kept pages %u torn %u", op, torn);
	memcpy(other, m->head, PAGE_LEN);
	set_field(other + (op & 1 ? 104 : 8), op & 1 ? 4 : 32, op);
	if (op & 2)
		other[LUKS1_TOKEN_OFF + 100] ^= 1;
	if (!luks1_keep(m->kept, op & 4 ? other : m->head, op & 4 ? m->head : other))
		abort();
	if (torn & 1)
		memcpy(m->head, other, LUKS_SECTOR_LEN);
	if (torn & 2)
		memcpy(m->head + PAGE_LEN / 2, other + PAGE_LEN / 2, PAGE_LEN / 2);
	if (op == 5)
		m->kept[2 * PAGE_LEN + 20] ^= 1;
}

/*
 * Random ones
 */

static uint32_t pick(unsigned int *rng, uint32_t below)
{
	return (uint32_t)((unsigned int)rand_r(rng) ^ (unsigned int)rand_r(rng) << 16) %
	       below;
}

/* Mostly where something is read from. */
static size_t pick_place(const struct original *o, unsigned int *rng)
{
	const size_t json = o->text.len;

	switch (pick(rng, 8)) {
	case 0:
		return pick(rng, MUTANT_HEAD_LEN - 16);
	case 1:
	case 2:
		return o->format == FORMAT_LUKS2
			       ? pick(rng, 600) + (pick(rng, 2) ? LUKS2_HDR_LEN : 0)
			       : pick(rng, sizeof(struct luks1_hdr_disk));
	case 3:
		return o->format == FORMAT_LUKS2 ? pick(rng, LUKS2_KEYSLOTS_OFF)
						 : pick(rng, LUKS1_TOKEN_END);
	default:
		return o->format == FORMAT_LUKS2
			       ? LUKS2_BIN_LEN + pick(rng, (uint32_t)json)
			       : LUKS1_TOKEN_OFF + pick(rng, (uint32_t)json + 16);
	}
}

static void spoil(struct mutant *m, const struct original *o, unsigned int *rng)
{
	size_t at = pick_place(o, rng), from = pick_place(o, rng);
	uint32_t op = pick(rng, 10), n = 1 + pick(rng, 16);

	say(m, " %u@%zu", op, at);
	if (op < 5)
		m->head[at] ^= (unsigned char)(1u << pick(rng, 8));
	else if (op < 7)
		m->head[at] = (unsigned char)pick(rng, 256);
	else if (op == 7)
		m->head[at] = (unsigned char)"0123456789{}[]\",:-\\"[pick(rng, 19)];
	else if (op == 8)
		memcpy(m->head + at, o->head + from, n);
	else
		memset(m->head + at, 0, n);
}

/* What the first copy's text has become is in the second one, too. */
static void copy_json(struct mutant *m)
{
	memcpy(m->head + LUKS2_HDR_LEN + LUKS2_BIN_LEN, m->head + LUKS2_BIN_LEN,
	       LUKS2_HDR_LEN - LUKS2_BIN_LEN);
}

static void mutate_random(struct mutant *m, const struct original *o, unsigned int seed)
{
	unsigned int rng = seed;
	uint32_t cnt = 1 + pick(&rng, 4), mend = pick(&rng, 4);

	say(m, "random, seed %u, mended %u:", seed, mend);
	for (uint32_t i = 0; i < cnt; i++)
		spoil(m, o, &rng);
	if (pick(&rng, 40) == 0)
		m->size = pick(&rng, (uint32_t)o->size + 5000);
	if (o->format == FORMAT_LUKS2) {
		if (mend > 1)
			copy_json(m);
		if (mend)
			luks2_repair(m->head);
	} else if (mend) {
		luks1_repair(m->head);
		luks1_repair_escrow(m->head);
	}
}

/*
 * All
 */

static unsigned int kept_cnt(const struct original *o)
{
	return o->format == FORMAT_LUKS1 ? KEPT_CNT : 0;
}

size_t mutant_cnt(const struct original *o)
{
	return 1 + field_cnt(o) + text_cnt(&o->text) + text_cnt(&o->escrow) +
	       ROWS(sizes) + PAGES * PAGE_OPS + kept_cnt(o);
}

static void mutate(struct mutant *m, const struct original *o, unsigned int number)
{
	unsigned int texts = text_cnt(&o->text) + text_cnt(&o->escrow);

	if (number < field_cnt(o))
		mutate_field(m, o, number);
	else if ((number -= field_cnt(o)) < texts)
		mutate_text(m, o, number);
	else if ((number -= texts) < ROWS(sizes))
		mutate_size(m, o, number);
	else if ((number -= ROWS(sizes)) < PAGES * PAGE_OPS)
		mutate_page(m, o, number);
	else
		mutate_kept(m, number - PAGES * PAGE_OPS);
}

/* Up to 10^7 iterations are allowed, and take seconds. */
static void tame(unsigned char *p)
{
	uint32_t n_be;

	memcpy(&n_be, p, sizeof(n_be));
	if (be32toh(n_be) <= 100000 || be32toh(n_be) > 10000000)
		return;
	n_be = htobe32(100000);
	memcpy(p, &n_be, sizeof(n_be));
}

static void tame_luks1(struct mutant *m)
{
	tame(m->head + offsetof(struct luks1_hdr_disk, digest_iterations_be));
	for (int i = 0; i < LUKS1_SLOTS; i++)
		tame(m->head + offsetof(struct luks1_hdr_disk, slot[i].iterations_be));
}

/* An unfinished creation, or nothing at all. */
static bool is_unfinished(const struct mutant *m, const struct original *o)
{
	return m->size <= o->data_off &&
	       io_is_zero(m->head, m->size < PAGE_LEN ? (size_t)m->size : PAGE_LEN);
}

void mutant_make(struct mutant *m, const struct original *o, size_t number,
		 unsigned int seed)
{
	memcpy(m->head, o->head, sizeof(m->head));
	memset(m->kept, 0, sizeof(m->kept));
	m->size = o->size;
	m->what[0] = '\0';
	if (number >= mutant_cnt(o))
		mutate_random(m, o, seed);
	else if (number)
		mutate(m, o, (unsigned int)number - 1);
	else
		say(m, "the original");
	if (o->format == FORMAT_LUKS1)
		tame_luks1(m);
	m->may_be_empty = is_unfinished(m, o);
}
