/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key service against a helper with faults (faulty-helper.c), found beside this
 * program. Rows that have to wait run side by side, so that the whole stays quick.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/keyjob.h"
#include "crypto/keyservice.h"
#include "tests/unit/unit.h"

static char helper[PATH_MAX];

static void setup(void)
{
	if (!*helper)
		ck_assert_int_eq(
			keyservice_find_program(helper, sizeof(helper), "faulty"), 0);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A service of its own folder, and one answer from it. */
struct fixture {
	struct keyservice *ks;
	char dir[4200];
	sem_t over;
	int calls;
	vcf_err_t err;
	char id[TOKEN_KEY_ID_MAX + 1], text[KEYPROTO_TEXT_MAX + 1];
	struct secret *secret;
};

static void on_done(void *arg, const struct keyservice_result *res)
{
	struct fixture *f = arg;

	f->err = res->err;
	f->calls++;
	snprintf(f->id, sizeof(f->id), "%s", res->id);
	snprintf(f->text, sizeof(f->text), "%s", res->text);
	if (res->secret)
		ck_assert_int_eq(secret_dup(&f->secret, res->secret), 0);
	sem_post(&f->over);
}

static void wait_over(struct fixture *f)
{
	while (sem_wait(&f->over) < 0)
		;
}

struct setting {
	const char *program; /* NULL: the faulty helper */
	const char *mode, *times;
	unsigned int children, timeout_s, request_timeout_ms;
};

static void open_fixture(struct fixture *f, const struct setting *set)
{
	struct keyservice_option options[] = {
		{"directory", f->dir},
		{"mode", set->mode ? set->mode : ""},
		{"times", set->times ? set->times : ""},
	};
	struct keyservice_config cfg = {
		.name = "test",
		.helper = set->program ? set->program : helper,
		.options = options,
		.option_cnt = 3,
		.children = set->children ? set->children : 1,
		.timeout_s = set->timeout_s ? set->timeout_s : 5,
		.request_timeout_ms =
			set->request_timeout_ms ? set->request_timeout_ms : 2000,
		.log_stderr = true,
	};

	memset(f, 0, offsetof(struct fixture, dir));
	f->calls = 0;
	f->err = 1;
	f->secret = NULL;
	sem_init(&f->over, 0, 0);
	snprintf(f->dir, sizeof(f->dir), "%s/XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	ck_assert_int_eq(keyservice_new(&f->ks, &cfg), 0);
}

static void close_fixture(struct fixture *f)
{
	keyservice_free(f->ks);
	secret_free(f->secret);
	sem_destroy(&f->over);
}

/* How often the helper counted something, over all its processes. */
static int counted(const struct fixture *f, const char *name)
{
	char path[5000];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return stat(path, &st) < 0 ? 0 : (int)st.st_size;
}

static void expect_secret(const struct secret *s, char c, const char *row)
{
	ck_assert_msg(s != NULL, "%s: no secret", row);
	for (int i = 0; i < SECRET_LEN; i++)
		ck_assert_msg(secret_bytes(s)[i] == (unsigned char)c, "%s: byte %d", row,
			      i);
}

static const struct {
	const char *mode, *times;
	vcf_err_t err;
	int gets, restarts; /* -1: any */
} fault_rows[] = {
	{"", NULL, 0, 1, 0},
	{"hang", "1", 0, 2, 1},
	{"die", "1", 0, 2, 1},
	{"die-mid", "1", 0, 2, 1},
	{"flood", "1", 0, 2, 1},
	{"flood-lines", "1", 0, 2, 1},
	{"nonsense", "1", 0, 2, 1},
	{"wrong-tag", "1", 0, 2, 1},
	{"no-tag", "1", 0, 2, 1},
	{"wrong-kind", "1", 0, 2, 1},
	{"short-secret", "1", 0, 2, 1},
	{"long-secret", "1", 0, 2, 1},
	{"sloppy", "1", 0, 2, 1},
	{"no-padding", "1", 0, 2, 1},
	{"two-blanks", "1", 0, 2, 1},
	{"non-ascii", "1", 0, 2, 1},
	{"control", "1", 0, 2, 1},
	{"bad-kind", "1", 0, 2, 1},
	{"unavailable", "3", 0, 4, 0},
	{"die", "3", 0, 4, 3},
	{"unasked", NULL, 0, 1, -1}, /* the answer itself was good */
	{"denied", NULL, -EKEYREJECTED, 1, 0},
	{"notfound", NULL, -ENOKEY, 1, 0},
	{"quota", NULL, -EDQUOT, 1, 0},
	{"invalid", NULL, -EINVAL, 1, 0},
};

static void check_fault_row(struct fixture *f, int i)
{
	const char *mode = fault_rows[i].mode;
	struct keyservice_status st;

	wait_over(f);
	keyservice_get_status(f->ks, &st);
	ck_assert_msg(f->err == fault_rows[i].err, "%s: %d %s", mode, f->err, f->text);
	ck_assert_msg(counted(f, "gets") == fault_rows[i].gets, "%s: %d gets", mode,
		      counted(f, "gets"));
	ck_assert_msg(fault_rows[i].restarts < 0 ||
			      st.restarts == (uint64_t)fault_rows[i].restarts,
		      "%s: %d restarts", mode, (int)st.restarts);
	if (!f->err)
		expect_secret(f->secret, 'k', mode);
	else
		ck_assert_msg(strlen(f->text) > 0, "%s: no text", mode);
}

static void run_faults(void)
{
	static struct fixture f[ROWS(fault_rows)];

	for (int i = 0; i < ROWS(f); i++) {
		struct setting set = {.mode = fault_rows[i].mode,
				      .times = fault_rows[i].times};

		if (strcmp(set.mode, "hang") == 0)
			set.request_timeout_ms = 600;
		open_fixture(&f[i], &set);
		ck_assert_int_eq(keyservice_get(f[i].ks, "key-id", on_done, &f[i]), 0);
	}
	for (int i = 0; i < ROWS(f); i++)
		check_fault_row(&f[i], i);
	for (int i = 0; i < ROWS(f); i++) {
		close_fixture(&f[i]);
		ck_assert_int_eq(f[i].calls, 1);
	}
}

/* What never gets well: the whole time-out, and not many processes in it. */
static const struct {
	const char *name; /* of a copy of the helper, for faults before the options */
	const char *mode, *text;
} hopeless_rows[] = {
	{"exits", "", "ended"},
	{"mute", "", "in time"},
	{"version", "", "another version"},
	{"babbles", "", "not of the protocol"},
	{"hasty", "", "helper"}, /* ready too early: seen there or one line later */
	{"missing", "", "cannot start"},
	{"text", "", "cannot start"}, /* not executable */
	{NULL, "die", "ended"},
	{NULL, "last-words", "ended, last words: the credential is gone"},
	{NULL, "unavailable", "come back"},
};

static void copy_helper(char dst[PATH_MAX], const char *name)
{
	char command[4 * PATH_MAX];

	snprintf(dst, PATH_MAX, "%.4000s/%s", unit_tmpdir(), name);
	if (strcmp(name, "missing") == 0)
		return;
	snprintf(command, sizeof(command), "cp '%s' '%s' && chmod %s '%s'", helper, dst,
		 strcmp(name, "text") == 0 ? "600" : "700", dst);
	ck_assert_int_eq(system(command), 0);
}

static void start_hopeless(struct fixture *f, int i)
{
	char program[PATH_MAX];
	struct setting set = {
		.mode = hopeless_rows[i].mode, .timeout_s = 1, .request_timeout_ms = 300};

	if (strcmp(hopeless_rows[i].text, "in time") == 0)
		set.request_timeout_ms = 300;
	if (hopeless_rows[i].name) {
		copy_helper(program, hopeless_rows[i].name);
		set.program = program;
	}
	open_fixture(f, &set);
	ck_assert_int_eq(keyservice_get(f->ks, "key-id", on_done, f), 0);
}

static void check_hopeless(struct fixture *f, int i)
{
	struct keyservice_status st;

	wait_over(f);
	keyservice_get_status(f->ks, &st);
	ck_assert_int_eq(f->err, -ETIMEDOUT);
	ck_assert_msg(strstr(f->text, hopeless_rows[i].text), "row %d: %s", i, f->text);
	ck_assert_str_eq(st.state, "failing");
	ck_assert_uint_le(st.restarts, 8);
	ck_assert_uint_eq(st.failures, 1);
	ck_assert_uint_eq(st.waiting, 0);
	close_fixture(f);
}

/* The pause is as long as the helper said, even beyond the deadline. */
static void start_retry_after(struct fixture f[2])
{
	static const struct setting set[2] = {
		{.mode = "retry-after", .times = "1"},
		{.mode = "retry-late", .times = "1", .timeout_s = 1},
	};

	for (int i = 0; i < 2; i++) {
		open_fixture(&f[i], &set[i]);
		ck_assert_int_eq(keyservice_get(f[i].ks, "key-id", on_done, &f[i]), 0);
	}
}

static void check_retry_after(struct fixture f[2], double start)
{
	wait_over(&f[0]);
	ck_assert_int_eq(f[0].err, 0);
	ck_assert(now_s() - start >= 1.0);
	wait_over(&f[1]);
	ck_assert_int_eq(f[1].err, -ETIMEDOUT);
	ck_assert_int_eq(counted(&f[1], "gets"), 1);
	for (int i = 0; i < 2; i++)
		close_fixture(&f[i]);
}

/* All at once: most of it is waiting. */
START_TEST(faults)
{
	static struct fixture f[ROWS(hopeless_rows)], after[2];
	double start = now_s();

	start_retry_after(after);
	for (int i = 0; i < ROWS(f); i++)
		start_hopeless(&f[i], i);
	run_faults();
	for (int i = 0; i < ROWS(f); i++)
		check_hopeless(&f[i], i);
	ck_assert(now_s() - start >= 0.9 && now_s() - start < 10);
	check_retry_after(after, start);
}
END_TEST

/* `new` and the loss of its answer: never two secrets, never a wrong one. */
static const struct {
	const char *mode;
	int news, finds, gets; /* as the helper saw them */
	const char *text;
} new_rows[] = {
	{"", 1, 0, 0, ""},
	{"new-lost", 1, 1, 0, ""},	       /* it had not happened */
	{"new-done", 1, 1, 1, ""},	       /* it had */
	{"new-done-unavailable", 1, 1, 1, ""}, /* it had, in spite of what it said */
	{"new-other", 1, 1, 1, ""},	       /* an older one has the label */
};

START_TEST(new_secrets)
{
	struct setting set = {.mode = new_rows[_i].mode, .times = "1"};
	auto_secret struct secret *s = NULL;
	struct keyservice_sync out;
	struct fixture f;

	open_fixture(&f, &set);
	ck_assert_int_eq(secret_new_random(&s), 0);
	ck_assert_int_eq(keyservice_new_sync(f.ks, "label", s, &out), 0);
	ck_assert_str_eq(out.id, "label");
	ck_assert_ptr_null(out.secret);
	ck_assert_int_eq(counted(&f, "news"), new_rows[_i].news);
	ck_assert_int_eq(counted(&f, "finds"), new_rows[_i].finds);
	ck_assert_int_eq(counted(&f, "gets"), new_rows[_i].gets);
	ck_assert_int_eq(keyservice_get_sync(f.ks, "label", &out), 0);
	ck_assert(secret_equal(s, out.secret));
	secret_free(out.secret);
	close_fixture(&f);
}
END_TEST

/* A helper that derives is never asked `new`, and its secret is the one to use. */
START_TEST(new_derived)
{
	auto_secret struct secret *s = NULL;
	char program[PATH_MAX];
	struct setting set = {.program = program, .mode = "die", .times = "1"};
	struct keyservice_sync out;
	struct fixture f;

	copy_helper(program, "derives");
	open_fixture(&f, &set);
	ck_assert_int_eq(secret_new_random(&s), 0);
	ck_assert_int_eq(keyservice_new_sync(f.ks, "label", s, &out), 0);
	ck_assert_str_eq(out.id, "label");
	expect_secret(out.secret, 'l', "derives");
	ck_assert_int_eq(counted(&f, "news"), 0);
	ck_assert_int_eq(counted(&f, "finds"), 0);
	ck_assert_int_eq(counted(&f, "gets"), 2);
	secret_free(out.secret);
	close_fixture(&f);
}
END_TEST

START_TEST(other_verbs)
{
	struct setting set = {.mode = "items"};
	struct keyservice_sync out;
	struct fixture f;

	open_fixture(&f, &set);
	ck_assert_int_eq(keyservice_find_sync(f.ks, "x", &out), 0);
	ck_assert_str_eq(out.id, "c"); /* the newest */
	ck_assert_int_eq(keyservice_destroy_sync(f.ks, "c", "x", &out), 0);
	ck_assert_int_eq(keyservice_ping_sync(f.ks, &out), 0);
	ck_assert_int_eq(keyservice_get_sync(f.ks, "../etc", &out), -EINVAL);
	ck_assert_int_eq(keyservice_find_sync(f.ks, "a/b", &out), -EINVAL);
	close_fixture(&f);

	set.mode = "gone";
	open_fixture(&f, &set);
	ck_assert_int_eq(keyservice_find_sync(f.ks, "x", &out), -ENOKEY);
	ck_assert_int_eq(keyservice_destroy_sync(f.ks, "c", "x", &out), 0);
	close_fixture(&f);
}
END_TEST

/* A helper that dies after every tenth answer; ids repeat, so some are coalesced. */
START_TEST(many)
{
	static struct fixture f[100];
	struct setting set = {.mode = "killed", .children = 4};
	struct keyservice_status st;
	char id[32];

	open_fixture(&f[0], &set);
	for (int i = 0; i < ROWS(f); i++) {
		if (i)
			sem_init(&f[i].over, 0, 0);
		snprintf(id, sizeof(id), "%c%d", 'a' + i % 26, i % 80);
		ck_assert_int_eq(keyservice_get(f[0].ks, id, on_done, &f[i]), 0);
	}
	for (int i = 0; i < ROWS(f); i++) {
		wait_over(&f[i]);
		ck_assert_int_eq(f[i].err, 0);
		expect_secret(f[i].secret, (char)('a' + i % 26), "many");
	}
	keyservice_get_status(f[0].ks, &st);
	ck_assert_uint_eq(st.requests, 100);
	ck_assert_uint_eq(st.failures, 0);
	ck_assert_uint_eq(st.waiting, 0);
	ck_assert_uint_ge(st.restarts, 1);
	ck_assert_uint_le(st.children, 4);
	for (int i = 1; i < ROWS(f); i++) {
		ck_assert_int_eq(f[i].calls, 1);
		secret_free(f[i].secret);
	}
	close_fixture(&f[0]);
}
END_TEST

START_TEST(coalescing)
{
	static struct fixture f[50];
	struct setting set = {.mode = "unavailable", .times = "1", .children = 4};

	open_fixture(&f[0], &set);
	for (int i = 0; i < ROWS(f); i++) {
		if (i)
			sem_init(&f[i].over, 0, 0);
		ck_assert_int_eq(keyservice_get(f[0].ks, "kkk", on_done, &f[i]), 0);
	}
	for (int i = 0; i < ROWS(f); i++) {
		wait_over(&f[i]);
		ck_assert_int_eq(f[i].err, 0);
		expect_secret(f[i].secret, 'k', "coalescing");
	}
	ck_assert_int_eq(counted(&f[0], "gets"), 2);
	for (int i = 1; i < ROWS(f); i++)
		secret_free(f[i].secret);
	close_fixture(&f[0]);
}
END_TEST

static void set_down(const struct fixture *f, bool down)
{
	char path[5000];
	int fd;

	snprintf(path, sizeof(path), "%s/down", f->dir);
	if (!down) {
		ck_assert_int_eq(unlink(path), 0);
		return;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static void expect_breaker(struct fixture *f, const char *name, uint64_t opened)
{
	struct keyservice_status st;

	for (int i = 0; i < 2000; i++) {
		keyservice_get_status(f->ks, &st);
		if (strcmp(st.breaker, name) == 0)
			break;
		usleep(1000);
	}
	ck_assert_str_eq(st.breaker, name);
	ck_assert_uint_eq(st.breaker_opened, opened);
}

/* An outage: few requests go out, however many wait; then all are served, once each. */
START_TEST(breaker)
{
	static struct fixture f[200];
	struct setting set = {.mode = "down", .children = 4};
	char id[32];

	open_fixture(&f[0], &set);
	set_down(&f[0], true);
	for (int i = 0; i < ROWS(f); i++) {
		if (i)
			sem_init(&f[i].over, 0, 0);
		snprintf(id, sizeof(id), "k%d", i);
		ck_assert_int_eq(keyservice_get(f[0].ks, id, on_done, &f[i]), 0);
	}
	expect_breaker(&f[0], "open", 1);
	usleep(400000);
	/* those that opened it, the other helpers' first ones, and a probe or two */
	ck_assert_int_le(counted(&f[0], "vain"), 5 + 4 + 2);
	set_down(&f[0], false);
	for (int i = 0; i < ROWS(f); i++) {
		wait_over(&f[i]);
		ck_assert_int_eq(f[i].err, 0);
		secret_free(f[i].secret);
		f[i].secret = NULL;
	}
	ck_assert_int_eq(counted(&f[0], "gets"), ROWS(f));
	ck_assert_int_eq(counted(&f[0], "served"), ROWS(f) + 1);
	expect_breaker(&f[0], "closed", 1);
	close_fixture(&f[0]);
}
END_TEST

/* Who waits has its own deadline, and new settings are tried at once. */
START_TEST(breaker_deadline)
{
	static struct fixture f[8];
	struct setting set = {.mode = "down", .children = 8, .timeout_s = 1};
	struct keyservice_option options[] = {{"directory", f[0].dir}, {"mode", ""}};
	struct keyservice_config fresh = {
		.name = "test", .helper = helper, .options = options, .option_cnt = 2};
	struct keyservice_sync got;
	double start = now_s();

	open_fixture(&f[0], &set);
	set_down(&f[0], true);
	for (int i = 0; i < ROWS(f); i++) {
		char id[] = {(char)('a' + i), '\0'};

		if (i)
			sem_init(&f[i].over, 0, 0);
		ck_assert_int_eq(keyservice_get(f[0].ks, id, on_done, &f[i]), 0);
	}
	for (int i = 0; i < ROWS(f); i++) {
		wait_over(&f[i]);
		ck_assert_int_eq(f[i].err, -ETIMEDOUT);
		ck_assert_str_eq(f[i].text, "unavailable: down");
	}
	ck_assert(now_s() - start >= 0.9 && now_s() - start < 3);
	ck_assert_int_eq(keyservice_reload(f[0].ks, &fresh), 0);
	ck_assert_int_eq(keyservice_get_sync(f[0].ks, "z", &got), 0);
	secret_free(got.secret);
	expect_breaker(&f[0], "closed", 1);
	close_fixture(&f[0]);
}
END_TEST

/* Refusals are answers. And one id that is refused is one request a second. */
static const struct {
	const char *mode;
	vcf_err_t err;
	int gets; /* of ten in a row */
} refused_rows[] = {
	{"denied", -EKEYREJECTED, 1},
	{"notfound", -ENOKEY, 1},
	{"quota", -EDQUOT, 10},
	{"invalid", -EINVAL, 10},
};

START_TEST(refused)
{
	struct setting set = {.mode = refused_rows[_i].mode};
	struct keyservice_sync got;
	static struct fixture f;

	open_fixture(&f, &set);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(keyservice_get_sync(f.ks, "bad", &got),
				 refused_rows[_i].err);
	ck_assert_uint_gt(strlen(got.text), 0);
	ck_assert_int_eq(counted(&f, "gets"), refused_rows[_i].gets);
	ck_assert_int_eq(keyservice_get_sync(f.ks, "other", &got), refused_rows[_i].err);
	ck_assert_int_eq(counted(&f, "gets"), refused_rows[_i].gets + 1);
	expect_breaker(&f, "closed", 0);
	close_fixture(&f);
}
END_TEST

/* Megabytes on stderr keep nobody from an answer. */
START_TEST(chatter)
{
	struct setting set = {.mode = "chatter"};
	struct keyservice_sync got = {.secret = NULL};
	static struct fixture f;

	open_fixture(&f, &set);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(keyservice_get_sync(f.ks, "key-id", &got), 0);
		secret_free(got.secret);
	}
	close_fixture(&f);
}
END_TEST

/* Freed while one request is with a helper that hangs and others wait. */
START_TEST(cancel)
{
	static struct fixture f[3];
	struct setting set = {.mode = "hang"};
	const char *ids[] = {"a", "b", "a"};
	double start = now_s();

	open_fixture(&f[0], &set);
	for (int i = 0; i < 3; i++) {
		if (i)
			sem_init(&f[i].over, 0, 0);
		ck_assert_int_eq(keyservice_get(f[0].ks, ids[i], on_done, &f[i]), 0);
	}
	while (!counted(&f[0], "gets"))
		usleep(1000);
	close_fixture(&f[0]);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(f[i].calls, 1);
		ck_assert_int_eq(f[i].err, -ECANCELED);
	}
	ck_assert(now_s() - start < 1.5);
}
END_TEST

/*
 * Helpers outlive a service that dies: played by an end that reaps nobody, and by copies of the
 * descriptors.
 */
static struct {
	int spawned;
	bool spare;
	pid_t reaped;
	struct keyservice_helper kept[3], copy[3];
} life;

static vcf_err_t counting_spawn(void *arg, const struct keyservice_program *program,
				struct keyservice_ends *ends, pid_t *pid)
{
	life.spawned++;
	return keyservice_spawn(arg, program, ends, pid);
}

static void sparing_reap(void *arg, pid_t pid)
{
	life.reaped = pid;
	if (!life.spare)
		keyservice_reap(arg, pid);
}

static void open_kept(struct fixture *f, const char *mode, unsigned int children,
		      uint32_t config)
{
	struct keyservice_option options[] = {{"directory", f->dir}, {"mode", mode}};
	struct keyservice_config cfg = {
		.name = "test",
		.helper = helper,
		.options = options,
		.option_cnt = 2,
		.children = children,
		.spawn = counting_spawn,
		.reap = sparing_reap,
		.kept = life.kept,
		.kept_cnt = 3,
		.kept_config = config,
	};

	sem_init(&f->over, 0, 0);
	snprintf(f->dir, sizeof(f->dir), "%s/XXXXXX", unit_tmpdir());
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	keyservice_end_strays(&cfg, &config, 1);
	ck_assert_int_eq(keyservice_new(&f->ks, &cfg), 0);
}

/* The service ends, its helper and their pipe stay; the record is as it was. */
static void die(struct fixture *f)
{
	memcpy(life.copy, life.kept, sizeof(life.copy));
	for (int i = 0; i < 3; i++) {
		if (!life.copy[i].pid)
			continue;
		life.copy[i].to = fcntl(life.copy[i].to, F_DUPFD_CLOEXEC, 3);
		life.copy[i].from = fcntl(life.copy[i].from, F_DUPFD_CLOEXEC, 3);
		if (life.copy[i].err >= 0)
			life.copy[i].err = fcntl(life.copy[i].err, F_DUPFD_CLOEXEC, 3);
	}
	life.spare = true;
	close_fixture(f);
	life.spare = false;
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(life.kept[i].pid, 0);
		ck_assert_uint_eq(life.kept[i].idle, 0);
	}
	memcpy(life.kept, life.copy, sizeof(life.copy));
	life.spawned = 0;
	life.reaped = 0;
}

static void expect_ping(struct fixture *f)
{
	ck_assert_int_eq(keyservice_ping(f->ks, on_done, f), 0);
	wait_over(f);
	ck_assert_int_eq(f->err, 0);
}

static const struct kept_row {
	const char *what;
	const char *mode;
	uint32_t before, after; /* the configurations */
	bool adopted;
} kept_rows[] = {
	{"an idle one", "", 1, 1, true},
	{"one with another configuration", "", 1, 2, false},
	{"one with a request", "hang", 1, 1, false},
};

START_TEST(kept_helpers)
{
	const struct kept_row *row = &kept_rows[_i];
	bool idle = *row->mode == '\0';
	struct fixture f = {0};
	pid_t pid;

	memset(&life, 0, sizeof(life));
	open_kept(&f, row->mode, 1, row->before);
	if (idle)
		expect_ping(&f);
	else
		ck_assert_int_eq(keyservice_get(f.ks, "x", on_done, &f), 0);
	while (!idle && !counted(&f, "gets"))
		usleep(1000);
	pid = life.kept[0].pid;
	ck_assert_int_gt(pid, 0);
	ck_assert_uint_eq(life.kept[0].idle, idle);
	die(&f);

	f = (struct fixture){0};
	open_kept(&f, "", 1, row->after);
	ck_assert_int_eq(life.reaped, row->adopted ? 0 : pid);
	expect_ping(&f);
	ck_assert_int_eq(life.spawned, !row->adopted);
	ck_assert_int_eq(life.kept[0].pid == pid, row->adopted);
	ck_assert_uint_eq(life.kept[0].idle, 1);
	close_fixture(&f);
	ck_assert_int_eq(life.kept[0].pid, 0);
}
END_TEST

static int kept_cnt(bool idle)
{
	int cnt = 0;

	for (int i = 0; i < 3; i++)
		cnt += life.kept[i].pid && (!idle || life.kept[i].idle);
	return cnt;
}

/* More than the service may have now: the others end. */
START_TEST(kept_too_many)
{
	static struct fixture more[3];
	struct fixture f = {0};

	memset(&life, 0, sizeof(life));
	open_kept(&f, "slow", 3, 0);
	for (int i = 0; i < 3; i++) {
		char id[] = {(char)('a' + i), '\0'};

		sem_init(&more[i].over, 0, 0);
		ck_assert_int_eq(keyservice_get(f.ks, id, on_done, &more[i]), 0);
	}
	for (int i = 0; i < 3; i++) {
		wait_over(&more[i]);
		secret_free(more[i].secret);
	}
	/* Two do as well, if the third started late or not at all. */
	for (int i = 0; i < 1000 && kept_cnt(true) < 3; i++)
		usleep(1000);
	ck_assert_int_ge(kept_cnt(true), 2);
	die(&f);

	f = (struct fixture){0};
	open_kept(&f, "", 1, 0);
	ck_assert_int_ne(life.reaped, 0);
	ck_assert_int_eq(kept_cnt(false), 1);
	expect_ping(&f);
	ck_assert_int_eq(life.spawned, 0);
	close_fixture(&f);
}
END_TEST

/* --- other settings under way --- */

/* The other fixture's folder and settings for the first one's service. */
static void reload_fixture(struct fixture *f, const struct fixture *dir,
			   const struct setting *set)
{
	struct keyservice_option options[] = {
		{"directory", dir->dir},
		{"mode", set->mode ? set->mode : ""},
	};
	struct keyservice_config cfg = {
		.name = "test",
		.helper = set->program ? set->program : helper,
		.options = options,
		.option_cnt = 2,
		.children = set->children,
		.timeout_s = 5,
		.request_timeout_ms = 2000,
	};

	ck_assert_int_eq(keyservice_reload(f->ks, &cfg), 0);
}

/* A busy helper ends after its answer, an idle one at once; both are no failures. */
START_TEST(reload_busy)
{
	static struct fixture f[2];
	const struct setting old = {.mode = "slow"}, fresh = {.children = 2};
	struct keyservice_status st;

	open_fixture(&f[0], &old);
	open_fixture(&f[1], &fresh);
	ck_assert_int_eq(keyservice_get(f[0].ks, "aaa", on_done, &f[0]), 0);
	while (!counted(&f[0], "gets"))
		usleep(1000);
	reload_fixture(&f[0], &f[1], &fresh);
	reload_fixture(&f[0], &f[1], &fresh); /* perhaps before the first is looked at */
	ck_assert_int_eq(keyservice_get(f[0].ks, "bbb", on_done, &f[1]), 0);
	wait_over(&f[1]);
	ck_assert_int_eq(sem_trywait(&f[0].over), -1); /* the old one is at work yet */
	wait_over(&f[0]);
	expect_secret(f[0].secret, 'a', "old");
	expect_secret(f[1].secret, 'b', "new");
	ck_assert_int_eq(counted(&f[0], "gets"), 1);
	ck_assert_int_eq(counted(&f[1], "gets"), 1);
	for (int i = 0; i < 1000; i++) {
		keyservice_get_status(f[0].ks, &st);
		if (st.children == 1)
			break;
		usleep(1000);
	}
	ck_assert_uint_eq(st.children, 1);
	ck_assert_uint_eq(st.restarts, 0);
	ck_assert_str_eq(st.state, "ok");
	for (int i = 0; i < 2; i++)
		close_fixture(&f[i]);
}
END_TEST

/* A helper that never started: the request that waits is served by the next. */
START_TEST(reload_mends)
{
	static struct fixture f;
	const struct setting old = {.program = "/nonexistent/helper"},
			     fresh = {.children = 1};
	struct keyservice_status st;

	open_fixture(&f, &old);
	ck_assert_int_eq(keyservice_get(f.ks, "aaa", on_done, &f), 0);
	do {
		keyservice_get_status(f.ks, &st);
	} while (strcmp(st.state, "failing") != 0);
	ck_assert_str_eq(st.helper, "helper");
	reload_fixture(&f, &f, &fresh);
	wait_over(&f);
	ck_assert_int_eq(f.err, 0);
	expect_secret(f.secret, 'a', "mended");
	keyservice_get_status(f.ks, &st);
	ck_assert_str_eq(st.helper, "vmcryptfs-key-faulty");
	close_fixture(&f);
}
END_TEST

START_TEST(reload_often)
{
	static struct fixture f[60];
	const struct setting set[2] = {{.children = 4}, {.children = 1}};
	struct keyservice_status st;
	char id[] = "a";

	open_fixture(&f[0], &set[0]);
	for (int i = 0; i < ROWS(f); i++) {
		if (i)
			sem_init(&f[i].over, 0, 0);
		id[0] = (char)('a' + i % 26);
		ck_assert_int_eq(keyservice_get(f[0].ks, id, on_done, &f[i]), 0);
		if (i % 5 == 0)
			reload_fixture(&f[0], &f[0], &set[i / 5 % 2]);
		usleep(1000);
	}
	for (int i = 0; i < ROWS(f); i++) {
		wait_over(&f[i]);
		ck_assert_int_eq(f[i].err, 0);
		expect_secret(f[i].secret, (char)('a' + i % 26), "often");
	}
	keyservice_get_status(f[0].ks, &st);
	ck_assert_uint_eq(st.restarts, 0);
	ck_assert_uint_eq(st.failures, 0);
	for (int i = 1; i < ROWS(f); i++)
		secret_free(f[i].secret);
	close_fixture(&f[0]);
}
END_TEST

/* The spawn function is that of the first, whose settings it does not share. */
START_TEST(alike)
{
	static struct fixture f;
	const struct setting set = {.program = "/nonexistent/helper"};
	struct keyservice_config cfg = {.name = "test", .helper = helper, .timeout_s = 5};
	struct keyservice_sync out;
	auto_keyservice struct keyservice *other = NULL;

	open_fixture(&f, &set);
	ck_assert_int_eq(keyservice_new_like(&other, f.ks, &cfg), 0);
	close_fixture(&f);
	ck_assert_int_eq(keyservice_ping_sync(other, &out), 0);
}
END_TEST

START_TEST(surroundings)
{
	struct setting set = {.mode = "describe"};
	struct keyservice_sync out;
	struct fixture f;

	setenv("LANG", "C.UTF-8", 1);
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1);
	setenv("LD_PRELOAD_NOT", "x", 1);
	open_fixture(&f, &set);
	ck_assert_int_eq(keyservice_get_sync(f.ks, "a", &out), -EKEYREJECTED);
	ck_assert_str_eq(out.text,
			 "denied: fds 0 1 2 umask 077 nnp 1 leader 1 core 1 blocked 0 "
			 "pipe 1 env PATH LANG CREDENTIALS_DIRECTORY");
	close_fixture(&f);
}
END_TEST

