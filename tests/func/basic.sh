#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is written reads back, also after a remount; below lies ciphertext in a LUKS2 container.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup file
vcf_setup
vcf_mount

pattern 1 3000001 >"$W/data"
yes "a plaintext line that nobody may see below" | head -c 1M >"$W/text" || true
cp "$W/data" "$MNT/disk"
cp "$W/text" "$MNT/text"
same "$W/data" "$MNT/disk"
equal "size" 3000001 "$(stat -c %s "$MNT/disk")"
ok "written and read back"

printf XYZ | dd of="$MNT/disk" bs=1 seek=1234567 conv=notrunc status=none
printf XYZ | dd of="$W/data" bs=1 seek=1234567 conv=notrunc status=none
same "$W/data" "$MNT/disk"
ok "three bytes changed in the middle"

vcf_remount
same "$W/data" "$MNT/disk"
same "$W/text" "$MNT/text"
ok "the same after a remount"

file "$BACK/disk" | grep -q 'LUKS encrypted file, ver 2' || fail "not LUKS2: $(file "$BACK/disk")"
! grep -qa "plaintext line" "$BACK/text" || fail "plaintext below"
equal "backing size: header, sectors, marker" \
	$((2097152 + (3000001 / 4096 + 1) * 4096 + 3000001 % 4096)) "$(stat -c %s "$BACK/disk")"
ok "a LUKS2 container below, no plaintext in it"

cp "$W/text" "$MNT/again"
! cmp -s "$BACK/text" "$BACK/again" || fail "two images of one content have the same bytes"
tail -c +2097153 "$BACK/text" >"$W/a"
tail -c +2097153 "$BACK/again" >"$W/b"
! cmp -s "$W/a" "$W/b" || fail "two images share a key"
ok "each image has a key of its own"

for f in disk text again; do
	grep -qxE '[0-9a-f]{64}' "$KEYS/$(key_id_of "$BACK/$f")" || fail "the key file of $f"
	equal "its length" 64 "$(stat -c %s "$KEYS/$(key_id_of "$BACK/$f")")"
done
ok "one file of 64 hex digits for each secret"

rm "$MNT/disk" "$MNT/text" "$MNT/again"
[ -z "$(ls -A "$BACK")" ] || fail "left below: $(ls -A "$BACK")"
ok "removed"

ahead=/sys/class/bdi/$(mountpoint -d "$MNT")/read_ahead_kb
if [ -w "$ahead" ]; then
	equal "read ahead, KiB" 1024 "$(cat "$ahead")"
	ok "the kernel reads a megabyte ahead"
fi
