/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Classes, contexts and moves. The folder test is compared with brute force: every path
 * to depth 3 over a small alphabet, for random rules and prefixes.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fs/glob.h"
#include "fs/rules.h"
#include "tests/unit/unit.h"

#define UUID_A "0a1b2c3d-0001-4002-8003-00000000000a"
#define UUID_B "0a1b2c3d-0001-4002-8003-00000000000b"
#define SHA1 "356a192b7913b04c54574d18c28d46e6395428ab"
#define E CLASS_ENCRYPT
#define D CLASS_DERIVED
#define P CLASS_PASSTHROUGH

static const struct rule_spec nova[] = {
	{P, "locks/**"},
	{P, "compute_nodes"},
	{D, "*/console.log*"},
	{D, "*/disk.info*"},
	{D, "*/.disk.info*"},
	{D, "*/*.xml"},
	{D, "*/swtpm/**"},
	{D, "**/.directio.test.*"},
	{D, "**/*.fallocate_test"},
	{D, "**/*.part"},
	{D, "**/*.converted"},
	{D, "snapshots/**"},
	{D, "**/tmp????????"},
	{D, "**/*.tmp"},
};
static const char nova_bind[] = "^([0-9a-f-]{36})(?:_resize|_del)?/";

static struct rules *make(const struct rule_spec *specs, size_t cnt, const char *bind)
{
	struct rules *r = NULL;
	char errbuf[256] = "";

	ck_assert_msg(rules_new(&r, specs, cnt, bind, errbuf, sizeof(errbuf)) == 0, "%s",
		      errbuf);
	return r;
}

static struct rules *make_nova(void)
{
	return make(nova, ROWS(nova), nova_bind);
}

static const struct {
	const char *glob, *path;
	bool want;
} glob_rows[] = {
	/* literal and component bounds */
	{"a", "a", true},
	{"a", "b", false},
	{"a", "aa", false},
	{"aa", "a", false},
	{"a", "a/b", false},
	{"a/b", "a/b", true},
	{"a/b", "a", false},
	{"a.b", "axb", false},
	{"A", "a", false},
	/* '?' */
	{"?", "a", true},
	{"?", ".", true},
	{"?", "ab", false},
	{"a?c", "abc", true},
	{"a?c", "a/c", false},
	/* '*' */
	{"*", "a", true},
	{"*", ".hidden", true},
	{"*", "a/b", false},
	{"*/b", "a/b", true},
	{"*/b", "b", false},
	{"a*", "a", true},
	{"a*", "abc", true},
	{"*c", "abc", true},
	{"*c", "abcd", false},
	{"a*c*e", "abcde", true},
	{"a*c*e", "abcdef", false},
	{"*ab*", "aab", true},
	{"*.x.y", "a.x.x.y", true},
	{"a*a", "a", false},
	{"a*a", "aa", true},
	{"*/*.xml", "u/.xml", true},
	/* sets */
	{"[abc]", "b", true},
	{"[abc]", "d", false},
	{"[a-c]x", "cx", true},
	{"[a-c]", "d", false},
	{"[!a-c]", "d", true},
	{"[^a-c]", "a", false},
	{"[!a]", "ab", false},
	{"[]]", "]", true},
	{"[!]]", "]", false},
	{"[a-]", "-", true},
	{"[-a]", "-", true},
	{"[*]", "*", true},
	{"[*]", "a", false},
	{"[?]x", "?x", true},
	{"[[]", "[", true},
	{"[\\]", "\\", true},
	{"[a-c][0-9]*", "b7z", true},
	{"[\x80-\xff]", "\xc3", true},
	{"*[0-9]", "ab1", true},
	{"*[!0-9]", "ab1", false},
	{"x[", "x", false},
	/* '**' */
	{"**", "a", true},
	{"**", "a/b/c", true},
	{"**", ".a/.b", true},
	{"**/a", "a", true},
	{"**/a", "x/a", true},
	{"**/a", "x/y/a", true},
	{"**/a", "a/x", false},
	{"**/a", "xa", false},
	{"a/**", "a", false},
	{"a/**", "a/b", true},
	{"a/**", "a/b/c", true},
	{"a/**", "ab/c", false},
	{"a/**/b", "a/b", true},
	{"a/**/b", "a/x/y/b", true},
	{"a/**/b", "a/x/b/y", false},
	{"**/a/**", "a", false},
	{"**/a/**", "a/b", true},
	{"**/a/**", "x/a/b/c", true},
	{"**/a/**", "x/a", false},
	{"**/**", "a", true},
	{"**/**/a", "a", true},
	{"**/*", "a", true},
	{"*/**", "a", false},
	{"*/**", "a/b", true},
	{"**/a/**/b/**/c", "a/b/c", true},
	{"**/a/**/b/**/c", "a/b/a/c", true},
	{"**/a/**/b/**/c", "a/c/b", false},
};

