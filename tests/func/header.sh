#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# header backup and restore: what is saved opens the image again, nothing else is ever put in its place,
# and where nothing has to be written nothing is. In a build with -Dcrash-points=true it dies at each of its
# steps and is done again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
opts=(-o key-service.reserve=0 -o key-service.linger=0)
D=2097152
UUID='[0-9a-f-]{36}'

header() {
	local verb=$1
	shift
	"$VMCRYPTFS" header "$verb" -c "$CONF" "$@"
}
verify() { "$VMCRYPTFS" verify -c "$CONF" "$@"; }
sum() { sha256sum <"$1"; }

put() { # FILE OFFSET BYTES
	head -c "$3" /dev/urandom | dd of="$1" bs=1M seek="$2" oflag=seek_bytes conv=notrunc status=none
}

refused() { # TEXT ARGUMENT... FILE   and FILE is as it was
	local text=$1 before
	shift
	before=$(sum "${!#}")
	must_fail_with "$text" header restore "$@"
	equal "a refused file" "$before" "$(sum "${!#}")"
}

restored() { # SAVED FILE PLAINTEXT
	# a helper that is just being started has a killed command's descriptors for a moment
	wait_for 10 header restore "$1" "$2" || fail "restore of $2"
	verify "$2" >/dev/null || fail "not sound: $2"
	# what was plaintext a moment ago has that one's size for as long as the kernel remembers it
	wait_for 5 cmp -s "$3" "$MNT/${2##*/}" || same "$3" "$MNT/${2##*/}"
	wait_for 20 gone || fail "keys stay"
}
gone() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }

for kind in luks1:512 luks2:4096; do
	vcf_mount "${opts[@]}" -o "format.type=${kind%:*}" -o "format.sector-size=${kind#*:}"
	{ pattern "$kind" 200000; head -c 10000 /dev/zero; } >"$W/plain-${kind%:*}"
	cp "$W/plain-${kind%:*}" "$MNT/${kind%:*}"
	pattern "other $kind" 100000 >"$MNT/other-${kind%:*}"
	pattern "noise $kind" 98304 >"$MNT/noise-${kind%:*}"
	[ $kind = luks2:4096 ] || vcf_umount
done
exec 9<"$MNT/luks2"
for f in luks1 luks2 other-luks1 other-luks2 noise-luks2; do
	header backup --output "$W/$f.header" "$MNT/$f" >"$W/out"
	grep -q 'its secret opens it' "$W/out" || fail "not tried: $(cat "$W/out")"
	equal "mode and length" "600 $D" "$(stat -c '%a %s' "$W/$f.header")"
	cmp -n $D "$BACK/$f" "$W/$f.header" || fail "$f: another header"
	cryptsetup isLuks "$W/$f.header" || fail "$f: no header for cryptsetup"
done
[ "$(du -k "$W/luks2.header" | cut -f1)" -lt 400 ] || fail "not sparse"
before=$(sum "$W/luks2.header")
must_fail_with "is there already" header backup --output "$W/luks2.header" "$BACK/luks2"
equal "the first backup" "$before" "$(sum "$W/luks2.header")"
elsewhere() { # where there is no O_TMPFILE
	"$VCF_BUILD/tests/func/notmpfile" header backup -c "$CONF" \
		-o "key-service.helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-file" "$@"
}
echo half >"$W/elsewhere.header.vmcryptfs-part"
elsewhere --output "$W/elsewhere.header" "$BACK/luks2" >/dev/null || fail "without O_TMPFILE"
same "$W/luks2.header" "$W/elsewhere.header"
equal "mode" 600 "$(stat -c %a "$W/elsewhere.header")"
must_fail_with "is there already" elsewhere --output "$W/elsewhere.header" "$BACK/luks2"
[ ! -e "$W/elsewhere.header.vmcryptfs-part" ] || fail "a part of it stays"
must_fail_with "it would be an image of the mount there" header backup --output "$BACK/h" "$BACK/luks2"
must_fail_with "in a mount it would be encrypted" header backup --output "$MNT/h" "$BACK/luks2"
must_fail_with "No such file" header backup --output "$W/none/h" "$BACK/luks2"
must_fail "$VMCRYPTFS" header backup "$BACK/luks2"
must_fail "$VMCRYPTFS" header
[ -z "$(find "$BACK" "$MNT" "$W" -maxdepth 1 -name 'h')" ] || fail "something was left"
refused "a daemon has it open" "$W/luks2.header" "$BACK/luks2"
exec 9<&-
wait_for 20 gone || fail "keys stay"
ok "backups, also of an image that is open"

