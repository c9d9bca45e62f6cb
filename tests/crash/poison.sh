#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A request whose own thread crashes the server each time is answered EIO at its third death and
# named in the log; nobody else feels more than a pause, and no other request is blamed: not those
# that were under way at the time, nor any of a server that was ended by a signal from outside.
# Needs a build with -Dcrash-points=true.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog fio
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
vcf_setup
expect_log 'the server \(pid [0-9]+, generation [0-9]+\) was killed by signal (4|5|11|31) with'
vcf_mount

load() { # NAME OPTION...
	cd "$W" && fio --name="$1" --directory="$MNT" --size=8m --rw=randrw --bsrange=4k-64k \
		--verify=crc32c --verify_fatal=1 --verify_backlog=64 --do_verify=1 \
		--time_based --runtime=12 "${@:2}" >"$W/fio.$1" 2>&1
}

copies() {
	while [ ! -e "$W/stop" ]; do
		dd if=/dev/zero of="$MNT/copy" bs=64k count=16 conv=fsync status=none || return 1
		cmp -s -n 1048576 "$MNT/copy" /dev/zero || return 1
	done
}

crash_by() { # FILE [HOW]
	must_fail timeout 30 python3 -c 'import os, sys
os.getxattr(sys.argv[1], "user.vmcryptfs." + sys.argv[2])' "$1" "${2:-crash}"
	grep -q 'Errno 5' "$W/stderr" || fail "not EIO: $(cat "$W/stderr")"
}

died() { [ "$(vcf_status_get "s['deaths']")" = "$1" ]; }

wait_died() { wait_for 20 died "$1" || fail "no next server: $(vcf_status_get "s['deaths']") deaths"; }

counts() { equal "$1: deaths, poisoned" "$2" "$(vcf_status_get "s['deaths'], s['poisoned']")"; }

echo poison >"$MNT/victim"
echo other >"$MNT/other"
load direct --direct=1 --ioengine=libaio --iodepth=4 &
jobs_=($!)
load buffered --ioengine=psync --fsync=32 &
jobs_+=($!)
copies &
jobs_+=($!)
sleep 1

require_log 'victim: request [0-9]+ \(opcode 22\) has crashed the server 3 times: it gets EIO'
crash_by "$MNT/victim"
wait_died 3
counts "one bad request" "3 1"
equal "the file is served on" poison "$(cat "$MNT/victim")"
equal "named once" 1 "$(grep -ac 'has crashed the server' "$LOG")"
ok "EIO at the third death, and named"

require_log 'other: request [0-9]+ \(opcode 22\) has crashed the server 3 times'
crash_by "$MNT/other"
wait_died 6
counts "another one" "6 2"
ok "each request has its own count"

# A system call that the filter refuses is as bad as a crash.
if ! grep -aqE '__(a|t)san_init' "$VMCRYPTFS"; then
	echo forbidden >"$MNT/forbidden"
	require_log 'forbidden: request [0-9]+ \(opcode 22\) has crashed the server 3 times'
	expect_log 'err: system call [0-9]+ \(ptrace\) is refused'
	crash_by "$MNT/forbidden" forbidden
	wait_died 9
	counts "a forbidden call" "9 3"
	equal "each said once" 3 "$(grep -ac 'is refused (seccomp)' "$LOG")"
	ok "a request that makes a forbidden call gets EIO at the third death"
fi

deaths=$(vcf_status_get "s['deaths']")
poisoned=$(vcf_status_get "s['poisoned']")
for i in 1 2 3 4 5; do
	kill -SEGV "$(vcf_status_get "s['server_pid']")"
	wait_died $((deaths + i))
done
counts "signals from outside" "$((deaths + 5)) $poisoned"
ok "a signal from outside counts against nobody"

touch "$W/stop"
for j in "${jobs_[@]}"; do
	wait "$j" || fail "the load failed: $(tail -n 20 "$W"/fio.*)"
done
counts "at the end" "$((deaths + 5)) $poisoned"
equal "handles" 0 "$(vcf_status_get "s['handles']")"
ok "fio and dd saw no error"
