#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shred dies at each of its steps, and at random moments. The image opens as ever, or its secret is not
# destroyed without the next run telling of it; the same command completes the rest; another image
# and its secret stay.
# usage: shred.sh [RANDOM-KILLS]
# Needs a build with -Dcrash-points=true.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
kills=${1:-20}
vcf_setup
sed -i 's|^helper = .*|&\nreserve = 0\nlinger = 0|' "$CONF"
pattern 1 300000 >"$W/1"

shred() { timeout 60 "$VMCRYPTFS" shred --yes -c "$CONF" --receipt "$W/receipts" "$@"; }
field() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
secrets() { find "$KEYS" -type f ! -name '.*' | wc -l; }

make() { # NUMBER   images victim.N, each with its secret
	local i

	vcf_mount
	for ((i = 1; i <= $1; i++)); do
		cp "$W/1" "$MNT/victim.$i"
	done
	vcf_umount
}

vcf_mount
cp "$W/1" "$MNT/other"
vcf_umount
points='shred-noted wipe-chunk wipe-chunk:2 wipe-half shred-wiped oldsecret-destroyed shred-destroyed shred-told
	shred-removed journal-written journal-written:2'
for point in $points; do
	make 1
	uuid=$(field victim.1 uuid) key=$(field victim.1 key_id) rc=0
	VCF_CRASH=$point "$VMCRYPTFS" shred --yes -c "$CONF" --receipt "$W/receipts" "$BACK/victim.1" \
		>"$W/out" 2>&1 || rc=$?
	equal "$point: exit status" 137 $rc
	rc=0
	shred "$BACK/victim.1" >"$W/out" 2>&1 || rc=$?
	# The last record closes the note: all was done.
	[ $rc = 0 ] || { [ "$point" = journal-written:2 ] && [ $rc = 4 ]; } ||
		fail "$point: again: $rc $(cat "$W/out")"
	[ ! -e "$BACK/victim.1" ] || fail "$point: the file is there"
	[ ! -e "$KEYS/$key" ] || fail "$point: the secret is there"
	grep -qE "\"uuid\":\"$uuid\".*\"answer\":\"(destroyed|gone)\"" "$W/receipts" ||
		fail "$point: no receipt in $(cat "$W/receipts")"
	equal "$point: secrets" 1 "$(secrets)"
done
ok "at each step"

make "$kills"
for ((i = 1; i <= kills; i++)); do
	field "victim.$i" uuid
done >"$W/uuids"
for ((i = 1; i <= kills; i++)); do
	"$VMCRYPTFS" shred --yes -c "$CONF" --receipt "$W/receipts" "$BACK/victim.$i" >"$W/out" 2>&1 &
	command=$!
	sleep "0.0$((RANDOM % 7))$((RANDOM % 10))"
	kill -KILL $command 2>/dev/null || true
	wait $command 2>/dev/null || true
done
for ((i = 1; i <= kills; i++)); do
	[ ! -e "$BACK/victim.$i" ] || echo "$BACK/victim.$i"
done >"$W/left"
echo "$(wc -l <"$W/left") of $kills are left"
echo "$BACK/other.none" >>"$W/left"
rc=0
mapfile -t left <"$W/left"
shred "${left[@]}" >"$W/out" 2>&1 || rc=$?
equal "exit status for one that never was" 4 $rc
! ls "$BACK"/victim.* 2>/dev/null || fail "left: $(cat "$W/out")"
equal "secrets" 1 "$(secrets)"
while read -r uuid; do
	grep -qE "\"uuid\":\"$uuid\".*\"answer\":\"(destroyed|gone)\"" "$W/receipts" || fail "no receipt of $uuid"
done <"$W/uuids"
vcf_mount
same "$W/1" "$MNT/other"
ok "$kills kills at random moments"
