/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/config.h"
#include "tests/unit/unit.h"
#include "util/log.h"

#define LONG40 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define LONG160 LONG40 LONG40 LONG40 LONG40
#define SECRET "deadbeefdeadbeef"

static char conf_path[256];
static char log_path[256];

static void setup(void)
{
	snprintf(conf_path, sizeof(conf_path), "%s/c", unit_tmpdir());
	snprintf(log_path, sizeof(log_path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(log_path), 0);
}

static void write_conf(const char *text, mode_t mode)
{
	FILE *f = fopen(conf_path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(chmod(conf_path, mode), 0);
	ck_assert_int_eq(truncate(log_path, 0), 0);
}

/* What has been logged since write_conf(); the string is static. */
static const char *logged(void)
{
	static char text[16384];
	FILE *f = fopen(log_path, "r");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

static int count(const char *text, const char *what)
{
	int n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static struct config *fresh(void)
{
	struct config *c = NULL;

	ck_assert_int_eq(config_new(&c), 0);
	return c;
}

START_TEST(defaults)
{
	auto_config struct config *c = fresh();

	ck_assert_ptr_null(c->backing);
	ck_assert(!c->overmount && !c->shared && !c->writeback && c->xattr && c->guard);
	ck_assert(c->allow_other && c->default_permissions && c->nosuid && c->nodev);
	ck_assert_str_eq(c->state_directory, "/var/lib/vmcryptfs");
	ck_assert_str_eq(c->runtime_directory, "/run/vmcryptfs");
	ck_assert(c->threads == 0 && c->promote && c->rule_cnt == 0);
	ck_assert_str_eq(c->log_level, "info");
	ck_assert_int_eq(c->format, FORMAT_LUKS2);
	ck_assert(c->sector_size == 4096 && c->children == 4 && c->timeout_s == 60);
	ck_assert(c->linger_s == 60 && c->reserve == 4 && !c->keep);
	ck_assert(c->destroy_delay_s == 7 * 86400);
}
END_TEST

START_TEST(example_of_the_design)
{
	auto_config struct config *c = fresh();
	struct keyservice_option *options = NULL;
	size_t cnt = 0;

	write_conf("\xef\xbb\xbf; a comment\n"
		   "[mount]\n"
		   "backing    = /a.crypt\n"
		   "mountpoint = /a   ; where it appears\r\n"
		   "threads=3\n"
		   "\n"
		   "[rules]\n"
		   "passthrough = locks/**\n"
		   "derived     = **/*.part\n"
		   "bind        = ^([0-9a-f-]{36})(?:_resize|_del)?/\n"
		   "[format]\n"
		   "type = luks1 ; or luks2\n"
		   "sector-size = 512\n"
		   "[key-service]\n"
		   "helper = file\n"
		   "on-delete = keep\n"
		   "destroy-delay = 2w\n"
		   "[file]\n"
		   "directory = /run/user/0/keys",
		   0644);
	ck_assert_msg(config_read(c, conf_path) == 0, "%s", logged());
	ck_assert_msg(config_finish(c, false) == 0, "%s", logged());
	ck_assert_str_eq(c->backing, "/a.crypt");
	ck_assert_str_eq(c->mountpoint, "/a");
	ck_assert_int_eq(c->threads, 3);
	ck_assert_int_eq(c->rule_cnt, 2);
	ck_assert_str_eq(c->rules[1].glob, "**/*.part");
	ck_assert_int_eq(c->rules[1].cls, CLASS_DERIVED);
	ck_assert_str_eq(c->bind, "^([0-9a-f-]{36})(?:_resize|_del)?/");
	ck_assert_int_eq(c->format, FORMAT_LUKS1);
	ck_assert(c->keep && c->destroy_delay_s == 14 * 86400);
	ck_assert_int_eq(config_helper_section(c, &options, &cnt), 0);
	ck_assert_int_eq(cnt, 1);
	ck_assert_str_eq(options[0].name, "directory");
	ck_assert_str_eq(options[0].value, "/run/user/0/keys");
	free(options);
}
END_TEST

/* Faults of a file: each must be named with its line. */
static const struct {
	const char *text;
	int lines; /* how many */
	const char *want[3];
} fault_rows[] = {
	{"[mount]\nbakcing = /a\n",
	 1,
	 {"c:2: unknown option \"bakcing\" in [mount]; did "
	  "you mean \"backing\" in [mount]?"}},
	{"[mount]\nstate_directory = /a\n", 1, {"did you mean \"state-directory\""}},
	{"[mount]\nhelper = file\n", 1, {"did you mean \"helper\" in [key-service]?"}},
	{"[mount]\nfrobnicate = 1\n",
	 1,
	 {"c:2: unknown option \"frobnicate\" in [mount]; see"}},
	{"backing = /a\n", 1, {"c:1: option \"backing\" stands before"}},
	{"[mount]\nthreads = 257\nshared = maybe\n\nlog-level = loud\n",
	 3,
	 {"c:2: threads = 257: must be 0 to 256",
	  "c:3: shared = maybe: must be yes or no",
	  "c:5: log-level = loud: must be one of err|warn|info|dbg"}},
	{"[mount]\nthreads = -1\nthreads = 1\n", 2, {"c:2: threads", "c:3: option"}},
	{"[mount]\nbacking = /a\nbacking = /b\n",
	 1,
	 {"c:3: option \"backing\" in [mount] is set in line 2 already"}},
	{"[file]\nx = /a\ny = 1\nx = /b\n",
	 1,
	 {"c:4: option \"x\" in [file] is set in "
	  "line 2 already"}},
	{"[mount]\nstate-directory =\n",
	 1,
	 {"c:2: state-directory = : must not be empty"}},
	{"[format]\ntype = luks3\nsector-size = 1024\n",
	 2,
	 {"must be one of luks1|luks2", "must be one of 512|4096"}},
	{"[key-service]\ntimeout = 1x\nlinger = 2d\nchildren = 0\n",
	 3,
	 {"timeout = 1x: must be a number with", "must be 0 to 86400 seconds",
	  "children = 0: must be 1 to 64"}},
	{"[rules]\nderived = a//b\nbind = (\nencrypt = \n",
	 3,
	 {"c:2: derived = a//b: an empty component", "c:3: bind = (: at character 2",
	  "c:4: encrypt = "}},
	{"[rules]\nbind = ^a/\n", 1, {"no (group)"}},
	{"[mount]\nbacking = /a\n  b\n", 1, {"c:3: the line starts with a blank"}},
	{"[mount]\n backing = /a\n", 1, {"c:2: the line starts with a blank"}},
	{"[mount\nbacking = /a\n", 2, {"c:1: a section's name must end"}},
	{"[mount] x\n", 1, {"c:1: there is text behind"}},
	{"[mount] ; fine\nnonsense\n", 1, {"c:2: the line is neither"}},
	{"[mount]\nbacking /a ; = x\n", 1, {"c:2: the line is neither"}},
	{"[mount]\nbacking: /a\n", 1, {"c:2: the line is neither"}},
	{"[" LONG160 "]\n", 1, {"c:1: the section's name is too long"}},
	{"[mount]\nbacking = /" LONG160 LONG40 "\n", 1, {"c:2: the line is too long"}},
	{"[mount]\n# " LONG160 LONG40 "\nnodev = x\n", 1, {"c:3: nodev"}},
	{"[key service]\nhelper = file\n", 1, {"c:2: no option's name"}},
	{"[service gold]\nhelper = file\nhelper = vault\nx = 1\nx = 2\n",
	 2,
	 {"c:3: option \"helper\" in [service gold] is set in line 2 already",
	  "c:5: option \"x\" in [service gold]"}},
	{"[service default]\nhelper = file\n",
	 1,
	 {"c:2: [service default]: the default"}},
	{"[service .x]\nhelper = file\n", 1, {"c:2: [service .x]: no name"}},
	{"[service a b]\nhelper = file\n", 1, {"c:2: [service a b]: no name"}},
	{"[device]\npath = /dev/x\n", 1, {"c:2: [device] needs the name of its file"}},
	{"[device .x]\npath = /dev/x\n",
	 1,
	 {"c:2: [device .x]: must be the name of a file"}},
	{"[device a b]\npath = /dev/x\n", 1, {"c:2: [device a b]: must be the name"}},
	{"[device x]\npath = /dev/x\npaht = /dev/y\n",
	 1,
	 {"c:3: unknown option \"paht\" in [device]; did you mean \"path\" in [device]?"}},
	{"[device x]\npath = /dev/x\npath = /dev/y\n",
	 1,
	 {"c:3: option \"path\" in [device x] is set in line 2 already"}},
	{"[service gold]\nchildren = 65\n", 1, {"c:2: children = 65: must be 1 to 64"}},
	{"[rules]\nservice = gold\nservice = gold a//b\nservice = -x a\n",
	 3,
	 {"c:2: service = gold: must be the name", "c:3: service = gold a//b: an empty",
	  "c:4: service = -x a: must be"}},
	{"[static]\nsecret " SECRET "==\n", 1, {"c:2: no option's name"}},
};

START_TEST(faults)
{
	auto_config struct config *c = fresh();
	const char *text;

	write_conf(fault_rows[_i].text, 0600);
	ck_assert_int_eq(config_read(c, conf_path), -EINVAL);
	text = logged();
	ck_assert_msg(count(text, "\n") == fault_rows[_i].lines, "%s", text);
	for (int k = 0; k < 3 && fault_rows[_i].want[k]; k++)
		ck_assert_msg(strstr(text, fault_rows[_i].want[k]), "%s: %s",
			      fault_rows[_i].want[k], text);
	ck_assert_ptr_null(strstr(text, SECRET));
}
END_TEST

START_TEST(longest_line)
{
	auto_config struct config *c = fresh();
	char text[400] = "[file]\ndirectory = /";

	/* inih's limit is 200 with CR, LF and NUL. */
	for (size_t len = 150; len < 250; len++) {
		size_t start = strlen("[file]\n");
		vcf_err_t err;

		memset(text + start + strlen("directory = /"), 'x', 300);
		strcpy(text + start + len, "\n");
		write_conf(text, 0644);
		err = config_read(c, conf_path);
		ck_assert_int_eq(err, len <= 197 ? 0 : -EINVAL);
		if (!err)
			ck_assert_int_eq(strlen(c->helper_options[0].value),
					 len - strlen("directory = "));
	}
}
END_TEST

START_TEST(nul_byte)
{
	auto_config struct config *c = fresh();
	int fd;

	write_conf("[mount]\nbacking = /a\n", 0644);
	fd = open(conf_path, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "", 1, 19), 1);
	close(fd);
	ck_assert_int_eq(config_read(c, conf_path), -EINVAL);
	ck_assert_ptr_nonnull(strstr(logged(), "c:2: the line holds a NUL byte"));
}
END_TEST

/* Further services: the options of [key-service], and the helper's own on top of its section. */
START_TEST(services)
{
	static const struct {
		const char *service, *name, *value;
	} want[] = {
		{"default", "directory", "/d"}, {"default", "fast", "yes"},
		{"gold", "fast", "yes"},	{"gold", "directory", "/g"},
		{"gold", "more", "1"},		{"far", "url", "u"},
	};
	auto_config struct config *c = fresh();
	const struct config *s;
	int k = 0;

	write_conf("[mount]\nbacking = /a\nmountpoint = /b\n"
		   "[key-service]\nhelper = file\nreserve = 9\n"
		   "[service gold]\nhelper = file\nlinger = 5\ndirectory = /g\nmore = 1\n"
		   "[service far]\nhelper = /x/vmcryptfs-key-vault\n"
		   "[vault]\nurl = u\n"
		   "[file]\ndirectory = /d\nfast = yes\n"
		   "[rules]\nservice = gold rich/**\nservice = far **/x\n",
		   0600);
	ck_assert_msg(config_read(c, conf_path) == 0, "%s", logged());
	ck_assert_msg(config_finish(c, false) == 0, "%s", logged());
	for (size_t i = 0; (s = config_service_at(c, i)); i++) {
		struct keyservice_option *options;
		size_t cnt;

		ck_assert_ptr_eq(config_service(c, s->service_name), s);
		ck_assert_int_eq(config_service_options(c, s, &options, &cnt), 0);
		for (size_t o = 0; o < cnt; o++, k++) {
			ck_assert_str_eq(s->service_name, want[k].service);
			ck_assert_str_eq(options[o].name, want[k].name);
			ck_assert_str_eq(options[o].value, want[k].value);
			ck_assert_str_eq(config_service_value(c, s, want[k].name),
					 want[k].value);
		}
		free(options);
	}
	ck_assert_int_eq(k, ROWS(want));
	ck_assert_uint_eq(config_service(c, "gold")->reserve, 4);
	ck_assert_uint_eq(config_service(c, "gold")->linger_s, 5);
	ck_assert_ptr_null(config_service(c, "silver"));
}
END_TEST

/* Modes of the file: who may write it, and read a secret in it. */
static const struct {
	const char *text;
	mode_t mode;
	vcf_err_t want;
	const char *say;
} mode_rows[] = {
	{"[mount]\nbacking = /a\n", 0644, 0, NULL},
	{"[mount]\nbacking = /a\n", 0666, -EINVAL, "chmod o-w"},
	{"[static]\nsecret = " SECRET "\n", 0600, 0, NULL},
	{"[static]\nsecret = " SECRET "\n", 0400, 0, NULL},
	{"[static]\nsecret = " SECRET "\n", 0640, -EINVAL,
	 "c:2: others may read the secret"},
	{"[static]\nsecret = " SECRET "\n", 0604, -EINVAL, "chmod 600"},
	{"[barbican]\npassword = " SECRET "\n", 0644, -EINVAL, "chmod 600"},
	{"[vault]\ntoken = " SECRET "\n", 0644, -EINVAL, "chmod 600"},
	{"[vault]\ntoken-file = /a\n", 0644, 0, NULL},
	{"[service gold]\npassword = " SECRET "\n", 0644, -EINVAL, "chmod 600"},
};

START_TEST(modes)
{
	auto_config struct config *c = fresh();

	write_conf(mode_rows[_i].text, mode_rows[_i].mode);
	ck_assert_int_eq(config_read(c, conf_path), mode_rows[_i].want);
	if (mode_rows[_i].say)
		ck_assert_ptr_nonnull(strstr(logged(), mode_rows[_i].say));
	ck_assert_ptr_null(strstr(logged(), SECRET));
}
END_TEST

START_TEST(unreadable)
{
	auto_config struct config *c = fresh();

	write_conf("", 0644);
	ck_assert_int_eq(config_read(c, "/nonexistent/c"), -ENOENT);
	ck_assert_ptr_nonnull(strstr(logged(), "/nonexistent/c: No such file"));
	ck_assert_int_lt(config_read(c, unit_tmpdir()), 0);
	ck_assert_int_eq(count(logged(), "\n"), 2);
}
END_TEST

static const struct {
	const char *assignment;
	vcf_err_t want;
	const char *say;
} set_rows[] = {
	{"mount.backing=/a=b.c", 0, NULL},
	{"rules.passthrough=x/*", 0, NULL},
	{"rules.bind=", 0, NULL},
	{"file.directory=/k", 0, NULL},
	{"static.secret=" SECRET, 0, NULL},
	{"service a.b.helper=file", 0, NULL},
	{"service gold.children=0", -EINVAL, "-o: children = 0: must be"},
	{"service gold", -EINVAL, "must be section.key=value"},
	{"mount.threads=x", -EINVAL, "-o: threads = x: must be a number"},
	{"mount.thread=1", -EINVAL, "did you mean \"threads\""},
	{"secret=" SECRET, -EINVAL, "-o secret: must be section.key=value"},
	{"secret=" SECRET ".x", -EINVAL, "-o secret: must be section.key=value"},
	{"mount.backing", -EINVAL, "-o mount.backing: must be"},
	{"", -EINVAL, "must be section.key=value"},
	{".=", -EINVAL, "no option's name"},
	{"static.=" SECRET, -EINVAL, "no option's name"},
};

START_TEST(settings)
{
	auto_config struct config *c = fresh();

	write_conf("", 0644);
	ck_assert_int_eq(config_set(c, set_rows[_i].assignment), set_rows[_i].want);
	if (set_rows[_i].say)
		ck_assert_msg(strstr(logged(), set_rows[_i].say), "%s", logged());
	ck_assert_ptr_null(strstr(logged(), SECRET));
}
END_TEST

/* Whole configurations; $T is the test's own folder. */
static const struct {
	const char *set[5];
	bool quick;
	const char *say; /* NULL: fine */
} finish_rows[] = {
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file"},
	 false,
	 NULL},
	{{"mount.backing=//a/./x/", "mount.mountpoint=/a/xy", "key-service.helper=file"},
	 false,
	 NULL},
	{{"mount.mountpoint=/b", "key-service.helper=file"}, false, "backing is not set"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "service gold.reserve=1"},
	 false,
	 "helper is not set in [service gold]"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "service gold.helper=mount"},
	 false,
	 "helper = mount: is no helper's name"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "service gold.helper=file", "service gold.directory=/a/k"},
	 false,
	 "directory = /a/k: must not lie inside"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "service gold.helper=file", "service gold.children=61"},
	 false,
	 "all services together may have 64"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "rules.service=gold x/**"},
	 false,
	 "there is no [service gold]"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.b.path=/dev/x", "device c.path=/dev/y"},
	 false,
	 NULL},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.discard=yes"},
	 false,
	 "path is not set in [device a]"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/dev/x", "device b.path=/dev/x"},
	 false,
	 "[device a] and [device b] have the same path"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/a/x"},
	 false,
	 "path = /a/x: must not lie inside"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=x"},
	 false,
	 "path = x: must be an absolute path"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/dev/x", "rules.derived=a"},
	 false,
	 "[device a]: a rule makes it derived"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/dev/x", "rules.passthrough=*"},
	 false,
	 "[device a]: a rule makes it passthrough"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/dev/x", "device a.mode=888"},
	 false,
	 "[device a]: owner = root:root, mode = 888"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "device a.path=/dev/x", "device a.owner=nobodyatall:root"},
	 false,
	 "[device a]: owner = nobodyatall:root"},
	{{"mount.backing=/b", "key-service.helper=file"}, false, "mountpoint is not set"},
	{{"mount.backing=/a", "mount.mountpoint=/b"}, false, "helper is not set"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "file.directory=/k"},
	 false,
	 "helper is not set"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "file.directory=/k"}, true, NULL},
	{{"mount.backing=/a", "mount.mountpoint=/b"}, true, "-o file.directory=DIR"},
	{{"mount.backing=a", "mount.mountpoint=/b", "key-service.helper=file"},
	 false,
	 "backing = a: must be an absolute path"},
	{{"mount.backing=nonexistent", "mount.mountpoint=/b", "key-service.helper=file"},
	 true,
	 "backing: nonexistent: No such file"},
	{{"mount.backing=/a/../b", "mount.mountpoint=/c", "key-service.helper=file"},
	 false,
	 "must be an absolute path without \"..\""},
	{{"mount.backing=/a", "mount.mountpoint=/a/", "key-service.helper=file"},
	 false,
	 "is the backing folder itself"},
	{{"mount.backing=/a", "mount.mountpoint=/a", "mount.overmount=yes",
	  "key-service.helper=file"},
	 false,
	 NULL},
	{{"mount.backing=/a/b", "mount.mountpoint=/a", "mount.overmount=yes",
	  "key-service.helper=file"},
	 false,
	 "one lies inside the other"},
	{{"mount.backing=/a", "mount.mountpoint=/a/b", "key-service.helper=file"},
	 false,
	 "one lies inside the other"},
	{{"mount.backing=$T", "mount.mountpoint=$T/link", "key-service.helper=file"},
	 false,
	 "is the backing folder itself"},
	{{"mount.backing=/a", "mount.mountpoint=/var", "key-service.helper=file"},
	 false,
	 "state-directory = /var/lib/vmcryptfs: must not lie inside /var"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "file.directory=/a/keys"},
	 false,
	 "[file] directory = /a/keys: must not lie inside /a"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "format.type=luks1"},
	 false,
	 "type = luks1 wants sector-size = 512"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "mount.shared=yes", "mount.writeback=yes"},
	 false,
	 "writeback = yes cannot go with shared = yes"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "fiel.directory=/k"},
	 false,
	 "[fiel]: unknown section"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=file",
	  "barbican.url=x", "ldap.public-key=/k"},
	 false,
	 "[ldap]: unknown section"},
	{{"mount.backing=/a", "mount.mountpoint=/b",
	  "key-service.helper=/opt/vmcryptfs-key-my", "my.url=x"},
	 false,
	 NULL},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=x/y"},
	 false,
	 "must be a name or an absolute path"},
	{{"mount.backing=/a", "mount.mountpoint=/b", "key-service.helper=mount"},
	 false,
	 "is no helper's name"},
};

