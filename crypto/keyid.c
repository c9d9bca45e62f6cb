/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The grammar of key ids and of service names. Both come from hostile headers and reach
 * URLs, file names and protocol lines, so it is an allow-list. Pure.
 */
#include <string.h>

#include "crypto/token.h"

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool all_of(const char *text, const char *others)
{
	for (; *text; text++) {
		if (!is_alnum(*text) && !strchr(others, *text))
			return false;
	}
	return true;
}

bool token_key_id_valid(const char *id)
{
	size_t len = strnlen(id, TOKEN_KEY_ID_MAX + 1);

	return len >= 1 && len <= TOKEN_KEY_ID_MAX && *id != '.' && !strstr(id, "..") &&
	       all_of(id, "._:/+=@-");
}

bool token_service_valid(const char *name)
{
	size_t len = strnlen(name, TOKEN_SERVICE_MAX + 1);

	return len >= 1 && len <= TOKEN_SERVICE_MAX && *name != '.' && *name != '-' &&
	       all_of(name, "._-");
}
