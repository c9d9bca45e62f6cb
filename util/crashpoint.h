/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRASHPOINT("name"): a place where a test build (meson -Dcrash-points=true) ends itself by
 * SIGKILL when the environment says so; in every other build it is nothing.
 *
 *   VCF_CRASH=NAME     at the first pass            VCF_CRASH=NAME:K   at the K-th
 *   VCF_CRASH_ALL=1    the parent (the keeper) dies with it
 *
 * tests/crash/walk.sh visits them all; it finds the names by this macro's.
 */
#ifndef VCF_UTIL_CRASHPOINT_H
#define VCF_UTIL_CRASHPOINT_H

#include "build-config.h"

#if VCF_CRASH_POINTS
void crashpoint_pass(const char *name);
#define CRASHPOINT(name) crashpoint_pass(name)
#else
#define CRASHPOINT(name) ((void)0)
#endif

#endif
