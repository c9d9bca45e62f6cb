#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# O_DIRECT works aligned, says EINVAL unaligned like a local file system, and agrees with what
# buffered handles see.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
: >"$W/probe"
need "O_DIRECT in $W" py direct_read "$W/probe" 0 4096

for size in 4096 512; do
	mount_args=(-o "format.sector-size=$size")
	vcf_mount "${mount_args[@]}"
	f=$MNT/f$size
	pattern "direct $size" 262144 >"$W/data"
	py direct_write "$f" 0 "$W/data" 262144
	same "$W/data" "$f"
	py direct_read "$f" 0 262144 | cmp - "$W/data" || fail "direct read"
	py direct_read "$f" 8192 4096 | cmp - <(tail -c +8193 "$W/data" | head -c 4096) ||
		fail "direct read in the middle"
	ok "S=$size: aligned"

	printf 'buffered' | dd of="$f" bs=1 seek=100000 conv=notrunc status=none
	printf 'buffered' | dd of="$W/data" bs=1 seek=100000 conv=notrunc status=none
	py direct_read "$f" 0 262144 | cmp - "$W/data" || fail "direct read after buffered write"
	pattern over 8192 >"$W/piece"
	py direct_write "$f" 98304 "$W/piece" 8192
	dd if="$W/piece" of="$W/data" bs=4096 seek=24 conv=notrunc status=none
	same "$W/data" "$f"
	ok "S=$size: mixed with buffered handles"

	truncate -s 5000 "$f" "$W/data"
	py direct_read "$f" 0 8192 | cmp - "$W/data" || fail "direct read at an odd end"
	py direct_write "$f" 4096 "$W/piece" 4096
	dd if="$W/piece" of="$W/data" bs=4096 count=1 seek=1 conv=notrunc status=none
	same "$W/data" "$f"
	ok "S=$size: around an odd end"

	must_fail_with "Invalid argument" py direct_write "$f" 100 "$W/piece" 4096
	must_fail_with "Invalid argument" py direct_write "$f" 0 "$W/piece" 100
	must_fail_with "Invalid argument" py direct_read "$f" 7 4096
	same "$W/data" "$f"
	ok "S=$size: unaligned is EINVAL and changes nothing"
	vcf_remount "${mount_args[@]}"
	same "$W/data" "$f"
	vcf_umount
done