START_TEST(globs)
{
	auto_glob struct glob *g = NULL;
	char errbuf[160] = "";
	vcf_err_t err = glob_new(&g, glob_rows[_i].glob, errbuf, sizeof(errbuf));

	if (strcmp(glob_rows[_i].glob, "x[") == 0) {
		ck_assert_int_eq(err, -EINVAL);
		return;
	}
	ck_assert_msg(err == 0, "%s: %s", glob_rows[_i].glob, errbuf);
	ck_assert_msg(glob_match(g, glob_rows[_i].path) == glob_rows[_i].want, "%s on %s",
		      glob_rows[_i].glob, glob_rows[_i].path);
}
END_TEST

static const char *const bad_globs[] = {
	"",
	"/",
	"/a",
	"a/",
	"a//b",
	"a**",
	"**a",
	"a/b**/c",
	"***",
	"[",
	"[]",
	"[!]",
	"[a",
	"[b-a]",
	"[a/b]",
	"[[:alpha:]]",
	"\\*",
	"a\\",
	".",
	"..",
	"a/./b",
	"../a",
	"a/..",
	/* 63 components */
	"*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/"
	"*/*/*/"
	"*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*",
};

START_TEST(globs_refused)
{
	struct rule_spec spec = {E, bad_globs[_i]};
	struct rules *r = NULL;
	char errbuf[256] = "";

	ck_assert_int_eq(rules_new(&r, &spec, 1, NULL, errbuf, sizeof(errbuf)), -EINVAL);
	ck_assert_ptr_null(r);
	ck_assert_int_eq(strncmp(errbuf, "encrypt = ", 10), 0);
}
END_TEST

/* Patterns that make a backtracking matcher take ages. */
START_TEST(globs_stay_fast)
{
	static const char *const hard[] = {
		"**/*a*a*a*a*a*a*a*a*a*b",
		"**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b",
	};
	char path[4096];
	clock_t start = clock();

	for (size_t i = 0; i < sizeof(path) - 1; i++)
		path[i] = i % 250 == 249 || i % 2 == 1 ? '/' : 'a';
	path[249] = 'a';
	path[sizeof(path) - 1] = '\0';
	path[sizeof(path) - 2] = 'a';
	for (size_t i = 0; i < ROWS(hard); i++) {
		auto_glob struct glob *g = NULL;
		char errbuf[160];

		ck_assert_int_eq(glob_new(&g, hard[i], errbuf, sizeof(errbuf)), 0);
		ck_assert(!glob_match(g, path));
		memset(path, 'a', 250);
	}
	ck_assert((clock() - start) / CLOCKS_PER_SEC < 1);
}
END_TEST

