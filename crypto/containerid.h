/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The uuids of containers, which are the labels of their secrets at the key service. Where a
 * site has a name, its last four bytes are a check of the first twelve with that name, so that
 * secrets of two sites in one project are told apart by their labels:
 *
 *   bytes 0..11   random, with version 8 and the variant of RFC 9562
 *   bytes 12..15  the first four of SHA-256("vmcryptfs site v1" 0 NAME 0 bytes 0..11)
 *
 * Without a name they are random (version 4), and nobody's in particular. The name is no
 * secret: the mark guards against mistakes, not against whoever makes labels on purpose.
 */
#ifndef VCF_CRYPTO_CONTAINERID_H
#define VCF_CRYPTO_CONTAINERID_H

#include <stdbool.h>

#include "crypto/token.h"

/* NULL or "": none. Before threads; cut to 255 characters. */
void containerid_set_site(const char *name);

void containerid_new(unsigned char uuid[UUID_LEN]);

/* Was it made at the site called so? Never for NULL and "". */
bool containerid_is_of(const unsigned char uuid[UUID_LEN], const char *name);

#endif