static void set_expanded(struct config *c, const char *assignment)
{
	const char *dollar = strstr(assignment, "$T");
	char text[512];

	if (dollar)
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(dollar - assignment),
			 assignment, unit_tmpdir(), dollar + 2);
	ck_assert_int_eq(config_set(c, dollar ? text : assignment), 0);
}

START_TEST(wholes)
{
	auto_config struct config *c = fresh();
	char link[256];
	vcf_err_t err;

	write_conf("", 0644);
	snprintf(link, sizeof(link), "%s/link", unit_tmpdir());
	if (symlink(".", link))
		ck_assert_int_eq(errno, EEXIST);
	for (int k = 0; k < 5 && finish_rows[_i].set[k]; k++)
		set_expanded(c, finish_rows[_i].set[k]);
	err = config_finish(c, finish_rows[_i].quick);
	ck_assert_msg(err == (finish_rows[_i].say ? -EINVAL : 0), "%s", logged());
	ck_assert_int_eq(count(logged(), "\n"), finish_rows[_i].say != NULL);
	if (finish_rows[_i].say)
		ck_assert_msg(strstr(logged(), finish_rows[_i].say), "%s", logged());
}
END_TEST

START_TEST(relative_paths)
{
	auto_config struct config *c = fresh();

	ck_assert_int_eq(chdir(unit_tmpdir()), 0);
	ck_assert(mkdir("back", 0700) == 0 && mkdir("mnt", 0700) == 0);
	ck_assert_int_eq(config_set(c, "mount.backing=back/"), 0);
	ck_assert_int_eq(config_set(c, "mount.mountpoint=./mnt"), 0);
	ck_assert_int_eq(config_set(c, "file.directory=/k"), 0);
	ck_assert_int_eq(config_finish(c, true), 0);
	ck_assert(c->backing[0] == '/' && c->mountpoint[0] == '/');
	ck_assert_str_eq(strrchr(c->backing, '/'), "/back");
	ck_assert_str_eq(strrchr(c->mountpoint, '/'), "/mnt");
	ck_assert_str_eq(c->helper, "file");
}
END_TEST

