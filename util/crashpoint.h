/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRASHPOINT("name"): a place where a test build (meson -Dcrash-points=true) ends itself by
 * SIGKILL when the environment says so; in every other build it is nothing.
 *
 *   VCF_CRASH=NAME        at the first pass            VCF_CRASH=NAME:K   at the K-th
 *                         in the first server of a mount only
 *   VCF_CRASH_ALL=1       the parent (the keeper) dies with it
 *   VCF_CRASH_FILE=PATH   lines NAME or NAME:K. At the point of the first line that line is taken
 *                         out, then the process ends; its successor meets the lines that are left.
 *                         K counts from when the line became the first one
 *   VCF_CRASH_TRACE=PATH  each pass appends a line "PID NAME"; the file is there already
 *
 * tests/crash/walk.sh visits those of making and removing images with the keeper dying as well,
 * tests/crash/points.sh all of them with the keeper living; both find the names by this macro's.
 */
#ifndef VCF_UTIL_CRASHPOINT_H
#define VCF_UTIL_CRASHPOINT_H

#include "build-config.h"

#if VCF_CRASH_POINTS
void crashpoint_pass(const char *name);
#define CRASHPOINT(name) crashpoint_pass(name)
/* This process took over from another one: VCF_CRASH was for that. */
void crashpoint_taken_over(void);
#define CRASHPOINT_TAKEN_OVER() crashpoint_taken_over()
#else
#define CRASHPOINT(name) ((void)0)
#define CRASHPOINT_TAKEN_OVER() ((void)0)
#endif

#endif
