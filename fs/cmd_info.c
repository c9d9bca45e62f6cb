/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * info: what an image is, read from its container (never through the mount, whose plaintext would
 * tell nothing), and how cryptsetup opens it without us.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/container.h"
#include "crypto/kdf.h"
#include "crypto/keyservice.h"
#include "fs/cmd.h"
#include "fs/config.h"
#include "fs/jsonlines.h"
#include "fs/keycall.h"
#include "fs/keysettings.h"
#include "fs/mountpoint.h"
#include "fs/span.h"
#include "fs/statusfile.h"
#include "util/io.h"
#include "util/log.h"

struct info_args {
	struct config *cfg; /* NULL: no secret is asked for */
	struct {
		const char *name;
		struct keyservice *ks;
		const char *key_directory; /* of the file helper, or NULL */
	} services[CONFIG_SERVICES_MAX];
	size_t service_cnt;
	const char *runtime;
	bool json;
};

struct info {
	char backing[PATH_MAX]; /* the container's path */
	struct stat st;
	struct peek peek;
	struct container *c; /* NULL where there is none, or it is refused */
	uint64_t plen, allocated;
	vcf_err_t load_err, size_err;
	const char *mac; /* "ok", ... */
};

/* Is "/NAME" a device of that mount? */
static bool find_device(struct json_object *mount, const char *rest, char dst[PATH_MAX])
{
	struct json_object *all;

	if (!json_object_object_get_ex(mount, "devices", &all))
		return false;
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *d = json_object_array_get_idx(all, i);

		if (*rest != '/' || strcmp(json_text(d, "name"), rest + 1) != 0)
			continue;
		snprintf(dst, PATH_MAX, "%s", json_text(d, "device"));
		return true;
	}
	return false;
}

/* The path below, if the given one lies in a mount of ours. */
static vcf_err_t find_backing(const struct info_args *a, const char *name,
			      char dst[PATH_MAX])
{
	char path[PATH_MAX], mp[PATH_MAX];
	struct json_object *o = NULL, *backing = NULL;
	vcf_err_t err = realpath(name, path) ? 0 : -errno;

	if (err)
		return err;
	err = mountpoint_of(path, mp, sizeof(mp));
	if (err == -ENOENT) {
		memcpy(dst, path, PATH_MAX);
		return 0;
	}
	if (!err)
		err = statusfile_read(&o, a->runtime, mp);
	if (err)
		return err;
	if (!err && find_device(o, path + strlen(mp), dst)) {
		json_object_put(o);
		return 0;
	}
	if (!json_object_object_get_ex(o, "backing", &backing) ||
	    snprintf(dst, PATH_MAX, "%s%s", json_object_get_string(backing),
		     path + strlen(mp)) >= PATH_MAX)
		err = -ENAMETOOLONG;
	if (!err && strcmp(json_object_get_string(backing), mp) == 0) {
		fprintf(stderr,
			"vmcryptfs info: %s: the mount covers its own backing folder; "
			"ask 'vmcryptfs status', or after unmounting\n",
			name);
		err = -EBUSY;
	}
	json_object_put(o);
	return err;
}

static vcf_err_t read_info(struct info *i, const char *name)
{
	auto_close int fd = -1;
	char real[PATH_MAX]; /* a device's may be a link (LVM) */
	struct geom g;
	uint64_t len;
	bool device;
	vcf_err_t err;

	if (!realpath(i->backing, real))
		return -errno;
	fd = io_open_file(AT_FDCWD, real, O_RDONLY | O_NONBLOCK, true);
	if (fd < 0)
		return fd;
	if (fstat(fd, &i->st) < 0)
		return -errno;
	device = S_ISBLK(i->st.st_mode);
	err = io_file_len(fd, &len);
	if (err)
		return err;
	i->allocated = device ? len : (uint64_t)i->st.st_blocks * 512;
	err = size_peek_fd(&i->peek, fd, (uint64_t)i->st.st_size);
	if (err || i->peek.kind != PEEK_CONTAINER)
		return err;
	i->load_err = container_load(&i->c, fd, name, NULL);
	g = (struct geom){.data_off = i->peek.data_off,
			  .sector_len = i->peek.sector_len,
			  .device = device};
	i->size_err = span_decode_size(&g, len, &i->plen);
	return 0;
}

/* The index of the token's service, or -1. */
static int service_of(const struct info_args *a, const struct token *t)
{
	for (size_t i = 0; i < a->service_cnt; i++) {
		if (strcmp(a->services[i].name, t->service) == 0)
			return (int)i;
	}
	return -1;
}

