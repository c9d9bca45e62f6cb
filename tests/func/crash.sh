#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Ends that nobody asked for, and ends that come early: a crashed server's mount stays closed,
# a signal during the start ends the start, one backing folder has one daemon.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount
echo content >"$MNT/f"

ln -s "$BACK" "$W/other-name"
mkdir "$W/mnt2" "$W/state2"
must_fail "$VMCRYPTFS" mount -f -o "mount.backing=$W/other-name" -o "mount.mountpoint=$W/mnt2" \
	-o "mount.state-directory=$W/state2" "$CONF"
grep -q "another vmcryptfs serves it" "$W/stderr" || fail "no reason given: $(cat "$W/stderr")"
ln -s "$MNT" "$W/other-mnt"
must_fail "$VMCRYPTFS" mount -f -o "mount.mountpoint=$W/other-mnt/" "$CONF"
grep -q "mounted there already" "$W/stderr" || fail "no reason given: $(cat "$W/stderr")"
equal "content" content "$(cat "$MNT/f")"
ok "a second daemon under other names is refused"

require_log 'err: the server \(pid .*\) was killed by signal 9'
require_log 'err: .*/mnt: left as it is'
kill -KILL "$(vcf_status_get 's["server_pid"]')"
equal "exit status" 1 "$(vcf_rc)"
is_mounted || fail "the dead mount is gone: programs would write below it"
must_fail_with "not connected" bash -c "echo plaintext >'$MNT/g'"
"$VMCRYPTFS" mount "$CONF" 2>>"$LOG" # returns when it serves
equal "content" content "$(cat "$MNT/f")"
[ ! -e "$MNT/g" ] || fail "written below the mount"
ok "a crashed server's mount is closed, and mounts anew"
"$VMCRYPTFS" umount "$MNT"

vcf_faulty_helper
fault ping hang
"$VMCRYPTFS" mount -f "$CONF" 2>"$W/early.log" &
pid=$!
sleep 1
kill -TERM $pid
wait_for 15 pid_gone $pid || fail "a signal during the start left the daemon hanging"
! is_mounted || fail "mounted in spite of the signal"
ok "a signal during the start"
