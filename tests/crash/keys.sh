#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The server dies between the two records of `keys confirm`: the secret goes all the same, once,
# and what is left can be dropped. It dies while it answers other requests: nothing is lost.
# Needs a build with -Dcrash-points=true.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
vcf_setup
expect_log 'the server \(pid [0-9]+, generation [0-9]+\) was killed by signal 9 with'
expect_log 'does not belong to this secret'
export VCF_CRASH_FILE=$W/crash
: >"$W/crash"
vcf_mount -o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0

arm() { # POINT
	echo "$1" >"$W/crash.new"
	mv "$W/crash.new" "$W/crash"
}
keys() { timeout 30 "$VMCRYPTFS" keys "$@"; }
field() { python3 -c "import json,sys; s=json.load(sys.stdin); print($1)"; }
queue_is() { [ "$(keys pending --json "$MNT" | field 's["waiting"], s["suspect"]')" = "$1" ]; }
served() { vcf_status; }
died() { [ ! -s "$W/crash" ]; }

for point in confirm-added journal-written; do
	for f in a b; do
		echo "content $f" >"$MNT/$f"
	done
	id=$(key_id_of "$BACK/a")
	kept=$(key_id_of "$BACK/b")
	printf %064d 0 >"$KEYS/$id"
	rm "$MNT/a"
	wait_for 20 queue_is "0 1" || fail "not parked"
	arm "$point"
	keys confirm --destroy "$MNT" a >/dev/null 2>&1 || true
	wait_for 10 died || fail "$point was not passed"
	wait_for 20 served || fail "no server after $point"
	keys confirm --destroy "$MNT" a >/dev/null 2>&1 || true # the operator sees that it failed
	gone() { [ ! -e "$KEYS/$id" ]; }
	wait_for 20 gone || fail "$point: the secret stays"
	keys drop-suspect --forget "$MNT" a >/dev/null 2>&1 || true
	wait_for 20 queue_is "0 0" || fail "$point: left: $(keys pending "$MNT")"
	[ -e "$KEYS/$kept" ] || fail "$point: another secret was destroyed"
	equal "content" "content b" "$(cat "$MNT/b")"
	ok "$point"
done
