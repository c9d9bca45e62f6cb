#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What helpers say on stderr is in the daemon's log, whichever server is at work, and nowhere else: who
# reads what `mount` says does not wait for them. However much it is, it does no harm.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
expect_log 'helper|key|(seven|eight):|was killed by signal 9'
echo "hello: I am new here" >"$HELPER/greeting"
said() { # TEXT   in the log, from the helper
	grep -aqE "info: key service [a-z]+: vmcryptfs-key-test\[[0-9]+\]: $1\$" "$LOG"
}

# shellcheck disable=SC2016
timeout 20 bash -c '"$1" mount -o "mount.log-file=$2" "$3" 2>&1 | cat >"$4"' - \
	"$VMCRYPTFS" "$LOG" "$CONF" "$W/out" || fail "who reads what mount says waits: $(cat "$W/out")"
is_mounted || fail "not mounted"
echo content >"$MNT/file"
wait_for 10 said "hello: I am new here" || fail "no greeting"
grep -q ' 2=pipe:' "$HELPER/fds" || fail "stderr is $(cat "$HELPER/fds")"
! grep hello "$W/out" || fail "a helper wrote to the caller"
"$VMCRYPTFS" umount "$MNT"
wait_for 10 bash -c "! grep -qF ' $MNT ' /proc/self/mountinfo"
ok "mount | cat ends when the mount is there, and the helper's words are in the log"

opts=(-o key-service.timeout=10 -o key-service.linger=0 -o key-service.reserve=0 -o key-service.children=1)
wait_for 20 vcf_try_mount "${opts[@]}" || fail "no mount" # the old one may take a moment to end
for f in one two three four five six seven eight; do
	echo "$f" >"$MNT/$f"
done
forgotten() { [ "$(vcf_status_get 's["keys"]')" = 0 ]; }
reads() { # FILE...
	local f

	for f; do
		equal "$f" "$f" "$(timeout 20 cat "$MNT/$f")"
	done
}
wait_for 20 forgotten || fail "keys stay"

fault get say
reads one
fault
wait_for 10 said 'the words of get \[\.\.\. 44 characters\] \[31m' || fail "no words"
equal "lines of it" 1 "$(grep -ac 'the words of get' "$LOG")"
ok "one line, printable, and without what could be a secret"

server() { vcf_status_get 's["server_pid"]'; }
generation() { vcf_status_get 's["generation"]' 2>/dev/null; }
is_generation() { [ "$(generation)" = "$1" ]; }
helpers() { wc -l <"$HELPER/pids"; }
started=$(helpers)
fault get later=1.5
reads two
fault
kill -KILL "$(server)"
wait_for 10 is_generation 2 || fail "not replaced"
wait_for 10 said "said by and by" || fail "the next server does not hear the helper"
reads three
equal "helpers started" "$started" "$(helpers)"
ok "a helper that outlived its server is heard by the next one"

size=$(stat -c %s "$LOG")
fault get shout
reads four
fault
[ $(($(stat -c %s "$LOG") - size)) -lt 20000 ] || fail "the log takes it all"
wait_for 20 grep -aqE '[0-9]{3,} more lines of its helpers are left out' "$LOG" || fail "no figure"
fault get late-shout=0.3
reads five
fault
wait_for 20 forgotten || fail "keys stay"
pid=$(server)
kill -STOP "$pid"
sleep 1 # it has filled the pipe and waits
kill -KILL "$pid"
wait_for 10 is_generation 3 || fail "not replaced"
reads six
equal "helpers started" "$started" "$(helpers)"
ok "megabytes: requests go on, the log stays small, also while there is no server"

fault get moan
must_fail_with "Connection timed out" timeout 30 cat "$MNT/seven"
grep -aqE 'err: key service .* ended, last words: no hope: the credential has been taken away' "$LOG" ||
	fail "no last words"
grep -aqE 'seven: .*last words: no hope' "$LOG" || fail "not in the failed request's line"
[[ $(vcf_status) == *"no hope"* ]] || fail "not in status: $(vcf_status)"
fault
wait_for 30 timeout 20 cat "$MNT/eight" || fail "not usable again"
ok "the last words of a helper that ended are its reason"