/* A service may quote what it was sent, and a script hand that on. */
START_TEST(secret_in_error)
{
	struct setting set = {.mode = "echo"};
	struct keyservice_sync out;
	struct fixture f;

	open_fixture(&f, &set);
	ck_assert_int_eq(keyservice_get_sync(f.ks, "a", &out), -EKEYREJECTED);
	ck_assert_str_eq(out.text, "denied: you sent [... 44 characters]");
	close_fixture(&f);
}
END_TEST

/* A helper may be found, and which may be used. */
static void make(const char *path, mode_t mode, uid_t uid, bool folder)
{
	int fd;

	if (folder)
		ck_assert_int_eq(mkdir(path, 0700), 0);
	fd = open(path, folder ? O_RDONLY : O_WRONLY | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	if (uid)
		ck_assert_int_eq(fchown(fd, uid, uid), 0);
	close(fd);
}

static const struct {
	mode_t folder;
	uid_t folder_uid;
	mode_t file;
	uid_t file_uid;
	const char *link; /* a second way to it */
	vcf_err_t err;
} program_rows[] = {
	{0755, 0, 0755, 0, NULL, 0},
	{0700, 0, 0700, 0, "d/p", 0},
	{01777, 0, 0755, 0, NULL, 0},
	{0755, 0, 0644, 0, NULL, -EPERM},
	{0755, 0, 0757, 0, NULL, -EPERM},
	{0777, 0, 0755, 0, NULL, -EPERM},
	{0777, 0, 0755, 0, "d/p", -EPERM},
	{0755, 0, 0755, 12345, NULL, -EPERM},
	{0755, 12345, 0755, 0, NULL, -EPERM},
	{01777, 0, 0755, 12345, NULL, -EPERM},
	{0775, 12345, 0755, 0, NULL, -EPERM},
	{0755, 0, 0755, 0, "nowhere", -ENOENT},
	{0755, 0, 0755, 0, "d", -EPERM},
	{0755, 0, 0755, 0, "l", -EPERM}, /* a loop */
};

/* Root of a user namespace cannot, either. */
static bool can_give_away(void)
{
	int fd = unit_tmpfile();
	bool can = fchown(fd, 12345, 12345) == 0;

	close(fd);
	return can;
}

START_TEST(programs)
{
	char base[4200], dir[4300], file[4400], link[4300];

	if ((program_rows[_i].folder_uid || program_rows[_i].file_uid) &&
	    !can_give_away())
		return;
	snprintf(base, sizeof(base), "%s/programs%d", unit_tmpdir(), _i);
	snprintf(dir, sizeof(dir), "%s/d", base);
	snprintf(file, sizeof(file), "%s/p", dir);
	snprintf(link, sizeof(link), "%s/l", base);
	ck_assert_int_eq(mkdir(base, 0700), 0);
	make(dir, 0700, 0, true);
	make(file, program_rows[_i].file, program_rows[_i].file_uid, false);
	ck_assert_int_eq(chown(dir,
			       program_rows[_i].folder_uid ? program_rows[_i].folder_uid
							   : (uid_t)-1,
			       (gid_t)-1),
			 0);
	ck_assert_int_eq(chmod(dir, program_rows[_i].folder), 0);
	if (program_rows[_i].link)
		ck_assert_int_eq(symlink(program_rows[_i].link, link), 0);
	ck_assert_int_eq(keyservice_check_program(program_rows[_i].link ? link : file),
			 program_rows[_i].err);
}
END_TEST

START_TEST(program_names)
{
	char path[PATH_MAX];

	ck_assert_int_eq(keyservice_find_program(path, sizeof(path), "a/b"), -EINVAL);
	ck_assert_int_eq(keyservice_find_program(path, sizeof(path), ""), -EINVAL);
	ck_assert_int_eq(keyservice_find_program(path, sizeof(path), "Faulty"), -EINVAL);
	ck_assert_int_eq(keyservice_find_program(path, sizeof(path), "no-such"), -ENOENT);
	ck_assert_int_eq(keyservice_find_program(path, sizeof(path), helper), 0);
	ck_assert_str_eq(path, helper);
	ck_assert_int_eq(keyservice_check_program("relative"), -EPERM);
	ck_assert_int_eq(keyservice_check_program("/"), -EPERM);
}
END_TEST

/* A list is as long as it is: neither limit of time counts while items come. */
static const struct {
	const char *mode, *prefix;
	vcf_err_t err;
	int items, lists;
} list_rows[] = {
	{"", "p", 0, 6, 1},
	{"", NULL, 0, 6, 1},
	{"list-slow", "p", 0, 6, 1},   /* 1.5 s; a try has 0.5 s, all of it 1 s */
	{"list-broken", "p", 0, 6, 2}, /* what came before is forgotten */
	{"list-other", "p", -ETIMEDOUT, 0, 0},
	{"down", "p", -ETIMEDOUT, 0, 0},
};

static void count_item(void *arg, const struct keyservice_item *item)
{
	char label[8];
	int *cnt = arg;

	if (!item) {
		*cnt = 0;
		return;
	}
	snprintf(label, sizeof(label), "%d", *cnt);
	ck_assert_str_eq(item->label + strspn(item->label, "p"), label);
	ck_assert_str_eq(item->created, "2026-01-01T00:00:00Z");
	++*cnt;
}

START_TEST(lists)
{
	static struct fixture f;
	struct setting set = {.mode = list_rows[_i].mode,
			      .times = "1",
			      .timeout_s = 1,
			      .request_timeout_ms = 500};
	int items = 0;

	open_fixture(&f, &set);
	if (strcmp(set.mode, "down") == 0)
		set_down(&f, true);
	ck_assert_int_eq(keyservice_list(f.ks, list_rows[_i].prefix, count_item, &items,
					 on_done, &f),
			 0);
	wait_over(&f);
	ck_assert_int_eq(f.err, list_rows[_i].err);
	if (!f.err) {
		ck_assert_int_eq(items, list_rows[_i].items);
		ck_assert_int_eq(counted(&f, "lists"), list_rows[_i].lists);
	}
	close_fixture(&f);
}
END_TEST

/* An hour is not believed: the service may be back in a minute. */
START_TEST(long_retry_after)
{
	struct key_reply r = {.kind = KEY_REPLY_ERROR, .error = KEY_UNAVAILABLE};
	struct key_request q;
	struct keyjob *job;

	ck_assert_int_eq(keyjob_new(&job, KEY_GET, "id", NULL, NULL), 0);
	keyjob_request(job, 0, &q);
	r.retry_after_s = KEYPROTO_RETRY_AFTER_MAX;
	ck_assert_int_eq(keyjob_reply(job, &r), KEYJOB_RETRY);
	ck_assert_uint_eq(job->retry_after_s, KEYJOB_RETRY_AFTER_MAX_S);
	r.retry_after_s = 7;
	ck_assert_int_eq(keyjob_reply(job, &r), KEYJOB_RETRY);
	ck_assert_uint_eq(job->retry_after_s, 7);
	keyjob_free(job);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("keyservice");
	TCase *t = tcase_create("keyservice");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, faults);
	tcase_add_loop_test(t, new_secrets, 0, ROWS(new_rows));
	tcase_add_test(t, new_derived);
	tcase_add_test(t, other_verbs);
	tcase_add_loop_test(t, lists, 0, ROWS(list_rows));
	tcase_add_test(t, many);
	tcase_add_test(t, coalescing);
	tcase_add_test(t, breaker);
	tcase_add_test(t, breaker_deadline);
	tcase_add_test(t, long_retry_after);
	tcase_add_loop_test(t, refused, 0, ROWS(refused_rows));
	tcase_add_test(t, chatter);
	tcase_add_test(t, cancel);
	tcase_add_loop_test(t, kept_helpers, 0, ROWS(kept_rows));
	tcase_add_test(t, kept_too_many);
	tcase_add_test(t, reload_busy);
	tcase_add_test(t, reload_mends);
	tcase_add_test(t, reload_often);
	tcase_add_test(t, alike);
	tcase_add_test(t, surroundings);
	tcase_add_test(t, secret_in_error);
	tcase_add_loop_test(t, programs, 0, ROWS(program_rows));
	tcase_add_test(t, program_names);
	suite_add_tcase(s, t);
	return s;
}
