/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The option table, and what is made from it: lookup and the two print-outs. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/config.h"

#define FIELD(f) offsetof(struct config, f), sizeof(((struct config *)0)->f)
#define NO_FIELD 0, 0
#define DAY 86400
#define RULE_HELP "GLOB relative to the root; the first rule that matches decides"

/* clang-format off */
const struct config_option config_options[] = {
	{"mount", "backing", CONFIG_PATH, FIELD(backing), 0, 0, NULL, NULL,
	 "The folder with the ciphertext."},
	{"mount", "mountpoint", CONFIG_PATH, FIELD(mountpoint), 0, 0, NULL, NULL,
	 "Where the plaintext view appears."},
	{"mount", "overmount", CONFIG_BOOL, FIELD(overmount), 0, 0, NULL, "no",
	 "Allow the mount point to be the backing folder itself."},
	{"mount", "guard", CONFIG_BOOL, FIELD(guard), 0, 0, NULL, "yes",
	 "Make the mount point's empty folder immutable and mode 0, so that nobody writes there "
	 "while nothing is mounted (undone by vmcryptfs guard --off); not with overmount. "
	 "With BACKING and MOUNTPOINT on the command line the default is no."},
	{"mount", "shared", CONFIG_BOOL, FIELD(shared), 0, 0, NULL, "no",
	 "Other nodes use the backing folder at the same time (NFS, CephFS, GlusterFS)."},
	{"mount", "writeback", CONFIG_BOOL, FIELD(writeback), 0, 0, NULL, "no",
	 "Let the kernel collect writes; a full disk is then reported only at close, a file that "
	 "replaces another is not on the disk before its own fsync, holes are not found "
	 "(SEEK_HOLE), and a direct read ends early where a size is not sent yet."},
	{"mount", "xattr", CONFIG_BOOL, FIELD(xattr), 0, 0, NULL, "yes",
	 "Keep extended attributes; programs ask for some with each file that they list."},
	{"mount", "allow-other", CONFIG_BOOL, FIELD(allow_other), 0, 0, NULL, "yes",
	 "Other users than the one who mounts may use the mount."},
	{"mount", "default-permissions", CONFIG_BOOL, FIELD(default_permissions), 0, 0,
	 NULL, "yes", "The kernel checks owner and mode of files."},
	{"mount", "nosuid", CONFIG_BOOL, FIELD(nosuid), 0, 0, NULL, "yes",
	 "Ignore set-user-id and set-group-id bits."},
	{"mount", "nodev", CONFIG_BOOL, FIELD(nodev), 0, 0, NULL, "yes",
	 "Ignore device files."},
	{"mount", "state-directory", CONFIG_PATH, FIELD(state_directory), 0, 0, NULL,
	 "/var/lib/vmcryptfs", "Journal of keys; must survive a reboot."},
	{"mount", "runtime-directory", CONFIG_PATH, FIELD(runtime_directory), 0, 0, NULL,
	 "/run/vmcryptfs", "Control sockets."},
	{"mount", "threads", CONFIG_UINT, FIELD(threads), 0, 256, NULL, "0",
	 "The most worker threads; 0: by the number of processors."},
	{"mount", "near-caller", CONFIG_BOOL, FIELD(near_caller), 0, 0, NULL, "yes",
	 "Serve one who waits for each of his requests on his own processor, while it pays."},
	{"mount", "asynchronous", CONFIG_BOOL, FIELD(asynchronous), 0, 0, NULL, "yes",
	 "Leave direct transfers at queue depth to the kernel (Linux aio); no: a worker waits "
	 "for each."},
	{"mount", "heartbeat", CONFIG_DURATION, FIELD(heartbeat_s), 0, 3600, NULL, "30",
	 "Replace a server that hangs: for so long no request has gone on. 0: never."},
	/* The words stand in the order of enum sysfilter_mode. */
	{"mount", "seccomp", CONFIG_CHOICE, FIELD(seccomp), 0, 0, "kill|log|off", "kill",
	 "A system call that the program has no use for: ends the process, which is replaced; "
	 "is done, and named in the kernel's log; or is not looked for."},
	{"mount", "site", CONFIG_STRING, FIELD(site), 0, 0, NULL, NULL,
	 "Name of the hosts that share a key service; marks the labels of their secrets."},
	{"mount", "log-level", CONFIG_STRING, FIELD(log_level), 0, 0,
	 "err|warn|info|dbg", "info", "The least important lines that are logged."},
	{"mount", "log-file", CONFIG_PATH, FIELD(log_file), 0, 0, NULL, NULL,
	 "Log to this file; else to syslog, or to stderr in the foreground."},

	{"rules", "encrypt", CONFIG_RULE, NO_FIELD, 0, 0, NULL, NULL,
	 "Images with a secret of their own (what no rule matches, too): " RULE_HELP "."},
	{"rules", "derived", CONFIG_RULE, NO_FIELD, 0, 0, NULL, NULL,
	 "Images whose secret is derived from the site's (probes, small files): "
	 RULE_HELP "."},
	{"rules", "passthrough", CONFIG_RULE, NO_FIELD, 0, 0, NULL, NULL,
	 "Files that stay in the clear: " RULE_HELP "."},
	{"rules", "service", CONFIG_SERVICE_RULE, NO_FIELD, 0, 0, NULL, NULL,
	 "NAME GLOB: new images there have their secrets at the key service of [service "
	 "NAME]; the first one that matches decides, the default is [key-service]."},
	{"rules", "bind", CONFIG_REGEX, FIELD(bind), 0, 0, NULL, NULL,
	 "Perl-compatible expression on the path; its first group names the instance that "
	 "an image is bound to."},
	{"rules", "promote", CONFIG_BOOL, FIELD(promote), 0, 0, NULL, "yes",
	 "Give an image its own secret when a rename takes it from derived to encrypt."},

	/* The words stand in the order of enum luks_format. */
	{"format", "type", CONFIG_CHOICE, FIELD(format), 0, 0, "luks1|luks2", "luks2",
	 "The form of new containers; QEMU and nbdkit open only luks1."},
	{"format", "sector-size", CONFIG_SIZE, FIELD(sector_size), 0, 0, "512|4096",
	 "4096", "Encryption sector of new containers, bytes; luks1 wants 512."},

	{"key-service", "helper", CONFIG_STRING, FIELD(helper), 0, 0, NULL, NULL,
	 "The key helper: file, static, barbican, kmip, vault, another name in the folder "
	 "of helpers, or an absolute path. Its own options stand in the section of its "
	 "name."},
	{"key-service", "user", CONFIG_STRING, FIELD(helper_user), 0, 0, NULL, NULL,
	 "The user that the helper runs as, who owns its credentials; empty: the daemon's."},
	{"key-service", "children", CONFIG_UINT, FIELD(children), 1, 64, NULL, "4",
	 "The most helper processes at once."},
	{"key-service", "timeout", CONFIG_DURATION, FIELD(timeout_s), 1, 3600, NULL, "60",
	 "How long a request may take with all its retries."},
	{"key-service", "linger", CONFIG_DURATION, FIELD(linger_s), 0, DAY, NULL, "60",
	 "How long a key stays after the last close of its image."},
	{"key-service", "reserve", CONFIG_UINT, FIELD(reserve), 0, 1024, NULL, "4",
	 "Unused secrets held ready for new images."},
	/* The words stand in the order of a bool named keep. */
	{"key-service", "on-delete", CONFIG_CHOICE, FIELD(keep), 0, 0, "delayed|keep",
	 "delayed", "What becomes of a deleted image's secret."},
	{"key-service", "destroy-delay", CONFIG_DURATION, FIELD(destroy_delay_s), 0,
	 3650 * DAY, NULL, "7d",
	 "How long the secret of a deleted image is kept; not shorter than backups are."},
	{"key-service", "destroy-rate", CONFIG_UINT, FIELD(destroy_rate), 1, 60000, NULL,
	 "120", "The most secrets that are destroyed in a minute, on average."},
	/* The words stand in the order of a bool named controller. */
	{"key-service", "destroyer", CONFIG_CHOICE, FIELD(controller), 0, 0,
	 "node|controller", "node",
	 "Who destroys what is due; controller: another machine, by vmcryptfs keys reap."},

	{"audit", "file", CONFIG_PATH, FIELD(audit_file), 0, 0, NULL, NULL,
	 "A line for each key event (created, fetched, denied, destroyed, failed) goes there."},
	{"audit", "syslog", CONFIG_BOOL, FIELD(audit_syslog), 0, 0, NULL, "no",
	 "And to syslog, with it to the journal."},
	{"audit", "used", CONFIG_BOOL, FIELD(audit_used), 0, 0, NULL, "no",
	 "Also a line for each open of an image whose key is in memory."},

	{"device", "path", CONFIG_PATH, FIELD(device_path), 0, 0, NULL, NULL,
	 "The block device (a logical volume) whose container appears as the file NAME in "
	 "the mount's root; required."},
	{"device", "owner", CONFIG_STRING, FIELD(device_owner), 0, 0, NULL, "root:root",
	 "USER:GROUP of the file at mount; chown lasts until the mount's end."},
	{"device", "mode", CONFIG_STRING, FIELD(device_mode), 0, 0, NULL, "0600",
	 "Its permissions at mount, octal; chmod lasts until the mount's end."},
	{"device", "discard", CONFIG_BOOL, FIELD(device_discard), 0, 0, NULL, "no",
	 "A new container has the whole device zeroed by the device itself (a thin volume), "
	 "and discards reach it; no: what was never written reads as noise."},

	{"metrics", "listen", CONFIG_STRING, FIELD(metrics_listen), 0, 0, NULL, NULL,
	 "Where vmcryptfs metrics answers Prometheus: 127.0.0.1:PORT, [::1]:PORT or unix:/PATH."},
	{"metrics", "file", CONFIG_PATH, FIELD(metrics_file), 0, 0, NULL, NULL,
	 "It writes them to this file as well, for node_exporter's textfile collector (.prom)."},
	{"metrics", "interval", CONFIG_DURATION, FIELD(metrics_interval_s), 1, 3600, NULL,
	 "15", "How often the file is written."},
	{"metrics", "per-image", CONFIG_BOOL, FIELD(metrics_per_image), 0, 0, NULL, "no",
	 "Also nine series for each image, with its path in a label."},
	{"metrics", "image-limit", CONFIG_UINT, FIELD(metrics_image_limit), 1, 4096, NULL,
	 "100", "For so many images at most: those with the most requests."},

	{"escrow", "public-key", CONFIG_PATH, FIELD(escrow_path), 0, 0, NULL, NULL,
	 "Seal each image's secret for the key in this file as well, whose private half is "
	 "kept offline (see: help keys, help recover)."},
};
/* clang-format on */
const size_t config_option_cnt = sizeof(config_options) / sizeof(config_options[0]);

