/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/rekey_online.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/jsonlines.h"
#include "fs/keysctl.h"
#include "fs/mountpoint.h"
#include "fs/tool.h"
#include "util/cleanup.h"
#include "util/clock.h"

enum {
	PAUSE_MIN_MS = 5,
	PAUSE_MAX_MS = 100,
	SILENCE_MS = 30 * 1000, /* a new server takes as long at most */
	PASSING_MS = 60 * 1000, /* that somebody else is at the header */
};

static struct json_object *make_request(const struct rekey_request *r)
{
	struct json_object *o = json_object_new_object();

	json_put_text(o, "op", "rekey");
	json_put_text(o, "path", r->path);
	json_put_number(o, "dev", r->dev);
	json_put_number(o, "ino", r->ino);
	json_put_text(o, "uuid", r->uuid);
	json_put_text(o, "service", r->service);
	json_put_flag(o, "now", r->now);
	return o;
}

/* -errno: nobody answered, or not to the end. */
static vcf_err_t ask_once(const char *socket, struct json_object *request,
			  struct json_object **answer)
{
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	struct json_object *o;
	vcf_err_t err = to ? keysctl_call(socket, request, to) : -ENOMEM;

	if (to && fclose(to) == EOF && !err)
		err = -ENOMEM;
	if (err)
		return err;
	o = json_tokener_parse(text);
	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return -EAGAIN;
	}
	*answer = o;
	return 0;
}

static bool is_there(const struct rekey_request *r)
{
	return mountpoint_is_ours(r->mountpoint) == 1;
}

/* The end of it: 0 or an error, as the answer says. -EAGAIN: not yet. */
static vcf_err_t understand(struct json_object *answer)
{
	const char *state = json_text(answer, "state");
	uint64_t code = json_number(answer, "code");

	if (json_object_object_get_ex(answer, "error", NULL))
		return -EREMOTEIO;
	if (strcmp(state, "done") == 0)
		return 0;
	if (strcmp(state, "failed") == 0)
		return code && code < 4096 ? -(vcf_err_t)code : -EIO;
	return -EAGAIN;
}

/* A moment between two tries. */
static void rest(unsigned int *ms)
{
	usleep(*ms * 1000);
	*ms = *ms * 2 < PAUSE_MAX_MS ? *ms * 2 : PAUSE_MAX_MS;
}

static vcf_err_t poll(const struct rekey_request *r, const char *socket,
		      struct json_object *request, struct json_object **answer)
{
	uint64_t heard_ms = clock_now_ms(), passing_ms = 0;
	unsigned int pause_ms = PAUSE_MIN_MS;
	bool ever = false;

	while (!tool_interrupted()) {
		struct json_object *o = NULL;
		vcf_err_t err = ask_once(socket, request, &o);

		if (!err) {
			heard_ms = clock_now_ms();
			ever = true;
			err = understand(o);
			if (err != -EAGAIN) {
				*answer = o;
				return err;
			}
			if (json_flag(o, "passing") && !passing_ms)
				passing_ms = heard_ms;
			json_object_put(o);
			if (passing_ms && heard_ms - passing_ms > PASSING_MS)
				return -EBUSY; /* somebody else stays at its header */
		} else if (!ever && !is_there(r)) {
			return -ECONNREFUSED;
		} else if (clock_now_ms() - heard_ms > SILENCE_MS) {
			return -EHOSTDOWN;
		}
		rest(&pause_ms);
	}
	return -EINTR;
}

vcf_err_t rekey_online(const struct rekey_request *r, struct json_object **answer)
{
	struct json_object *request;
	char socket[PATH_MAX];
	vcf_err_t err = keysctl_path(socket, sizeof(socket), r->runtime, r->mountpoint);

	if (err)
		return err;
	request = make_request(r);
	err = poll(r, socket, request, answer);
	json_object_put(request);
	return err;
}