static char *printed(const struct config *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (c)
		config_print(c, f);
	else
		config_print_help(f);
	fclose(f);
	return text;
}

/* What config_print() says, read again, says the same; helper values never appear. */
START_TEST(print_and_read_again)
{
	auto_config struct config *a = fresh();
	auto_config struct config *b = fresh();
	auto_free char *text = NULL;
	auto_free char *again = NULL;

	ck_assert_int_eq(config_set(a, "mount.backing=/a"), 0);
	ck_assert_int_eq(config_set(a, "mount.nodev=no"), 0);
	ck_assert_int_eq(config_set(a, "rules.derived=*/x"), 0);
	ck_assert_int_eq(config_set(a, "rules.passthrough=y"), 0);
	ck_assert_int_eq(config_set(a, "rules.encrypt=*"), 0);
	ck_assert_int_eq(config_set(a, "rules.bind=^(a)/"), 0);
	ck_assert_int_eq(config_set(a, "format.type=luks1"), 0);
	ck_assert_int_eq(config_set(a, "key-service.on-delete=keep"), 0);
	ck_assert_int_eq(config_set(a, "key-service.timeout=90"), 0);
	text = printed(a);
	write_conf(text, 0644);
	ck_assert_msg(config_read(b, conf_path) == 0, "%s%s", logged(), text);
	again = printed(b);
	ck_assert_str_eq(text, again);
	ck_assert_ptr_nonnull(strstr(text, "destroy-delay = 7d\n"));
	ck_assert_ptr_nonnull(strstr(text, "timeout = 90\n"));
	ck_assert_ptr_nonnull(
		strstr(text, "derived = */x\npassthrough = y\nencrypt = *\nbind = "));
	free(STEAL_PTR(&text));
	ck_assert_int_eq(config_set(a, "static.secret=" SECRET), 0);
	text = printed(a);
	ck_assert_ptr_nonnull(strstr(text, "[static]\n; secret is set\n"));
	ck_assert_ptr_null(strstr(text, SECRET));
}
END_TEST

