/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status: what the mounts of this node are doing, for people and as JSON. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/exitcode.h"
#include "fs/guard.h"
#include "fs/holders.h"
#include "fs/jsonlines.h"
#include "fs/latency.h"
#include "fs/mountpoint.h"
#include "fs/statusfile.h"
#include "util/cleanup.h"
#include "util/visible.h"

enum form { SUMMARY, EACH_IMAGE, AS_JSON };

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "?";
}

/* "12.3 MiB" */
static void size_text(char dst[16], uint64_t bytes)
{
	static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
					    "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	int i = 0;

	for (; v >= 1024 && i < 6; i++)
		v /= 1024;
	snprintf(dst, 16, i ? "%.1f %s" : "%.0f %s", v, units[i]);
}

static void print_way(struct json_object *o, const char *cnt, const char *bytes,
		      const char *key)
{
	char size[16], mean[16], p99[16];
	struct latency l;

	latency_get(&l, o, key);
	size_text(size, json_number(o, bytes));
	latency_text(mean, latency_mean_us(&l), l.total);
	latency_text(p99, latency_quantile_us(&l, 0.99), l.total);
	printf("%s %" PRIu64 " (%s, mean %s, p99 %s)", cnt, json_number(o, cnt), size,
	       mean, p99);
}

/* Reads and writes of an image, or of the whole mount. */
static void print_io(struct json_object *o)
{
	print_way(o, "reads", "bytes_read", "read_latency");
	fputs(", ", stdout);
	print_way(o, "writes", "bytes_written", "write_latency");
	if (json_number(o, "read_errors") || json_number(o, "write_errors"))
		printf(", FAILED: %" PRIu64 " reads, %" PRIu64 " writes",
		       json_number(o, "read_errors"), json_number(o, "write_errors"));
	putchar('\n');
}

static void print_image(struct json_object *i)
{
	char path[1024];

	visible_copy(path, sizeof(path), str(i, "path"));
	printf("  %s\n    uuid %s  S %" PRIu64 "  opens %" PRIu64 "  key %s%s%s%s\n    ",
	       path, str(i, "uuid"), json_number(i, "sector_size"),
	       json_number(i, "opens"), str(i, "key_id"),
	       *str(i, "service") ? " of " : "", str(i, "service"),
	       json_flag(i, "derived") ? ", derived" : "");
	print_io(i);
}

/* One line for all; a server of an earlier version has no `io`. */
static void print_images(struct json_object *o, bool each)
{
	struct json_object *images = NULL, *io = NULL;
	size_t cnt, open = 0;

	if (!json_object_object_get_ex(o, "images", &images))
		return;
	cnt = json_object_array_length(images);
	for (size_t i = 0; i < cnt; i++)
		open += json_number(json_object_array_get_idx(images, i), "opens") > 0;
	printf("  images %zu with a key in memory, %zu of them open%s\n", cnt, open,
	       cnt && !each ? " (--images lists them)" : "");
	if (json_object_object_get_ex(o, "io", &io)) {
		fputs("  since the mount: ", stdout);
		print_io(io);
	}
	for (size_t i = 0; each && i < cnt; i++)
		print_image(json_object_array_get_idx(images, i));
}

/* How it has answered so far. */
static void print_answers(struct json_object *ks)
{
	struct latency l;
	char mean[16], p99[16];

	latency_get(&l, ks, "latency");
	latency_text(mean, latency_mean_us(&l), l.total);
	latency_text(p99, latency_quantile_us(&l, 0.99), l.total);
	printf("    requests %" PRIu64 ", failures %" PRIu64 ", answers mean %s, p99 %s",
	       json_number(ks, "requests"), json_number(ks, "failures"), mean, p99);
	if (*json_text(ks, "last_success"))
		printf(", last good one %s", json_text(ks, "last_success"));
	if (*json_text(ks, "last_failure"))
		printf(", last failure %s", json_text(ks, "last_failure"));
	putchar('\n');
}

static void print_service(struct json_object *ks)
{
	const char *breaker = str(ks, "breaker");

	printf("  key service %s%s%s: %s%s, %" PRIu64 " helpers, %" PRIu64
	       " requests waiting, reserve %" PRIu64 "%s%s\n",
	       str(ks, "name"), *str(ks, "name") ? ", " : "", str(ks, "helper"),
	       str(ks, "state"),
	       *breaker && strcmp(breaker, "closed") != 0 ? ", requests are held back"
							  : "",
	       json_number(ks, "children"), json_number(ks, "waiting"),
	       json_number(ks, "reserve"),
	       *str(ks, "last_error") == '\0'	     ? ""
	       : strcmp(str(ks, "state"), "ok") == 0 ? ", earlier error: "
						     : ", last error: ",
	       str(ks, "last_error"));
	if (json_object_object_get_ex(ks, "latency", NULL))
		print_answers(ks);
}

