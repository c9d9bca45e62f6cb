#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# xattr = no: nobody sees an extended attribute, and the server is asked for one once.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog setfattr getfattr
vcf_setup
vcf_mount
echo x >"$MNT/f"
need "xattrs below" setfattr -n user.a -v 1 "$MNT/f"
equal "by default" 1 "$(getfattr --only-values -n user.a "$MNT/f")"
vcf_remount -o mount.xattr=no
must_fail_with 'Operation not supported' setfattr -n user.b -v 1 "$MNT/f"
must_fail_with 'Operation not supported' getfattr -n user.a "$MNT/f"
must_fail_with 'Operation not supported' setfattr -x user.a "$MNT/f"
ls -l "$MNT/f" >/dev/null
cp -a "$MNT/f" "$MNT/g"
echo y >>"$MNT/g"
equal "content" "x y" "$(xargs <"$MNT/g")"
ok "none are shown"
vcf_remount
equal "it is still there" 1 "$(getfattr --only-values -n user.a "$MNT/f")"
must_fail getfattr -n user.b "$MNT/f"
ok "and kept"
