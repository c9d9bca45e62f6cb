#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest makes a file system on an image through the mount, writes, syncs, verifies, discards and
# powers off; with cache=none and cache=writeback; verified again after a remount.
# usage: guest.sh [--kills N]
#   --kills N  meanwhile the server is killed, about N times in all; the guest must not notice
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog qemu-system-x86_64 qemu-img e2fsck gcc
need "a kernel for guests" "$VCF_SRC/tests/interop/guest-prep"
vcf_setup
diskpat=$VCF_BUILD/tests/interop/diskpat
guest=$VCF_SRC/tests/interop/guest
raw_len=$((64 << 20))
mkdir "$W/job"
kills=0
[ "${1:-}" != --kills ] || kills=$2
if [ "$kills" != 0 ]; then
	expect_log 'server \(pid .* (was )?(killed by|ended by) signal 9'
	expect_log 'generation [0-9]+ takes over'
	: >"$W/kills"
fi

killed() { wc -l <"$W/kills"; }

# A guest, with its share of the deaths: a fourth of them.
run_guest() { # GUEST-ARGUMENT...
	local rc=0 killer='' before

	if [ "$kills" != 0 ]; then
		before=$(killed)
		python3 "$VCF_SRC/tests/crash/kills.py" kill "$VCF_PID" "$MNT" \
			$(((kills + 3) / 4)) "$W/kills" 5-40 40-600*4 &
		killer=$!
	fi
	"$guest" "$@" || rc=$?
	[ -n "$killer" ] || return $rc
	kill "$killer" 2>/dev/null || true
	wait "$killer" || fail "no server comes after one was killed"
	equal "deaths in status" $(($(killed) - before)) "$(vcf_status_get "s['deaths']")"
	return $rc
}

used() { sync -f "$1"; du -k "$1" | cut -f1; }

first_job() {
	cat <<-JOB
		mkfs.ext4 -q -F /dev/vda
		mount -t ext4 /dev/vda /mnt
		for i in 1 2 3 4; do
			truncate -s \$((i * 1048576)) /mnt/file\$i
			diskpat write /mnt/file\$i \$i \$((i * 1048576))
		done
		mkdir /mnt/small
		for i in \$(seq 200); do echo "small file \$i" > /mnt/small/\$i; done
		dd if=/dev/urandom of=/mnt/doomed bs=1M count=40 2>/dev/null
		sync
		rm /mnt/doomed
		sync
		fstrim -v /mnt
		(cd /mnt && sha256sum file* small/* > SUMS)
		sync
		umount /mnt
		echo 3 > /proc/sys/vm/drop_caches
		e2fsck -fn /dev/vda
		mount -t ext4 -o ro /dev/vda /mnt
		(cd /mnt && sha256sum -c -s SUMS)
		umount /mnt
		diskpat write /dev/vdb 77 $raw_len
		blkdiscard -o 16777216 -l 33554432 /dev/vdb
		diskpat zeros /dev/vdb 0 33554432 16777216
		diskpat verify /dev/vdb 77 16777216
		diskpat verify /dev/vdb 77 16777216 50331648
	JOB
}

second_job() {
	cat <<-JOB
		e2fsck -fn /dev/vda
		mount -t ext4 /dev/vda /mnt
		(cd /mnt && sha256sum -c -s SUMS)
		for i in 1 2 3 4; do diskpat verify /mnt/file\$i \$i \$((i * 1048576)); done
		umount /mnt
		diskpat zeros /dev/vdb 0 33554432 16777216
		diskpat verify /dev/vdb 77 16777216 50331648
	JOB
}

for cache in none,aio=native writeback,aio=threads; do
	opts="cache=$cache,discard=unmap"
	vcf_mount
	qemu-img create -q -f raw "$MNT/disk" 2G
	qemu-img create -q -f raw "$MNT/raw" $raw_len
	first_job >"$W/job/run"
	run_guest "$W/job" "$MNT/disk,$opts" "$MNT/raw,$opts" || fail "guest, $opts"
	equal "the disk's size" $((2 << 30)) "$(stat -c %s "$MNT/disk")"
	[ "$(used "$BACK/disk")" -lt $((80 << 10)) ] ||
		fail "fstrim gave nothing back: $(used "$BACK/disk") KiB"
	[ "$(used "$BACK/raw")" -lt $((36 << 10)) ] ||
		fail "blkdiscard gave nothing back: $(used "$BACK/raw") KiB"
	"$diskpat" zeros "$MNT/raw" 0 33554432 16777216 || fail "a discarded range is not zeros"
	ok "$opts: mkfs, write, sync, verify, discard, power off"

	vcf_remount
	e2fsck -fn "$MNT/disk" >"$W/e2fsck" 2>&1 || fail "$(cat "$W/e2fsck")"
	second_job >"$W/job/run"
	run_guest "$W/job" "$MNT/disk,$opts" "$MNT/raw,$opts" || fail "second guest, $opts"
	rm "$MNT/disk" "$MNT/raw"
	vcf_umount
	ok "$opts: the same after a remount"
done
[ "$kills" = 0 ] || ok "the server was killed $(killed) times meanwhile"
