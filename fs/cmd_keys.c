/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keys: what there is to do with secrets, beside images. */
#include <string.h>

#include "fs/cmd.h"

int cmd_keys(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "escrow-keygen") == 0)
		return keys_escrow_keygen(argv[2]);
	return command_usage("keys");
}
