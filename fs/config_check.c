/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What only the whole configuration can tell, and what is made from it. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "fs/config.h"
#include "fs/device_config.h"
#include "fs/metrics_address.h"
#include "util/log.h"

static bool same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

const char *config_helper_name(const struct config *c)
{
	static const char prefix[] = "vmcryptfs-key-";
	const char *slash = c->helper ? strrchr(c->helper, '/') : NULL;
	const char *name = slash ? slash + 1 : c->helper;

	if (!name)
		return "";
	if (strncmp(name, prefix, strlen(prefix)) == 0)
		name += strlen(prefix);
	return name;
}

static const char *helper_option(const struct config *c, const char *section,
				 const char *name)
{
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const struct config_helper_option *o = &c->helper_options[i];

		if (same(o->section, section) && same(o->name, name))
			return o->value;
	}
	return NULL;
}

/* --- paths ------------------------------------------------------------------------- */

/* Drops repeated and trailing slashes and "." components, in place. */
static void tidy_path(char *path)
{
	char *dst = path;

	for (const char *p = path; *p;) {
		size_t len;

		p += strspn(p, "/");
		len = strcspn(p, "/");
		if (len && !(len == 1 && *p == '.')) {
			*dst++ = '/';
			memmove(dst, p, len);
			dst += len;
		}
		p += len;
	}
	if (dst == path)
		*dst++ = '/';
	*dst = '\0';
}

static bool has_dotdot(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2) {
		if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	}
	return false;
}

static vcf_err_t check_path(const char *name, char *path)
{
	if (!path)
		return 0;
	if (*path != '/' || has_dotdot(path)) {
		log_err("%s = %s: must be an absolute path without \"..\"", name, path);
		return -EINVAL;
	}
	tidy_path(path);
	return 0;
}

static vcf_err_t check_paths(const struct config *c)
{
	vcf_err_t err = 0;

	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (o->type == CONFIG_PATH &&
		    check_path(o->name, *(char *const *)((const char *)c + o->field_off)))
			err = -EINVAL;
	}
	return err;
}

static vcf_err_t make_absolute(const char *name, char **path)
{
	char *full;

	if (!*path || **path == '/')
		return 0;
	full = realpath(*path, NULL);
	if (!full) {
		log_err("%s: %s: %s", name, *path, strerror(errno));
		return -EINVAL;
	}
	free(*path);
	*path = full;
	return 0;
}

/* True if path is below folder. */
static bool is_below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	if (same(folder, "/"))
		return !same(path, "/");
	return strncmp(path, folder, len) == 0 && path[len] == '/';
}

/*
 * The path with symbolic links resolved as far as it exists, so that two names of one
 * folder are found equal; what cannot be looked at (a dead mount) stays as it is.
 */
static void resolve(char dst[PATH_MAX], const char *path)
{
	if (!realpath(path, dst))
		snprintf(dst, PATH_MAX, "%s", path);
}

static vcf_err_t check_apart(const struct config *c)
{
	char backing[PATH_MAX], mountpoint[PATH_MAX];

	resolve(backing, c->backing);
	resolve(mountpoint, c->mountpoint);
	if (same(backing, mountpoint) && !c->overmount) {
		log_err("mountpoint = %s: is the backing folder itself; set overmount = "
			"yes if that is meant",
			c->mountpoint);
		return -EINVAL;
	}
	if (is_below(backing, mountpoint) || is_below(mountpoint, backing)) {
		log_err("backing = %s and mountpoint = %s: one lies inside the other",
			c->backing, c->mountpoint);
		return -EINVAL;
	}
	return 0;
}

/*
 * What the daemon writes must not lie below its own mount (it would wait for itself) nor
 * in the backing folder (it would appear in the mount; keys would lie beside the
 * ciphertext).
 */
