#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# adopt --reclone: a container that was copied below the mount gets a uuid and a secret of its own;
# its source may then go, secret and all.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
vcf_faulty_helper
vcf_config <<'CONFIG'
[rules]
derived = **/*.part
bind = ^([a-z]{4})/
CONFIG
opts=(-o key-service.reserve=0 -o key-service.linger=1 -o key-service.destroy-delay=0)
vcf_mount "${opts[@]}"
expect_log 'key service|key helper'
mkdir "$MNT/aaaa" "$MNT/bbbb"
pattern 1 300000 >"$MNT/aaaa/disk"
pattern 2 5000 >"$MNT/aaaa/x.part"
sync "$MNT/aaaa/disk" "$MNT/aaaa/x.part"
exec 9<"$MNT/aaaa/disk"
cp --sparse=always "$BACK/aaaa/disk" "$BACK/aaaa/copy"
cp --sparse=always "$BACK/aaaa/disk" "$BACK/bbbb/disk"
cp --sparse=always "$BACK/aaaa/x.part" "$BACK/aaaa/y.part"

field() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
secret_of() { cut -d' ' -f1 "$HELPER/secrets/$(field "$1" key_id)" | tr -d '\n'; }
opens() { printf %s "$2" | cryptsetup open --test-passphrase --key-file - "$BACK/$1" 2>/dev/null; }
reclone() { "$VMCRYPTFS" adopt --reclone -c "$CONF" "$@"; }

must_fail_with "a daemon has it open" reclone "$BACK/aaaa/disk"
must_fail_with "name in the mount" reclone "$MNT/aaaa/copy"
must_fail "$VMCRYPTFS" adopt -c "$CONF" "$BACK/aaaa/copy"
must_fail "$VMCRYPTFS" adopt --reclone "$BACK/aaaa/copy"
echo plain >"$W/plain"
must_fail_with "no container" reclone "$W/plain"
ok "refusals"

old=$(secret_of aaaa/copy)
reclone "$BACK/aaaa/copy" "$BACK/bbbb/disk" "$BACK/aaaa/y.part"
for f in aaaa/copy bbbb/disk aaaa/y.part; do
	equal "key id of $f" "id-$(field $f uuid)" "$(field $f key_id)"
	opens $f "$(secret_of $f)" || fail "$f: not with its secret"
	! opens $f "$old" || fail "$f: with the source's secret"
	[ "$(field $f uuid)" != "$(field aaaa/disk uuid)" ] || fail "$f: the source's uuid"
done
equal "context" bbbb "$(field bbbb/disk context)"
equal "derived" False "$(field aaaa/y.part derived)"
opens aaaa/disk "$old" || fail "the source does not open any more"
pattern 1 300000 | same - "$MNT/aaaa/copy"
pattern 1 300000 | same - "$MNT/bbbb/disk"
pattern 2 5000 | same - "$MNT/aaaa/y.part"
ok "copies of an open image, to another instance, of a derived one"

exec 9<&-
id=$(field aaaa/disk key_id)
rm "$MNT/aaaa/disk"
gone() { [ ! -e "$HELPER/secrets/$id" ]; }
wait_for 20 gone || fail "the source's secret stays"
vcf_remount "${opts[@]}"
pattern 1 300000 | same - "$MNT/aaaa/copy"
pattern 1 300000 | same - "$MNT/bbbb/disk"
ok "the source and its secret are gone, the copies stay"

secrets() { find "$HELPER/secrets" -type f | wc -l; }
before=$(secrets)
cp "$BACK/aaaa/copy" "$BACK/aaaa/again"
sum=$(sha256sum <"$BACK/aaaa/again")
fault new unavailable
must_fail reclone -o key-service.timeout=2 "$BACK/aaaa/again"
inventory() { "$VMCRYPTFS" keys inventory -c "$CONF" >"$W/inventory"; }
wait_for 10 inventory # a helper that is just being started has the killed command's descriptors for a moment
grep -q '"state":"creating"' "$W/inventory" || fail "a secret that may still arrive is named nowhere"
equal "the copy is untouched" "$sum" "$(sha256sum <"$BACK/aaaa/again")"
fault
reclone "$BACK/aaaa/again"
equal "secrets: one more, nothing is left of what failed" $((before + 1)) "$(secrets)"
pattern 1 300000 | same - "$MNT/aaaa/again"
cp "$BACK/aaaa/copy" "$BACK/aaaa/third"
fault new lose
reclone -o key-service.timeout=2 "$BACK/aaaa/third" 2>"$W/stderr" || {
	fault
	reclone "$BACK/aaaa/third"
}
fault
equal "secrets: one more" $((before + 2)) "$(secrets)"
pattern 1 300000 | same - "$MNT/aaaa/third"
ok "a service that is down, or whose answer is lost"

# An image is removed while the key service takes its time.
cp "$BACK/aaaa/copy" "$BACK/aaaa/removed"
before=$(secrets)
fault new delay=2
must_fail_with "Stale file handle" reclone "$BACK/aaaa/removed" &
first=$!
sleep 1
rm "$BACK/aaaa/removed"
wait $first || fail "reclone of a file that went meanwhile"
fault
equal "secrets: nothing is left of what failed" "$before" "$(secrets)"
ok "what happens to the file meanwhile"

# A daemon that had read a header with a damaged copy waits for its secret meanwhile.
cp "$BACK/aaaa/copy" "$BACK/aaaa/slow"
printf x | dd of="$BACK/aaaa/slow" bs=1 seek=5000 conv=notrunc status=none
fault get delay=4
cat "$MNT/aaaa/slow" >"$W/slow" &
reader=$!
sleep 1
fault
reclone "$BACK/aaaa/slow"
new=$(secret_of aaaa/slow)
wait $reader || fail "the open that waited failed"
pattern 1 300000 | same - "$W/slow"
opens aaaa/slow "$new" || fail "the old header was written over the new one"
vcf_remount "${opts[@]}"
pattern 1 300000 | same - "$MNT/aaaa/slow"
ok "an open that waited for its secret does not bring back the old header"

# One that a command has locked is left to it.
no_keys() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }
wait_for 20 no_keys || fail "its key stays"
printf x | dd of="$BACK/aaaa/slow" bs=1 seek=5000 conv=notrunc status=none
sum=$(head -c 16384 "$BACK/aaaa/slow" | sha256sum)
# shellcheck disable=SC2016
flock -n "$BACK/aaaa/slow" sh -c 'cat "$1" >/dev/null' - "$MNT/aaaa/slow"
equal "the header while it is locked" "$sum" "$(head -c 16384 "$BACK/aaaa/slow" | sha256sum)"
wait_for 20 no_keys || fail "its key stays"
expect_log 'written anew'
cat "$MNT/aaaa/slow" >/dev/null
[ "$sum" != "$(head -c 16384 "$BACK/aaaa/slow" | sha256sum)" ] || fail "not mended later"
ok "a header is mended only while no command works on it"

cp "$BACK/aaaa/copy" "$BACK/aaaa/fourth"
before=$(secrets)
fault new lose
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/aaaa/fourth" 2>"$W/stderr" &
pid=$!
made() { [ "$(secrets)" -gt "$before" ]; }
wait_for 10 made || fail "no secret was made"
refused() { ! "$VMCRYPTFS" keys inventory -c "$CONF"; } # that one may have been the mount's
wait_for 10 refused || fail "an inventory is made while a secret is"
kill -9 $pid
wait $pid 2>/dev/null || true
fault
expect_log 'cannot open the journal|no inventory can be made'
wait_for 10 inventory
grep -q '"state":"creating"' "$W/inventory" || fail "in no inventory: $(cat "$W/inventory")"
ok "what was cut short is in the inventory, which waits for what is not"

# The host's id is what its journal goes by.
if [ "$(id -u)" = 0 ] && [ -s /etc/machine-id ] && unshare -m true 2>/dev/null; then
	other=$W/machine-id
	echo 0123456789abcdef0123456789abcdef >"$other"
	rc=0
	# shellcheck disable=SC2016
	unshare -m sh -c 'mount --bind "$1" /etc/machine-id; shift; exec "$@"' - "$other" \
		"$VMCRYPTFS" adopt --reclone -c "$CONF" "$BACK/aaaa/fourth" 2>"$W/stderr" || rc=$?
	equal "reclone on another machine" 0 $rc
	equal "secrets: what the other machine began is kept" $((before + 2)) "$(secrets)"
	grep -q "is kept: it is of another machine" "$W/stderr" || fail "no word: $(cat "$W/stderr")"
	ok "the journal of another machine destroys nothing"
fi