static const char *mac_state(const struct info_args *a, const struct info *i,
			     const char *name)
{
	const struct token *t = container_token(i->c);
	struct keyservice_sync got = {0};
	struct keycall call;
	auto_secret struct secret *secret = NULL;
	vcf_err_t err;
	int s;

	if (!a->service_cnt)
		return "not checked (no secret at hand; see -c and -o)";
	s = service_of(a, t);
	if (s < 0)
		return "not checked (its key service is not in the configuration)";
	call = (struct keycall){a->services[s].ks, t->service, name,
				container_subject(i->c)->uuid};
	if (keycall_get(&call, t->key_id, &got))
		return "not checked (the key service does not give the secret)";
	secret = got.secret;
	if (t->derived) {
		struct secret *own;

		if (token_derive_secret(&own, secret, container_subject(i->c)->uuid))
			return "not checked";
		secret_free(secret);
		secret = own;
	}
	err = container_mac_check(i->c, secret);
	return err ? "WRONG: the header was changed, or the secret is another one's"
		   : "ok";
}

static const char *kind_name(const struct info *i)
{
	static const char *const names[] = {
		[PEEK_EMPTY] = "empty image (no header yet)",
		[PEEK_CONTAINER] = "container",
		[PEEK_PLAINTEXT] = "no container (plaintext, or its header is destroyed)",
		[PEEK_DAMAGED] = "damaged container",
	};

	return names[i->peek.kind];
}

/* Single quotes, so that the line can be pasted whatever the name. */
static void print_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	}
	putchar('\'');
}

static void print_open_line(const struct info_args *a, const struct info *i)
{
	const struct token *t = container_token(i->c);
	const char *directory;
	int s;

	s = service_of(a, t);
	directory = s < 0 || t->derived ? NULL : a->services[s].key_directory;
	printf("  open without us  cryptsetup open --type %s --key-slot %u --key-file ",
	       i->peek.format == FORMAT_LUKS1 ? "luks1" : "luks2", t->keyslot);
	if (directory) {
		char key[PATH_MAX];

		snprintf(key, sizeof(key), "%s/%s", directory, t->key_id);
		print_quoted(key);
	} else {
		fputs("KEYFILE", stdout);
	}
	putchar(' ');
	print_quoted(i->backing);
	puts(" NAME");
	if (!directory)
		printf("                   KEYFILE holds the secret %s%s of service '%s' "
		       "as 64 "
		       "lower-case hex digits, no newline\n",
		       t->derived ? "derived from " : "", t->key_id, t->service);
	puts("                   (whole sectors only: the last, partial one is cut)");
}

static void print_container(const struct info_args *a, const struct info *i)
{
	const struct token *t = container_token(i->c);

	printf("  key              %s%s of service '%s'\n",
	       t->derived ? "derived from " : "", t->key_id, t->service);
	printf("  instance         %s\n", *t->context ? t->context : "(none)");
	printf("  generation       %" PRIu64 ", created %s\n", t->generation, t->created);
	printf("  holes            %s\n", t->holes == HOLES_ZERO
						  ? "zero sectors read as zeros"
						  : "none (every sector is ciphertext)");
	printf("  MAC              %s\n", i->mac);
	print_open_line(a, i);
}

static void print_text(const struct info_args *a, const char *name, const struct info *i)
{
	printf("%s\n  container file   %s\n  what             %s\n", name, i->backing,
	       kind_name(i));
	if (i->peek.kind != PEEK_CONTAINER)
		return;
	printf("  format           %s, uuid %s\n",
	       i->peek.format == FORMAT_LUKS1 ? "LUKS1" : "LUKS2", i->peek.uuid_text);
	printf("  sector size      %u bytes, data at %" PRIu64 "\n", i->peek.sector_len,
	       i->peek.data_off);
	if (i->size_err)
		printf("  size             torn: the file's length decodes to none\n");
	else
		printf("  size             %" PRIu64 " bytes (plaintext)\n", i->plen);
	printf("  allocated        %" PRIu64 " bytes (with the header)\n", i->allocated);
	if (i->c)
		print_container(a, i);
	else
		printf("  header           REFUSED: %s\n", strerror(-i->load_err));
}

static void add_token(struct json_object *o, const struct info *i)
{
	const struct token *t = container_token(i->c);

	json_put_text(o, "key_id", t->key_id);
	json_put_text(o, "service", t->service);
	json_object_object_add(o, "derived", json_object_new_boolean(t->derived));
	json_put_text(o, "context", t->context);
	json_put_number(o, "generation", t->generation);
	json_put_text(o, "created", t->created);
	json_put_number(o, "keyslot", t->keyslot);
	json_put_text(o, "holes", t->holes == HOLES_ZERO ? "zero" : "none");
	json_put_text(o, "mac", i->mac);
}

