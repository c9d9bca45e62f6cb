#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Live migration of a guest between two libvirtds whose mounts, with shared = yes, stand over one
# backing folder, and back; its data is right all the time.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
# shellcheck source=tests/interop/libvirt.lib.sh
. "$VCF_SRC/tests/interop/libvirt.lib.sh"
# shellcheck source=tests/interop/left.lib.sh
. "$VCF_SRC/tests/interop/left.lib.sh"
need_libvirt
need_prog getfattr
trust=()

# A libvirt that knows shared_filesystems migrates as it is; others take a FUSE mount for local.
refused() {
	if move 1 2 2>"$W/refused"; then
		move 2 1
	else
		grep -q "without shared storage is unsafe" "$W/refused" || fail "$(cat "$W/refused")"
	fi
	state_is running
	data_is_right
}

there() {
	migrate 1 2 "${trust[@]}"
	secret_below
}

back() { migrate 2 1 "${trust[@]}"; }

# QEMU gives a lock back by a close(2), of which FUSE tells in the background: with unlucky timing the
# other QEMU still finds it, and does not begin. The guest goes on where it was.
again() {
	state_is running 1
	data_is_right 1
	echo "the migration did not come about, the guest went on: again"
	migrate 1 2 "${trust[@]}"
}

killed_meanwhile() {
	local server

	server=$(VMCRYPTFS_RUNTIME_DIRECTORY=$W/run2 "$VMCRYPTFS" status --json "$MNT2" |
		python3 -c 'import json,sys; print(json.load(sys.stdin)["server_pid"])')
	kill -KILL "$server" "$(vcf_status_get "s['server_pid']")"
	if move 1 2 "${trust[@]}"; then
		state_is running 2
		data_is_right 2
	else
		again
	fi
}

ends() {
	on 2 shutdown "$DOM" --mode acpi
	wait_for 60 state_is "shut off" 2 || wait_for 1 gone 2 || fail "it does not end"
	e2fsck -fn "$MNT/disk" >"$W/e2fsck" 2>&1 || fail "first mount: $(cat "$W/e2fsck")"
	e2fsck -fn "$MNT2/disk" >"$W/e2fsck" 2>&1 || fail "second mount: $(cat "$W/e2fsck")"
	same "$MNT/disk" "$MNT2/disk"
}

gone() { ! on "$1" domstate "$DOM"; }

vcf_setup
libvirt_setup
expect_log 'server \(pid .* (was )?(killed by|ended by) signal 9'
expect_log 'generation [0-9]+ takes over'
if ! vcf_try_mount -o mount.shared=yes; then
	grep -q 'shared = yes is not supported' "$LOG" || fail "$(tail -n 3 "$LOG")"
	skip "needs shared = yes"
fi
second_mount "$BACK" -o mount.shared=yes
export LIBVIRT_QEMU_CONF="shared_filesystems = [ \"$INST\" ]"
node_up 1 "$MNT"
node_up 2 "$MNT2"
qemu-img create -q -f raw "$MNT/disk" 64M
item "start on the first node" start
[ $failed = 0 ] || fail "without a guest there is nothing to do"
item "without --unsafe: refused, or done by a libvirt that knows the setting" refused
! grep -q unsafe "$W/refused" || trust=(--unsafe)
item "live migration to the second node" there
item "and back" back
item "there again, both servers killed when it begins" killed_meanwhile
item "shutdown: both mounts show the same clean file system" ends
node_down 1
node_down 2
second_umount
vcf_umount
nothing_left
[ $failed = 0 ] || fail "$failed items"
