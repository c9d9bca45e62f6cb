#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sparse stays sparse: a 20 GiB disk with 100 MiB of data takes what a plain one takes, and what
# is punched comes back as zeros and as free space.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog qemu-img fallocate
vcf_setup
vcf_mount

plain=$W/plain
disk=$MNT/disk
pattern sparse 1048576 >"$W/mib"
qemu-img create -q -f raw "$disk" 20G
qemu-img create -q -f raw "$plain" 20G
for i in $(seq 0 99); do
	for f in "$disk" "$plain"; do
		dd if="$W/mib" of="$f" bs=1M seek=$((i * 200 + 3)) conv=notrunc status=none
	done
done
sync -f "$BACK"
used() { du -k "$1" | cut -f1; }
over=$(($(used "$BACK/disk") - $(used "$plain")))
echo "plain $(used "$plain") KiB, container $(used "$BACK/disk") KiB"
[ $over -le 2048 ] && [ $over -ge 0 ] || fail "the container takes $over KiB more"
equal "size" $((20 << 30)) "$(stat -c %s "$disk")"
vcf_remount
equal "size after remount" $((20 << 30)) "$(stat -c %s "$disk")"
near=$(($(stat -c %b "$disk") / 2 - $(used "$plain")))
[ ${near#-} -le 64 ] || fail "st_blocks shows $near KiB more than the plain file's"
ok "20 GiB with 100 MiB written: $over KiB more than plain"

equal "data segments" "$(py segments "$plain")" "$(py segments "$disk")"
ok "SEEK_DATA and SEEK_HOLE show the same segments"

before=$(used "$BACK/disk")
for f in "$disk" "$plain"; do
	fallocate -p -o 0 -l $((10 << 30)) "$f"
	fallocate -p -o $(((10 << 30) + 12345)) -l $(((1 << 30) + 777)) "$f"
done
sync -f "$BACK"
[ "$(used "$BACK/disk")" -lt $((before * 6 / 10)) ] || fail "punching gave nothing back"
qemu-img compare -q -f raw -F raw "$disk" "$plain" || fail "content after punching"
cmp -n 500000000 "$disk" "$plain" || fail "content after punching, holes read"
ok "punched: space is back, zeros are read, edges kept"

fallocate -z -o 5000 -l 100000 "$disk"
fallocate -z -o 5000 -l 100000 "$plain"
cmp -n 50000000 "$disk" "$plain" || fail "content after ZERO_RANGE"
fallocate -l 300000 "$MNT/space"
equal "size after fallocate" 300000 "$(stat -c %s "$MNT/space")"
[ "$(stat -c %b "$MNT/space")" -ge $((290000 / 512)) ] || fail "no blocks were allocated"
fallocate -n -l 1M "$MNT/space"
equal "KEEP_SIZE" 300000 "$(stat -c %s "$MNT/space")"
[ "$(du -k "$BACK/space" | cut -f1)" -ge 1024 ] || fail "KEEP_SIZE allocated nothing"
must_fail_with "not supported" fallocate -c -o 0 -l 4096 "$MNT/space"
must_fail_with "not supported" fallocate -i -o 0 -l 4096 "$MNT/space"
ok "ZERO_RANGE, preallocation; collapse and insert refused"

cp --sparse=always "$disk" "$MNT/copy"
qemu-img compare -q -f raw -F raw "$MNT/copy" "$plain" || fail "copy"
ok "cp through the mount"