static void print_services(struct json_object *o)
{
	struct json_object *all = NULL, *ks = NULL;

	if (!json_object_object_get_ex(o, "key_services", &all)) {
		if (json_object_object_get_ex(o, "key_service", &ks))
			print_service(ks); /* a server before there were several */
		return;
	}
	for (size_t i = 0; i < json_object_array_length(all); i++)
		print_service(json_object_array_get_idx(all, i));
	if (json_number(o, "destroy_unconfigured"))
		printf("  %" PRIu64
		       " secrets to be destroyed are at services without a section\n",
		       json_number(o, "destroy_unconfigured"));
}

static void print_audit(struct json_object *o)
{
	struct json_object *a = NULL;

	if (!json_object_object_get_ex(o, "audit", &a) ||
	    (json_number(a, "waiting") == 0 && json_number(a, "lost") == 0))
		return;
	printf("  AUDIT            %" PRIu64 " lines wait to be written, %" PRIu64
	       " events are lost\n",
	       json_number(a, "waiting"), json_number(a, "lost"));
}

/* Lines that few mounts have. */
static void print_secrets(struct json_object *o)
{
	struct json_object *escrow = NULL;

	if (json_number(o, "promote_queue"))
		printf("  promote          %" PRIu64
		       " images wait for a secret of their own\n",
		       json_number(o, "promote_queue"));
	if (json_object_object_get_ex(o, "escrow", &escrow) && escrow)
		printf("  escrow           key %s: %" PRIu64 " images with it, %" PRIu64
		       " without\n",
		       str(escrow, "recipient"), json_number(escrow, "with"),
		       json_number(escrow, "without"));
}

/* next_due is null where nothing waits. */
static void print_queue(struct json_object *q)
{
	struct json_object *due;

	printf("  to be destroyed %" PRIu64 ", suspect %" PRIu64,
	       json_number(q, "waiting"), json_number(q, "suspect"));
	if (json_object_object_get_ex(q, "next_due", &due) && due)
		printf(", next due %s", json_object_get_string(due));
	if (strcmp(str(q, "destroyer"), "controller") == 0)
		printf(", by the controller");
	if (json_number(q, "paused_s"))
		printf(", paused for %" PRIu64 " s", json_number(q, "paused_s"));
	printf("%s%s\n", *str(q, "last_error") ? ", last error: " : "",
	       str(q, "last_error"));
}

static double milliseconds(struct json_object *stall, const char *which)
{
	return json_object_get_double(json_object_object_get(stall, which));
}

/* What befell its servers. */
static void print_history(struct json_object *o)
{
	struct json_object *death = NULL, *stall = NULL;

	if (!json_number(o, "deaths") && !json_number(o, "upgrades"))
		return;
	printf("  servers          deaths %" PRIu64 " (hangs %" PRIu64
	       "), upgrades %" PRIu64,
	       json_number(o, "deaths"), json_number(o, "hangs"),
	       json_number(o, "upgrades"));
	if (json_object_object_get_ex(o, "last_death", &death) && death)
		printf(", last death by signal %" PRIu64 " %" PRIu64 " s ago",
		       json_number(death, "signal"), json_number(death, "seconds_ago"));
	if (json_object_object_get_ex(o, "stall_ms", &stall) &&
	    json_number(stall, "count"))
		printf(", nobody served for %.0f ms (longest %.0f ms)",
		       milliseconds(stall, "last"), milliseconds(stall, "max"));
	putchar('\n');
}

/* Which guests die if this is stopped. */
static void print_users(struct json_object *o)
{
	struct holders h;
	size_t guests;

	if (holders_find(&h, str(o, "mountpoint")))
		return;
	guests = holders_guest_cnt(&h);
	if (h.cnt)
		printf("  STOPPING IT WOULD END the files of %zu guests and %zu other "
		       "programs:\n",
		       guests, h.cnt - guests);
	holders_print(&h, "    ", stdout);
	holders_free(&h);
}

static enum guard_state guard_of(struct json_object *o)
{
	auto_close int fd = guard_open(str(o, "mountpoint"));

	return fd < 0 ? GUARD_UNKNOWN : guard_look(fd);
}

/* What the daemon itself does not know. */
static void add_outside(struct json_object *o)
{
	struct holders h;

	json_object_object_add(o, "guard",
			       json_object_new_string(guard_text(guard_of(o))));
	if (holders_find(&h, str(o, "mountpoint")))
		return;
	json_object_object_add(o, "users", holders_json(&h));
	holders_free(&h);
}

static void print_guard(struct json_object *o)
{
	enum guard_state state = guard_of(o);

	if (state != GUARD_UNKNOWN && !guard_holds(state))
		printf("  guard            %s\n", guard_text(state));
}

