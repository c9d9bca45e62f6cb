#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A full disk below: the writer is told, nothing that was there is lost, deletes still work.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
vcf_setup
mkdir "$W/small"
mount -t tmpfs -o size=24m none "$W/small" 2>/dev/null || skip "needs to mount a tmpfs"
at_exit "umount -l $W/small"
mkdir "$W/small/back"
sed -i "s|^backing = .*|backing = $W/small/back|" "$CONF"
vcf_mount
expect_log 'No space|ENOSPC|space'

pattern full 10485760 >"$W/data"
cp "$W/data" "$MNT/kept"
must_fail_with "No space left" dd if=/dev/zero of="$MNT/big" bs=1M count=40
must_fail_with "No space left" dd if=/dev/zero of="$MNT/big" bs=4k count=1k oflag=append \
	conv=notrunc
size=$(stat -c %s "$MNT/big")
[ "$size" -lt $((24 << 20)) ] || fail "the size grew although the write failed"
equal "reads to its end" "$size" "$(wc -c <"$MNT/big")"
same "$W/data" "$MNT/kept"
ok "a write is refused, the size is what was written"

must_fail_with "No space left" bash -c "echo x >$MNT/fresh"
equal "a file that got no header is empty" 0 "$(stat -c %s "$MNT/fresh")"
must_fail_with "No space left" fallocate -l 40M "$MNT/kept"
same "$W/data" "$MNT/kept"
ok "no header fits: the file stays empty; fallocate leaves the size"

rm "$MNT/big" "$MNT/fresh"
echo again >"$MNT/fresh"
equal "content" again "$(cat "$MNT/fresh")"
same "$W/data" "$MNT/kept"
vcf_remount
same "$W/data" "$MNT/kept"
vcf_umount
ok "deletes work on a full disk, and then there is room again"
