#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random operations on one file through two daemons over one folder, now here, now there, agree with
# the same ones on a plain file, looked at through the other one after each (fsx.c -2). A server is
# killed now and then.
# usage: sharedmodel.sh [OPERATIONS [MOUNT-OPTION...]]; FSX_SEED repeats a run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$FUNC/shared.lib.sh"
need_fuse
ops=${1:-3000}
shift || true
vcf_setup
shared_mount "$@"
shared_model "$ops"
shared_umount
