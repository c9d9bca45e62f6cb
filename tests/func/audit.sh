#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The audit trail: one line of JSON for each key event, with who and what; it follows a rotation,
# loses nothing when the server is killed or the disk is full, and never has a secret in it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
A=$W/audit
sed -i 's|^helper = .*|&\nreserve = 0\nlinger = 0\ndestroy-delay = 0\ntimeout = 2|' "$CONF"
vcf_config <<CONFIG
[audit]
file = $A
CONFIG
vcf_mount

# Lines that an expression over the object `e` selects; a line that is no JSON is a fault.
events() { # EXPRESSION [FILE...]
	local what=$1

	shift
	cat "${@:-$A}" | python3 -c "
import json, sys
print(sum(1 for line in sys.stdin.buffer if line.strip() for e in [json.loads(line)] if $what))"
}
has() { [ "$(events "$1")" -ge 1 ]; } # EXPRESSION
want() { wait_for 10 has "$1" || fail "no line with $1 in: $(tail -n 5 "$A")"; }

name=$'evil"},{\n\xff'
echo image >"$MNT/disk"
id=$(key_id_of "$BACK/disk")
want "e['event'] == 'created' and e['key_id'] == '$id' and e['verb'] == 'new'"
want "e['event'] == 'assigned' and e['key_id'] == '$id' and e['path'] == 'disk' and e['uid'] == $(id -u)"
want "e['mount'] == '$MNT' and e['host'] == '$(hostname)' and e['generation'] == 1"
echo bad >"$MNT/$name"
want "e['event'] == 'assigned' and __import__('os').fsencode(e['path']) == b'evil\"},{\\n\\xff'"
equal "mode" 600 "$(stat -c %a "$A")"
cold() { [ "$(vcf_status_get 'len(s["images"])')" = 0 ]; }
wait_for 20 cold || fail "still open"
equal "content" image "$(cat "$MNT/disk")"
want "e['event'] == 'fetched' and e['key_id'] == '$id' and e['path'] == 'disk' and e['pid'] > 0 and e['latency_ms'] >= 0"
ok "created, assigned, fetched; whose, by whom"

expect_log 'key service: Key was rejected|cannot make secrets|cannot open|Required key|it does not answer|Connection timed out'
for row in "denied EKEYREJECTED denied" "notfound ENOKEY failed" "unavailable ETIMEDOUT failed"; do
	read -r kind errno event <<<"$row"
	wait_for 20 cold || fail "still open"
	fault get "$kind"
	must_fail cat "$MNT/disk"
	want "e['event'] == '$event' and e['outcome'] == '$errno' and e['path'] == 'disk' and 'test wants' in e['text']"
	fault
	sleep 1.1
done
wait_for 10 cat "$MNT/disk" || fail "it does not open again"

# A secret that cannot be made: whose image, or nobody's, where the reserve is filled.
sleep 1.1
fault new denied
must_fail cp "$CONF" "$MNT/wanted"
want "e['event'] == 'denied' and e['verb'] == 'new' and e['path'] == 'wanted' and e['uid'] == $(id -u) and e['pid'] > 0"
sed -i 's|^reserve = .*|reserve = 1|' "$CONF"
kill -HUP "$VCF_PID"
want "e['event'] == 'denied' and e['verb'] == 'new' and 'path' not in e and 'pid' not in e"
fault
sed -i 's|^reserve = .*|reserve = 0|' "$CONF"
kill -HUP "$VCF_PID"
rm "$MNT/wanted"
ok "denied, failed"

mv "$A" "$A.1"
wait_for 20 cold || fail "still open"
cat "$MNT/disk" >/dev/null
want "e['event'] == 'fetched'"
mv "$A" "$A.2"
kill -HUP "$VCF_PID"
wait_for 10 test -e "$A" || {
	wait_for 20 cold
	cat "$MNT/disk" >/dev/null
	want "e['event'] == 'fetched'"
}
ok "a rotation, with and without SIGHUP"

# Each open that was answered has its line, however often the server is killed.
expect_log 'was killed by signal 9'
for i in $(seq 12); do
	echo "image $i" >"$MNT/k$i"
	wait_for 20 cold || true
	cat "$MNT/k$i" >"$W/k" &
	reader=$!
	kill -KILL "$(vcf_status_get "s['server_pid']")"
	wait "$reader" || fail "k$i does not open"
	equal "content" "image $i" "$(cat "$W/k")"