for f in luks1 luks2; do
	before=$(sum "$BACK/$f")
	header restore "$W/$f.header" "$BACK/$f" | grep -q 'is the saved one, and opens it' || fail "$f: sound"
	equal "a sound file" "$before" "$(sum "$BACK/$f")"
	put "$BACK/$f" 0 $D
	must_fail cat "$MNT/$f"
	refused "its data is not seen to be" "$W/other-$f.header" "$BACK/$f"
	restored "$W/$f.header" "$BACK/$f" "$W/plain-$f"
	equal "the very same" "$before" "$(sum "$BACK/$f")"
	put "$BACK/$f" 40000 60000 # its key slot; LUKS1: that and more
	restored "$W/$f.header" "$BACK/$f" "$W/plain-$f"
	dd if=/dev/zero of="$BACK/$f" bs=1M count=2 conv=notrunc status=none
	restored "$W/$f.header" "$BACK/$f" "$W/plain-$f"
	put "$BACK/$f" 0 600
	[ $f = luks2 ] || restored "$W/$f.header" "$BACK/$f" "$W/plain-$f"
	[ $f = luks1 ] || header restore "$W/$f.header" "$BACK/$f" >/dev/null
	verify "$BACK/$f" >/dev/null || fail "$f: one copy"
	refused "the header that it has opens it, and the backup is of another volume key" \
		"$W/other-$f.header" "$BACK/$f"
done
expect_log 'cannot open|header'
ok "headers come back, those of others do not"

# The header is there, but its secret is not: the volume key is what tells.
cp "$BACK/other-luks2" "$BACK/lost"
id=$(key_id_of "$BACK/lost")
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/lost" >/dev/null
new=$(key_id_of "$BACK/lost")
refused "nothing is written: the header that it has opens it" "$W/other-luks2.header" "$BACK/lost"
mv "$KEYS/$new" "$W/new"
refused "the backup is of another volume key" "$W/luks2.header" "$BACK/lost"
mv "$KEYS/$id" "$W/old"
refused "for the backup opens nothing: there is no secret $id" "$W/other-luks2.header" "$BACK/lost"
mv "$W/old" "$KEYS/$id"
pattern "other luks2:4096" 100000 >"$W/other"
restored "$W/other-luks2.header" "$BACK/lost" "$W/other"
rm "$BACK/lost"
ok "a secret that is gone, of either header"

# Nothing but noise in the image: its data does not tell.
f=$BACK/noise-luks2
put "$f" 0 $D
head -c $D "$f" >"$W/overwritten"
refused "--force-with-uuid answers for it" "$W/noise-luks2.header" "$f"
grep -qE "uuid was $UUID," "$W/stderr" || fail "no uuid is named"
uuid=$(grep -oE "$UUID" "$W/stderr" | tail -1)
refused "--force-with-uuid" --force-with-uuid "$(cryptsetup luksUUID "$W/luks2.header")" "$W/noise-luks2.header" "$f"
header restore --force-with-uuid "$uuid" --json "$W/noise-luks2.header" "$f" >"$W/out"
pattern "noise luks2:4096" 98304 >"$W/noise"
wait_for 5 cmp -s "$W/noise" "$MNT/noise-luks2" || fail "the image's bytes"
wait_for 20 gone || fail "keys stay"
same "$W/overwritten" "$(python3 -c 'import json,sys; print(json.load(sys.stdin)["text"].split("is kept: ")[1])' <"$W/out")"
pattern 9 3000000 >"$W/clear"
cp "$W/clear" "$BACK/clear"
refused "its data is not seen to be" "$W/luks2.header" "$BACK/clear"
rm "$BACK/clear"
truncate -s 100000 "$BACK/short"
refused "shorter than the header" "$W/luks2.header" "$BACK/short"
rm "$BACK/short"
cp "$BACK/luks2" "$W/whole"
refused "not a saved header alone" "$W/whole" "$f"
refused "no header is in it" "$W/clear" "$f"
refused "No such file" "$W/none" "$f"
ok "data that does not tell, plaintext, files that are no backups"

if grep -aq restore-first "$VMCRYPTFS"; then
	for f in luks1 luks2; do
		for point in restore-begin restore-body restore-second restore-first; do
			wait_for 20 gone || fail "keys stay"
			put "$BACK/$f" 0 $D
			(VCF_CRASH=$point header restore "$W/$f.header" "$BACK/$f" >/dev/null 2>&1) &&
				fail "$point was not met"
			restored "$W/$f.header" "$BACK/$f" "$W/plain-$f"
		done
	done
	for point in backup-written backup-named; do
		rm -f "$W/die.header"
		(VCF_CRASH=$point header backup --output "$W/die.header" "$BACK/luks2" >/dev/null 2>&1) &&
			fail "$point was not met"
		[ ! -e "$W/die.header" ] || cmp -n $D "$BACK/luks2" "$W/die.header" || fail "half a backup"
		equal "left over" "" "$(find "$W" -maxdepth 1 -name '*.tmp*' -o -maxdepth 1 -name '.*' -type f)"
	done
	ok "killed at each step, done again"
	vcf_umount
	for _ in $(seq 30); do
		put "$BACK/luks2" 0 $D
		header restore "$W/luks2.header" "$BACK/luks2" >/dev/null 2>&1 &
		sleep "0.0$((RANDOM % 60 + 10))"
		kill -KILL $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		wait_for 10 header restore "$W/luks2.header" "$BACK/luks2" || fail "again after a kill"
		verify "$BACK/luks2" >/dev/null || fail "not sound after a kill"
	done
	vcf_mount "${opts[@]}"
	same "$W/plain-luks2" "$MNT/luks2"
	ok "killed at random moments, done again"
fi
