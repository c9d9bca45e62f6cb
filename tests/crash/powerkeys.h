/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key service as the record tells of it (it is another machine: no power loss there), and
 * who needs which of its secrets after a cut.
 */
#ifndef VCF_TESTS_POWERKEYS_H
#define VCF_TESTS_POWERKEYS_H

#include "crypto/secret.h"
#include "crypto/token.h"
#include "tests/crash/powerdisk.h"

struct key {
	char id[64]; /* its label too: the file helper names them so */
	unsigned char bytes[SECRET_LEN];
	size_t asked, created; /* positions; SIZE_MAX: never */
	size_t destroy_asked, destroyed;
};

struct keys {
	struct key *list;
	size_t cnt, room;
};

void keys_load(struct keys *k, const struct disk *d);
const struct key *keys_find(const struct keys *k, const char *id);

/* It is surely there; it may be there. */
bool key_surely(const struct key *k, size_t cut);
bool key_perhaps(const struct key *k, size_t cut);

/* Ids that somebody answers for. */
struct noted {
	char (*ids)[64];
	size_t cnt, room;
	bool damaged; /* a journal said that it was */
};

void noted_add(struct noted *n, const char *id);
bool noted_has(const struct noted *n, const char *id);
void noted_free(struct noted *n);

/* The live entries of the journal at path, by label and by key id; 0 or -errno. */
int noted_journal(struct noted *n, const char *path);
/* The text of a site file. */
void noted_site(struct noted *n, const char *text);

#endif
