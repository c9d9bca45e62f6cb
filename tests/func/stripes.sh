#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Many threads write neighbouring pieces of the same sectors at once; nothing is lost.
# usage: stripes.sh [SECONDS]
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount
t=${1:-4}
for width in 100 1000 4097; do
	"$VCF_BUILD/tests/func/stripes" -t 8 -w $width -k "$t" -s 262144 "$MNT/f$width"
done
ok "overlapping unaligned writers"
