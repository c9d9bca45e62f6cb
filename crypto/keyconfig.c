/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keyconfig.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHILDREN_DEFAULT = 4,
	TIMEOUT_DEFAULT_S = 60,
	REQUEST_TIMEOUT_DEFAULT_MS = 20000,
};

static void options_free(struct keyservice_config *cfg)
{
	for (size_t i = 0; i < cfg->option_cnt; i++) {
		char *value = (char *)(uintptr_t)cfg->options[i].value;

		if (value) /* it may be a credential */
			secret_wipe(value, strlen(value));
		free(value);
		free((void *)(uintptr_t)cfg->options[i].name);
	}
	free((void *)(uintptr_t)cfg->options);
}

static vcf_err_t options_copy(struct keyservice_config *cfg,
			      const struct keyservice_config *from)
{
	struct keyservice_option *list = calloc(from->option_cnt + 1, sizeof(*list));

	cfg->options = list;
	cfg->option_cnt = 0;
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < from->option_cnt; i++) {
		list[i].name = strdup(from->options[i].name);
		list[i].value = strdup(from->options[i].value);
		cfg->option_cnt++;
		if (!list[i].name || !list[i].value)
			return -ENOMEM;
	}
	return 0;
}

static void set_defaults(struct keyservice_config *cfg)
{
	if (!cfg->children)
		cfg->children = CHILDREN_DEFAULT;
	if (cfg->children > KEYCONFIG_CHILDREN_MAX)
		cfg->children = KEYCONFIG_CHILDREN_MAX;
	if (!cfg->timeout_s)
		cfg->timeout_s = TIMEOUT_DEFAULT_S;
	if (!cfg->request_timeout_ms)
		cfg->request_timeout_ms = REQUEST_TIMEOUT_DEFAULT_MS;
	/* At least two tries: else one hung helper keeps an id busy beyond its waiters. */
	if (cfg->request_timeout_ms > cfg->timeout_s * 500)
		cfg->request_timeout_ms = cfg->timeout_s * 500;
	if (!cfg->spawn) {
		cfg->spawn = keyservice_spawn;
		cfg->reap = keyservice_reap;
	}
}

vcf_err_t keyconfig_copy(struct keyservice_config *cfg,
			 const struct keyservice_config *from)
{
	*cfg = *from;
	set_defaults(cfg);
	cfg->name = strdup(from->name);
	cfg->helper = strdup(from->helper);
	if (options_copy(cfg, from) || !cfg->name || !cfg->helper)
		return -ENOMEM;
	return 0;
}

void keyconfig_free(struct keyservice_config *cfg)
{
	options_free(cfg);
	free((void *)(uintptr_t)cfg->name);
	free((void *)(uintptr_t)cfg->helper);
}
