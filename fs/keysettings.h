/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a configuration means for the key service. */
#ifndef VCF_FS_KEYSETTINGS_H
#define VCF_FS_KEYSETTINGS_H

#include "crypto/keyservice.h"
#include "fs/config.h"
#include "util/err.h"

/* kc points into the rest and into the configuration, which outlives it. */
struct keysettings {
	struct keyservice_config kc; /* without spawn and reap */
	struct keyservice_option *options;
	char program[4096];
};

struct server;

/*
 * service: one of cfg's (config_service()), cfg itself for the default one.
 * -ENOTCONN (logged): the helper is missing or cannot be trusted.
 */
NODISCARD vcf_err_t keysettings_init(struct keysettings *s, const struct config *cfg,
				     const struct config *service);

/* How a server starts helpers, and where they survive it. */
void keysettings_spawner(struct keysettings *s, const struct server *sv);

/* keyservice_config.kept_config: whose helper it is, and with which settings. */
uint32_t keysettings_digest(const struct config *cfg, const struct config *service);
void keysettings_fini(struct keysettings *s);

/* The key service, for a command: one that does not wait for a helper that does not start. */
NODISCARD vcf_err_t keysettings_connect(struct keyservice **ks, const struct config *cfg,
					const struct config *service);

#endif