static const struct {
	const char *path;
	enum file_class cls;
	const char *context;
} nova_rows[] = {
	{UUID_A "/disk", E, UUID_A},
	{UUID_A "/disk.local", E, UUID_A},
	{UUID_A "/disk.eph0", E, UUID_A},
	{UUID_A "/disk.swap", E, UUID_A},
	{UUID_A "/disk.config", E, UUID_A},
	{UUID_A "/kernel", E, UUID_A},
	{UUID_A "/ramdisk", E, UUID_A},
	{UUID_A "/disk.info", D, UUID_A},
	{UUID_A "/disk.info.tmp", D, UUID_A},
	{UUID_A "/console.log", D, UUID_A},
	{UUID_A "/console.log.0", D, UUID_A},
	{UUID_A "/unrescue.xml", D, UUID_A},
	{UUID_A "/libvirt.xml", D, UUID_A},
	{UUID_A "/disk.rescue", E, UUID_A},
	{UUID_A "/disk.config.rescue", E, UUID_A},
	{UUID_A "/kernel.rescue", E, UUID_A},
	{UUID_A "/ramdisk.rescue", E, UUID_A},
	{UUID_A "/disk_qcow", E, UUID_A},
	{UUID_A "/disk.fallocate_test", D, UUID_A},
	{UUID_A "/swtpm/" UUID_A "/tpm2/tpm2-00.permall", D, UUID_A},
	{UUID_A "/rootfs/etc/passwd", E, UUID_A},
	{UUID_A "_resize/disk", E, UUID_A},
	{UUID_A "_del/disk", E, UUID_A},
	{UUID_A "_del/console.log", D, UUID_A},
	{UUID_A "_other/disk", E, ""},
	{"_base/" SHA1, E, ""},
	{"_base/" SHA1 ".part", D, ""},
	{"_base/" SHA1 ".converted", D, ""},
	{"_base/" SHA1 "_20", E, ""},
	{"_base/" SHA1 "_sm", E, ""},
	{"_base/ephemeral_20_40d1d2c", E, ""},
	{"_base/swap_512", E, ""},
	{"locks/nova-" SHA1, P, ""},
	{"locks/nova-storage-registry-lock", P, ""},
	{"compute_nodes", P, ""},
	{"snapshots/tmpab12cd34/0123456789abcdef", D, ""},
	{"snapshots/tmpab12cd34/0123456789abcdef.delta", D, ""},
	{"tmpab12cd34", D, ""},
	{UUID_A "/tmpab_2cd3z", D, UUID_A},
	{UUID_A "/0123456789abcdef0123456789abcdef.tmp", D, UUID_A},
	{".directio.test.1234", D, ""},
	{UUID_A "/.disk.AbCd12", E, UUID_A},
	{UUID_A "/.disk.info.AbCd12", D, UUID_A},
	{"locks", E, ""},
	{"sub/compute_nodes", E, ""},
};

START_TEST(nova_classes)
{
	auto_rules struct rules *r = make_nova();
	char context[TOKEN_CONTEXT_MAX + 1];

	ck_assert_msg(rules_class(r, nova_rows[_i].path) == nova_rows[_i].cls, "%s",
		      nova_rows[_i].path);
	rules_context(r, nova_rows[_i].path, context);
	ck_assert_str_eq(context, nova_rows[_i].context);
}
END_TEST

static const struct {
	const char *from, *to;
	vcf_err_t want;
} file_rows[] = {
	{UUID_A "/disk", UUID_A "/disk.old", 0},
	{UUID_A "/disk", UUID_A "_resize/disk", 0},
	{UUID_A "/disk", UUID_B "/disk", -EXDEV},
	{UUID_A "/disk", "_base/disk", -EXDEV},
	{UUID_A "/disk", "disk", -EXDEV},
	{"_base/x.part", "_base/x", 0},
	{"_base/x.converted", "_base/x", 0},
	{"_base/x", "snapshots/x", 0},
	{UUID_A "/disk.info.tmp", UUID_A "/disk.info", 0},
	{UUID_A "/disk_qcow", UUID_A "/disk", 0},
	{"locks/a", "locks/b", 0},
	{"locks/a", "compute_nodes", 0},
	{"locks/a", "a", -EXDEV},
	{"a", "locks/a", -EXDEV},
	{"compute_nodes", "compute_nodes.old", -EXDEV},
};

