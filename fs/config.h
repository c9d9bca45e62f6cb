/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration: one table of options (config_options) defines name, type, default,
 * bounds and help; the parser, `help`, the man page and a test come from it. Unknown keys
 * are errors with file and line.
 *
 * [service NAME] sections have the options of [key-service] for a further key service; what the
 * table does not know there goes to that service's helper.
 *
 * [device NAME] sections are block devices that appear as files in the mount's root.
 *
 * Sections that are not in the table are allowed only as the effective section of the
 * chosen key helper ("[file]", "[static]", "[barbican]" ...): their keys are passed to it
 * as they are.
 */
#ifndef VCF_FS_CONFIG_H
#define VCF_FS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "crypto/escrow.h"
#include "crypto/keyservice.h"
#include "crypto/token.h"
#include "fs/rules.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/sysfilter.h"

struct config_rule {
	enum file_class cls;
	char *glob;
};

/* A new container below `glob` has its secret at `service`. */
struct config_service_rule {
	char *service, *glob;
};

enum { CONFIG_DEVICE_NAME_MAX = 42, CONFIG_DEVICES_MAX = 1024 };

struct config_helper_option {
	char *section, *name, *value;
};

struct config {
	/* [mount] */
	char *backing;
	char *mountpoint;
	bool overmount;
	bool guard; /* default yes; of the quick form no */
	bool shared;
	bool writeback;
	bool xattr;
	bool allow_other;	  /* default yes */
	bool default_permissions; /* default yes */
	bool nosuid, nodev;	  /* default yes */
	char *state_directory;
	char *runtime_directory;
	uint64_t threads;  /* 0: by the number of processors */
	bool near_caller;  /* default yes */
	bool asynchronous; /* default yes */
	uint64_t heartbeat_s;
	char *site; /* NULL: none */
	enum sysfilter_mode seccomp;
	char *log_level; /* err, warn, info, dbg */
	char *log_file;	 /* NULL: stderr in the foreground, else syslog */
	/* [rules], in order */
	struct config_rule *rules;
	size_t rule_cnt;
	char *bind;
	bool promote;
	/* [format] */
	enum luks_format format;
	uint64_t sector_size;
	/* [key-service] */
	char *helper;	   /* required (see config_finish) */
	char *helper_user; /* NULL: the daemon's */
	uint64_t children;
	uint64_t timeout_s;
	uint64_t linger_s;
	uint64_t reserve;
	bool keep;	 /* on-delete = keep */
	bool controller; /* destroyer = controller */
	uint64_t destroy_delay_s;
	uint64_t destroy_rate;			  /* a minute */
	char service_name[TOKEN_SERVICE_MAX + 1]; /* as in tokens: "default" */
	/* [audit] */
	char *audit_file;
	bool audit_syslog;
	bool audit_used;
	/*
	 * [service NAME]: each a configuration of its own, of which only what belongs to
	 * [key-service], service_name, and helper_options (on top of those of the helper's section
	 * here) count.
	 */
	struct config **services;
	size_t service_cnt;
	struct config_service_rule *service_rules; /* [rules] service, in order */
	size_t service_rule_cnt;
	/* [device NAME]: each a configuration of its own, of which only these count. */
	struct config **devices;
	size_t device_cnt;
	char device_name[CONFIG_DEVICE_NAME_MAX + 1];
	char *device_path;
	char *device_owner; /* as device_owner() reads it */
	char *device_mode;  /* octal */
	bool device_discard;
	/* [metrics], for `vmcryptfs metrics` */
	char *metrics_listen; /* metrics_address_parse(); NULL: none */
	char *metrics_file;   /* NULL: none */
	uint64_t metrics_interval_s;
	bool metrics_per_image;
	uint64_t metrics_image_limit;
	/* [escrow] */
	char *escrow_path;	     /* NULL: none */
	struct escrow_public escrow; /* read by config_finish() */
	/* everything else, by section */
	struct config_helper_option *helper_options;
	size_t helper_option_cnt;
};

enum config_type {
	CONFIG_STRING, /* one of `choices` where there are any; empty: unset */
	CONFIG_PATH,   /* an absolute path */
	CONFIG_REGEX,  /* as for rules_new(); empty: unset */
	CONFIG_BOOL,
	CONFIG_UINT,
	CONFIG_SIZE,
	CONFIG_DURATION,
	CONFIG_CHOICE, /* the index in `choices`, in field_len bytes (a bool or an enum)
			*/
	CONFIG_RULE,   /* may be given many times */
	CONFIG_SERVICE_RULE, /* likewise: NAME GLOB */
};

struct config_option {
	const char *section, *name;
	enum config_type type;
	size_t field_off; /* offsetof(struct config, ...) */
	size_t field_len;
	uint64_t min, max;
	const char *choices;	   /* "luks2|luks1" */
	const char *default_value; /* text, NULL: none */
	const char *help;	   /* one sentence */
};

