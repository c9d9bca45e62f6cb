#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Shared and private mappings, also while a direct handle is open.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

pattern mmap 100001 >"$MNT/f"
py mmap_write "$MNT/f" 4090 "across two pages"
py mmap_private "$MNT/f" 4090 "private to us"
equal "by read" "across two pages" "$(dd if="$MNT/f" bs=1 skip=4090 count=16 status=none)"
py mmap_write "$MNT/f" 99990 "at the end"
equal "size" 100001 "$(stat -c %s "$MNT/f")"
vcf_remount
equal "after remount" "across two pages" "$(dd if="$MNT/f" bs=1 skip=4090 count=16 status=none)"
equal "after remount" "at the end" "$(dd if="$MNT/f" bs=1 skip=99990 count=10 status=none)"
ok "shared and private mappings"

# The first handle of a new image bypasses the page cache; mappings must work all the same.
exec 8<>"$MNT/new"
truncate -s 8192 "$MNT/new"
py mmap_write "$MNT/new" 4000 "mapped beside a direct handle"
exec 8>&-
equal "content" "mapped beside a direct handle" "$(dd if="$MNT/new" bs=1 skip=4000 count=29 status=none)"
ok "a mapping beside a direct handle"

cp /bin/true "$MNT/prog"
chmod 755 "$MNT/prog"
"$MNT/prog" || fail "a program on the mount does not run"
ok "executing from the mount"
