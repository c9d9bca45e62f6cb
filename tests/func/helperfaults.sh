#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A key helper that hangs, dies, floods, answers nonsense or the wrong secret: a clear errno, a
# line in the log, and nothing is wedged.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
opts=(-o key-service.timeout=6 -o key-service.linger=0 -o key-service.reserve=0)
vcf_mount "${opts[@]}"
for i in $(seq 16); do
	echo "content $i" >"$MNT/f$i"
done
echo other >"$MNT/open"
exec 9<>"$MNT/open"
sleep 1
expect_log 'helper|key|(f[0-9]+|refused|lost):'

check() { # FAULT ERRNO-TEXT FILE
	fault get "$1"
	must_fail_with "$2" timeout 30 cat "$MNT/$3"
	equal "an open image goes on" other "$(cat "$MNT/open")"
	fault
	sleep 1 # back-off
	equal "usable again" "content ${3#f}" "$(timeout 30 cat "$MNT/$3")"
	ok "$1: $2"
}

check denied "Key was rejected" f1
check notfound "Required key not available" f2
check wrong "Key was rejected" f3
check unavailable "Connection timed out" f4
check hang "Connection timed out" f5
check die "Connection timed out" f6
check quota "quota exceeded" f8
n=12
for odd in nonsense flood long short; do
	n=$((n + 1))
	fault get $odd
	must_fail timeout 30 cat "$MNT/f$n"
	equal "an open image goes on" other "$(cat "$MNT/open")"
	fault
	sleep 1
	equal "usable again" "content $n" "$(timeout 30 cat "$MNT/f$n")"
	ok "$odd: $(sed 's/.*: //' "$W/stderr")"
done

exec 9>&-
opts[1]=key-service.timeout=20
vcf_remount "${opts[@]}"
exec 9<>"$MNT/open"
fault get delay=2
for i in 9 10 11 12; do
	cat "$MNT/f$i" >"$W/out$i" &
	pids+=($!)
done
for i in 1 2 3; do # nobody else waits
	stat "$MNT/f$i" >/dev/null 2>&1 || true
	cat "$MNT/open" >/dev/null
done
kill -0 "${pids[@]}" || fail "others waited for the key service"
wait "${pids[@]}"
equal "content" "content 12" "$(cat "$W/out12")"
ok "slow: only those who need the key wait"

fault new denied
must_fail_with "Key was rejected" bash -c "echo x >$MNT/refused"
equal "size" 0 "$(stat -c %s "$MNT/refused")"
equal "backing size" 0 "$(stat -c %s "$BACK/refused")"
fault
wait_for 30 bash -c "echo x >$MNT/refused" || fail "still refused" # there is a back-off
equal "content" x "$(cat "$MNT/refused")"
ok "no secret for a new image: the writer gets the error, the file stays empty"

fault new lose
timeout 30 bash -c "echo y >$MNT/lost" || true
fault
wait_for 30 bash -c "echo y >$MNT/lost" || fail "still refused"
equal "content" y "$(cat "$MNT/lost")"
ok "a lost answer"

fault get hang
timeout -s KILL 2 cat "$MNT/f1" || true
begun=$SECONDS
(timeout -s INT 1 cat "$MNT/f2" || true)
[ $((SECONDS - begun)) -le 3 ] || fail "an interrupt waits for the key service"
fault
ok "an interrupted open ends at once"
exec 9>&-
