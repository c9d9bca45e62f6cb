#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A folder of 10,000 entries lists whole, also while entries go.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

mkdir "$MNT/many"
(cd "$MNT/many" && seq -f 'entry-with-a-longer-name-%05g' 10000 | xargs touch)
equal "ls" 10000 "$(find "$MNT/many" -mindepth 1 | wc -l)"
equal "ls with stat" 10000 "$(find "$MNT/many" -type f -size 0 | wc -l)"
ok "10,000 entries"

py readdir_unlink "$MNT/many" 3
equal "after removing every third" 6666 "$(find "$MNT/many" -mindepth 1 | wc -l)"
ok "nothing twice, nothing missing while entries are removed"

rm -r "$MNT/many"
[ ! -e "$BACK/many" ] || fail "left below"
