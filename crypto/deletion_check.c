/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/deletion_check.h"

#include <errno.h>
#include <string.h>

#include "crypto/container.h"

vcf_err_t deletion_check_header(const struct journal_entry *e, const void *hdr,
				const struct secret *secret)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = container_load_saved(&c, hdr, CONTAINER_PEEK_LEN, e->path);

	if (err)
		return err;
	if (strcmp(container_token(c)->key_id, e->key_id) != 0 ||
	    strcmp(container_token(c)->service, e->service) != 0 ||
	    memcmp(container_subject(c)->uuid, e->uuid, UUID_LEN) != 0)
		return -EBADMSG;
	return container_mac_check(c, secret);
}

bool deletion_check_passing(vcf_err_t err)
{
	return err == -ENOMEM || err == -EINTR || err == -EAGAIN;
}
