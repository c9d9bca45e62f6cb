/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys escrow-keygen: a key pair for [escrow] public-key. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/escrow.h"
#include "fs/exitcode.h"
#include "fs/keyscmd.h"

int keys_escrow_keygen(struct keyscmd *k)
{
	struct escrow_public pub;
	const char *path = k->words[0];
	int code;
	vcf_err_t err;

	if (k->word_cnt != 1)
		return EXIT_USAGE;
	code = keyscmd_start_crypto(k);
	if (code)
		return code;
	err = escrow_make_key(path, &pub);
	if (err)
		return keyscmd_fail(k, exit_code_of(err), "%s, %s.pub: %s", path, path,
				    strerror(-err));
	printf("private key  %s  (keep it offline, and on no node)\n"
	       "public key   %s.pub  ([escrow] public-key on the nodes)\n"
	       "recipient    %s\n",
	       path, path, pub.recipient);
	return EXIT_OK;
}