done
cat "$MNT/k12" >/dev/null
for i in $(seq 12); do
	[ "$(events "e['event'] == 'assigned' and e['path'] == 'k$i'" "$A" "$A.2")" -ge 1 ] ||
		fail "k$i: no line"
	[ "$(events "e['event'] == 'fetched' and e['path'] == 'k$i'" "$A" "$A.2")" -ge 1 ] ||
		fail "k$i: it opened without a line"
done
want "e['generation'] > 10"
cat "$A.1" "$A.2" "$A" | python3 -c '
import json, sys
seqs = [json.loads(l)["seq"] for l in sys.stdin if l.strip()]
missing = set(range(1, max(seqs) + 1)) - set(seqs)
twice = len(seqs) - len(set(seqs))
print(f"{len(seqs)} lines, {twice} of them twice")
sys.exit(f"missing: {sorted(missing)}" if missing else 0)' || fail "a line is missing"
ok "12 kills: no number is missing"

# A full disk: nobody waits, nothing is lost that has room in memory.
mkdir "$W/small"
if mount -t tmpfs -o size=4k tmpfs "$W/small" 2>/dev/null; then
	at_exit "umount '$W/small'"
	expect_log 'audit: .*: No space left on device: lines wait in memory'
	head -c 4096 /dev/zero | tr '\0' '\n' >"$W/small/audit"
	sed -i "s|^file = .*|file = $W/small/audit|" "$CONF"
	kill -HUP "$VCF_PID"
	sleep 1
	echo full >"$MNT/full"
	equal "content" full "$(cat "$MNT/full")"
	waits() { [ "$(vcf_status_get "s['audit']['waiting']")" -ge 1 ]; }
	wait_for 10 waits || fail "no line waits"
	: >"$W/small/audit"
	A=$W/small/audit
	want "e['event'] == 'assigned' and e['path'] == 'full'"
	equal "lost" 0 "$(vcf_status_get "s['audit']['lost']")"
	ok "a full disk"
	sed -i "s|^file = .*|file = $W/audit|" "$CONF"
	kill -HUP "$VCF_PID"
	sleep 1
	A=$W/audit
fi

sed -i "s|^file = .*|&\nused = yes|" "$CONF"
kill -HUP "$VCF_PID"
sleep 1
exec 8<"$MNT/disk"
cat "$MNT/disk" >/dev/null
want "e['event'] == 'used' and e['path'] == 'disk' and e['pid'] > 0"
exec 8<&-
rm "$MNT/disk"
want "e['event'] == 'destroyed' and e['key_id'] == '$id' and e['path'] == 'disk' and 'pid' not in e"
ok "used, destroyed"

vcf_umount

# What commands ask of the service, in the same file, which is opened anew as well.
mv "$A" "$A.3"
"$VMCRYPTFS" check-keys -c "$CONF" >"$W/out" || fail "check-keys: $(cat "$W/out")"
for event in created fetched destroyed; do
	want "e['event'] == '$event' and e['command'] == 'check-keys' and e['pid'] > 0 and 'generation' not in e"
done
cp --sparse=always "$BACK/k1" "$BACK/copy"
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/copy" >"$W/out" || fail "adopt: $(cat "$W/out")"
want "e['event'] == 'fetched' and e['command'] == 'adopt' and e['key_id'] == '$(key_id_of "$BACK/k1")' and e['path'] == '$BACK/copy'"
want "e['event'] == 'created' and e['command'] == 'adopt' and e['key_id'] == '$(key_id_of "$BACK/copy")'"
want "e['event'] == 'assigned' and e['command'] == 'adopt' and e['uuid'] == '$(cryptsetup luksUUID "$BACK/copy")'"
"$VMCRYPTFS" info -c "$CONF" "$BACK/copy" >"$W/out" || fail "info"
want "e['event'] == 'fetched' and e['command'] == 'info' and e['seq'] == 1"
equal "mode" 600 "$(stat -c %a "$A")"
ok "what commands ask of it"

secrets() { cut -c 1-64 "$HELPER"/secrets/*; }
while read -r hex; do
	[ -n "$hex" ] || continue
	! grep -qF "$hex" "$W"/audit* || fail "a secret in the trail"
	! grep -qF "$(python3 -c 'import base64,sys; print(base64.b64encode(bytes.fromhex(sys.argv[1])).decode())' "$hex")" "$W"/audit* ||
		fail "a secret in the trail"
done < <(secrets)
ok "no secret in it"
