#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# repair: what can be mended is, what cannot is refused, --dry-run changes nothing; each byte of data
# that goes is kept. In a build with -Dcrash-points=true it also dies at each of its steps and is done
# again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_config <<<$'[rules]\nderived = **/*.part'
opts=(-o key-service.reserve=0 -o key-service.linger=0)
D=2097152

repair() { "$VMCRYPTFS" repair -c "$CONF" "$@"; }
verify() { "$VMCRYPTFS" verify -c "$CONF" "$@"; }
sum() { sha256sum <"$1"; }

damaged() { # NAME [SOURCE]
	cp --sparse=always "$BACK/${2:-disk}" "$BACK/x-$1"
	echo "$BACK/x-$1"
}

put() { # FILE OFFSET BYTES
	head -c "$3" /dev/urandom | dd of="$1" bs=1M seek="$2" oflag=seek_bytes conv=notrunc status=none
}

bytes() { # FILE OFFSET BYTES
	dd if="$1" bs=1M skip="$2" count="$3" iflag=skip_bytes,count_bytes status=none
}

mended() { # FILE TEXT   as announced, and nothing is left to do
	local before

	before=$(sum "$1")
	must_fail verify "$1"
	repair --dry-run "$1" >"$W/plan" || fail "dry run of $1"
	grep -qF -- "would be done: $2" "$W/plan" || fail "wanted '$2', got: $(cat "$W/plan")"
	equal "--dry-run" "$before" "$(sum "$1")"
	repair "$1" >"$W/done" || fail "repair $1"
	grep -qF -- "done: $2" "$W/done" || fail "wanted '$2', got: $(cat "$W/done")"
	verify "$1" >/dev/null || fail "not sound: $1"
	repair "$1" | grep -q 'nothing to mend' || fail "again: $1"
}

refused() { # FILE TEXT
	local before

	before=$(sum "$1")
	must_fail_with "$2" repair "$1"
	equal "a refused file" "$before" "$(sum "$1")"
}

kept() { sed -n 's/.*; kept: //p' "$W/done"; }

vcf_mount "${opts[@]}" -o format.type=luks1 -o format.sector-size=512
pattern 1 100000 >"$MNT/luks1"
vcf_remount "${opts[@]}"
pattern 2 300001 >"$MNT/disk"
pattern 3 40960 >"$MNT/whole"
pattern 4 5000 >"$MNT/small.part"
: >"$MNT/empty"
pattern 5 50000 >"$MNT/cut"
cp "$MNT/whole" "$W/whole"
exec 9<"$MNT/disk"
must_fail_with "a daemon has it open" repair "$BACK/disk"
exec 9<&-
gone() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }
wait_for 20 gone || fail "keys stay"
repair "$BACK/disk" "$MNT/whole" "$BACK/small.part" "$BACK/luks1" "$BACK/empty" >"$W/out"
equal "nothing to mend" 5 "$(grep -c 'there is nothing to mend' "$W/out")"
ok "sound ones, by either name; one that is open"

for copy in 0 1; do
	f=$(damaged copy$copy)
	put "$f" $((copy * 16384 + 5000)) 100
	mended "$f" "the damaged or older copy of its header is written anew"
done
f=$(damaged copypart small.part)
put "$f" 5000 100
mended "$f" "the damaged or older copy"
f=$(damaged page luks1)
python3 - "$f" <<'PY'
import hashlib, os, sys
PAGE, SECTOR, D = 4096, 512, 2097152
with open(sys.argv[1], "r+b") as f:
    new = f.read(PAGE)
    old = new[:2 * SECTOR] + os.urandom(2 * SECTOR) + new[4 * SECTOR:]
    f.seek(D - 3 * PAGE)
    f.write(old + new + b"VMCRYPT1KEPTHEAD" + hashlib.sha256(old + new).digest())
    f.seek(3 * SECTOR)
    f.write(old[3 * SECTOR:4 * SECTOR])  # the disk kept one sector of the old page
PY
must_fail_with "its first page is torn" verify "$f"
mended "$f" "its torn first page is written anew from the kept ones; remains of an old key slot are overwritten"
pattern 1 100000 | same - "$MNT/x-page"
f=$(damaged remains)
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$f" >/dev/null
put "$f" 1500000 5000
mended "$f" "remains of an old key slot are overwritten"
equal "remains" 0 "$(bytes "$f" 1500000 5000 | tr -d '\0' | wc -c)"
ok "copies, remains"