static vcf_err_t check_outside(const struct config *c, const char *name, const char *path)
{
	char real[PATH_MAX];
	const char *const trees[] = {c->mountpoint, c->backing};

	if (!path || *path != '/')
		return 0;
	resolve(real, path);
	for (int i = 0; i < 2; i++) {
		char tree[PATH_MAX];

		resolve(tree, trees[i]);
		if (same(real, tree) || is_below(real, tree)) {
			log_err("%s = %s: must not lie inside %s", name, path, trees[i]);
			return -EINVAL;
		}
	}
	return 0;
}

/* The folders of keys, where the helper is `file`. */
static vcf_err_t check_key_folders(const struct config *c)
{
	const struct config *s;
	vcf_err_t err = check_outside(c, "[file] directory",
				      helper_option(c, "file", "directory"));

	for (size_t i = 1; (s = config_service_at(c, i)); i++) {
		if (same(config_helper_name(s), "file") &&
		    check_outside(c, "directory",
				  config_service_value(c, s, "directory")))
			err = -EINVAL;
	}
	return err;
}

static vcf_err_t check_trees(const struct config *c)
{
	vcf_err_t err = 0;

	if (!c->backing || !c->mountpoint) {
		log_err("%s is not set in [mount]",
			c->backing ? "mountpoint" : "backing");
		return -EINVAL;
	}
	if (check_apart(c))
		err = -EINVAL;
	if (check_outside(c, "state-directory", c->state_directory))
		err = -EINVAL;
	if (check_outside(c, "runtime-directory", c->runtime_directory))
		err = -EINVAL;
	if (check_outside(c, "log-file", c->log_file))
		err = -EINVAL;
	if (check_outside(c, "[audit] file", c->audit_file))
		err = -EINVAL;
	if (check_key_folders(c))
		err = -EINVAL;
	return err;
}

/* --- devices ----------------------------------------------------------------------- */

/* Two names of one device are found when they are opened (it is claimed). */
static vcf_err_t check_device_path(const struct config *c, size_t i)
{
	const struct config *d = c->devices[i];
	vcf_err_t err;

	if (!d->device_path) {
		log_err("path is not set in [device %s]", d->device_name);
		return -EINVAL;
	}
	err = check_path("path", d->device_path);
	if (!err && c->backing && c->mountpoint)
		err = check_outside(c, "path", d->device_path);
	for (size_t k = 0; !err && k < i; k++) {
		if (!c->devices[k]->device_path ||
		    !same(c->devices[k]->device_path, d->device_path))
			continue;
		log_err("[device %s] and [device %s] have the same path",
			c->devices[k]->device_name, d->device_name);
		err = -EINVAL;
	}
	return err;
}

static vcf_err_t check_device_owner(const struct config *d)
{
	struct device_attr attr;
	vcf_err_t err = device_first_attr(&attr, d);

	if (err)
		log_err("[device %s]: owner = %s, mode = %s: must be an existing USER:GROUP, "
			"and permissions in octal",
			d->device_name, d->device_owner, d->device_mode);
	return err ? -EINVAL : 0;
}

static vcf_err_t check_devices(const struct config *c)
{
	auto_rules struct rules *r = NULL;
	vcf_err_t err = c->device_cnt ? config_make_rules(c, &r) : 0;

	for (size_t i = 0; r && i < c->device_cnt; i++) {
		const struct config *d = c->devices[i];

		if (check_device_path(c, i) || check_device_owner(d))
			err = -EINVAL;
		if (rules_class(r, d->device_name) == CLASS_ENCRYPT)
			continue;
		log_err("[device %s]: a rule makes it %s; a device has a secret of its own",
			d->device_name, rules_class_name(rules_class(r, d->device_name)));
		err = -EINVAL;
	}
	return err;
}

/* --- the rest ---------------------------------------------------------------------- */

