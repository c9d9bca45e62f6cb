/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mutants of a container, as somebody makes them who can write the medium: what is changed is
 * metadata or the file's size, never a sector of data, so that each mutant is either refused or
 * reads as the original does.
 *
 * The first mutant_cnt() of them go through every field of the binary headers, every member of the
 * JSON texts, pages and lengths in turn; any further number is a random one. Pure: a number and a seed
 * always give the same mutant.
 */
#ifndef VCF_TESTS_MUTANT_H
#define VCF_TESTS_MUTANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/token.h"

enum { MUTANT_HEAD_LEN = 320 * 1024, MUTANT_MEMBERS_MAX = 128 };

/* A member of a JSON object: where its name, its value and the value's end are in the text. */
struct mutant_member {
	size_t name, value, end;
};

struct mutant_text {
	char json[16 * 1024];
	size_t len;
	struct mutant_member members[MUTANT_MEMBERS_MAX];
	unsigned int cnt;
};

struct original {
	enum luks_format format;
	uint32_t sector_len;
	uint64_t data_off, size;
	unsigned char *head;	 /* MUTANT_HEAD_LEN bytes; zeros from there to data_off */
	struct mutant_text text; /* LUKS2: the metadata; LUKS1: the token */
	struct mutant_text escrow; /* LUKS1; empty without one */
};

struct mutant {
	unsigned char head[MUTANT_HEAD_LEN];
	unsigned char kept[12 * 1024]; /* the last bytes before data_off */
	uint64_t size;
	bool may_be_empty; /* what is there may read as a file that was never written to */
	char what[200];
};

/* Reads the texts of head, which is set with format and sizes. False: it is not as we write it. */
bool original_scan(struct original *o);

size_t mutant_cnt(const struct original *o);
void mutant_make(struct mutant *m, const struct original *o, size_t number,
		 unsigned int seed);

#endif