const struct config_option *config_find(const char *section, const char *name)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (strcmp(o->section, section) == 0 && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

bool config_section_known(const char *section)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		if (strcmp(config_options[i].section, section) == 0)
			return true;
	}
	return false;
}

/* Seconds in the largest unit that divides them, as parse_duration() reads them. */
static void print_duration(uint64_t s, FILE *to)
{
	static const struct {
		uint64_t len;
		char letter;
	} units[] = {{DAY, 'd'}, {3600, 'h'}, {60, 'm'}};

	for (size_t i = 0; s && i < sizeof(units) / sizeof(units[0]); i++) {
		if (s % units[i].len == 0) {
			fprintf(to, "%" PRIu64 "%c", s / units[i].len, units[i].letter);
			return;
		}
	}
	fprintf(to, "%" PRIu64, s);
}

static void print_choice(const struct config_option *o, const char *field, FILE *to)
{
	unsigned int index = 0;
	const char *word = o->choices;

	if (o->field_len == 1)
		index = *(const unsigned char *)field;
	else
		memcpy(&index, field, sizeof(index));
	for (; index; index--)
		word = strchr(word, '|') + 1;
	fprintf(to, "%.*s", (int)strcspn(word, "|"), word);
}

static void print_value(const struct config *c, const struct config_option *o, FILE *to)
{
	const char *field = (const char *)c + o->field_off;
	const char *text;
	uint64_t number;

	switch (o->type) {
	case CONFIG_BOOL:
		fputs(*(const bool *)field ? "yes" : "no", to);
		break;
	case CONFIG_UINT:
	case CONFIG_SIZE:
		memcpy(&number, field, sizeof(number));
		fprintf(to, "%" PRIu64, number);
		break;
	case CONFIG_DURATION:
		memcpy(&number, field, sizeof(number));
		print_duration(number, to);
		break;
	case CONFIG_CHOICE:
		print_choice(o, field, to);
		break;
	default:
		memcpy(&text, field, sizeof(text));
		fputs(text ? text : "", to);
		break;
	}
}