static vcf_err_t check_helper_name(const struct config *c)
{
	if (*c->helper != '/' && strchr(c->helper, '/')) {
		log_err("helper = %s: must be a name or an absolute path", c->helper);
		return -EINVAL;
	}
	if (!*config_helper_name(c) || config_section_known(config_helper_name(c))) {
		log_err("helper = %s: is no helper's name", c->helper);
		return -EINVAL;
	}
	return 0;
}

static vcf_err_t check_helper(struct config *c, bool quick)
{
	if (!c->helper && quick && helper_option(c, "file", "directory")) {
		c->helper = strdup("file");
		return c->helper ? 0 : -ENOMEM;
	}
	if (!c->helper) {
		log_err("helper is not set in [key-service]%s",
			quick ? "; to try it out: -o file.directory=DIR" : "");
		return -EINVAL;
	}
	return check_helper_name(c);
}

static vcf_err_t check_services(const struct config *c)
{
	uint64_t children = c->children;
	vcf_err_t err = 0;

	for (size_t i = 0; i < c->service_cnt; i++) {
		const struct config *s = c->services[i];

		children += s->children;
		if (!s->helper)
			log_err("helper is not set in [service %s]", s->service_name);
		if (!s->helper || check_helper_name(s))
			err = -EINVAL;
	}
	if (children > CONFIG_CHILDREN_MAX) {
		log_err("children: all services together may have %d",
			CONFIG_CHILDREN_MAX);
		err = -EINVAL;
	}
	for (size_t i = 0; i < c->service_rule_cnt; i++) {
		const struct config_service_rule *r = &c->service_rules[i];

		if (config_service(c, r->service))
			continue;
		log_err("service = %s %s: there is no [service %s]", r->service, r->glob,
			r->service);
		err = -EINVAL;
	}
	return err;
}

/* The helpers that come with the program: one file may hold options for several. */
static bool helper_known(const char *section)
{
	static const char *const names[] = {"file", "static", "barbican", "kmip",
					    "vault"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (same(names[i], section))
			return true;
	}
	return false;
}

/* One of the services has this helper. */
static bool helper_used(const struct config *c, const char *section)
{
	const struct config *s;

	for (size_t i = 0; (s = config_service_at(c, i)); i++) {
		if (same(section, config_helper_name(s)))
			return true;
	}
	return false;
}

static vcf_err_t check_sections(const struct config *c)
{
	const char *last = "";
	vcf_err_t err = 0;

	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const char *section = c->helper_options[i].section;

		if (helper_known(section) || helper_used(c, section) ||
		    same(section, last))
			continue;
		log_err("[%s]: unknown section; there are [mount], [rules], [format], "
			"[key-service], [escrow], [audit], [service NAME], [device NAME] and that of the key helper%s%s%s",
			section, c->helper ? ", [" : "", config_helper_name(c),
			c->helper ? "]" : "");
		last = section;
		err = -EINVAL;
	}
	return err;
}

static vcf_err_t check_combinations(const struct config *c)
{
	vcf_err_t err = 0;

	if (c->format == FORMAT_LUKS1 && c->sector_size != 512) {
		log_err("type = luks1 wants sector-size = 512");
		err = -EINVAL;
	}
	if (c->writeback && c->shared) {
		log_err("writeback = yes cannot go with shared = yes: other nodes would "
			"read stale data");
		err = -EINVAL;
	}
	return err;
}

static vcf_err_t check_rules(const struct config *c)
{
	auto_rules struct rules *r = NULL;

	return config_make_rules(c, &r);
}

const struct escrow_public *config_escrow(const struct config *c)
{
	return c->escrow_path ? &c->escrow : NULL;
}

vcf_err_t config_read_escrow(struct config *c)
{
	vcf_err_t err =
		c->escrow_path ? escrow_read_public(&c->escrow, c->escrow_path) : 0;

	if (err)
		log_err("[escrow] public-key = %s: %s", c->escrow_path,
			err == -EBADMSG ? "not a public escrow key" : strerror(-err));
	return err ? -EINVAL : 0;
}

