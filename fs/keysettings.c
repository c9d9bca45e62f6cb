/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keysettings.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/config_compare.h"

/* One try's share of the whole time: a helper that hangs should leave time for another one. */
static unsigned int try_ms(const struct config *cfg)
{
	uint64_t all = cfg->timeout_s * 1000;
	uint64_t ms = all / 2 > 20000 ? 20000 : all / 2;

	if (ms < 5000)
		ms = all < 5000 ? all : 5000;
	return (unsigned int)ms;
}

vcf_err_t keysettings_init(struct keysettings *s, const struct config *cfg)
{
	vcf_err_t err =
		keyservice_find_program(s->program, sizeof(s->program), cfg->helper);

	s->options = NULL;
	if (err)
		return -ENOTCONN; /* it was logged why */
	s->kc = (struct keyservice_config){
		.name = cfg->service_name,
		.helper = s->program,
		.children = (unsigned int)cfg->children,
		.timeout_s = (unsigned int)cfg->timeout_s,
		.request_timeout_ms = try_ms(cfg),
		.kept_config = (uint32_t)config_digest(cfg),
	};
	err = config_helper_section(cfg, &s->options, &s->kc.option_cnt);
	s->kc.options = s->options;
	return err;
}

void keysettings_fini(struct keysettings *s)
{
	free(s->options);
}