extern const struct config_option config_options[];
extern const size_t config_option_cnt;

/* The option of that name, or NULL. */
const struct config_option *config_find(const char *section, const char *name);

/* True if the table has options of this section. */
bool config_section_known(const char *section);

/* The services that one mount may have, and their helper processes in all. */
enum { CONFIG_SERVICES_MAX = 16, CONFIG_CHILDREN_MAX = 64 };
#define CONFIG_SERVICE_DEFAULT "default" /* that of [key-service] */

/* The NAME of a section "service NAME", or NULL. */
const char *config_section_service(const char *section);

/* The NAME of a section "device NAME", or NULL. */
const char *config_section_device(const char *section);

/* The device of that name, or NULL. */
const struct config *config_device(const struct config *c, const char *name);

/*
 * A key service's settings by the name that tokens have: c itself for the default one, that of a
 * [service NAME] section, or NULL.
 */
const struct config *config_service(const struct config *c, const char *name);

/* All of them, the default one first: i-th, or NULL. */
const struct config *config_service_at(const struct config *c, size_t i);

/* All defaults. */
NODISCARD vcf_err_t config_new(struct config **out);
void config_free(struct config *c);

/*
 * Sets one option; a section that is not in the table is taken for a helper's. `where`
 * starts the log line of a fault ("FILE:LINE", "-o"). -EINVAL (logged), -ENOMEM. Values
 * of helpers' options are never logged.
 */
NODISCARD vcf_err_t config_assign(struct config *c, const char *section, const char *name,
				  const char *value, const char *where);

/*
 * Reads an INI file over what is there. All faults of the file are logged, each with file
 * and line: an option that is unknown or given twice, a value out of bounds, a line that
 * is too long (the parser's limit, about 190 characters), indented or neither a section
 * nor an option. A file that anyone may write is refused; so is one with a secret of a
 * helper in it ([static], or an option named secret, password or token) that others than
 * its owner may read. Returns 0, -EINVAL, or -errno if it cannot be read (logged).
 */
NODISCARD vcf_err_t config_read(struct config *c, const char *path);

/* One "section.key=value" as after -o. -EINVAL, logged. */
NODISCARD vcf_err_t config_set(struct config *c, const char *assignment);

/*
 * Checks what only the whole can tell: backing and mountpoint given and absolute, not the
 * same unless overmount, neither inside the other, nothing that the daemon itself writes
 * inside one of them; helper given (helper = file is implied only where `quick` (BACKING
 * MOUNTPOINT on the command line) and file.directory is set); no unknown section; luks1
 * wants sector-size 512; writeback not with shared; rules and bind compile; the escrow key
 * can be read; each device has a path of its own and is under an encrypt rule. With `quick`,
 * relative backing and mountpoint are made absolute; they must exist. -EINVAL, each fault
 * logged.
 */
NODISCARD vcf_err_t config_finish(struct config *c, bool quick);

/* Likewise where the key services alone count: [mount] and [rules] may be missing. */
NODISCARD vcf_err_t config_finish_services(struct config *c);

/* The key for which secrets are sealed, or NULL; the configuration's. */
const struct escrow_public *config_escrow(const struct config *c);

/* Reads the file of that key, if one is configured: part of config_finish(). -errno, logged. */
NODISCARD vcf_err_t config_read_escrow(struct config *c);

/* The compiled rules. */
NODISCARD vcf_err_t config_make_rules(const struct config *c, struct rules **out);

/*
 * The options of the helper's section, for keyservice_config; the array is the caller's,
 * its strings are the configuration's.
 */
NODISCARD vcf_err_t config_helper_section(const struct config *c,
					  struct keyservice_option **options,
					  size_t *cnt);

/* The same for one of its services: the helper's section, and its own options on top. */
NODISCARD vcf_err_t config_service_options(const struct config *c,
					   const struct config *service,
					   struct keyservice_option **options,
					   size_t *cnt);

/* The value that its helper gets of an option, or NULL. */
const char *config_service_value(const struct config *c, const struct config *service,
				 const char *name);

/*
 * The section whose options the helper gets: the last component of its name, without
 * "vmcryptfs-key-". "" if there is no helper.
 */
const char *config_helper_name(const struct config *c);

/*
 * Prints the effective configuration in the file's own form. Of helpers' options only the
 * names are printed.
 */
void config_print(const struct config *c, FILE *to);

/* The value of a helper section's option, or NULL; the configuration's. */
const char *config_helper_value(const struct config *c, const char *section,
				const char *name);

/* Prints all options with type, default and help; the man page's text is made from it. */
void config_print_help(FILE *to);

DEFINE_AUTO(config, struct config *, config_free)
#define auto_config __attribute__((cleanup(cleanup_config)))

#endif