static vcf_err_t check_metrics(const struct config *c)
{
	struct metrics_address a;
	vcf_err_t err = 0;

	if (c->metrics_listen)
		err = metrics_address_parse(&a, c->metrics_listen);
	if (err)
		log_err("[metrics] listen = %s: %s", c->metrics_listen,
			metrics_address_error(err));
	return err ? -EINVAL : 0;
}

vcf_err_t config_finish(struct config *c, bool quick)
{
	vcf_err_t errs[12] = {0};

	if (quick) {
		errs[0] = make_absolute("backing", &c->backing);
		errs[1] = make_absolute("mountpoint", &c->mountpoint);
	}
	errs[2] = check_helper(c, quick);
	errs[3] = check_sections(c);
	errs[4] = check_combinations(c);
	errs[5] = check_rules(c);
	if (!errs[0] && !errs[1])
		errs[6] = check_paths(c);
	if (!errs[0] && !errs[1] && !errs[6])
		errs[7] = check_trees(c);
	errs[8] = check_services(c);
	errs[9] = config_read_escrow(c);
	errs[10] = check_devices(c);
	errs[11] = check_metrics(c);
	for (size_t i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		if (errs[i])
			return errs[i];
	}
	return 0;
}

vcf_err_t config_finish_services(struct config *c)
{
	vcf_err_t errs[] = {check_helper(c, false), check_sections(c), check_paths(c),
			    check_services(c)};

	for (size_t i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		if (errs[i])
			return errs[i];
	}
	return 0;
}

vcf_err_t config_make_rules(const struct config *c, struct rules **out)
{
	auto_free struct rule_spec *specs = calloc(c->rule_cnt + 1, sizeof(*specs));
	auto_rules struct rules *r = NULL;
	char errbuf[256] = "";
	vcf_err_t err;

	if (!specs)
		return -ENOMEM;
	for (size_t i = 0; i < c->rule_cnt; i++)
		specs[i] = (struct rule_spec){c->rules[i].cls, c->rules[i].glob};
	err = rules_new(&r, specs, c->rule_cnt, c->bind, errbuf, sizeof(errbuf));
	for (size_t i = 0; !err && i < c->service_rule_cnt; i++)
		err = rules_add_service(r, c->service_rules[i].service,
					c->service_rules[i].glob, errbuf, sizeof(errbuf));
	if (err == -EINVAL)
		log_err("[rules]: %s", errbuf);
	if (!err)
		*out = STEAL_PTR(&r);
	return err;
}

static bool is_own(const struct config *service, const char *name)
{
	for (size_t i = 0; i < service->helper_option_cnt; i++) {
		if (same(service->helper_options[i].name, name))
			return true;
	}
	return false;
}

const char *config_service_value(const struct config *c, const struct config *service,
				 const char *name)
{
	for (size_t i = 0; service != c && i < service->helper_option_cnt; i++) {
		if (same(service->helper_options[i].name, name))
			return service->helper_options[i].value;
	}
	return helper_option(c, config_helper_name(service), name);
}

vcf_err_t config_service_options(const struct config *c, const struct config *service,
				 struct keyservice_option **options, size_t *cnt)
{
	const char *section = config_helper_name(service);
	size_t most = c->helper_option_cnt + service->helper_option_cnt + 1;
	struct keyservice_option *list = calloc(most, sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const struct config_helper_option *o = &c->helper_options[i];

		if (same(o->section, section) &&
		    (service == c || !is_own(service, o->name)))
			list[n++] = (struct keyservice_option){o->name, o->value};
	}
	for (size_t i = 0; service != c && i < service->helper_option_cnt; i++)
		list[n++] = (struct keyservice_option){service->helper_options[i].name,
						       service->helper_options[i].value};
	*options = list;
	*cnt = n;
	return 0;
}

vcf_err_t config_helper_section(const struct config *c,
				struct keyservice_option **options, size_t *cnt)
{
	return config_service_options(c, c, options, cnt);
}