f=$(damaged short)
truncate -s 600000 "$f"
mended "$f" "the file, which ends inside its header after 600000 bytes, gets the length of the header"
equal "size" $D "$(stat -c %s "$f")"
f=$(damaged sliver)
truncate -s $((D + 100)) "$f"
bytes "$f" $D 100 >"$W/want"
mended "$f" "100 bytes of an incomplete sector at its end are cut off, and kept elsewhere; the image has 0 bytes"
same "$W/want" "$(kept)"
equal "mode" 600 "$(stat -c %a "$(kept)")"
f=$(damaged cut whole)
truncate -s $((D + 5 * 4096 + 100)) "$f"
bytes "$f" $((D + 5 * 4096)) 100 >"$W/want"
mended "$f" "100 bytes of an incomplete sector at its end are cut off, and kept elsewhere; the image has 20480 bytes"
same "$W/want" "$(kept)"
head -c 20480 "$W/whole" | same - "$MNT/x-cut"
f=$(damaged marker cut)
size=$(stat -c %s "$f")
put "$f" $((size - 10)) 10
bytes "$f" $((size - 50000 % 4096)) $((50000 % 4096)) >"$W/want"
mended "$f" "848 bytes behind its end are zeroed, and kept elsewhere; the image still has 50000 bytes"
same "$W/want" "$(kept)"
pattern 5 50000 | same - "$MNT/x-marker"
f=$(damaged cut512 luks1)
truncate -s $((D + 7 * 512 + 3)) "$f"
mended "$f" "3 bytes of an incomplete sector at its end are cut off, and kept elsewhere; the image has 3584 bytes"
pattern 1 3584 | same - "$MNT/x-cut512"
ok "ends; what goes is kept"

f=$(damaged both)
put "$f" 5000 100
put "$f" 20000 100
refused "$f" "no good copy of its header is left"
f=$(damaged gone)
put "$f" 0 $D
refused "$f" "its header is destroyed"
f=$(damaged slot)
put "$f" 40000 50000
refused "$f" "its secret does not open the key slot"
f=$(damaged field)
py luks2_edit "$f" '"generation":1' '"generation":2'
put "$f" 5000 100
refused "$f" "MAC or its volume key is wrong"
f=$(damaged shortest)
truncate -s 100000 "$f"
refused "$f" "its secret does not open the key slot"
id=$(key_id_of "$BACK/disk")
f=$(damaged secret)
put "$f" 5000 100
mv "$KEYS/$id" "$W/secret"
refused "$f" "there is no secret $id"
equal "exit code" 7 "$(repair "$f" 2>/dev/null || echo $?)"
mv "$W/secret" "$KEYS/$id"
must_fail repair "$BACK/nothing"
must_fail "$VMCRYPTFS" repair "$BACK/disk"
ok "what cannot be mended"

if grep -aq repair-kept "$VMCRYPTFS"; then
	for point in mend-half mend-done repair-kept repair-tail; do
		f=$(damaged "die-$point" whole)
		truncate -s $((D + 5 * 4096 + 100)) "$f"
		bytes "$f" $((D + 5 * 4096)) 100 >"$W/want"
		put "$f" 5000 100
		(VCF_CRASH=$point repair "$f" >/dev/null 2>&1) && fail "$point was not met"
		repair "$f" >"$W/done" || fail "after $point: $(cat "$W/done")"
		verify "$f" >/dev/null || fail "not sound after $point"
		head -c 20480 "$W/whole" | same - "$MNT/x-die-$point"
		found=0
		for k in "$W"/state/*/kept/*; do
			! cmp -s "$W/want" "$k" || found=$((found + 1))
		done
		[ $found -ge 1 ] || fail "$point: the bytes are lost"
		wait_for 20 gone || fail "keys stay"
	done
	ok "killed at each step, done again"
	for i in $(seq 30); do
		f=$(damaged die-random whole)
		truncate -s $((D + 5 * 4096 + 100)) "$f"
		put "$f" 5000 100
		repair "$f" >/dev/null 2>&1 &
		sleep "0.0$((RANDOM % 60 + 10))"
		kill -KILL $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		# a helper that is just being started has the killed command's descriptors for a moment
		wait_for 10 repair "$f" || fail "again after a kill ($i)"
		verify "$f" >/dev/null || fail "not sound after a kill ($i)"
	done
	ok "killed at random moments, done again"
fi
