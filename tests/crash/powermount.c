/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An outcome as a real mount. Its folders lie in memory: the daemon's syncs cost nothing there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "crypto/container.h"
#include "fs/mountpoint.h"
#include "tests/crash/powercheck.h"
#include "util/io.h"

/* --- and with one --- */

static void put_tree(struct check *c, int tree, const struct object *folder,
		     const char *path)
{
	const struct names *n = &c->o->names[tree];

	if (mkdir(path, 0700) && errno != EEXIST)
		die(path);
	for (size_t i = 0; i < n->cnt; i++) {
		const struct name *e = &n->list[i];
		char below[2048];

		if (e->folder != folder)
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, e->text);
		if (e->object->kind == OBJECT_FOLDER)
			put_tree(c, tree, e->object, below);
		else
			save_content(below,
				     c->o->contents[disk_index(&c->disk, e->object)]);
	}
}

static void put_keys(struct check *c)
{
	for (size_t i = 0; i < c->keys.cnt; i++) {
		const struct key *k = &c->keys.list[i];
		char path[1200], hex[SECRET_HEX_LEN + 1];
		auto_close int fd = -1;

		if (!key_perhaps(k, c->cut) ||
		    (!key_surely(k, c->cut) && work_random(&c->random) % 2))
			continue;
		for (int b = 0; b < SECRET_LEN; b++)
			snprintf(hex + 2 * b, 3, "%02x", k->bytes[b]);
		snprintf(path, sizeof(path), "%s/keys/%s", c->folder, k->id);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || io_pwrite_full(fd, hex, SECRET_HEX_LEN, 0))
			die(path);
	}
}

/* Removes what is below, not the folder. */
static void empty_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char below[2048];

	while (dir && (e = readdir(dir))) {
		snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_type == DT_DIR)
			empty_folder(below);
		if (remove(below))
			die(below);
	}
	if (dir)
		closedir(dir);
}

static void put_outcome(struct check *c)
{
	static const char *const parts[] = {"back", "state", "keys", "run"};
	char path[1200];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s", c->folder, parts[i]);
		empty_folder(path);
	}
	snprintf(path, sizeof(path), "%s/back", c->folder);
	put_tree(c, TREE_BACK, c->disk.trees[TREE_BACK].root, path);
	snprintf(path, sizeof(path), "%s/state", c->folder);
	put_tree(c, TREE_STATE, c->disk.trees[TREE_STATE].root, path);
	put_keys(c);
}

static pid_t start_daemon(struct check *c)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		char path[1100];
		int fd;

		snprintf(path, sizeof(path), "%s/log", c->folder);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(125);
		execv(c->mount[0], c->mount);
		_exit(126);
	}
	return pid;
}

/* The daemon has mounted: true. It has ended: false. */
static bool wait_mounted(struct check *c, pid_t *pid)
{
	const struct timespec pause = {.tv_nsec = 3000000};
	struct stat above, mnt;
	char path[1100];

	snprintf(path, sizeof(path), "%s/mnt", c->folder);
	if (stat(c->folder, &above))
		die(c->folder);
	for (int i = 0; i < 10000; i++) {
		if (stat(path, &mnt) == 0 && mnt.st_dev != above.st_dev)
			return true;
		if (waitpid(*pid, NULL, WNOHANG) == *pid) {
			*pid = 0;
			return false;
		}
		nanosleep(&pause, NULL);
	}
	return false;
}

static void stop_daemon(struct check *c, pid_t pid)
{
	int status;

	if (!pid)
		return;
	if (kill(pid, SIGTERM) || waitpid(pid, &status, 0) != pid)
		die("daemon");
	if (status)
		violation(c, "the daemon ends with status %#x", (unsigned int)status);
}

static void path_in(struct check *c, const char *part, const struct model_name *n,
		    char path[2048])
{
	const struct object *folder = folder_object(c, n->folder);
	const struct names *names = &c->o->names[TREE_BACK];
	const char *above = ".";

	for (size_t i = 0; n->folder && i < names->cnt; i++)
		if (names->list[i].object == folder)
			above = names->list[i].text;
	snprintf(path, 2048, "%s/%s/%s/%s", c->folder, part, above, n->text);
}

static void check_mounted_file(struct check *c, const struct model_name *n,
			       const struct file *f, size_t oldest)
{
	char path[2048];
	auto_close int fd = -1;
	unsigned char *bytes;
	struct stat st;
	ssize_t len;

	path_in(c, "mnt", n, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		violation(c, "%s: mounted: %s", n->text, strerror(errno));
		return;
	}
	bytes = malloc((size_t)st.st_size + 1);
	len = bytes ? io_pread_full(fd, bytes, (size_t)st.st_size + 1, 0) : -ENOMEM;
	if (len != st.st_size)
		violation(c, "%s: mounted: read of %lld bytes gives %zd", n->text,
			  (long long)st.st_size, len);
	else
		judge(c, n->text, f, oldest, bytes, (uint64_t)len);
	free(bytes);
}

/*
 * Whatever lies behind its end below: what a file grows by is zeros. Not for empty ones, which
 * would get a header and a secret that the record knows nothing of.
 */
