/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ready-made containers of each kind, formatted once a program, for tests that change
 * copies of them.
 */
#ifndef VCF_TESTS_MADE_H
#define VCF_TESTS_MADE_H

#include "crypto/container.h"

enum { MADE_LUKS2, MADE_LUKS2_512, MADE_LUKS1, MADE_TWIN, MADE_CNT };

/* MADE_TWIN: luks2 with uuid and secret of MADE_LUKS2, but another volume key. */
struct made {
	struct container_params params;
	struct secret *secret;
	struct container *c;
	unsigned char *header; /* CONTAINER_DATA_OFF bytes */
};

extern struct made made[MADE_CNT];
extern const struct token made_token;

/* Fixtures for tcase_add_unchecked_fixture(). */
void made_setup(void);
void made_teardown(void);

/* An unnamed file of `size` bytes that starts with this header. */
int made_file(const unsigned char *header, uint64_t size);

/* A malloc'd copy of made[kind].header. */
unsigned char *made_copy(int kind);

/* All that was logged since the last call; the string is static. */
const char *made_log(void);

#endif
