/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands that only look: exit codes and what they print. $T in an argument is the
 * test's own folder. The header peek is a stand-in as in test_treescan.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container.h"
#include "fs/cmd.h"
#include "tests/unit/unit.h"
#include "util/log.h"

#define SECRET "deadbeefdeadbeef"

const struct command commands[] = {
	{"check-config", cmd_check_config, CMD_CHECK_CONFIG_USAGE, CMD_CHECK_CONFIG_HELP},
	{"check-tree", cmd_check_tree, CMD_CHECK_TREE_USAGE, CMD_CHECK_TREE_HELP},
	{"help", cmd_help, CMD_HELP_USAGE, CMD_HELP_HELP},
	{NULL, NULL, NULL, NULL},
};

vcf_err_t size_peek_fd(struct peek *out, int fd, uint64_t size)
{
	char head[4] = "";

	if (pread(fd, head, 4, 0) < 0)
		return -errno;
	if (*head == '!')
		return -EIO;
	memset(out, 0, sizeof(*out));
	out->kind = !size			   ? PEEK_EMPTY
		    : memcmp(head, "LUKS", 4) == 0 ? PEEK_CONTAINER
						   : PEEK_PLAINTEXT;
	return 0;
}

static void put(const char *name, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(chmod(path, 0600), 0);
}

static void put_conf(const char *name, const char *backing, const char *more)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "[mount]\nbacking = %s/%s\nmountpoint = /nonexistent/m\n"
		 "[rules]\npassthrough = locks/**\nderived = *.tmp\n"
		 "[key-service]\nhelper = static\n%s",
		 unit_tmpdir(), backing, more);
	put(name, text);
}

static void make_folder(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void setup(void)
{
	char log_path[512];

	snprintf(log_path, sizeof(log_path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(log_path), 0);
	make_folder("good");
	make_folder("good/locks");
	make_folder("torn");
	make_folder("clear");
	put("good/disk", "LUKS");
	put("good/new", "");
	put("good/a.tmp", "LUKS");
	put("good/locks/l", "text");
	put("torn/bad", "!");
	put("clear/di\nsk", "text");
	put("clear/b.tmp", "LUKS");
	put_conf("good.conf", "good", "[static]\nsecret = " SECRET "\n");
	put_conf("torn.conf", "torn", "");
	put_conf("clear.conf", "clear", "");
	put_conf("gone.conf", "gone", "");
	put_conf("bad.conf", "good", "frob = 1\n");
}

static const struct {
	const char *argv[6];
	int code;
	const char *out; /* in what is printed */
} rows[] = {
	{{"check-config", "$T/good.conf"}, EXIT_OK, "good.conf: ok\n"},
	{{"check-config", "-v", "$T/good.conf"}, EXIT_OK, "\nhelper = static\n"},
	{{"check-config", "-v", "$T/good.conf"}, EXIT_OK, "; secret is set\n"},
	{{"check-config", "-v", "-o", "mount.threads=7", "$T/good.conf"},
	 EXIT_OK,
	 "\nthreads = 7\n"},
	{{"check-config", "-o", "mount.threads=x", "$T/good.conf"}, EXIT_CONFIG, NULL},
	{{"check-config", "$T/bad.conf"}, EXIT_CONFIG, NULL},
	{{"check-config", "$T/none.conf"}, EXIT_NOT_FOUND, NULL},
	{{"check-config"}, EXIT_USAGE, NULL},
	{{"check-config", "a", "b"}, EXIT_USAGE, NULL},
	{{"check-config", "-x", "a"}, EXIT_USAGE, NULL},
	{{"check-tree", "-c", "$T/good.conf"},
	 EXIT_OK,
	 "encrypt: 1 empty, 1 container\nderived: 1 container\npassthrough: 1 file\n"},
	{{"check-tree", "--list-all", "-c", "$T/good.conf"},
	 EXIT_OK,
	 "derived      container   a.tmp\n"},
	{{"check-tree", "--list-all", "-c", "$T/good.conf"},
	 EXIT_OK,
	 "passthrough  file        locks/l\n"},
	{{"check-tree", "$T/good"}, EXIT_REFUSED, "encrypt      PLAINTEXT   locks/l\n"},
	{{"check-tree", "-o", "rules.passthrough=locks/*", "$T/good"},
	 EXIT_OK,
	 "passthrough: 1 file\n"},
	{{"check-tree", "-c", "$T/clear.conf"},
	 EXIT_REFUSED,
	 "encrypt      PLAINTEXT   di\\x0ask\nencrypt: 1 PLAINTEXT\nderived: 1 "
	 "container\n"
	 "passthrough: none\n"},
	{{"check-tree", "-c", "$T/torn.conf"},
	 EXIT_FAILED,
	 "encrypt      UNREADABLE  bad: Input/output error\n"},
	{{"check-tree", "-c", "$T/gone.conf"}, EXIT_NOT_FOUND, NULL},
	{{"check-tree", "-c", "$T/bad.conf"}, EXIT_CONFIG, NULL},
	{{"check-tree", "-c", "$T/none.conf"}, EXIT_NOT_FOUND, NULL},
	{{"check-tree", "$T/good.conf"}, EXIT_FAILED, NULL}, /* no folder */
	{{"check-tree", "-c", "$T/good.conf", "$T/good"}, EXIT_USAGE, NULL},
	{{"check-tree"}, EXIT_USAGE, NULL},
	{{"help"},
	 EXIT_OK,
	 "  check-config    Reads a configuration and names all its faults.\n"},
	{{"help", "check-tree"}, EXIT_OK, "usage: vmcryptfs check-tree [-o"},
	{{"help", "config"}, EXIT_OK, "\n  destroy-delay = duration"},
	{{"help", "frob"}, EXIT_USAGE, NULL},
	{{"help", "a", "b"}, EXIT_USAGE, NULL},
};

static void expand(char dst[512], const char *arg)
{
	if (strncmp(arg, "$T", 2) == 0)
		snprintf(dst, 512, "%s%s", unit_tmpdir(), arg + 2);
	else
		snprintf(dst, 512, "%s", arg);
}

/* Runs a command with stdout and stderr in files; the output is returned in text. */
static int run(int argc, char **argv, char *text, size_t room)
{
	int saved[2] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
	auto_close int out = unit_tmpfile();
	ssize_t n;
	int code;

	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
	optind = 0;
	code = command_find(argv[0])->run(argc, argv);
	fflush(stdout);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		dup2(saved[fd - 1], fd);
		close(saved[fd - 1]);
	}
	n = pread(out, text, room - 1, 0);
	text[n < 0 ? 0 : n] = '\0';
	return code;
}

START_TEST(commands_run)
{
	char args[6][512];
	char *argv[7] = {NULL};
	char text[16384];
	int argc = 0;

	for (; argc < 6 && rows[_i].argv[argc]; argc++) {
		expand(args[argc], rows[_i].argv[argc]);
		argv[argc] = args[argc];
	}
	ck_assert_int_eq(run(argc, argv, text, sizeof(text)), rows[_i].code);
	if (rows[_i].out)
		ck_assert_msg(strstr(text, rows[_i].out), "%s", text);
	ck_assert_ptr_null(strstr(text, SECRET));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("cmd_check");
	TCase *t = tcase_create("cmd_check");

	tcase_add_unchecked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, commands_run, 0, ROWS(rows));
	suite_add_tcase(s, t);
	return s;
}