static bool is_device(const char *section)
{
	return strcmp(section, "device") == 0;
}

/* Prints "[section]" where a new one begins. */
static void print_section(size_t i, FILE *to)
{
	const char *section = config_options[i].section;

	if (i && strcmp(config_options[i - 1].section, section) == 0)
		return;
	fprintf(to, "%s[%s%s]\n", i ? "\n" : "", section,
		is_device(section) ? " NAME" : "");
}

/* All of them together: their order among each other counts. */
static void print_rules(const struct config *c, FILE *to)
{
	for (size_t i = 0; i < c->rule_cnt; i++)
		fprintf(to, "%s = %s\n", rules_class_name(c->rules[i].cls),
			c->rules[i].glob);
}

static void print_service_rules(const struct config *c, FILE *to)
{
	for (size_t i = 0; i < c->service_rule_cnt; i++)
		fprintf(to, "service = %s %s\n", c->service_rules[i].service,
			c->service_rules[i].glob);
}

/* The options of a section, from a configuration of its own. */
static void print_own(const struct config *c, const char *section, FILE *to)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (strcmp(o->section, section) != 0)
			continue;
		fprintf(to, "%s = ", o->name);
		print_value(c, o, to);
		fputc('\n', to);
	}
}

static void print_device(const struct config *c, FILE *to)
{
	fprintf(to, "\n[device %s]\n", c->device_name);
	print_own(c, "device", to);
}

