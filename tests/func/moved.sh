#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A container moved below the mount into another instance's folder does not open there.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_config <<'CONFIG'
[rules]
bind = ^([0-9a-f-]{36})(?:_resize|_del)?/
CONFIG
vcf_mount
a=11111111-1111-1111-1111-111111111111
b=22222222-2222-2222-2222-222222222222
mkdir "$MNT/$a" "$MNT/$b"
echo "tenant A" >"$MNT/$a/disk"
cp "$BACK/$a/disk" "$W/saved"

require_log "$b/disk"
expect_log 'stolen'
cp "$BACK/$a/disk" "$BACK/$b/disk"
must_fail_with "Bad message" cat "$MNT/$b/disk"
must_fail_with "Bad message" py open_only "$MNT/$b/disk" trunc
cp "$BACK/$a/disk" "$BACK/stolen"
must_fail_with "Bad message" cat "$MNT/stolen"
ok "refused while mounted"

vcf_umount
mv "$BACK/$a/disk" "$BACK/$b/disk"
vcf_mount
must_fail_with "Bad message" cat "$MNT/$b/disk"
vcf_umount
cmp "$W/saved" "$BACK/$b/disk" || fail "the refused container was changed"
mv "$BACK/$b/disk" "$BACK/$a/disk"
rm "$BACK/stolen"
vcf_mount
equal "back in its place" "tenant A" "$(cat "$MNT/$a/disk")"
ok "refused after a remount; opens again in its place"
