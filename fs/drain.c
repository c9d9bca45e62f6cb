/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/drain.h"

#include <errno.h>

#include "fs/imagetable.h"
#include "util/log.h"

static bool is_draining(const struct server *sv)
{
	return sv->session->head->draining;
}

vcf_err_t drain_may_open(struct server *sv, const struct node *n, struct image_entry *e)
{
	char path[STATE_PATH_MAX];

	if (!is_draining(sv) || n->cls != CLASS_ENCRYPT ||
	    imagetable_is_open(sv->images, e))
		return 0;
	if (!state_path(sv->state, n, path))
		log_info("%s: not opened: the mount is draining", path);
	return -ESHUTDOWN;
}

vcf_err_t drain_may_create(struct server *sv, const struct node *dir, const char *name)
{
	char path[STATE_PATH_MAX];
	vcf_err_t err;

	if (!is_draining(sv))
		return 0;
	err = state_child_path(sv->state, dir, name, path);
	if (err || rules_class(sv->rules, path) != CLASS_ENCRYPT)
		return err;
	log_info("%s: not made: the mount is draining", path);
	return -ESHUTDOWN;
}
