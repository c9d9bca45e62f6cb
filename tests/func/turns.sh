#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# How many workers serve, and where: those that hang in the disk's I/O do not keep others waiting;
# one caller alone leaves no thread bound or of low priority; without requests nothing runs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
vcf_setup
vcf_config <<<$'[rules]\npassthrough = plain/**'
vcf_mount
server() { vcf_status_get 's["server_pid"]'; }

# Who breaks a lease waits in open(2), here the server's workers.
mkdir "$BACK/plain"
for i in 1 2 3 4; do echo $i >"$BACK/plain/$i"; done
python3 - "$BACK/plain" "$W/leased" 1 2 3 <<'PY' &
import fcntl
import os
import signal
import sys
import time

signal.signal(signal.SIGIO, signal.SIG_IGN)
files = [open(f"{sys.argv[1]}/{name}", "r+") for name in sys.argv[3:]]
for file in files:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open(sys.argv[2], "w").close()
while os.path.exists(sys.argv[2]):
    time.sleep(0.05)
PY
wait_for 5 test -e "$W/leased" || skip "needs leases"
waiting=()
for i in 1 2 3; do
	cat "$MNT/plain/$i" >"$W/got.$i" &
	waiting+=($!)
done
sleep 0.5
equal "read while three wait" 4 "$(timeout 5 cat "$MNT/plain/4")"
equal "bytes of those that wait" 0 "$(cat "$W"/got.? | wc -c)"
rm "$W/leased"
wait "${waiting[@]}"
equal "read by those that waited" "1 2 3" "$(cat "$W"/got.? | xargs)"
ok "workers that hang do not keep others waiting"

# A thread's processors and scheduling policy (field 41; 5: SCHED_IDLE), one line a thread.
threads() {
	local t

	for t in /proc/"$1"/task/*; do
		echo "$(awk '/^Cpus_allowed_list/ {print $2}' "$t/status")" \
			"$(sed 's/.*) //' "$t/stat" | cut -d' ' -f39)"
	done
}

bound() { threads "$1" | grep -cE '^[0-9]+ ' || true; }

alone() { # reads 4 KiB after 4 KiB, waiting for each, until $W/stop
	python3 - "$MNT/image" "$W/stop" <<'PY'
import mmap
import os
import sys

fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
while not os.path.exists(sys.argv[2]):
    for i in range(1000):
        os.preadv(fd, [page], i % 256 * 4096)
PY
}

pattern turns 1048576 >"$MNT/image"
pid=$(server)
most=0
if [ "$(nproc)" -gt 1 ]; then
	alone &
	caller=$!
	for ((i = 0; i < 20; i++)); do
		sleep 0.1
		now=$(bound "$pid")
		# while one hands over to another a listing may show both
		[ "$now" -le 1 ] || now=$(bound "$pid")
		[ "$now" -le "$most" ] || most=$now
	done
	touch "$W/stop"
	wait $caller
	[ "$most" -le 1 ] || fail "$most threads were bound at once"
	sleep 0.6
	equal "threads that are bound afterwards" 0 "$(bound "$pid")"
	equal "threads of another policy" 0 "$(threads "$pid" | grep -cv ' 0$' || true)"
	ok "a caller alone: $most thread was bound for him, none afterwards"
fi

switches() { cat /proc/"$1"/task/*/status | awk '/^voluntary/ {sum += $2} END {print sum}'; }

before=$(switches "$pid")
sleep 2
cnt=$(($(switches "$pid") - before))
[ $cnt -le 40 ] || fail "without requests, threads ran $cnt times in 2 s"
ok "without requests, threads ran $cnt times in 2 s"

if [ "$(nproc)" -gt 1 ]; then
	rm "$W/stop"
	vcf_remount -o mount.near-caller=no
	pid=$(server)
	alone &
	caller=$!
	for ((i = 0; i < 5; i++)); do
		sleep 0.1
		equal "threads that are bound with near-caller = no" 0 "$(bound "$pid")"
	done
	touch "$W/stop"
	wait $caller
	ok "near-caller = no: nothing is bound"
fi
