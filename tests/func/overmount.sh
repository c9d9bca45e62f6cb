#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The mount may lie over the backing folder itself.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
vcf_setup
MNT=$BACK
sed -i "s|^mountpoint = .*|mountpoint = $BACK|" "$CONF"

must_fail "$VMCRYPTFS" mount -f "$CONF"
! is_mounted || fail "mounted without overmount = yes"
ok "refused without overmount = yes"

vcf_mount -o mount.overmount=yes
mkdir "$MNT/d"
pattern over 50000 >"$W/data"
cp "$W/data" "$MNT/d/f"
same "$W/data" "$MNT/d/f"
vcf_umount
[ "$(stat -c %s "$BACK/d/f")" -gt 2000000 ] || fail "not a container below"
! cmp -s "$W/data" "$BACK/d/f" || fail "plaintext below"
vcf_mount -o mount.overmount=yes
same "$W/data" "$MNT/d/f"
ok "over itself"