static const struct {
	const char *path, *service;
} service_rows[] = {
	{"rich/disk", "gold"},	  {"rich/a/b", "gold"}, {"rich", "default"},
	{"poor/disk", "default"}, {"poor/x", "silver"}, {"rich/x", "gold"},
};

START_TEST(services)
{
	auto_rules struct rules *r = NULL;
	char why[200];

	ck_assert_int_eq(rules_new(&r, NULL, 0, NULL, why, sizeof(why)), 0);
	ck_assert_str_eq(rules_service(r, "rich/disk"), "default");
	ck_assert_int_eq(rules_add_service(r, "gold", "rich/**", why, sizeof(why)), 0);
	ck_assert_int_eq(rules_add_service(r, "silver", "**/x", why, sizeof(why)), 0);
	ck_assert_int_eq(rules_add_service(r, "b", "a//b", why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "service = b a//b: an empty component"));
	for (int i = 0; i < ROWS(service_rows); i++)
		ck_assert_str_eq(rules_service(r, service_rows[i].path),
				 service_rows[i].service);
}
END_TEST

START_TEST(move_files)
{
	auto_rules struct rules *r = make_nova();

	ck_assert_msg(rules_move_file(r, file_rows[_i].from, file_rows[_i].to) ==
			      file_rows[_i].want,
		      "%s -> %s", file_rows[_i].from, file_rows[_i].to);
}
END_TEST

static const struct {
	const char *from, *to;
	vcf_err_t want;
} folder_rows[] = {
	{UUID_A, UUID_A "_del", 0},
	{UUID_A, UUID_A "_resize", 0},
	{UUID_A "_resize", UUID_A, 0},
	{UUID_A, UUID_A, 0},
	{UUID_A, UUID_A "_copy", -EXDEV},
	{UUID_A, UUID_B, -EXDEV},
	{UUID_A, "snapshots/" UUID_A, -EXDEV},
	{UUID_A "/swtpm", UUID_A "/swtpm.old", 0},
	{UUID_A "/swtpm", UUID_A "_resize/swtpm", 0},
	{UUID_A "/swtpm", UUID_B "/swtpm", -EXDEV},
	{"snapshots/x", "y", 0},
	{"snapshots/x", "snapshots/y", 0},
	{"_base", "base2", 0},
	{"_base/sub", "sub", 0},
	{"locks", "foo", -EXDEV},
	{"foo", "locks", -EXDEV},
	{"locks/a", "locks/b", 0},
	{"locks/a", "a", -EXDEV},
	{"a", "locks/a", -EXDEV},
	{"", "a", -EXDEV},
	{"a", "", -EXDEV},
};

START_TEST(move_folders)
{
	auto_rules struct rules *r = make_nova();

	ck_assert_msg(rules_move_folder(r, folder_rows[_i].from, folder_rows[_i].to) ==
			      folder_rows[_i].want,
		      "%s -> %s", folder_rows[_i].from, folder_rows[_i].to);
}
END_TEST

