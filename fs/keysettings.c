/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/keysettings.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/config_compare.h"
#include "fs/server.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/sysfilter.h"

/* One try's share of the whole time: a helper that hangs should leave time for another one. */
static unsigned int try_ms(const struct config *cfg)
{
	uint64_t all = cfg->timeout_s * 1000;
	uint64_t ms = all / 2 > 20000 ? 20000 : all / 2;

	if (ms < 5000)
		ms = all < 5000 ? all : 5000;
	return (unsigned int)ms;
}

/* As whom the helper runs. */
static vcf_err_t find_user(struct keyservice_config *kc, const char *name)
{
	const struct passwd *pw;

	if (!name)
		return 0;
	errno = 0;
	pw = getpwnam(name);
	if (!pw) {
		log_err("[key-service] user = %s: %s", name,
			errno ? strerror(errno) : "there is no such user");
		return -ENOTCONN;
	}
	if (geteuid() != 0 && pw->pw_uid != geteuid()) {
		log_err("[key-service] user = %s: only root can start a helper as another user",
			name);
		return -ENOTCONN;
	}
	kc->own_user = geteuid() == 0;
	kc->uid = pw->pw_uid;
	kc->gid = pw->pw_gid;
	return 0;
}

uint32_t keysettings_digest(const struct config *cfg, const struct config *service)
{
	return (uint32_t)hash_fnv1a(config_digest(cfg), service->service_name,
				    strlen(service->service_name));
}

void keysettings_spawner(struct keysettings *s, const struct server *sv)
{
	s->kc.spawn = sv->spawn;
	s->kc.reap = sv->reap;
	s->kc.spawn_arg = sv->spawn_arg;
	s->kc.log_stderr = true;
	s->kc.kept = sv->own_session ? NULL : sv->session->head->helpers;
	s->kc.kept_cnt = SESSION_HELPERS_MAX;
}

vcf_err_t keysettings_init(struct keysettings *s, const struct config *cfg,
			   const struct config *service)
{
	vcf_err_t err =
		keyservice_find_program(s->program, sizeof(s->program), service->helper);

	sysfilter_set_mode(cfg->seccomp); /* of helpers that a command starts itself */
	s->options = NULL;
	memset(&s->kc, 0, sizeof(s->kc));
	if (err)
		return -ENOTCONN; /* it was logged why */
	s->kc = (struct keyservice_config){
		.name = service->service_name,
		.helper = s->program,
		.children = (unsigned int)service->children,
		.timeout_s = (unsigned int)service->timeout_s,
		.request_timeout_ms = try_ms(service),
		.kept_config = keysettings_digest(cfg, service),
	};
	err = find_user(&s->kc, service->helper_user);
	if (err)
		return err;
	err = config_service_options(cfg, service, &s->options, &s->kc.option_cnt);
	s->kc.options = s->options;
	return err;
}

void keysettings_fini(struct keysettings *s)
{
	free(s->options);
}

vcf_err_t keysettings_connect(struct keyservice **ks, const struct config *cfg,
			      const struct config *service)
{
	struct keysettings s = {0};
	vcf_err_t err = keysettings_init(&s, cfg, service);

	s.kc.give_up = true;
	if (!err)
		err = keyservice_new(ks, &s.kc);
	keysettings_fini(&s);
	return err;
}
