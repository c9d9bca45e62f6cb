#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An empty file has no header and costs no secret; the first byte makes both.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount -o key-service.reserve=0

keys() { find "$KEYS" -type f | wc -l; }
: >"$MNT/empty"
equal "backing size" 0 "$(stat -c %s "$BACK/empty")"
equal "plain size" 0 "$(stat -c %s "$MNT/empty")"
cat "$MNT/empty" >"$W/out"
[ ! -s "$W/out" ] || fail "an empty file gave bytes"
equal "secrets" 0 "$(keys)"
ok "an empty file is empty on both sides"

printf x >>"$MNT/empty"
equal "plain size" 1 "$(stat -c %s "$MNT/empty")"
equal "secrets" 1 "$(keys)"
equal "content" x "$(cat "$MNT/empty")"
ok "the first byte makes header and secret"

truncate -s 1M "$MNT/grown"
equal "secrets" 2 "$(keys)"
fallocate -l 1M "$MNT/allocated"
equal "secrets" 3 "$(keys)"
ok "a growing truncate and fallocate do, too"

truncate -s 0 "$MNT/empty"
equal "plain size" 0 "$(stat -c %s "$MNT/empty")"
equal "backing size" 2097152 "$(stat -c %s "$BACK/empty")"
printf again >"$MNT/empty"
equal "content" again "$(cat "$MNT/empty")"
equal "secrets" 3 "$(keys)"
ok "truncation to nothing keeps header and secret"

vcf_remount
equal "content after remount" again "$(cat "$MNT/empty")"
equal "size after remount" 1048576 "$(stat -c %s "$MNT/grown")"
