/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which secrets a host has a use for: what `vmcryptfs keys inventory` writes and `keys orphans`
 * and `keys reap` read. A file of JSON lines (jsonlines.h):
 *
 *   first      host, host_id (of the machine), site, backing, folder (of the state directory),
 *              folders (all that the state directory has: each is a mount with an inventory of
 *              its own), services, time (when it was begun), complete, count
 *   container  path, uuid, service, key_id, derived
 *   damaged    path, uuid: its header cannot be read, its key id is not known
 *   unreadable path: neither is known. Plaintext, or an image whose header was overwritten: any
 *              secret may be the one that its header needs when it is put back from a backup
 *   site       uuid, service, key_id: the secret of derived images
 *   journal    an entry (keysop_entry()): on its way in or out, also of commands like adopt that were
 *              cut short. One that is due and that a
 *              controller is to destroy has "reap": true and, if one was saved, "header":
 *              [[OFFSET,BASE64]...], what is not zero of the saved header
 *
 * The journal is read before the tree is walked and again after it, so that nothing slips
 * through on its way from one to the other.
 */
#ifndef VCF_FS_INVENTORY_H
#define VCF_FS_INVENTORY_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "crypto/container.h"
#include "fs/keysop.h"
#include "util/cleanup.h"
#include "util/err.h"

/* -errno: it would not be complete, and nothing was written (or the disk is full). */
NODISCARD vcf_err_t inventory_write(const struct keysop *k, FILE *to);

enum inventory_kind {
	INVENTORY_IMAGE,
	INVENTORY_SITE,
	INVENTORY_JOURNAL,
	INVENTORY_DUE,
	INVENTORY_UNREADABLE, /* no uuid */
};

struct inventory_host {
	struct json_object *head;
	const char *name, *file;
	time_t time;
};

struct inventory_use {
	enum inventory_kind kind; /* DUE: an entry that waits for its destroy */
	unsigned char uuid[UUID_LEN];
	const char *key_id; /* "": not known */
	const char *service, *path;
	bool derived;
	struct json_object *line;
	const struct inventory_host *host;
};

struct inventory;

NODISCARD vcf_err_t inventory_new(struct inventory **out);
void inventory_free(struct inventory *inv);

/* Adds a file. -EBADMSG, -errno: logged. */
NODISCARD vcf_err_t inventory_read(struct inventory *inv, const char *path);

struct inventory_demand {
	const char *site, *service;
	const char *hosts; /* names, with commas; all of them and no others */
	uint64_t max_age_s;
	time_t now;
	bool all_known; /* nothing unreadable */
};

/*
 * Is it the whole truth about the site? -EPERM if not; each reason is logged. To be called
 * once, before what follows.
 */
NODISCARD vcf_err_t inventory_check(struct inventory *inv,
				    const struct inventory_demand *d);

/* Has anybody a use for it, other than entries that wait for its destroy? */
bool inventory_uses(const struct inventory *inv, const char *key_id,
		    const unsigned char uuid[UUID_LEN]);
/* Is it named at all? */
bool inventory_names_key(const struct inventory *inv, const char *key_id);
bool inventory_names_uuid(const struct inventory *inv, const unsigned char *uuid);

/* Is it named without a key id: by a damaged header, or a secret that is being made? */
bool inventory_lacks_key(const struct inventory *inv, const unsigned char *uuid);

/* When the oldest of them was begun. */
time_t inventory_oldest(const struct inventory *inv);

/* Stops at non-zero, which is the answer. */
int inventory_each(const struct inventory *inv,
		   int (*fn)(void *arg, const struct inventory_use *use), void *arg);

/* The saved header of a DUE line: CONTAINER_PEEK_LEN bytes. -ENODATA, -EBADMSG. */
NODISCARD vcf_err_t inventory_header(const struct inventory_use *use, void *hdr);

DEFINE_AUTO(inventory, struct inventory *, inventory_free)
#define auto_inventory __attribute__((cleanup(cleanup_inventory)))

#endif
