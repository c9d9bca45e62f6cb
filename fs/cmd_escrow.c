/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys escrow-keygen: a key pair for [escrow] public-key. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "fs/offline.h"

int keys_escrow_keygen(const char *path)
{
	struct escrow_public pub;
	int code = offline_init_crypto();
	vcf_err_t err;

	if (code)
		return code;
	err = escrow_make_key(path, &pub);
	if (err) {
		fprintf(stderr, "vmcryptfs keys escrow-keygen: %s, %s.pub: %s\n", path,
			path, strerror(-err));
		return exit_code_of(err);
	}
	printf("private key  %s  (keep it offline, and on no node)\n"
	       "public key   %s.pub  ([escrow] public-key on the nodes)\n"
	       "recipient    %s\n",
	       path, path, pub.recipient);
	return EXIT_OK;
}