/* Of the table: each option has a help sentence, sane bounds and is in the help text. */
START_TEST(table)
{
	auto_free char *help = printed(NULL);

	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];
		char line[64];

		ck_assert_ptr_eq(config_find(o->section, o->name), o);
		ck_assert(o->help[strlen(o->help) - 1] == '.');
		ck_assert(o->min <= o->max);
		snprintf(line, sizeof(line), "\n  %s = ", o->name);
		ck_assert_ptr_nonnull(strstr(help, line));
		ck_assert_ptr_nonnull(strstr(help, o->help));
		if (o->type != CONFIG_RULE)
			ck_assert(o->field_off + o->field_len <= sizeof(struct config));
	}
}
END_TEST

/* The examples that are shipped must be valid. */
START_TEST(shipped)
{
	static const char *const files[] = {"contrib/vmcryptfs.conf",
					    "contrib/nova/vmcryptfs.conf"};
	const char *root = getenv("VCF_SOURCE_ROOT");
	auto_config struct config *c = fresh();
	char path[512];

	if (!root)
		return;
	write_conf("", 0644);
	snprintf(path, sizeof(path), "%s/%s", root, files[_i]);
	ck_assert_msg(config_read(c, path) == 0, "%s", logged());
	ck_assert_msg(config_finish(c, false) == 0, "%s", logged());
	ck_assert_str_eq(logged(), "");
}
END_TEST

