#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A server that does not go on is replaced after the time of `heartbeat`, and nobody sees more
# than a pause; without requests that wait, or without a heartbeat, it is left alone.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount -o mount.heartbeat=2
pattern hang 1048576 >"$W/data"

load() { # copies and compares until told to stop; any error ends it with 1
	local i=0

	while [ ! -e "$W/stop" ]; do
		cp "$W/data" "$MNT/load.$1" && sync -d "$MNT/load.$1" && cmp "$W/data" "$MNT/load.$1" || return 1
		i=$((i + 1))
	done
	[ $i -gt 0 ]
}

server() { vcf_status_get 's["server_pid"]'; }

require_log 'err: the server \(pid .*\) hangs: no sign of life for'
expect_log 'err: the server .* was killed by signal 9 .* takes over'
expect_log 'err: (thread|process) [0-9]+'
load 1 &
load1=$!
load 2 &
load2=$!
sleep 1
first=$(server)
kill -STOP "$first"
wait_for 15 pid_gone "$first" || fail "a stopped server was not replaced"
sleep 1
touch "$W/stop"
wait $load1 || fail "an error came through"
wait $load2 || fail "an error came through"
equal "hangs and generation" "1 2" "$(vcf_status_get '"%d %d" % (s["hangs"], s["generation"])')"
grep -q "vmcryptfs.*err: .*$first" "$LOG" || fail "the log does not say where it hung"
ok "a server that hangs under load is replaced"

left_alone() { # a late FORGET or RELEASE of the load may wait for it after all
	local now

	sleep 1
	now=$(server)
	kill -STOP "$now"
	sleep 4
	kill -CONT "$now" && [ "$(server)" = "$now" ]
}
left_alone || left_alone || left_alone || fail "it was replaced though nobody wanted anything"
ok "one that hangs while nobody wants anything is not"

vcf_remount -o mount.heartbeat=0
only=$(server)
kill -STOP "$only"
cat "$MNT/load.1" >"$W/out" &
reader=$!
sleep 5
kill -CONT "$only"
wait $reader
same "$W/data" "$W/out"
equal "server" "$only" "$(server)"
ok "heartbeat = 0 leaves it alone"
