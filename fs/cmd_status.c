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
#include "fs/mountpoint.h"
#include "fs/statusfile.h"

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : "?";
}

static uint64_t num(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static void print_image(struct json_object *i)
{
	printf("  %-44s %s  opens %" PRIu64 "  S %" PRIu64 "  read %" PRIu64
	       "  written %" PRIu64 "  key %s\n",
	       str(i, "path"), str(i, "uuid"), num(i, "opens"), num(i, "sector_size"),
	       num(i, "bytes_read"), num(i, "bytes_written"), str(i, "key_id"));
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
	       num(ks, "children"), num(ks, "waiting"), num(ks, "reserve"),
	       *str(ks, "last_error") == '\0'	     ? ""
	       : strcmp(str(ks, "state"), "ok") == 0 ? ", earlier error: "
						     : ", last error: ",
	       str(ks, "last_error"));
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
	if (num(o, "destroy_unconfigured"))
		printf("  %" PRIu64
		       " secrets to be destroyed are at services without a section\n",
		       num(o, "destroy_unconfigured"));
}

static void print_audit(struct json_object *o)
{
	struct json_object *a = NULL;

	if (!json_object_object_get_ex(o, "audit", &a) ||
	    (num(a, "waiting") == 0 && num(a, "lost") == 0))
		return;
	printf("  AUDIT            %" PRIu64 " lines wait to be written, %" PRIu64
	       " events are lost\n",
	       num(a, "waiting"), num(a, "lost"));
}

/* Lines that few mounts have. */
static void print_secrets(struct json_object *o)
{
	struct json_object *escrow = NULL;

	if (num(o, "promote_queue"))
		printf("  promote          %" PRIu64
		       " images wait for a secret of their own\n",
		       num(o, "promote_queue"));
	if (json_object_object_get_ex(o, "escrow", &escrow) && escrow)
		printf("  escrow           key %s: %" PRIu64 " images with it, %" PRIu64
		       " without\n",
		       str(escrow, "recipient"), num(escrow, "with"),
		       num(escrow, "without"));
}

/* next_due is null where nothing waits. */
static void print_queue(struct json_object *q)
{
	struct json_object *due;

	printf("  to be destroyed %" PRIu64 ", suspect %" PRIu64, num(q, "waiting"),
	       num(q, "suspect"));
	if (json_object_object_get_ex(q, "next_due", &due) && due)
		printf(", next due %s", json_object_get_string(due));
	if (strcmp(str(q, "destroyer"), "controller") == 0)
		printf(", by the controller");
	if (num(q, "paused_s"))
		printf(", paused for %" PRIu64 " s", num(q, "paused_s"));
	printf("%s%s\n", *str(q, "last_error") ? ", last error: " : "",
	       str(q, "last_error"));
}

static void print_mount(struct json_object *o)
{
	struct json_object *images = NULL, *gone = NULL, *queue = NULL;

	printf("%s  (%s)\n", str(o, "mountpoint"), str(o, "backing"));
	printf("  version %s, up %" PRIu64 " s, keeper %" PRIu64 ", server %" PRIu64
	       ", generation %" PRIu64 ", deaths %" PRIu64 "\n",
	       str(o, "version"), num(o, "uptime"), num(o, "keeper_pid"),
	       num(o, "server_pid"), num(o, "generation"), num(o, "deaths"));
	if (json_object_object_get_ex(o, "keeper_gone", &gone) &&
	    json_object_get_boolean(gone))
		puts("  THE KEEPER IS GONE: nobody would replace the server; umount and mount "
		     "when the guests allow it");
	print_services(o);
	printf("  nodes %" PRIu64 ", handles %" PRIu64 ", keys %" PRIu64
	       ", waiting for keys %" PRIu64 "\n",
	       num(o, "nodes"), num(o, "handles"), num(o, "keys"), num(o, "parked"));
	print_secrets(o);
	if (json_object_object_get_ex(o, "destroy_queue", &queue))
		print_queue(queue);
	print_audit(o);
	if (!json_object_object_get_ex(o, "images", &images))
		return;
	for (size_t i = 0; i < json_object_array_length(images); i++)
		print_image(json_object_array_get_idx(images, i));
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
static int print_all(struct json_object *all, const char *runtime, bool json)
{
	int dead = 0;

	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);
		bool answers = !json_object_object_get_ex(o, "dead", NULL);

		dead += !answers;
		if (!json && answers)
			print_mount(o);
		else if (!json)
			printf("%s  DOES NOT ANSWER in %s: give -r if its "
			       "runtime-directory is another one; else mount it "
			       "again, or umount it\n",
			       str(o, "mountpoint"), runtime);
	}
	if (json)
		print_json(all);
	else if (!json_object_array_length(all))
		puts("nothing is mounted");
	return dead;
}

static int status_all(const char *runtime, bool json)
{
	struct json_object *all = NULL;
	int dead;

	if (statusfile_read_all(&all, runtime) || mountpoint_each(add_dead, all))
		return EXIT_FAILED;
	dead = print_all(all, runtime, json);
	json_object_put(all);
	return dead ? EXIT_FAILED : EXIT_OK;
}

static int status_one(const char *name, const char *runtime, bool json)
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
	if (json)
		print_json(o);
	else
		print_mount(o);
	json_object_put(o);
	return EXIT_OK;
}

int cmd_status(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},
		{"runtime-directory", required_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	const char *runtime = statusfile_default_directory();
	bool json = false;
	int opt;

	while ((opt = getopt_long(argc, argv, "r:", longs, NULL)) != -1) {
		if (opt == 'j')
			json = true;
		else if (opt == 'r')
			runtime = optarg;
		else
			return command_usage("status");
	}
	if (argc - optind > 1) {
		return command_usage("status");
	}
	if (argc == optind)
		return status_all(runtime, json);
	return status_one(argv[optind], runtime, json);
}
