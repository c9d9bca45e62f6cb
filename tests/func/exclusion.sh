#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A command that works on an image and a mount that serves it exclude each other: what the mount has
# open is refused to the command, what the command has is EBUSY in the mount, also when the server
# dies meanwhile. A key that only lingers goes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
vcf_mount -o key-service.reserve=0 -o key-service.linger=60
expect_log 'was killed by signal 9 with'
pattern 1 300000 >"$MNT/a"
pattern 2 300000 >"$MNT/b"

command() { "$VMCRYPTFS" adopt --reclone -c "$CONF" "$@"; }
refused() { # FILE
	local rc=0
	command "$BACK/$1" >"$W/stdout" 2>"$W/stderr" || rc=$?
	equal "exit code for an open image" 5 $rc
	grep -q "a daemon has it open" "$W/stderr" || fail "no reason: $(cat "$W/stderr")"
}
kill_server() {
	local pid
	pid=$(vcf_status_get 's["server_pid"]')
	kill -9 "$pid"
	wait_for 10 pid_gone "$pid" || fail "the server lives"
	wait_for 20 vcf_status || fail "no successor"
}

exec 9<"$MNT/a"
refused a
kill_server
refused a
exec 9<&-
exec 9>>"$MNT/a"
refused a
exec 9>&-
ok "an image that is open is refused, after a death of the server, too"

cat "$MNT/a" "$MNT/b" >/dev/null
equal "keys that linger" 2 "$(vcf_status_get 's["keys"]')"
command "$BACK/a"
equal "keys after a command" 1 "$(vcf_status_get 's["keys"]')"
pattern 1 300000 | same - "$MNT/a"
ok "a key that lingers goes"

fault new delay=4
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/a" &
pid=$!
# shellcheck disable=SC2016
at_exit 'kill -9 $pid 2>/dev/null'
held() { ! python3 -c 'import os,sys; os.close(os.open(sys.argv[1], os.O_RDONLY))' "$MNT/a" 2>/dev/null; }
wait_for 5 held || fail "an open succeeds while a command has the image"
kill -STOP $pid
must_fail_with "Device or resource busy" cat "$MNT/a"
must_fail_with "Device or resource busy" truncate -s 5 "$MNT/a"
pattern 2 300000 | same - "$MNT/b"
kill_server
must_fail_with "Device or resource busy" cat "$MNT/a"
must_fail_with "another command works on it" command -o mount.state-directory="$W/other" "$BACK/a"
kill -CONT $pid
wait $pid || fail "the command"
fault
pattern 1 300000 | same - "$MNT/a"
ok "what a command has is busy, after a death of the server, too"

fault new delay=3
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/a" &
pid=$!
wait_for 5 held || fail "an open succeeds while a command has the image"
kill -9 $pid
wait $pid 2>/dev/null || true
fault
pattern 1 300000 | same - "$MNT/a"
ok "the lock goes with the command"
