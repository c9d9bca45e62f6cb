/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What differs between two configurations. Pure. */
#ifndef VCF_FS_CONFIG_COMPARE_H
#define VCF_FS_CONFIG_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/config.h"

/* The first option that differs and that a mount keeps until its end; NULL if there is none. */
const struct config_option *config_fixed_difference(const struct config *old,
						    const struct config *fresh);

/* The same globs in the same order, and the same `bind`. */
bool config_same_rules(const struct config *a, const struct config *b);

/* The same [device NAME] sections, in whatever order. */
bool config_same_devices(const struct config *a, const struct config *b);

/*
 * Names of all that differs, for the log: "[rules], linger, [file]"; values are not shown.
 * Returns the number of names; dst is cut to its room.
 */
size_t config_list_differences(const struct config *a, const struct config *b, char *dst,
			       size_t room);

/* Equal for equal configurations. */
uint64_t config_digest(const struct config *c);

#endif