/* Expressions whose context is, or is not, decided by the folder alone. */
static const struct {
	const char *bind, *from, *to;
	vcf_err_t want;
} bind_rows[] = {
	{"^([^/]+)/", "a", "b", -EXDEV},
	{"^([^/]+)/", "a/x", "a/y", 0},
	{"^([^/]+)/", "a/x", "b/x", -EXDEV},
	{"^(?:x)([^/]+)/", "a", "b", 0},
	{"^([^/]+)$", "a", "b", 0},	       /* matches nothing below a folder */
	{"^([a-z/]+)$", "a", "b", -EXDEV},     /* undecided: '$' asks for the end */
	{"^[^/]+/([^/]+)/", "a", "b", -EXDEV}, /* the group lies below */
	{"^[^/]+/([^/]+)/", "a/u", "b/u", 0},
	{"([0-9]+)/", "a", "b", -EXDEV}, /* not anchored: may match below */
	{"([0-9]+)/", "a1", "b1", 0},	 /* "1/", whatever follows */
	{"([0-9]+)_", "a1_", "b1_", 0},	 /* fixed */
	{"([0-9]+)_", "a1_", "b2_", -EXDEV},
	{"^(a)|(b)", "a", "b", -EXDEV},
	{"^(.*)/", "a", "b", -EXDEV}, /* greedy: looks at all */
	{"^(.*?)/", "a/x", "a/y", 0},
	{"^(a)?b", "b", "b2", 0}, /* the group is not set */
	{"^(?=(\\w+)/)", "a", "a", 0},
	{"^(?:a|b)(?=.*(x))?", "a", "b", -EXDEV}, /* looks ahead */
	{"^((a+)+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "b", -EXDEV},
};

START_TEST(bind_decides)
{
	auto_rules struct rules *r = make(NULL, 0, bind_rows[_i].bind);

	ck_assert_msg(rules_move_folder(r, bind_rows[_i].from, bind_rows[_i].to) ==
			      bind_rows[_i].want,
		      "%s: %s -> %s", bind_rows[_i].bind, bind_rows[_i].from,
		      bind_rows[_i].to);
}
END_TEST

static const char *const bad_binds[] = {"(",	"a",	     "^[a/",
					"(?<n", "a{2,1}(b)", "(*UTF)(a)"};

START_TEST(binds_refused)
{
	struct rules *r = NULL;
	char errbuf[256] = "";

	ck_assert_int_eq(rules_new(&r, NULL, 0, bad_binds[_i], errbuf, sizeof(errbuf)),
			 -EINVAL);
	ck_assert_int_eq(strncmp(errbuf, "bind = ", 7), 0);
}
END_TEST

START_TEST(contexts_fit_a_token)
{
	auto_rules struct rules *r = make(NULL, 0, "^([^/]*)/");
	char context[TOKEN_CONTEXT_MAX + 1];
	char path[300];

	rules_context(r, "a b/x", context);
	ck_assert_str_eq(context, "a b");
	rules_context(r, "a\nb/x", context);
	ck_assert_str_eq(context, "");
	rules_context(r, "\xc3\xa4/x", context);
	ck_assert_str_eq(context, "");
	memset(path, 'u', 256);
	strcpy(path + 255, "/x");
	rules_context(r, path, context);
	ck_assert_int_eq(strlen(context), 255);
	memset(path, 'u', 256);
	strcpy(path + 256, "/x");
	rules_context(r, path, context);
	ck_assert_str_eq(context, "");
}
END_TEST

/* An expression that would run for ages stops, and moves of images are refused. */
START_TEST(bind_limit)
{
	auto_rules struct rules *r = make(NULL, 0, "^((a+)+)+$");
	char context[TOKEN_CONTEXT_MAX + 1] = "x";
	clock_t start = clock();

	rules_context(r, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", context);
	ck_assert_str_eq(context, "");
	ck_assert_int_eq(
		rules_move_file(r, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "b"),
		-EXDEV);
	ck_assert((clock() - start) / CLOCKS_PER_SEC < 1);
}
END_TEST

/* --- brute force ------------------------------------------------------------------- */

static const char *const names[] = {"a", "b", "ab", "x"};
static const char *const parts[] = {"a", "b", "x", "*", "**", "a*", "[ab]", "?"};
static const char *const binds[] = {
	NULL,	  "^([ab]+)/", "^([^/]*)/(?:x|a)/", "([x])/",
	"^a(b?)", "(b+)/?x",   "^(?:.*/)?(ab)/",    "^(?!x)([^/]+)"};
static uint32_t seed = 1;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 10) % below;
}

