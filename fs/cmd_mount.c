/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount: reads the configuration, starts the keeper, waits until the mount answers. With --session,
 * which only a keeper writes (upgrade.h), it goes on with a mount that is there; upgrade-probe asks
 * beforehand whether that would work. Nothing of the mount itself may be touched then: nobody
 * serves it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build-config.h"
#include "crypto/kdf.h"
#include "crypto/keyservice.h"
#include "crypto/secret.h"
#include "fs/cmd.h"
#include "fs/config.h"
#include "fs/config_source.h"
#include "fs/exitcode.h"
#include "fs/guard.h"
#include "fs/keeper.h"
#include "fs/mountpoint.h"
#include "fs/server.h"
#include "fs/session.h"
#include "fs/upgrade.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/sdnotify.h"

struct mount_args {
	struct config *cfg;
	bool foreground;
	bool with_plaintext;
	struct config_source source;
	int session;			  /* descriptor, -1: a new mount */
	const char *backing, *mountpoint; /* with a session: what is mounted */
	bool back;
	bool served; /* keeper_resume() has judged */
};

enum { OPT_WITH_PLAINTEXT = 256, OPT_SESSION, OPT_BACKING, OPT_MOUNTPOINT, OPT_BACK };

/* Names that a keeper has resolved. */
static int take_names(struct config_source *src, char **names)
{
	src->backing = strdup(names[0]);
	src->mountpoint = strdup(names[1]);
	return src->backing && src->mountpoint ? EXIT_OK : EXIT_FAILED;
}

/* CONFIG, or BACKING and MOUNTPOINT. */
static int parse_names(struct mount_args *a, int cnt, char **names)
{
	struct config_source *src = &a->source;
	vcf_err_t errs[2] = {0};

	if (cnt == 2 && a->session >= 0)
		return take_names(src, names);
	if (cnt == 1) {
		errs[0] = config_source_file(src, names[0]);
	} else if (cnt == 2) {
		errs[0] = config_source_backing(src, names[0]);
		errs[1] = config_source_mountpoint(src, names[1]);
	} else {
		fprintf(stderr,
			"vmcryptfs mount: give CONFIG, or BACKING and MOUNTPOINT\n");
		return EXIT_USAGE;
	}
	for (int i = 0; i < 2; i++) {
		if (!errs[i])
			continue;
		fprintf(stderr, "vmcryptfs mount: %s: %s\n", names[i],
			strerror(-errs[i]));
		return EXIT_NOT_FOUND;
	}
	return EXIT_OK;
}

static int refuse_secret(void)
{
	fprintf(stderr,
		"vmcryptfs mount: a secret on the command line is everybody's to read; "
		"put it into a configuration file of mode 0600\n");
	return EXIT_CONFIG;
}

/* False: not one of those. */
static bool take_session(struct mount_args *a, int opt)
{
	if (opt == OPT_SESSION)
		a->session = atoi(optarg);
	else if (opt == OPT_BACKING)
		a->backing = optarg;
	else if (opt == OPT_MOUNTPOINT)
		a->mountpoint = optarg;
	else
		a->back = true;
	return true;
}