static void print_mount(struct json_object *o, bool each)
{
	struct json_object *gone = NULL, *queue = NULL, *draining = NULL;

	printf("%s  (%s)\n", str(o, "mountpoint"), str(o, "backing"));
	printf("  version %s, up %" PRIu64 " s, keeper %" PRIu64 ", server %" PRIu64
	       ", generation %" PRIu64 ", deaths %" PRIu64 "\n",
	       str(o, "version"), json_number(o, "uptime"), json_number(o, "keeper_pid"),
	       json_number(o, "server_pid"), json_number(o, "generation"),
	       json_number(o, "deaths"));
	if (json_object_object_get_ex(o, "keeper_gone", &gone) &&
	    json_object_get_boolean(gone))
		puts("  THE KEEPER IS GONE: nobody would replace the server; umount and mount "
		     "when the guests allow it");
	print_history(o);
	print_services(o);
	printf("  nodes %" PRIu64 ", handles %" PRIu64 ", keys %" PRIu64
	       ", waiting for keys %" PRIu64 "\n",
	       json_number(o, "nodes"), json_number(o, "handles"), json_number(o, "keys"),
	       json_number(o, "parked"));
	print_secrets(o);
	if (json_object_object_get_ex(o, "destroy_queue", &queue))
		print_queue(queue);
	print_audit(o);
	if (*json_text(o, "log_level"))
		printf("  log level        %s, asked for at run time\n",
		       json_text(o, "log_level"));
	if (json_object_object_get_ex(o, "draining", &draining) &&
	    json_object_get_boolean(draining))
		puts("  DRAINING         no image is opened that nobody uses (drain "
		     "--cancel)");
	print_guard(o);
	print_users(o);
	print_images(o, each);
}

static void print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
}

static bool is_listed(struct json_object *all, const char *mountpoint)
{
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		if (strcmp(str(json_object_array_get_idx(all, i), "mountpoint"),
			   mountpoint) == 0)
			return true;
	}
	return false;
}

/* A mount that no daemon answers for: its programs get ENOTCONN. */
static void add_dead(void *all, const char *mountpoint)
{
	struct json_object *o;

	if (is_listed(all, mountpoint))
		return;
	o = json_object_new_object();
	json_object_object_add(o, "mountpoint", json_object_new_string(mountpoint));
	json_object_object_add(o, "dead", json_object_new_boolean(true));
	json_object_array_add(all, o);
}

/* Returns how many of them do not answer. */
static int print_all(struct json_object *all, const char *runtime, enum form form)
{
	int dead = 0;

	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);
		bool answers = !json_object_object_get_ex(o, "dead", NULL);

		dead += !answers;
		if (form == AS_JSON)
			add_outside(o);
		if (form != AS_JSON && answers)
			print_mount(o, form == EACH_IMAGE);
		else if (form != AS_JSON)
			printf("%s  DOES NOT ANSWER in %s: give -r if its "
			       "runtime-directory is another one; else mount it "
			       "again, or umount it\n",
			       str(o, "mountpoint"), runtime);
	}
	if (form == AS_JSON)
		print_json(all);
	else if (!json_object_array_length(all))
		puts("nothing is mounted");
	return dead;
}

static int status_all(const char *runtime, enum form form)
{
	struct json_object *all = NULL;
	int dead;

	if (statusfile_read_all(&all, runtime) || mountpoint_each(add_dead, all))
		return EXIT_FAILED;
	dead = print_all(all, runtime, form);
	json_object_put(all);
	return dead ? EXIT_FAILED : EXIT_OK;
}

static int status_one(const char *name, const char *runtime, enum form form)
{
	struct json_object *o = NULL;
	char path[PATH_MAX];
	vcf_err_t err = statusfile_resolve(name, path);

	if (!err)
		err = statusfile_read(&o, runtime, path);
	if (err) {
		fprintf(stderr, "vmcryptfs status: %s: no vmcryptfs answers for it: %s\n",
			name, strerror(-err));
		return EXIT_NOT_FOUND;
	}
	if (form == AS_JSON) {
		add_outside(o);
		print_json(o);
	} else {
		print_mount(o, form == EACH_IMAGE);
	}
	json_object_put(o);
	return EXIT_OK;
}

int cmd_status(int argc, char **argv)
{
	static const struct option longs[] = {
		{"images", no_argument, NULL, 'i'},
		{"json", no_argument, NULL, 'j'},
		{"runtime-directory", required_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	const char *runtime = statusfile_default_directory();
	enum form form = SUMMARY;
	int opt;

	while ((opt = getopt_long(argc, argv, "r:", longs, NULL)) != -1) {
		if (opt == 'j')
			form = AS_JSON;
		else if (opt == 'i')
			form = EACH_IMAGE;
		else if (opt == 'r')
			runtime = optarg;
		else
			return command_usage("status");
	}
	if (argc - optind > 1) {
		return command_usage("status");
	}
	if (argc == optind)
		return status_all(runtime, form);
	return status_one(argv[optind], runtime, form);
}