static void random_path(char *dst, const char *const *from, uint32_t cnt, uint32_t depth)
{
	*dst = '\0';
	for (uint32_t i = 0; i < depth; i++) {
		if (i)
			strcat(dst, "/");
		strcat(dst, from[roll(cnt)]);
	}
}

struct oracle {
	const struct rules *rules;
	const char *from, *to;
};

static bool keeps(const struct oracle *o, const char *below)
{
	char a[64], b[64];
	char ca[TOKEN_CONTEXT_MAX + 1], cb[TOKEN_CONTEXT_MAX + 1];
	bool image;

	snprintf(a, sizeof(a), "%s/%s", o->from, below);
	snprintf(b, sizeof(b), "%s/%s", o->to, below);
	image = rules_is_image(rules_class(o->rules, a));
	if (image != rules_is_image(rules_class(o->rules, b)))
		return false;
	rules_context(o->rules, a, ca);
	rules_context(o->rules, b, cb);
	return !image || strcmp(ca, cb) == 0;
}

static bool all_keep(const struct oracle *o, const char *above, int depth)
{
	for (int i = 0; i < ROWS(names); i++) {
		char path[32];
		int len = snprintf(path, sizeof(path), "%s%s%s", above, *above ? "/" : "",
				   names[i]);

		ck_assert_int_lt(len, (int)sizeof(path));
		if (!keeps(o, path) || (depth > 1 && !all_keep(o, path, depth - 1)))
			return false;
	}
	return true;
}

static struct rules *random_rules(char texts[4][32], const char **bind)
{
	struct rule_spec specs[4];
	uint32_t cnt = 1 + roll(4);

	for (uint32_t i = 0; i < cnt; i++) {
		random_path(texts[i], parts, ROWS(parts), 1 + roll(3));
		specs[i] = (struct rule_spec){(enum file_class)roll(3), texts[i]};
	}
	*bind = binds[roll(3) ? 0 : roll(ROWS(binds))];
	return make(specs, cnt, *bind);
}

START_TEST(folder_oracle)
{
	int safe = 0, moved = 0;

	for (int i = 0; i < 8000; i++) {
		char texts[4][32] = {"", "", "", ""};
		char from[16], to[16];
		const char *bind;
		auto_rules struct rules *r = random_rules(texts, &bind);
		struct oracle o = {r, from, to};
		bool keep;

		random_path(from, names, ROWS(names), 1 + roll(2));
		random_path(to, names, ROWS(names), 1 + roll(2));
		keep = all_keep(&o, "", 3);
		if (rules_move_folder(r, from, to) == 0) {
			ck_assert_msg(keep, "%s -> %s: %s, %s, %s, %s; bind %s", from, to,
				      texts[0], texts[1], texts[2], texts[3],
				      bind ? bind : "-");
			moved++;
		}
		safe += keep;
	}
	/* Of the moves that are safe, how many are allowed. */
	printf("folder moves: %d of 8000 safe, %d of them allowed\n", safe, moved);
	ck_assert_int_ge(moved * 10, safe * 8);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("rules");
	TCase *t = tcase_create("rules");

	tcase_add_loop_test(t, globs, 0, ROWS(glob_rows));
	tcase_add_loop_test(t, globs_refused, 0, ROWS(bad_globs));
	tcase_add_test(t, globs_stay_fast);
	tcase_add_loop_test(t, nova_classes, 0, ROWS(nova_rows));
	tcase_add_test(t, services);
	tcase_add_loop_test(t, move_files, 0, ROWS(file_rows));
	tcase_add_loop_test(t, move_folders, 0, ROWS(folder_rows));
	tcase_add_loop_test(t, bind_decides, 0, ROWS(bind_rows));
	tcase_add_loop_test(t, binds_refused, 0, ROWS(bad_binds));
	tcase_add_test(t, contexts_fit_a_token);
	tcase_add_test(t, bind_limit);
	tcase_add_test(t, folder_oracle);
	suite_add_tcase(s, t);
	return s;
}