static int parse_options(struct mount_args *a, int argc, char **argv)
{
	static const struct option longs[] = {
		{"with-plaintext", no_argument, NULL, OPT_WITH_PLAINTEXT},
		{"session", required_argument, NULL, OPT_SESSION},
		{"backing", required_argument, NULL, OPT_BACKING},
		{"mountpoint", required_argument, NULL, OPT_MOUNTPOINT},
		{"back", no_argument, NULL, OPT_BACK},
		{NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "fo:", longs, NULL)) != -1) {
		if (opt == 'f')
			a->foreground = true;
		else if (opt == OPT_WITH_PLAINTEXT)
			a->with_plaintext = true;
		else if (opt >= OPT_SESSION && take_session(a, opt))
			continue;
		else if (opt == 'o' && strncmp(optarg, "static.secret", 13) == 0)
			return refuse_secret();
		else if (opt != 'o' || config_source_setting(&a->source, optarg))
			return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* Options may come before and after the names: they are applied last. */
static int parse(struct mount_args *a, int argc, char **argv)
{
	int code = parse_options(a, argc, argv);
	vcf_err_t err;

	if (!code)
		code = parse_names(a, argc - optind, argv + optind);
	if (code)
		return code;
	err = config_load(&a->cfg, &a->source);
	if (err)
		return err == -ENOENT ? EXIT_NOT_FOUND : EXIT_CONFIG;
	return EXIT_OK;
}

/* What lies there is hidden by the mount: perhaps guests' disks that nobody encrypted. */
static void warn_not_empty(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	size_t cnt = 0;

	while (dir && (d = readdir(dir)))
		cnt += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	if (cnt)
		log_warn("%s: the mount hides %zu entries that lie there in the clear",
			 path, cnt);
}

/* With overmount the folder holds the ciphertext, and is the daemon's own. */
static void guard_mountpoint(const struct config *cfg)
{
	auto_close int fd = cfg->guard ? guard_open(cfg->mountpoint) : -1;
	vcf_err_t err;

	if (!cfg->guard)
		return;
	err = fd < 0 ? fd : guard_set(fd);
	if (err && fd >= 0 && guard_holds(guard_look(fd)))
		return; /* guarded in spite of what lies there */
	if (err)
		log_warn("%s: not guarded: while nothing is mounted there, root can "
			 "write to the folder in the clear (%s)",
			 cfg->mountpoint, strerror(-err));
}

/* Of a mount that is about to be replaced. */
static bool is_dead(int error)
{
	return error == ENOTCONN || error == ECONNABORTED;
}

static int no_folder(const char *path, vcf_err_t err)
{
	log_err("%s: %s", path, strerror(-err));
	return EXIT_NOT_FOUND;
}

static int check_mountpoint(struct config *cfg)
{
	vcf_err_t err = config_resolve(&cfg->mountpoint);
	struct stat st;

	if (!err)
		err = mountpoint_is_free(cfg->mountpoint);
	if (err == -EBUSY) {
		log_err("%s: a vmcryptfs is mounted there already", cfg->mountpoint);
		return EXIT_BUSY;
	}
	if (!err && stat(cfg->mountpoint, &st) < 0 && !is_dead(errno))
		err = -errno;
	if (err)
		return no_folder(cfg->mountpoint, err);
	err = config_resolve(&cfg->backing);
	if (!err && stat(cfg->backing, &st) < 0)
		err = -errno;
	if (err)
		return no_folder(cfg->backing, err);
	if (strcmp(cfg->mountpoint, cfg->backing) != 0) {
		warn_not_empty(cfg->mountpoint);
		guard_mountpoint(cfg);
	}
	return EXIT_OK;
}

/* The parent: waits for the byte that the keeper sends once it knows. */
static int wait_ready(int fd)
{
	unsigned char code;
	ssize_t n;

	do {
		n = read(fd, &code, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? code : EXIT_FAILED;
}

static int run_background(struct keeper_params *kp)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_err("cannot start: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (pid) {
		close(fds[1]);
		return wait_ready(fds[0]);
	}
	close(fds[0]);
	setsid();
	kp->ready_fd = fds[1];
	exit(keeper_run(kp));
}

static struct keeper_params params(const struct mount_args *a)
{
	return (struct keeper_params){
		.cfg = a->cfg,
		.source = &a->source,
		.foreground = a->foreground,
		.with_plaintext = a->with_plaintext,
		.ready_fd = -1,
	};
}

static int start(struct mount_args *a)
{
	struct keeper_params kp = params(a);
	vcf_err_t err = a->cfg->log_file ? log_set_file(a->cfg->log_file) : 0;

	if (err) {
		log_err("%s: %s", a->cfg->log_file, strerror(-err));
		return EXIT_CONFIG;
	}
	if (a->foreground)
		return keeper_run(&kp);
	if (a->cfg->log_file)
		log_tee();
	else
		log_set_target(LOG_TO_BOTH);
	if (chdir("/") < 0)
		log_dbg("chdir /: %s", strerror(errno));
	return run_background(&kp);
}

/* Where the new program cannot go on, the one before does; if it cannot, the anchor does. */
static void give_back(const struct mount_args *a, int argc, char **argv)
{
	auto_free char **args = calloc((size_t)argc + 3, sizeof(*args));
	struct session *s = NULL;

	if (a->back || !args || session_attach(&s, a->session))
		return;
	args[0] = (char *)(uintptr_t) "vmcryptfs";
	args[1] = argv[0];
	args[2] = (char *)(uintptr_t) "--back";
	for (int i = 1; i < argc; i++)
		args[i + 2] = argv[i];
	if (upgrade_execute(s, s->head->fds[SESSION_FD_PROGRAM], args))
		log_err("the program before cannot be executed");
}

static vcf_err_t set_folders(struct mount_args *a)
{
	char *backing = strdup(a->backing);
	char *mountpoint = strdup(a->mountpoint);

	if (!backing || !mountpoint) {
		free(backing);
		free(mountpoint);
		return -ENOMEM;
	}
	free(a->cfg->backing);
	free(a->cfg->mountpoint);
	a->cfg->backing = backing;
	a->cfg->mountpoint = mountpoint;
	return 0;
}

static int resume(struct mount_args *a)
{
	struct keeper_params kp = params(a);
	vcf_err_t err = set_folders(a);

	if (!err && a->cfg->log_file)
		err = log_set_file(a->cfg->log_file);
	else if (!err && !a->foreground)
		log_set_target(LOG_TO_SYSLOG);
	if (err)
		return EXIT_FAILED;
	if (!a->foreground)
		log_leave_terminal();
	prctl(PR_SET_NAME,
	      "vmcryptfs"); /* executed by its descriptor it has that's name */
	a->served = true;
	return keeper_resume(&kp, a->session, a->back);
}

static int run(struct mount_args *a, int argc, char **argv)
{
	int code = parse(a, argc, argv);

	if (code == EXIT_USAGE)
		return command_usage("mount");
	if (code)
		return code;
	config_apply_level(a->cfg);
	if (VCF_BENCH_NO_CIPHER)
		log_warn("this build DOES NOT ENCRYPT: whatever is written below %s is "
			 "plaintext",
			 a->cfg->backing);
	if (a->session >= 0)
		return resume(a);
	code = check_mountpoint(a->cfg);
	return code ? code : start(a);
}

static bool is_session(const struct mount_args *a)
{
	return a->session >= 0 && a->backing && a->mountpoint;
}

int cmd_mount(int argc, char **argv)
{
	struct mount_args a = {.session = -1};
	int code;

	sdnotify_init();
	code = run(&a, argc, argv);

	if (code && is_session(&a) && !a.served)
		give_back(&a, argc, argv);
	config_free(a.cfg);
	config_source_fini(&a.source);
	return code;
}

/*
 * upgrade-probe: the words go to whoever asks for the upgrade.
 */

static int say(int code, const char *what, vcf_err_t err)
{
	fprintf(stderr, "%s%s%s\n", what, err ? ": " : "", err ? strerror(-err) : "");
	return code;
}

static int probe_state(const struct mount_args *a)
{
	struct session *s = NULL;
	vcf_err_t err = session_attach(&s, a->session);

	if (err == -EPROTO)
		return say(EXIT_REFUSED,
			   "vmcryptfs " VCF_VERSION
			   " keeps its state in another form than the running program",
			   0);
	if (err)
		return say(EXIT_FAILED, "the running program's state", err);
	session_free(s, false);
	return EXIT_OK;
}

static int probe_config(struct mount_args *a)
{
	vcf_err_t err = config_resolve(&a->cfg->mountpoint);

	if (!err)
		err = config_resolve(&a->cfg->backing);
	if (err)
		return say(EXIT_NOT_FOUND, a->cfg->backing, err);
	if (strcmp(a->cfg->mountpoint, a->mountpoint) != 0 ||
	    strcmp(a->cfg->backing, a->backing) != 0)
		return say(EXIT_CONFIG,
			   "the configuration names other folders than those that are "
			   "mounted",
			   0);
	return EXIT_OK;
}

static int probe_host(const struct mount_args *a)
{
	const struct config *service;
	char program[PATH_MAX];
	vcf_err_t err;

	server_raise_limits();
	err = secret_arena_init();
	if (err)
		return say(EXIT_FAILED, "memory cannot be locked", err);
	err = crypto_init();
	if (err)
		return say(EXIT_FAILED, "the crypto library does not start", err);
	for (size_t i = 0; !err && (service = config_service_at(a->cfg, i)); i++)
		err = keyservice_find_program(program, sizeof(program), service->helper);
	return err ? say(EXIT_KEYSERVICE, "the key helper cannot be used", err) : EXIT_OK;
}

int cmd_upgrade_probe(int argc, char **argv)
{
	struct mount_args a = {.session = -1};
	int code = parse(&a, argc, argv);

	if (!code && !is_session(&a))
		code = EXIT_USAGE;
	if (!code)
		code = probe_state(&a);
	if (!code)
		code = probe_config(&a);
	if (!code)
		code = probe_host(&a);
	if (!code)
		printf("%s vmcryptfs %s\n", UPGRADE_PROBE_WORDS, VCF_VERSION);
	config_free(a.cfg);
	config_source_fini(&a.source);
	return code;
}
