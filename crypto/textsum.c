/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/textsum.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdlib.h>

#include "util/parse.h"

struct textsum {
	gcry_md_hd_t md;
};

vcf_err_t textsum_new(struct textsum **out)
{
	struct textsum *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	if (gcry_md_open(&s->md, GCRY_MD_SHA256, 0)) {
		free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void textsum_add(struct textsum *s, const char *text, size_t len)
{
	gcry_md_write(s->md, text, len);
}

vcf_err_t textsum_hex(struct textsum *s, char hex[TEXTSUM_HEX_LEN + 1])
{
	const unsigned char *digest;
	gcry_md_hd_t copy;

	if (gcry_md_copy(&copy, s->md))
		return -ENOMEM;
	digest = gcry_md_read(copy, GCRY_MD_SHA256);
	if (digest)
		hex_encode(hex, digest, TEXTSUM_HEX_LEN / 2);
	gcry_md_close(copy);
	return digest ? 0 : -EIO;
}

void textsum_free(struct textsum *s)
{
	if (!s)
		return;
	gcry_md_close(s->md);
	free(s);
}