static void print_json(const char *name, const struct info *i)
{
	static const char *const kinds[] = {"empty", "container", "plaintext", "damaged"};
	struct json_object *o = json_object_new_object();

	json_put_text(o, "path", name);
	json_put_text(o, "backing", i->backing);
	json_put_text(o, "kind", kinds[i->peek.kind]);
	if (i->peek.kind == PEEK_CONTAINER) {
		json_put_text(o, "format",
			      i->peek.format == FORMAT_LUKS1 ? "luks1" : "luks2");
		json_put_text(o, "uuid", i->peek.uuid_text);
		json_put_number(o, "sector_size", i->peek.sector_len);
		json_put_number(o, "data_offset", i->peek.data_off);
		if (!i->size_err)
			json_put_number(o, "size", i->plen);
		json_put_number(o, "allocated", i->allocated);
	}
	if (i->c)
		add_token(o, i);
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

static int show(const struct info_args *a, const char *name)
{
	struct info i = {0};
	vcf_err_t err = find_backing(a, name, i.backing);
	int code;

	if (!err)
		err = read_info(&i, i.backing);
	if (err) {
		fprintf(stderr, "vmcryptfs info: %s: %s\n", name, strerror(-err));
		return exit_code_of(err);
	}
	i.mac = i.c ? mac_state(a, &i, name) : "";
	if (a->json)
		print_json(name, &i);
	else
		print_text(a, name, &i);
	code = i.load_err || i.size_err || i.peek.kind == PEEK_DAMAGED || *i.mac == 'W'
		       ? EXIT_REFUSED
		       : EXIT_OK;
	container_free(i.c);
	return code;
}

static int connect_service(struct info_args *a, const struct config *service)
{
	struct keysettings s = {0};
	vcf_err_t err = keysettings_init(&s, a->cfg, service);
	size_t i = a->service_cnt;

	s.kc.children = 1;
	s.kc.give_up = true;
	if (!err)
		err = keyservice_new(&a->services[i].ks, &s.kc);
	keysettings_fini(&s);
	if (err)
		return EXIT_KEYSERVICE;
	a->services[i].name = service->service_name;
	if (strcmp(config_helper_name(service), "file") == 0)
		a->services[i].key_directory =
			config_service_value(a->cfg, service, "directory");
	a->service_cnt++;
	return EXIT_OK;
}

/* Helpers start when they are asked something. */
static int connect_services(struct info_args *a)
{
	const struct config *service;
	int code = EXIT_OK;

	if (!a->cfg->helper && config_helper_value(a->cfg, "file", "directory"))
		a->cfg->helper = strdup("file");
	keycall_begin(a->cfg, "info");
	for (size_t i = 0; !code && (service = config_service_at(a->cfg, i)); i++) {
		if (service->helper) {
			code = connect_service(a, service);
			continue;
		}
		fprintf(stderr,
			"vmcryptfs info: the configuration names no key helper\n");
		return EXIT_CONFIG;
	}
	return code;
}

static void disconnect_services(struct info_args *a)
{
	for (size_t i = 0; i < a->service_cnt; i++)
		keyservice_free(a->services[i].ks);
	keycall_end();
}

static int parse(struct info_args *a, int argc, char **argv, struct config *cfg)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'},
					      {NULL, 0, NULL, 0}};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:o:r:", longs, NULL)) != -1) {
		if (opt == 'j')
			a->json = true;
		else if (opt == 'r')
			a->runtime = optarg;
		else if (opt != 'c' && opt != 'o')
			return command_usage("info");
		if (opt == 'c' && config_read(cfg, optarg))
			return EXIT_CONFIG;
		if (opt == 'o' && config_set(cfg, optarg))
			return EXIT_CONFIG;
		if (opt == 'c' || opt == 'o')
			a->cfg = cfg;
	}
	return optind == argc ? command_usage("info") : EXIT_OK;
}

static int start_crypto(void)
{
	return secret_arena_init() || crypto_init() || container_init() ? EXIT_FAILED
									: EXIT_OK;
}

int cmd_info(int argc, char **argv)
{
	auto_config struct config *cfg = NULL;
	struct info_args a = {.runtime = statusfile_default_directory()};
	int code = config_new(&cfg) ? EXIT_FAILED : parse(&a, argc, argv, cfg);

	if (!code)
		code = start_crypto();
	if (!code && a.cfg)
		code = connect_services(&a);
	for (int i = optind; code != EXIT_USAGE && code != EXIT_CONFIG && i < argc; i++) {
		int one = show(&a, argv[i]);

		code = one ? one : code;
	}
	disconnect_services(&a);
	return code;
}
