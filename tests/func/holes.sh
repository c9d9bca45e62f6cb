#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# materialize and trim: the bytes that a reader sees stay, what lies below has no hole, or holes for zeros.
# In a build with -Dcrash-points=true they also die at each of their steps and are done again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
opts=(-o key-service.reserve=0 -o key-service.linger=0)
D=2097152

tool() {
	local verb=$1
	shift
	"$VMCRYPTFS" "$verb" -c "$CONF" "$@"
}
holes_of() { "$VMCRYPTFS" info --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["holes"])'; }
blocks() { stat -c %b "$1"; }

sparse() { # FILE BYTES   some data at the start, in the middle and at the end
	rm -f "$1"
	truncate -s "$2" "$1"
	for at in 0 $(($2 / 2 + 777)) $(($2 - 5001)); do
		pattern "$at" 5000 | dd of="$1" bs=1M seek="$at" oflag=seek_bytes conv=notrunc status=none
	done
}

kinds=(luks2:4096 luks2:512 luks1:512)
for kind in "${kinds[@]}"; do
	vcf_mount "${opts[@]}" -o "format.type=${kind%:*}" -o "format.sector-size=${kind#*:}"
	for size in 5000000 4194304; do
		name=${kind/:/-}-$size
		sparse "$W/$name" $size
		cp --sparse=always "$W/$name" "$MNT/$name"
		cp --sparse=always "$W/$name" "$MNT/$name.trim"
		# zeros that are no holes
		dd if=/dev/zero of="$MNT/$name.trim" bs=4096 seek=100 count=200 conv=notrunc status=none
	done
	: >"$MNT/empty"
	vcf_umount
done

for kind in "${kinds[@]}"; do
	for size in 5000000 4194304; do
		name=${kind/:/-}-$size
		f=$BACK/$name
		[ "$name" != luks2-4096-4194304 ] || cp --sparse=always "$f.trim" "$W/zeros"
		before=$(blocks "$f.trim")
		tool trim "$f.trim" >"$W/out" || fail "trim $name"
		grep -q '819200 bytes of zeros are holes now' "$W/out" || fail "trim $name: $(cat "$W/out")"
		[ "$(blocks "$f.trim")" -le $((before - 1550)) ] || fail "$name: $before blocks, then $(blocks "$f.trim")"
		tool verify "$f.trim" >/dev/null || fail "trimmed: not sound"
		cp --sparse=always "$f" "$W/before"
		tool materialize "$f" >"$W/out" || fail "materialize $name"
		grep -qE '[1-9][0-9]+ bytes of holes are encrypted zeros now' "$W/out" || fail "$(cat "$W/out")"
		equal "holes of $name" none "$(holes_of "$f")"
		equal "length of $name" "$(stat -c %s "$W/before")" "$(stat -c %s "$f")"
		tool verify "$f" >/dev/null || fail "materialized: not sound"
		tool materialize "$f" | grep -q 'it has no holes' || fail "again"
		must_fail_with "its token says that it has no holes" tool trim "$f"
		tool materialize "$BACK/empty" >/dev/null || fail "empty"
		# A hole that a death in a growth left.
		cp "$f" "$BACK/punched"
		fallocate -p -o $((D + 1048576)) -l 4096 "$BACK/punched"
		must_fail_with "it has a hole at byte 1048576" tool verify "$BACK/punched"
		tool materialize "$BACK/punched" | grep -q '^[^:]*: 4096 bytes' || fail "punched"
		tool verify "$BACK/punched" >/dev/null || fail "punched: not sound"
		rm "$BACK/punched"
	done
done
vcf_mount "${opts[@]}"
for f in "$W"/luks[12]-*; do
	same "$f" "$MNT/${f##*/}"
	same "$f" "$MNT/${f##*/}.trim"
done
exec 9<"$MNT/luks2-4096-5000000"
must_fail_with "a daemon has it open" tool materialize "$BACK/luks2-4096-5000000"
exec 9<&-
vcf_umount
ok "filled and trimmed: LUKS2, LUKS1, whole and odd sizes"

died() { # COMMAND... ; must have been killed
	local rc=0

	(VCF_CRASH=$point "$@" >/dev/null 2>&1) || rc=$?
	equal "$point: killed" 137 $rc
}

if grep -aq holes-filled "$VMCRYPTFS"; then
	for kind in "${kinds[@]}"; do
		name=${kind/:/-}-4194304
		for point in holes-filled holes-filled:2 rekey-slot rekey-kept rekey-noted rekey-switched \
			rekey-headers rekey-wiped; do
			cp --sparse=always "$BACK/$name.trim" "$BACK/x-$name-${point/:/-}"
			died tool materialize "$BACK/x-$name-${point/:/-}"
			tool verify "$BACK/x-$name-${point/:/-}" >"$W/out" 2>&1 ||
				grep -qE 'header-copy|copy of its header|remains of an old key slot' "$W/out" ||
				fail "after $point: $(cat "$W/out")"
			tool materialize "$BACK/x-$name-${point/:/-}" >/dev/null || fail "again after $point"
			tool verify "$BACK/x-$name-${point/:/-}" >/dev/null || fail "$point: not sound"
			equal "$point" none "$(holes_of "$BACK/x-$name-${point/:/-}")"
		done
	done
	point=holes-punched
	cp "$W/zeros" "$BACK/x-luks2-4096-4194304-$point"
	died tool trim "$BACK/x-luks2-4096-4194304-$point"
	tool trim "$BACK/x-luks2-4096-4194304-$point" >/dev/null || fail "again after $point"
	for i in $(seq 30); do
		cp --sparse=always "$BACK/luks1-512-4194304.trim" "$BACK/x-luks1-512-4194304-random$i"
		tool materialize "$BACK/x-luks1-512-4194304-random$i" >/dev/null 2>&1 &
		sleep "0.0$((RANDOM % 90 + 10))"
		kill -KILL $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		wait_for 10 tool materialize "$BACK/x-luks1-512-4194304-random$i" || fail "again after a kill"
	done
	vcf_mount "${opts[@]}"
	for f in "$BACK"/x-*; do
		f=${f##*/}
		name=$(sed -E 's/x-(luks[12]-[0-9]+-[0-9]+).*/\1/' <<<"$f")
		same "$W/$name" "$MNT/$f"
	done
	vcf_umount
	tool verify "$BACK"/x-* >"$W/out" || fail "not sound: $(cat "$W/out")"
	ok "killed at each step and at random moments, done again"
fi