static void check_growth(struct check *c, const struct model_name *n)
{
	enum { BY = 5000 };
	unsigned char bytes[BY];
	char path[2048];
	auto_close int fd = -1;
	struct stat st;

	path_in(c, "mnt", n, path);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0)
		return;
	if (fd < 0 || fstat(fd, &st) || ftruncate(fd, st.st_size + BY) ||
	    io_pread_full(fd, bytes, BY, st.st_size) != BY)
		violation(c, "%s: cannot grow: %s", n->text, strerror(errno));
	else if (!io_is_zero(bytes, BY))
		violation(c, "%s: grows by something else than zeros", n->text);
}

static void check_mounted_names(struct check *c)
{
	for (size_t i = 0; i < c->model.name_cnt; i++) {
		const struct model_name *n = &c->model.names[i];
		const struct binding *b = NULL;
		const struct object *o;
		const struct file *f = resolve(c, n, &o, &b);

		if (!f || o->kind != OBJECT_FILE)
			continue;
		check_mounted_file(c, n, f, oldest_version(c, f, b));
		check_growth(c, n);
	}
}

/*
 * The header of an image that gets a secret of its own in the background is changed copy by copy, one
 * image at a time: the power may fail in the middle of one.
 */
static void check_log(struct check *c)
{
	char path[1100], line[1024];
	int mended = 0;
	bool first;
	FILE *log;

	snprintf(path, sizeof(path), "%s/log", c->folder);
	log = fopen(path, "re");
	if (!log)
		die(path);
	while (fgets(line, sizeof(line), log)) {
		line[strcspn(line, "\n")] = '\0';
		first = strstr(line, "one copy of the header was damaged") && !mended++;
		if (strstr(line, " err: ") || (strstr(line, "damaged") && !first))
			violation(c, "the daemon says: %s", line);
	}
	fclose(log);
}

/* The one folder in FOLDER/state. */
static void state_path(struct check *c, const char *name, char path[2400])
{
	char state[1100];
	DIR *dir;
	struct dirent *e;

	snprintf(state, sizeof(state), "%s/state", c->folder);
	dir = opendir(state);
	*path = '\0';
	while (dir && (e = readdir(dir)))
		if (*e->d_name != '.')
			snprintf(path, 2400, "%s/%s/%s", state, e->d_name, name);
	if (dir)
		closedir(dir);
}

static struct noted *walked; /* nftw() has no argument */

static int note_container(const char *path, const struct stat *st, int kind,
			  struct FTW *at)
{
	auto_close int fd = kind == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	auto_container struct container *c = NULL;
	bool mended;

	(void)st;
	(void)at;
	if (fd < 0 || container_load(&c, fd, path, &mended))
		return 0;
	noted_add(walked, container_token(c)->key_id);
	return 0;
}

/* What the daemon has made of the containers: one may have got another secret (promote). */
static void note_containers(struct check *c, struct noted *noted)
{
	char back[1100];

	snprintf(back, sizeof(back), "%s/back", c->folder);
	walked = noted;
	if (nftw(back, note_container, 16, FTW_PHYS))
		die(back);
}

/* After recovery each secret is somebody's, as ever. */
static void check_keys_left(struct check *c)
{
	struct noted noted = {0};
	char path[2400], text[256] = "";
	auto_close int fd = -1;
	struct dirent *e;
	DIR *dir;

	check_names(c, &noted);
	note_containers(c, &noted);
	state_path(c, "journal", path);
	if (noted_journal(&noted, path) || noted.damaged)
		violation(c, "the journal is damaged after a recovery");
	state_path(c, "site", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && io_pread_full(fd, text, 255, 0) > 0)
		noted_site(&noted, text);
	snprintf(path, sizeof(path), "%s/keys", c->folder);
	dir = opendir(path);
	while (dir && (e = readdir(dir)))
		if (*e->d_name != '.' && !noted_has(&noted, e->d_name))
			violation(c, "after a recovery the secret %s is nobody's",
				  e->d_name);
	if (dir)
		closedir(dir);
	noted_free(&noted);
}

/* The state's folder is named after the backing folder: here it is another one. */
static void rename_state(struct check *c)
{
	struct config cfg = {0};
	char from[2400], to[2400], back[1100], state[1100];

	state_path(c, "", from);
	if (!*from)
		return;
	snprintf(back, sizeof(back), "%s/back", c->folder);
	snprintf(state, sizeof(state), "%s/state", c->folder);
	cfg.backing = back;
	cfg.state_directory = state;
	if (mountpoint_state(to, sizeof(to), &cfg, "") || rename(from, to))
		die(from);
}

void check_mounted(struct check *c)
{
	size_t before = c->violations;
	pid_t pid;

	put_outcome(c);
	rename_state(c);
	c->mounted++;
	pid = start_daemon(c);
	if (wait_mounted(c, &pid))
		check_mounted_names(c);
	else
		violation(c, "the daemon does not mount");
	stop_daemon(c, pid);
	check_log(c);
	if (c->violations == before)
		check_keys_left(c);
}
