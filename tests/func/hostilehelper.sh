#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A key helper that is out to do harm: other tags, answers twice, bytes that are no text, half lines,
# secrets in other forms, closed descriptors, children of its own, secrets on stderr. Each time: a documented
# errno or the right content, in time; an open image and another service go on; afterwards no process and
# no descriptor is left, and no secret is in the log.
# usage: hostilehelper.sh [all | FAULT...]    (default: five of them)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
need_prog xxd
mkdir -m 700 "$KEYS/second"
vcf_config <<CONFIG
[service second]
helper = file
directory = $KEYS/second
linger = 0
[rules]
service = second second/**
CONFIG
opts=(-o key-service.timeout=1 -o key-service.linger=0 -o key-service.reserve=0)
vcf_mount "${opts[@]}"
faults=(othertag twice binary children leak)
[ "${1:-}" != all ] ||
	faults=(wrongtag othertag twice nul binary half upper blanks url closein closeout children leak flood long short)
[ $# = 0 ] || [ "$1" = all ] || faults=("$@")
for f in "${faults[@]}" last; do
	echo "content $f" >"$MNT/$f"
done
mkdir "$MNT/second"
echo second >"$MNT/second/image"
echo other >"$MNT/open"
exec 9<>"$MNT/open"
expect_log 'helper|key service|('"$(IFS='|'; echo "${faults[*]}")"'): '
forgotten() { [ "$(vcf_status_get 's["keys"]')" -le 1 ]; }
wait_for 20 forgotten || fail "keys stay"
fds() { find "/proc/$(vcf_status_get 's["server_pid"]')/fd" -mindepth 1 | wc -l; }
cpu() { awk '{ print $14 + $15 }' "/proc/$(vcf_status_get 's["server_pid"]')/stat"; }
before=$(fds)
for f in "${faults[@]}"; do
	fault get "$f"
	used=$(cpu) rc=0
	timeout 30 cat "$MNT/$f" >"$W/out" 2>"$W/stderr" || rc=$?
	used=$(($(cpu) - used))
	if [ $rc = 0 ]; then
		equal "$f" "content $f" "$(cat "$W/out")"
	else
		grep -qE 'Connection timed out|Key was rejected|Required key|Bad message' "$W/stderr" ||
			fail "$f: $rc $(cat "$W/stderr")"
	fi
	[ $used -lt 300 ] || fail "$f: $used ticks of the processor"
	equal "an open image goes on" other "$(cat "$MNT/open")"
	equal "another service" second "$(timeout 10 cat "$MNT/second/image")"
	fault
	echo "$f: $([ $rc = 0 ] && echo read || sed 's/.*: //' "$W/stderr"), $used ticks"
done
wait_for 30 timeout 20 cat "$MNT/last" || fail "not usable again"
equal "usable again" "content last" "$(cat "$MNT/last")"
ok "${#faults[@]} faults: an errno or the right content"

settled() { [ "$(fds)" -le $((before + 8)) ]; }
wait_for 30 settled || fail "descriptors: $before before, $(fds) after"
exec 9>&-
vcf_umount
left() { # processes of the helpers that still live
	local p

	for p in $(cat "$HELPER/pids"); do
		! grep -qaF vmcryptfs-key-test "/proc/$p/cmdline" 2>/dev/null || echo "$p"
	done
}
none_left() { [ -z "$(left)" ]; }
wait_for 20 none_left || fail "helpers are left: $(left)"
# What has made a session of its own is nobody's child; the package's unit ends it with the service.
for p in $(cat "$HELPER/children" 2>/dev/null); do
	! grep -qaF vmcryptfs-key-test "/proc/$p/cmdline" 2>/dev/null || kill "$p"
done
while read -r secret _; do
	! grep -aqF "$secret" "$LOG" || fail "a secret is in the log"
	! grep -aqF "$(printf %s "$secret" | xxd -r -p | base64)" "$LOG" || fail "a secret is in the log, in base64"
done < <(cat "$HELPER"/secrets/*)
grep -aq 'the secret is \[' "$LOG" || fail "nothing was masked: $(grep -a leak "$LOG")"
ok "no helper, no descriptor is left; what it said of its secret is masked"
