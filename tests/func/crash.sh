#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Ends that nobody asked for, and ends that come early: a server that dies is replaced and nobody
# notices more than a pause; where the keeper dies as well the mount stays closed; a signal during
# the start ends the start; one backing folder has one daemon.
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

server() { vcf_status_get 's["server_pid"]'; }
new_server() { # OLD
	local now

	now=$(server 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$1" ]
}
kill_server() { # SIGNAL
	local old

	old=$(server)
	kill -"$1" "$old"
	wait_for 20 new_server "$old" || fail "no new server after SIG$1"
}

pattern crash 4194304 >"$W/data"
load() { # NAME   copies and compares until told to stop; any error ends it with 1
	local i=0

	while [ ! -e "$W/stop" ]; do
		cp "$W/data" "$MNT/$1" && sync -d "$MNT/$1" && cmp "$W/data" "$MNT/$1" || return 1
		mkdir "$MNT/$1.d" && mv "$MNT/$1" "$MNT/$1.d/x" && rm -r "$MNT/$1.d" || return 1
		i=$((i + 1))
	done
	[ $i -gt 0 ]
}

require_log 'err: the server \(pid [0-9]+, generation 1\) was killed by signal 9 with [0-9]+ requests in flight; generation 2 takes over'
expect_log 'err: the server \(pid .*\) was killed by signal (9|11) with .* takes over'
exec 8<>"$MNT/f" 9<>"$MNT/unlinked"
echo "no name" >&9
rm "$MNT/unlinked"
mkfifo "$MNT/fifo"
load a &
load1=$!
load b &
load2=$!
for ((i = 0; i < 10; i++)); do
	sleep 0.2
	kill_server KILL
done
touch "$W/stop"
wait $load1 || fail "an error came through"
wait $load2 || fail "an error came through"
equal "content" content "$(cat <&8)"
equal "content" "no name" "$(cat "/proc/$$/fd/9")"
exec 8>&- 9>&-
equal "deaths, signal" "10 9" "$(vcf_status_get '"%d %d" % (s["deaths"], s["last_death"]["signal"])')"
equal "generation" 11 "$(vcf_status_get 's["generation"]')"
equal "content" content "$(cat "$MNT/f")"
echo "stall of $(vcf_status_get 's["stall_ms"]')"
ok "a server that dies under load is replaced"

#   faults soon after the start: pauses of 0, 50, 100, 200, 400, 800 ms
for ((i = 0; i < 6; i++)); do
	kill_server SEGV
done
kill -SEGV "$(server)"
sleep 0.3
begun=$SECONDS
kill -TERM "$VCF_PID"
equal "exit status" 0 "$(vcf_rc)"
! is_mounted || fail "still mounted"
[ $((SECONDS - begun)) -lt 5 ] || fail "it took $((SECONDS - begun)) s"
ok "SIGTERM between two servers"

vcf_mount
require_log 'warn: the keeper is gone: this mount is served without supervision'
server=$(server)
kill -KILL "$VCF_PID"
wait_for 10 grep -q "without supervision" "$LOG" || fail "the server did not notice"
equal "content" content "$(cat "$MNT/f")"
echo more >"$MNT/more"
must_fail_with "its keeper is gone" timeout 20 "$VMCRYPTFS" upgrade "$MNT"
umount "$MNT"
wait_for 10 pid_gone "$server" || fail "the server did not end"
ok "the server goes on without its keeper"

vcf_mount
server=$(server)
kill -KILL "$VCF_PID" "$server"
wait_for 10 pid_gone "$server"
equal "exit status" 137 "$(vcf_rc)"
is_mounted || fail "the dead mount is gone: programs would write below it"
must_fail_with "not connected" bash -c "echo plaintext >'$MNT/g'"
"$VMCRYPTFS" mount "$CONF" 2>>"$LOG" # returns when it serves
equal "content" content "$(cat "$MNT/f")"
equal "content" more "$(cat "$MNT/more")"
[ ! -e "$MNT/g" ] || fail "written below the mount"
ok "the mount is closed where both die, and mounts anew"
"$VMCRYPTFS" umount "$MNT"

vcf_mount
server=$(server)
generation=$(vcf_status_get 's["generation"]')
exec 9<>"$MNT/f"
kill -RTMIN+1 "$server" # as for an upgrade, of which nobody knows any more
replaced() { [ "$(vcf_status_get 's["generation"]' 2>/dev/null)" = $((generation + 1)) ]; }
wait_for 10 replaced || fail "a server that has left is not replaced"
equal "content" content "$(cat <&9)"
equal "deaths" 0 "$(vcf_status_get 's["deaths"]')"
exec 9<&-
vcf_umount
ok "a server that leaves for no successor gets one"

vcf_faulty_helper
fault ping hang
"$VMCRYPTFS" mount -f "$CONF" 2>"$W/early.log" &
pid=$!
sleep 1
kill -TERM $pid
wait_for 15 pid_gone $pid || fail "a signal during the start left the daemon hanging"
! is_mounted || fail "mounted in spite of the signal"
ok "a signal during the start"