/* Of helpers' options the names only. */
static void print_service(const struct config *c, FILE *to)
{
	fprintf(to, "\n[service %s]\n", c->service_name);
	print_own(c, "key-service", to);
	for (size_t i = 0; i < c->helper_option_cnt; i++)
		fprintf(to, "; %s is set\n", c->helper_options[i].name);
}

static void print_helper_options(const struct config *c, FILE *to)
{
	const char *section = "";

	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const struct config_helper_option *o = &c->helper_options[i];

		if (strcmp(section, o->section) != 0)
			fprintf(to, "\n[%s]\n", o->section);
		fprintf(to, "; %s is set\n", o->name);
		section = o->section;
	}
}

void config_print(const struct config *c, FILE *to)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (is_device(o->section))
			continue;
		print_section(i, to);
		if (o->type == CONFIG_RULE) {
			if (strcmp(o->name, rules_class_name(CLASS_ENCRYPT)) == 0)
				print_rules(c, to);
			continue;
		}
		if (o->type == CONFIG_SERVICE_RULE) {
			print_service_rules(c, to);
			continue;
		}
		fprintf(to, "%s = ", o->name);
		print_value(c, o, to);
		fputc('\n', to);
	}
	for (size_t i = 0; i < c->service_cnt; i++)
		print_service(c->services[i], to);
	for (size_t i = 0; i < c->device_cnt; i++)
		print_device(c->devices[i], to);
	print_helper_options(c, to);
}

static const char *type_name(enum config_type type)
{
	static const char *const names[] = {
		[CONFIG_STRING] = "text",
		[CONFIG_PATH] = "path",
		[CONFIG_REGEX] = "expression",
		[CONFIG_BOOL] = "yes|no",
		[CONFIG_UINT] = "number",
		[CONFIG_SIZE] = "bytes (K, M, G)",
		[CONFIG_DURATION] = "duration (s, m, h, d, w)",
		[CONFIG_CHOICE] = "",
		[CONFIG_RULE] = "pattern, repeatable",
		[CONFIG_SERVICE_RULE] = "name and pattern, repeatable",
	};

	return names[type];
}

static void print_bounds(const struct config_option *o, FILE *to)
{
	if (!o->max)
		return;
	fputs(", ", to);
	if (o->type == CONFIG_DURATION) {
		print_duration(o->min, to);
		fputs(" to ", to);
		print_duration(o->max, to);
	} else {
		fprintf(to, "%" PRIu64 " to %" PRIu64, o->min, o->max);
	}
}

void config_print_help(FILE *to)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		print_section(i, to);
		fprintf(to, "  %s = %s", o->name,
			o->choices ? o->choices : type_name(o->type));
		print_bounds(o, to);
		if (o->default_value)
			fprintf(to, "; default %s", o->default_value);
		fprintf(to, "\n      %s\n", o->help);
	}
	fputs("\n[service NAME]\n  Another key service, with the options of [key-service]; "
	      "what is none of those goes to its helper, on top of the helper's own "
	      "section.\n",
	      to);
	fputs("\nThe options of a key helper stand in the section of its name, as "
	      "[file], "
	      "and are handed to it as they are.\n",
	      to);
}