/* The commented example names each option of the table. */
START_TEST(example_is_complete)
{
	const char *root = getenv("VCF_SOURCE_ROOT");
	char path[512], text[16384] = "\n";
	FILE *f;

	if (!root)
		return;
	snprintf(path, sizeof(path), "%s/contrib/vmcryptfs.conf", root);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_gt(fread(text + 1, 1, sizeof(text) - 2, f), 0);
	fclose(f);
	for (size_t i = 0; i < config_option_cnt; i++) {
		char set[64], unset[64];

		snprintf(set, sizeof(set), "\n%s ", config_options[i].name);
		snprintf(unset, sizeof(unset), "\n;%s ", config_options[i].name);
		ck_assert_msg(strstr(text, set) || strstr(text, unset), "%s", set);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("config");

	tcase_add_unchecked_fixture(t, setup, NULL);
	tcase_add_test(t, defaults);
	tcase_add_test(t, example_of_the_design);
	tcase_add_loop_test(t, faults, 0, ROWS(fault_rows));
	tcase_add_test(t, services);
	tcase_add_test(t, longest_line);
	tcase_add_test(t, nul_byte);
	tcase_add_loop_test(t, modes, 0, ROWS(mode_rows));
	tcase_add_test(t, unreadable);
	tcase_add_loop_test(t, settings, 0, ROWS(set_rows));
	tcase_add_loop_test(t, wholes, 0, ROWS(finish_rows));
	tcase_add_test(t, relative_paths);
	tcase_add_test(t, print_and_read_again);
	tcase_add_test(t, table);
	tcase_add_loop_test(t, shipped, 0, 2);
	tcase_add_test(t, example_is_complete);
	suite_add_tcase(s, t);
	return s;
}
