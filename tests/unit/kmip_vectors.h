/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recorded KMIP messages, from tests/unit/kmip-vectors.txt. */
#ifndef VCF_TESTS_KMIP_VECTORS_H
#define VCF_TESTS_KMIP_VECTORS_H

#include <stddef.h>

enum { KMIP_VECTOR_MAX = 2048 };

/* Writes the message of that name to dst; its length. It ends the test if there is none. */
size_t kmip_vector(unsigned char dst[KMIP_VECTOR_MAX], const char *name);

#endif
