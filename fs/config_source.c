/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/config_source.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/config_compare.h"
#include "fs/statusfile.h"
#include "util/log.h"

vcf_err_t config_resolve(char **path)
{
	char above[PATH_MAX];
	char *full = realpath(*path, NULL);

	if (!full && errno == ENOTCONN && statusfile_resolve(*path, above) == 0)
		full = strdup(above);
	if (!full)
		return -errno;
	free(*path);
	*path = full;
	return 0;
}

/* Symbolic links in it are followed at each reading: they may lead elsewhere by then. */
vcf_err_t config_source_file(struct config_source *src, const char *path)
{
	auto_free char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);

	if (*path != '/' && !cwd)
		return -errno;
	if (asprintf(&src->path, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", path) < 0) {
		src->path = NULL;
		return -ENOMEM;
	}
	return 0;
}

static vcf_err_t set_folder(char **out, const char *path)
{
	auto_free char *copy = strdup(path);
	vcf_err_t err = copy ? config_resolve(&copy) : -ENOMEM;

	if (!err)
		*out = STEAL_PTR(&copy);
	return err;
}

vcf_err_t config_source_backing(struct config_source *src, const char *path)
{
	return set_folder(&src->backing, path);
}

vcf_err_t config_source_mountpoint(struct config_source *src, const char *path)
{
	return set_folder(&src->mountpoint, path);
}

vcf_err_t config_source_setting(struct config_source *src, const char *setting)
{
	if (src->setting_cnt == CONFIG_SOURCE_SETTINGS_MAX)
		return -E2BIG;
	src->settings[src->setting_cnt++] = setting;
	return 0;
}

void config_source_fini(struct config_source *src)
{
	free(src->path);
	free(src->backing);
	free(src->mountpoint);
}

static vcf_err_t read_base(struct config *cfg, const struct config_source *src)
{
	if (src->path)
		return config_read(cfg, src->path);
	cfg->guard = false; /* for trying: the folder can be removed again */
	cfg->backing = strdup(src->backing);
	cfg->mountpoint = strdup(src->mountpoint);
	return cfg->backing && cfg->mountpoint ? 0 : -ENOMEM;
}

vcf_err_t config_load(struct config **out, const struct config_source *src)
{
	auto_config struct config *cfg = NULL;
	vcf_err_t err = config_new(&cfg);

	if (!err)
		err = read_base(cfg, src);
	for (size_t i = 0; !err && i < src->setting_cnt; i++)
		err = config_set(cfg, src->settings[i]);
	if (!err)
		err = config_finish(cfg, !src->path);
	if (!err)
		*out = STEAL_PTR(&cfg);
	return err;
}

/* What cannot be resolved any more stays as it is written: then it differs, and is refused. */
vcf_err_t config_load_again(struct config **out, const struct config_source *src)
{
	vcf_err_t err = config_load(out, src);

	if (err)
		return err;
	if (config_resolve(&(*out)->mountpoint))
		log_dbg("%s: cannot be resolved", (*out)->mountpoint);
	if (config_resolve(&(*out)->backing))
		log_dbg("%s: cannot be resolved", (*out)->backing);
	return 0;
}

void config_apply_level(const struct config *cfg)
{
	static const char *const levels[] = {"err", "warn", "info", "dbg"};

	for (int i = 0; i < 4; i++) {
		if (cfg->log_level && strcmp(cfg->log_level, levels[i]) == 0)
			log_set_level((enum log_level)i);
	}
}

vcf_err_t config_apply_log(const struct config *cfg)
{
	vcf_err_t err = cfg->log_file ? log_set_file(cfg->log_file) : 0;

	if (err)
		log_err("%s: %s", cfg->log_file, strerror(-err));
	else
		config_apply_level(cfg);
	return err;
}

vcf_err_t config_follow(struct config *cfg, const struct config_source *src,
			uint64_t digest)
{
	auto_config struct config *fresh = NULL;
	struct config old;
	vcf_err_t err = config_load_again(&fresh, src);

	if (!err && config_digest(fresh) != digest)
		err = -EAGAIN;
	if (!err)
		err = config_apply_log(fresh);
	if (err)
		return err;
	old = *cfg;
	*cfg = *fresh;
	*fresh = old;
	return 0;
}

vcf_err_t config_is_current(const struct config *cfg, const struct config_source *src)
{
	auto_config struct config *fresh = NULL;
	vcf_err_t err = config_load_again(&fresh, src);

	if (err)
		return err;
	return config_digest(fresh) == config_digest(cfg) ? 0 : -EAGAIN;
}
