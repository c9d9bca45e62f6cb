#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The guest's size is the guest's size, to the byte, at any value, up and down and after a remount.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

sizes="1 511 512 513 4095 4096 4097 8191 8192 8193 65535 1000000 1048576 1048577"
for n in $sizes; do
	pattern "$n" "$n" >"$W/data.$n"
	cp "$W/data.$n" "$MNT/f.$n"
	equal "size" "$n" "$(stat -c %s "$MNT/f.$n")"
done
vcf_remount
for n in $sizes; do
	equal "size after remount" "$n" "$(stat -c %s "$MNT/f.$n")"
	same "$W/data.$n" "$MNT/f.$n"
done
ok "written sizes"

pattern steps 20000 >"$W/model"
cp "$W/model" "$MNT/steps"
for n in 19999 16384 16383 20000 12289 12288 12287 4097 4096 1 0 5000 4096 8192 8191 30000; do
	truncate -s $n "$W/model" "$MNT/steps"
	equal "size" $n "$(stat -c %s "$MNT/steps")"
	same "$W/model" "$MNT/steps"
done
vcf_remount
same "$W/model" "$MNT/steps"
ok "truncate down and up; what comes back is zeros"

# Beyond 2^41 bytes, where 512-byte sector numbers leave 32 bits.
far=$((2 ** 41 + 12345))
if truncate -s $((far + 99999)) "$W/probe" 2>/dev/null; then
	rm "$W/probe"
	for at in $((far - 12345 - 100)) $far; do
		pattern "$at" 5000 >"$W/far"
		dd if="$W/far" of="$MNT/large" bs=1M oflag=seek_bytes seek="$at" conv=notrunc \
			status=none
	done
	vcf_remount
	equal "size" $((far + 5000)) "$(stat -c %s "$MNT/large")"
	for at in $((far - 12345 - 100)) $far; do
		pattern "$at" 5000 >"$W/far"
		dd if="$MNT/large" bs=5000 count=1 iflag=skip_bytes skip="$at" status=none |
			cmp - "$W/far" || fail "content at $at"
	done
	[ "$(du -k "$BACK/large" | cut -f1)" -lt 4096 ] || fail "not sparse"
	ok "beyond 2^41 bytes"
else
	echo "(the backing file system has no files of 2 TiB)"
fi
