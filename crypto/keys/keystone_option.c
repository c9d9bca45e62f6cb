/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/keystone_parts.h"
#include "util/parse.h"

#define TEXT_OPTION(name, field)                                                         \
	{                                                                                \
		name, offsetof(struct keystone_options, field),                          \
			sizeof(((struct keystone_options *)0)->field)                    \
	}

static const struct {
	const char *name;
	size_t off, room;
} options[] = {
	TEXT_OPTION("auth-url", auth_url),
	TEXT_OPTION("auth-ca-file", ca_file),
	TEXT_OPTION("application-credential-id", app_id),
	TEXT_OPTION("application-credential-name", app_name),
	TEXT_OPTION("application-credential-secret-file", app_secret_file),
	TEXT_OPTION("user-id", user_id),
	TEXT_OPTION("username", username),
	TEXT_OPTION("user-domain-id", user_domain_id),
	TEXT_OPTION("user-domain-name", user_domain_name),
	TEXT_OPTION("password-file", password_file),
	TEXT_OPTION("project-id", project_id),
	TEXT_OPTION("project-name", project_name),
	TEXT_OPTION("project-domain-id", project_domain_id),
	TEXT_OPTION("project-domain-name", project_domain_name),
	TEXT_OPTION("region", region),
	TEXT_OPTION("interface", interface),
};

static vcf_err_t set_jitter(struct keystone_options *o, const char *value)
{
	uint64_t s;

	if (parse_duration(value, &s) || s > 60) {
		helper_log("login-jitter: 0 to 60 s are wanted");
		return -EINVAL;
	}
	o->jitter_s = (unsigned int)s;
	return 0;
}

static bool is_secret(const char *name)
{
	return strcmp(name, "password") == 0 ||
	       strcmp(name, "application-credential-secret") == 0 ||
	       strcmp(name, "token") == 0;
}

vcf_err_t keystone_option(struct keystone_options *o, const char *name, const char *value)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (strcmp(name, options[i].name) != 0)
			continue;
		if (!*value || strlen(value) >= options[i].room) {
			helper_log("%s: 1 to %zu characters are wanted", name,
				   options[i].room - 1);
			return -EINVAL;
		}
		snprintf((char *)o + options[i].off, options[i].room, "%s", value);
		return 0;
	}
	if (strcmp(name, "login-jitter") == 0)
		return set_jitter(o, value);
	if (!is_secret(name))
		return -ENOENT;
	helper_log(
		"%s: no secrets in the configuration; put it into a file of mode 0400 and "
		"set %s-file",
		name, name);
	return -EINVAL;
}

void keystone_identity(const struct keystone_options *o, const char *service_type,
		       struct lockbuf *out)
{
	lockbuf_add_text(out, "keystone");
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		lockbuf_add_text(out, "\n");
		lockbuf_add_text(out, (const char *)o + options[i].off);
	}
	lockbuf_add_text(out, "\n");
	lockbuf_add_text(out, service_type ? service_type : "");
}

bool keystone_by_app(const struct keystone_options *o)
{
	return *o->app_id || *o->app_name;
}

static const char *app_fault(const struct keystone_options *o)
{
	if (!*o->app_secret_file)
		return "application-credential-secret-file is missing";
	if (*o->app_id && *o->app_name)
		return "application-credential-id and -name: one is enough";
	if (*o->app_name && !*o->user_id && !*o->username)
		return "application-credential-name needs user-id or username, too";
	if (*o->password_file || *o->project_id || *o->project_name)
		return "an application credential has its own project: no password-file, "
		       "project-id or project-name with it";
	return NULL;
}

static const char *password_fault(const struct keystone_options *o)
{
	if (!*o->user_id && !*o->username)
		return "application-credential-id or -name, or username (or user-id) with "
		       "password-file is missing";
	if (!*o->password_file)
		return "password-file is missing";
	if (*o->app_secret_file)
		return "application-credential-secret-file without the credential's id or "
		       "name";
	if (!*o->project_id && !*o->project_name)
		return "project-name or project-id is missing";
	return NULL;
}

static bool known_interface(const char *name)
{
	return !*name || strcmp(name, "public") == 0 || strcmp(name, "internal") == 0 ||
	       strcmp(name, "admin") == 0;
}

const char *keystone_options_fault(const struct keystone_options *o)
{
	if (!*o->auth_url)
		return "auth-url is missing";
	if (!known_interface(o->interface))
		return "interface: public, internal or admin is wanted";
	if (*o->ca_file && *o->ca_file != '/')
		return "auth-ca-file: an absolute path is wanted";
	return keystone_by_app(o) ? app_fault(o) : password_fault(o);
}

/* True if the URL's last component is this one ("/v3"). */
static bool ends_with(const char *url, size_t len, const char *component)
{
	size_t n = strlen(component);

	return len >= n && memcmp(url + len - n, component, n) == 0;
}

vcf_err_t keystone_urls(char *dst, size_t room, const char *urls, const char *component,
			bool with)
{
	size_t at = 0;

	for (;;) {
		size_t len = strcspn(urls, ","), used = len;
		int n;

		while (used > 0 && (urls[used - 1] == '/' || urls[used - 1] == ' '))
			used--;
		if (ends_with(urls, used, component))
			used -= strlen(component);
		n = snprintf(dst + at, room - at, "%.*s%s%s", (int)used, urls,
			     with ? component : "", urls[len] ? "," : "");
		if (n < 0 || (size_t)n >= room - at)
			return -ENOSPC;
		at += (size_t)n;
		if (!urls[len])
			return 0;
		urls += len + 1;
	}
}
