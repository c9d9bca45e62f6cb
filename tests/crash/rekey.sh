#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# rekey dies at each of its steps, without a daemon and in the server, and at random moments. The
# image opens with what it has, the same command completes the change, and afterwards the service
# holds the image's secret and no other.
# usage: rekey.sh [RANDOM-KILLS [luks1]]
# Needs a build with -Dcrash-points=true.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog cryptsetup
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
kills=${1:-25}
vcf_setup
expect_log 'the server \(pid [0-9]+, generation [0-9]+\) was killed by signal 9 with'
expect_log 'one copy of the header was damaged and is written anew'
sed -i 's|^helper = .*|&\nreserve = 0\ndestroy-delay = 0\ndestroy-rate = 6000\nlinger = 0|' "$CONF"
opts=()
: >"$W/crash"

format=${2:-luks2}
[ "$format" = luks2 ] || opts+=(-o format.type=luks1 -o format.sector-size=512)
pattern 1 300000 >"$W/1"

rekey() { timeout 60 "$VMCRYPTFS" rekey -c "$CONF" "$@"; }
field() { "$VMCRYPTFS" info --json "$BACK/disk" | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
opens() { cryptsetup open --test-passphrase --key-file "$KEYS/$(field key_id)" "$BACK/disk"; }
one_secret() { [ "$(find "$KEYS" -type f ! -name '.*' | wc -l)" = 1 ] && [ -e "$KEYS/$(field key_id)" ]; }
mount_again() { VCF_CRASH_FILE=$W/crash vcf_mount "${opts[@]}"; }

# What must hold after a run was cut short and repeated.
check() { # WHAT
	opens || fail "$1: it does not open"
	mount_again
	cmp "$W/1" "$MNT/disk" || fail "$1: content"
	wait_for 20 one_secret || fail "$1: secrets: $(ls "$KEYS"), of the image: $(field key_id)"
	vcf_umount
}

mount_again
cp "$W/1" "$MNT/disk"
vcf_umount

steps='oldsecret-noted rekey-slot rekey-noted rekey-switched rekey-headers rekey-wiped oldsecret-gone
	oldsecret-queued journal-written journal-written:2 journal-written:3 journal-written:4 journal-written:5
	journal-written:6'
[ "$format" = luks2 ] || steps="$steps rekey-kept"
for point in $steps; do
	uuid=$(field uuid)
	rc=0
	VCF_CRASH=$point "$VMCRYPTFS" rekey -c "$CONF" "$BACK/disk" >"$W/out" 2>&1 || rc=$?
	equal "$point: exit status" 137 $rc
	opens || fail "$point: it does not open after the crash"
	rekey "$BACK/disk" >"$W/out" 2>&1 || fail "$point: again: $(cat "$W/out")"
	[ "$(field uuid)" != "$uuid" ] || fail "$point: not changed"
	check "$point"
done
rc=0
VCF_CRASH=oldsecret-destroyed "$VMCRYPTFS" rekey -c "$CONF" --destroy-now "$BACK/disk" >"$W/out" 2>&1 || rc=$?
equal "oldsecret-destroyed: exit status" 137 $rc
check oldsecret-destroyed
ok "without a daemon, at each step"

mount_again
exec 9<>"$MNT/disk"
died() { [ ! -s "$W/crash" ]; }
server_steps='promote-ready rekeyjob-old-noted rekey-slot rekey-noted rekey-switched rekey-headers rekey-wiped
	rekey-renamed rekey-published reserve-used rekeyjob-new-settled journal-written journal-written:2
	journal-written:3 journal-written:4 journal-written:5 journal-written:6'
for point in $server_steps; do
	uuid=$(field uuid)
	wait_for 20 one_secret || fail "$point: secrets before: $(ls "$KEYS")"
	echo "$point" >"$W/crash.new"
	mv "$W/crash.new" "$W/crash"
	rekey "$MNT/disk" >"$W/out" 2>&1 || fail "$point: $(cat "$W/out")"
	wait_for 10 died || fail "$point was not passed"
	[ "$(field uuid)" != "$uuid" ] || fail "$point: not changed"
	opens || fail "$point: it does not open"
	py pattern 1 300000 | cmp - "$MNT/disk" || fail "$point: content"
	wait_for 20 one_secret || fail "$point: secrets: $(ls "$KEYS"), of the image: $(field key_id)"
done
exec 9<&-
ok "in the server, at each step, with the image open"
vcf_umount

mount_again
cp "$W/1" "$MNT/disk"
wait_for 20 one_secret || fail "secrets: $(ls "$KEYS")"
vcf_umount
for ((i = 1; i <= kills; i++)); do
	"$VMCRYPTFS" rekey -c "$CONF" "$BACK/disk" >"$W/out" 2>&1 &
	command=$!
	sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
	kill -KILL $command 2>/dev/null || true
	wait $command 2>/dev/null || true
	opens || fail "kill $i: it does not open"
done
rekey "$BACK/disk" >"$W/out" 2>&1 || fail "after $kills kills: $(cat "$W/out")"
check "after $kills kills"
ok "$kills kills at random moments"

mount_again
exec 9<>"$MNT/disk"
for ((i = 1; i <= kills; i++)); do
	rekey "$MNT/disk" >"$W/out" 2>&1 &
	command=$!
	sleep "0.0$((RANDOM % 10))"
	kill -KILL "$(vcf_status_get 's["server_pid"]' 2>/dev/null)" 2>/dev/null || true
	wait $command || fail "kill $i of the server: $(cat "$W/out")"
	opens || fail "kill $i of the server: it does not open"
done
exec 9<&-
wait_for 30 one_secret || fail "secrets: $(ls "$KEYS"), of the image: $(field key_id)"
cmp "$W/1" "$MNT/disk" || fail "content"
ok "$kills kills of the server at random moments"
