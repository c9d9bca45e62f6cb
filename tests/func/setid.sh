#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Writes past the page cache clear set-id bits as others do; a size that is set again is a change.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setpriv
vcf_setup
vcf_mount

nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
for mode in 4777 2777; do
	: >"$MNT/empty"
	chmod $mode "$MNT/empty"
	"${nobody[@]}" bash -c "echo x >>'$MNT/empty'"
	equal "mode after the first byte" 777 "$(stat -c %a "$MNT/empty")"
	head -c 8192 /dev/zero >"$MNT/direct"
	chmod $mode "$MNT/direct"
	"${nobody[@]}" dd if=/dev/zero of="$MNT/direct" bs=4096 count=1 conv=notrunc oflag=direct status=none
	equal "mode after O_DIRECT" 777 "$(stat -c %a "$MNT/direct")"
	chmod $mode "$MNT/direct"
	dd if=/dev/zero of="$MNT/direct" bs=4096 count=1 conv=notrunc oflag=direct status=none
	equal "mode after root's write" $mode "$(stat -c %a "$MNT/direct")"
	rm "$MNT/empty" "$MNT/direct"
done
ok "set-id bits"

: >"$MNT/none"
echo x >"$MNT/some"
: >"$MNT/some"
for f in none some; do
	touch -d 2001-01-01 "$MNT/$f"
	: >"$MNT/$f"
	[ "$(stat -c %Y "$MNT/$f")" -gt 1000000000 ] || fail "$f: O_TRUNC of an empty file left its mtime"
done
ok "O_TRUNC of an empty file"
