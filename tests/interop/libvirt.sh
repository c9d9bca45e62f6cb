#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest of a real libvirtd, on disks in the mount: what libvirt and Nova do to it, one row each.
# The guest itself checks its data: files with checksums, patterns, and a program that
# writes and reads back all the time.
# usage: libvirt.sh [--long]
# shellcheck disable=SC2016  # command lines for the guest
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
# shellcheck source=tests/interop/libvirt.lib.sh
. "$VCF_SRC/tests/interop/libvirt.lib.sh"
# shellcheck source=tests/interop/left.lib.sh
. "$VCF_SRC/tests/interop/left.lib.sh"
need_libvirt
need_prog getfattr
long=no
attached=$((16 << 20)) # bytes of the pattern on the second disk
[ "${1:-}" != --long ] || long=yes
pause() {
	local before

	on 1 suspend "$DOM"
	state_is paused
	before=$(on 1 domblkstat "$DOM" vda | awk '$2 == "wr_req" { print $3 }')
	sleep 0.5
	equal "writes while it stands still" "$before" \
		"$(on 1 domblkstat "$DOM" vda | awk '$2 == "wr_req" { print $3 }')"
	on 1 resume "$DOM"
	data_is_right
}

save_inside() {
	on 1 save "$DOM" "$INST/state"
	state_is "shut off"
	equal "the disk's owner" $owner "$(owner_of "$MNT/disk")"
	grep -aqF "$words" "$MNT/state" || fail "the memory is not in the saved state"
	secret_below
	on 1 restore "$INST/state"
	data_is_right
	rm "$MNT/state"
}

save_outside() {
	on 1 save --bypass-cache "$DOM" "$W/saved"
	grep -aqF "$words" "$W/saved" || fail "a state outside is expected to be readable"
	on 1 restore "$W/saved"
	rm "$W/saved"
	data_is_right
}

managed_save() {
	on 1 managedsave "$DOM"
	[ -s "$MNT/save/$DOM.save" ] || fail "the managed state is not in the mount"
	secret_below
	on 1 start "$DOM"
	data_is_right
	[ ! -e "$MNT/save/$DOM.save" ] || fail "the managed state stayed"
}

attach() {
	qemu-img create -q -f raw "$MNT/second" 32M
	chown $owner "$MNT/second"
	disk_xml vdb "$INST/second" >"$W/second.xml"
	on 1 attach-device "$DOM" "$W/second.xml" --live
	guest 'n=0; until [ -b /dev/vdb ]; do usleep 100000; n=$((n + 1)); [ $n -lt 100 ]; done'
	equal "the second disk's owner" "$(qemu_user)" "$(owner_of "$MNT/second")"
	guest "diskpat write /dev/vdb 7 $attached"
}

is_given_back() { [ "$(owner_of "$MNT/second")" = $owner ]; }

is_detached() { ! on 1 domblklist "$DOM" | grep -q vdb; }

detach() {
	on 1 detach-device "$DOM" "$W/second.xml" --live
	wait_for 30 is_detached || fail "the second disk stays"
	wait_for 30 is_given_back || fail "the second disk's owner"
	equal "notes on the second disk" 0 "$(remembered "$MNT/second")"
	"$VCF_BUILD/tests/interop/diskpat" verify "$MNT/second" 7 $attached >/dev/null
	on 1 attach-device "$DOM" "$W/second.xml" --live
	guest 'n=0; until [ -b /dev/vdb ]; do usleep 100000; n=$((n + 1)); [ $n -lt 100 ]; done'
	guest "diskpat verify /dev/vdb 7 $attached"
}

resize() {
	on 1 blockresize "$DOM" vdb 48M
	equal "the file's size" $((48 << 20)) "$(stat -c %s "$MNT/second")"
	guest '[ $(cat /sys/block/vdb/size) = 98304 ]'
	guest "diskpat verify /dev/vdb 7 $attached; diskpat write /dev/vdb 8 8388608 41943040"
	guest 'echo 3 > /proc/sys/vm/drop_caches; diskpat verify /dev/vdb 8 8388608 41943040'
	guest 'diskpat zeros /dev/vdb 0 8388608 33554432'
}

discard() {
	local before after

	before=$(used "$BACK/second")
	guest 'blkdiscard -o 4194304 -l 8388608 /dev/vdb'
	after=$(used "$BACK/second")
	[ $((before - after)) -ge 8000 ] || fail "du: $before KiB, then $after KiB"
	guest 'diskpat zeros /dev/vdb 0 8388608 4194304; diskpat verify /dev/vdb 7 4194304'
	guest 'fstrim -v /mnt'
}

stats() {
	local before after

	before=$(on 1 domblkstat "$DOM" vdb | awk '$2 == "wr_bytes" { print $3 }')
	guest "diskpat write /dev/vdb 7 $attached"
	after=$(on 1 domblkstat "$DOM" vdb | awk '$2 == "wr_bytes" { print $3 }')
	equal "bytes written" $attached $((after - before))
	equal "capacity" $((32 << 20)) "$(on 1 domblkinfo "$DOM" vdb | awk '/^Capacity/ { print $2 }')"
}

blockcopy() {
	on 1 blockcopy "$DOM" vda --dest "$INST/copy" --format raw --transient-job --wait --pivot >"$W/job"
	on 1 domblklist "$DOM" | grep -q "$INST/copy" || fail "no pivot"
	data_is_right
	secret_below
	[ "$(used "$BACK/copy")" -lt $((48 << 10)) ] || fail "the copy is not sparse"
	on 1 blockcopy "$DOM" vda --dest "$INST/disk" --format raw --reuse-external --transient-job \
		--wait --pivot >"$W/job"
	data_is_right
	rm "$MNT/copy"
}

