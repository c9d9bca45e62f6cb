/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/toolkeys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/kdf.h"
#include "fs/exitcode.h"
#include "fs/keycall.h"
#include "fs/keysettings.h"
#include "fs/serve.h"

int toolkeys_begin(struct toolkeys *k, const struct config *cfg, const char *command)
{
	const struct config *service;

	*k = (struct toolkeys){.cfg = cfg};
	serve_harden();
	if (secret_arena_init() || crypto_init() || container_init())
		return EXIT_FAILED; /* logged */
	keycall_begin(cfg, command);
	for (size_t i = 0; (service = config_service_at(cfg, i)); i++) {
		vcf_err_t err = keysettings_connect(&k->ks[i], cfg, service);

		if (!err)
			continue;
		fprintf(stderr, "vmcryptfs %s: key service '%s': %s\n", command,
			service->service_name, strerror(-err));
		return EXIT_KEYSERVICE;
	}
	return EXIT_OK;
}

void toolkeys_end(struct toolkeys *k)
{
	for (size_t i = 0; i < CONFIG_SERVICES_MAX; i++) {
		if (k->ks[i])
			keyservice_free(k->ks[i]);
		k->ks[i] = NULL;
	}
	keycall_end();
}

static struct keyservice *find_service(const struct toolkeys *k, const char *name)
{
	const struct config *service;

	for (size_t i = 0; (service = config_service_at(k->cfg, i)); i++) {
		if (strcmp(service->service_name, name) == 0)
			return k->ks[i];
	}
	return NULL;
}

static vcf_err_t say_refusal(char why[TOOLKEYS_WHY_LEN], const struct token *t,
			     vcf_err_t err, const struct keyservice_sync *got)
{
	snprintf(why, TOOLKEYS_WHY_LEN, "%s %.96s of service '%s': %s%s%.128s",
		 err == -ENOKEY ? "there is no secret" : "no answer for the secret",
		 t->key_id, t->service, strerror(-err), *got->text ? ": " : "",
		 got->text);
	return err;
}

vcf_err_t toolkeys_get(struct toolkeys *k, const struct container *c, const char *path,
		       struct secret **out, char why[TOOLKEYS_WHY_LEN])
{
	const struct token *t = container_token(c);
	const unsigned char *uuid = container_subject(c)->uuid;
	const struct keycall call = {find_service(k, t->service), t->service, path, uuid};
	struct keyservice_sync got = {0};
	auto_secret struct secret *base = NULL;
	vcf_err_t err;

	*why = '\0';
	if (!call.ks) {
		snprintf(why, TOOLKEYS_WHY_LEN, "its key service '%s' is not configured",
			 t->service);
		return -ENOTCONN;
	}
	err = keycall_get(&call, t->key_id, &got);
	base = got.secret;
	if (err)
		return say_refusal(why, t, err, &got);
	if (t->derived)
		return token_derive_secret(out, base, uuid);
	*out = STEAL_PTR(&base);
	return 0;
}

vcf_err_t toolkeys_unlock(struct toolkeys *k, struct container *c, const char *path,
			  struct secret **out, char why[TOOLKEYS_WHY_LEN])
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err = toolkeys_get(k, c, path, &secret, why);

	if (err)
		return err;
	err = container_unlock(c, secret, NULL);
	if (!err)
		*out = STEAL_PTR(&secret);
	else
		snprintf(why, TOOLKEYS_WHY_LEN, "%s",
			 err == -EKEYREJECTED
				 ? "its secret does not open the key slot"
				 : "its MAC or its volume key is wrong: it was changed, "
				   "or is another container's");
	return err;
}
