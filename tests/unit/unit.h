/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of a unit test program: it defines unit_suite(), unit.c has main().
 * crypto_init() and secret_arena_init() have run before the first test.
 */
#ifndef VCF_TESTS_UNIT_H
#define VCF_TESTS_UNIT_H

#include <check.h>
#include <stddef.h>

Suite *unit_suite(void);

/* A program that defines it does without both: its children, which the arena's memory does not
 * pass to, have their own.
 */
extern const int unit_bare __attribute__((weak));

/* A fresh folder under $TMPDIR, removed at the end of the program; the string is static.
 */
const char *unit_tmpdir(void);

/* An unnamed temporary file, O_RDWR. */
int unit_tmpfile(void);

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

#endif