# As Nova's live snapshot: the difference to a base is copied, and converted.
live_snapshot() {
	on 1 blockcopy "$DOM" vda --dest "$INST/delta" --format qcow2 --transient-job --wait \
		--finish >"$W/job"
	qemu-img convert -O raw "$MNT/delta" "$MNT/snapshot"
	e2fsck -fy "$MNT/snapshot" >"$W/e2fsck" 2>&1 || [ $? = 1 ] || fail "$(cat "$W/e2fsck")"
	qemu-img info -U "$MNT/disk" >"$W/info"
	secret_below
	rm "$MNT/delta" "$MNT/snapshot"
	data_is_right
}

snapshot() {
	on 1 snapshot-create-as "$DOM" one --disk-only --atomic --no-metadata \
		--diskspec "vda,file=$INST/disk.one" --diskspec vdb,snapshot=no >"$W/job"
	guest "echo $words > /mnt/later; sync"
	data_is_right
	[ "$(used "$MNT/disk.one")" -gt 1024 ] || fail "nothing is in the overlay"
	secret_below
	on 1 blockcommit "$DOM" vda --active --pivot --wait >"$W/job"
	on 1 domblklist "$DOM" | grep -q "$INST/disk\$" || fail "no pivot"
	guest "grep -q '$words' /mnt/later"
	data_is_right
	rm "$MNT/disk.one"
}

takeover() {
	local kills=8

	[ $long = no ] || kills=100
	python3 "$VCF_SRC/tests/crash/kills.py" kill "$VCF_PID" "$MNT" $kills "$W/kills" 40-400 ||
		fail "no server comes after one was killed"
	data_is_right
	equal "deaths" $kills "$(vcf_status_get "s['deaths']")"
	state_is running
}

reboot() { # by the power button
	local before

	before=$(boots)
	on 1 reboot "$DOM" --mode acpi
	guest_comes "$before"
	guest_churns
	data_is_right
}

reset() {
	local before

	before=$(boots)
	on 1 reset "$DOM"
	guest_comes "$before"
	guest_churns
	data_is_right
}

hard_reboot() { # as Nova does: the end, and a new start
	local before

	before=$(boots)
	on 1 destroy "$DOM"
	on 1 start "$DOM"
	guest_comes "$before"
	guest_churns
	data_is_right
}

shutdown() {
	on 1 shutdown "$DOM" --mode acpi
	wait_for 60 state_is "shut off" || fail "it does not end"
	equal "the disk's owner" $owner "$(owner_of "$MNT/disk")"
	equal "notes on the disk" 0 "$(remembered "$MNT/disk")"
	e2fsck -fn "$MNT/disk" >"$W/e2fsck" 2>&1 || fail "$(cat "$W/e2fsck")"
}

migrate_copying() {
	qemu-img create -q -f raw "$MNT2/disk" 64M
	chown $owner "$MNT2/disk"
	migrate 1 2 --copy-storage-all --migrate-disks vda
	secret_below
	[ "$(used "$BACK2/disk")" -lt $((48 << 10)) ] || fail "the copy is not sparse"
	e2fsck -fy "$MNT/disk" >"$W/e2fsck" 2>&1 || [ $? = 1 ] || fail "$(cat "$W/e2fsck")"
	rm "$MNT/disk"
}

migrate_back() {
	qemu-img create -q -f raw "$MNT/disk" 64M
	chown $owner "$MNT/disk"
	migrate 2 1 --copy-storage-all --migrate-disks vda
	rm "$MNT2/disk"
}

vcf_setup
libvirt_setup
expect_log 'server \(pid .* (was )?(killed by|ended by) signal 9'
expect_log 'generation [0-9]+ takes over'
vcf_mount
mkdir -m 711 "$MNT/save"
qemu-img create -q -f raw "$MNT/disk" 64M
node_up 1 "$MNT" "$MNT/save" /var/lib/libvirt/qemu/save
: >"$W/kills"

item "start: owner changed and remembered; the guest's files are right, unreadable below" start
[ $failed = 0 ] || fail "without a guest there is nothing to do"
item "pause, resume: no write in between" pause
item "save, restore: the state inside the mount, unreadable below" save_inside
item "attach a second disk" attach
item "detach, attach: owner given back, data right" detach
item "block stats" stats
item "blockresize: the guest uses the new space" resize
item "discard: a hole below, zeros in the guest" discard
item "blockcopy, pivot, and back" blockcopy
item "snapshot with an external overlay, blockcommit, pivot" snapshot
item "live snapshot: copy, convert" live_snapshot
item "take-over: the server killed under the writing guest, no error" takeover
item "managed save, start: its folder inside the mount" managed_save
item "reboot by the power button" reboot
on 1 detach-device "$DOM" "$W/second.xml" --live || true
second_mount "$W/back2"
node_up 2 "$MNT2"
item "live migration to another libvirtd, another mount, the disk copied" migrate_copying
item "and back" migrate_back
node_down 2
second_umount
if [ $long = yes ]; then
	item "save, restore: a state outside the mount is readable" save_outside
	item "reset" reset
	item "hard reboot: destroy, start" hard_reboot
fi
item "shutdown: owner given back, the file system clean" shutdown
node_down 1
vcf_umount
nothing_left
[ $failed = 0 ] || fail "$failed items"
