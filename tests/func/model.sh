#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random operations on an image and on a plain file agree (fsx.c).
# usage: model.sh [OPERATIONS [MOUNT-OPTION...]]; FSX_SEED repeats a run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
ops=${1:-20000}
shift || true
vcf_setup
vcf_mount "$@"

# Remounts from inside fsx: the daemon is ours to wait for, so a small server does it.
mkfifo "$W/ask" "$W/answer"
(
	trap - EXIT
	while read -r _; do
		if (set -e; vcf_remount "$@"); then echo yes; else echo no; fi >"$W/answer"
	done <"$W/ask"
) 8<>"$W/ask" &
remount="echo please >$W/ask && grep -q yes $W/answer"

writeback=()
[[ "${VCF_SWITCHES:-} $*" != *writeback=yes* ]] || writeback=(-W)
a=$W/model
"${FSX:-$VCF_BUILD/tests/func/fsx}" -n "$ops" ${FSX_SEED:+-s "$FSX_SEED"} -l 300001 \
	"${writeback[@]}" -r "$remount" -R $((ops / 10 + 1)) "$MNT/f" "$a"
vcf_remount "$@"
same "$a" "$MNT/f"
ok "$ops operations"
