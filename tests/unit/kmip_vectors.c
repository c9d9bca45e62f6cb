/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/kmip_vectors.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "util/parse.h"

size_t kmip_vector(unsigned char dst[KMIP_VECTOR_MAX], const char *name)
{
	static char line[3 * KMIP_VECTOR_MAX];
	FILE *f = fopen(VCF_SOURCE_ROOT "/tests/unit/kmip-vectors.txt", "re");
	size_t found = 0, skip = strlen(name);

	ck_assert_ptr_nonnull(f);
	while (!found && fgets(line, sizeof(line), f)) {
		const char *hex = line + skip + 1;
		size_t len;

		if (strncmp(line, name, skip) != 0 || line[skip] != ' ')
			continue;
		len = strcspn(hex, "\n");
		ck_assert(len / 2 <= KMIP_VECTOR_MAX);
		ck_assert_int_eq(hex_decode(dst, len / 2, hex, len), 0);
		found = len / 2;
	}
	fclose(f);
	ck_assert_msg(found, "no vector %s", name);
	return found;
}
