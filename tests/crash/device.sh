#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The server dies at each point of making a container on a device, and of opening it; or the keeper
# with it. The first writer gets what he wrote, or the next mount finds an empty device or a
# container; nobody's data is taken for one. Needs a build with -Dcrash-points=true.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
need_prog losetup blkdiscard
vcf_setup
. "$(dirname "${BASH_SOURCE[0]}")/../func/devices.lib.sh"
new_device 10M DEV
vcf_config <<CONFIG
[device disk]
path = $DEV
CONFIG
expect_log 'was killed by signal 9'
expect_log 'the backing folder|another vmcryptfs|its deletion'
expect_log 'the keeper is gone' # it dies a moment before its server
: >"$W/crash"
export VCF_CRASH_FILE=$W/crash
opts=(-o key-service.reserve=0 -o key-service.linger=0 -o key-service.destroy-delay=0)
points=(device-filled create-begin create-room create-pages create-pages-synced create-using
	create-magic create-magic-synced key-put image-ready image-published device-claimed
	handle-marked handle-made)
pattern 1 20000 >"$W/want"

empty() {
	blkdiscard --zeroout --force --length 2MiB "$DEV" 2>/dev/null ||
		blkdiscard --zeroout --length 2MiB "$DEV"
}

settled() {
	[ "$("$VMCRYPTFS" keys inventory -c "$CONF" | grep -c '"state":"using"')" = 0 ]
}

visited=0
for point in "${points[@]}"; do
	empty
	vcf_mount "${opts[@]}"
	echo "$point" >"$W/crash"
	dd if="$W/want" of="$MNT/disk" bs=20000 conv=notrunc,fsync status=none ||
		fail "$point: the write failed"
	sleep 1.2
	cmp -n 20000 "$W/want" "$MNT/disk" || fail "$point: other bytes"
	settled || fail "$point: a note stays"
	[ -s "$W/crash" ] || visited=$((visited + 1))
	: >"$W/crash"
	vcf_umount
	equal "$point: secrets" 1 "$(find "$KEYS" -type f | wc -l)"
	rm -f "$KEYS"/*
done
[ $visited -ge 12 ] || fail "only $visited points were met"
ok "the server dies at $visited points"

for point in create-room create-pages create-pages-synced create-using create-magic create-magic-synced; do
	empty
	rm -rf "${KEYS:?}"/* "$W"/state/*
	export VCF_CRASH=$point VCF_CRASH_ALL=1
	vcf_mount "${opts[@]}"
	dd if="$W/want" of="$MNT/disk" bs=20000 conv=notrunc,fsync status=none 2>/dev/null || true
	wait_for 10 test -s "$W/daemon.rc" || fail "$point: the keeper lives"
	unset VCF_CRASH VCF_CRASH_ALL
	umount -l "$MNT"
	vcf_mount "${opts[@]}"
	dd if="$W/want" of="$MNT/disk" bs=20000 conv=notrunc,fsync status=none ||
		fail "$point: the write of the next mount failed"
	cmp -n 20000 "$W/want" "$MNT/disk" || fail "$point: other bytes after a new mount"
	vcf_umount
done
ok "the keeper dies with it"
