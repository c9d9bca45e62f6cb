#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Secrets without an image, images without a secret: found only with the whole truth about all
# hosts; removed only if found twice, and after the delay.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
sed -i "s|^\[key-service\]|site = here\n&\nreserve = 0|" "$CONF"
vcf_mount

keys() { timeout 60 "$VMCRYPTFS" keys "$@"; }
code_of() { local rc=0; "$@" >"$W/stdout" 2>"$W/stderr" || rc=$?; echo $rc; }
refused() { # REASON ARGUMENT...   of keys orphans
	local why=$1
	shift
	equal "orphans $*" 6 "$(code_of keys orphans -c "$CONF" "$@")"
	grep -qF -- "$why" "$W/stderr" || fail "wanted '$why', got: $(cat "$W/stderr")"
}
HOST=$(uname -n)
inv() { keys inventory -c "$CONF" >"$W/inv.new" && mv "$W/inv.new" "$W/$1"; }
age() { touch -d '30 days ago' "$KEYS/$1"; }

mkdir "$MNT/i"
for f in a b c; do
	echo "content $f" >"$MNT/i/$f"
done
rm "$MNT/i/c" # waits for its end: no orphan
lost=$(key_id_of "$BACK/i/b")
mv "$BACK/i/b" "$W/b" # behind the mount's back: an orphan
foreign=11111111-2222-4333-8444-555555555555
(umask 077; printf %064d 0 >"$KEYS/$foreign")
find "$KEYS" -type f -exec touch -d '30 days ago' {} +
inv one
equal "lines" "container 1 journal 1" "$(sed 's/.*"type":"\([a-z]*\)".*/\1/' "$W/one" | grep -E 'container|journal' |
	sort | uniq -c | awk '{print $2, $1}' | tr '\n' ' ' | sed 's/ $//')"
keys orphans -c "$CONF" --hosts "$HOST" "$W/one" >"$W/out" 2>"$W/err" || fail "orphans: $(cat "$W/err")"
equal "the orphan" "orphan $lost" "$(awk '{print $1, $2}' "$W/out")"
grep -q "4 records: 2 in use, 1 orphans, 0 not older than demanded, 0 with the label of another one, 1 without the mark" "$W/err" ||
	fail "the sums: $(cat "$W/err")"
touch "$KEYS/$lost"
equal "too young" "" "$(keys orphans -c "$CONF" --hosts "$HOST" "$W/one" 2>/dev/null)"
age "$lost"
ok "a secret that no image has"

printf '#!/bin/sh\nexit 1\n' >"$W/ends"
chmod 755 "$W/ends"
begin=$SECONDS
equal "a helper that does not start" 7 \
	"$(code_of keys orphans -o key-service.helper="$W/ends" -c "$CONF" --hosts "$HOST" "$W/one")"
[ $((SECONDS - begin)) -lt 20 ] || fail "it is repeated"
grep -q 'the key helper does not start: helper ended' "$W/stderr" || fail "no reason: $(cat "$W/stderr")"

equal "no --hosts" 2 "$(code_of keys orphans -c "$CONF" "$W/one")"
refused "no inventory of host other" --hosts "$HOST,other" "$W/one"
refused "is not in --hosts" --hosts other "$W/one"
head -n -1 "$W/one" >"$W/cut"
refused "the end is missing" --hosts "$HOST" "$W/cut"
sed 's/"count":2/"count":1/' "$W/one" >"$W/cut"
refused "the checksum is wrong" --hosts "$HOST" "$W/cut"
grep -v '"type":"container"' "$W/one" >"$W/cut"
refused "the checksum is wrong" --hosts "$HOST" "$W/cut"
cat "$W/one" "$W/one" >"$W/cut"
refused "something follows" --hosts "$HOST" "$W/cut"
refused "no JSON object" --hosts "$HOST" "$CONF"
refused "of site 'here', not 'there'" -o mount.site=there --hosts "$HOST" "$W/one"
refused "site is not set" -o mount.site= --hosts "$HOST" "$W/one"
sleep 2
refused "s old, more than 1" --max-age 1s --hosts "$HOST" "$W/one"
mkdir -p "$W/state/another"
touch "$W/state/another/journal"
inv two
refused "no inventory of its other backing folder another" --hosts "$HOST" "$W/two"
rm -r "$W/state/another"
head -c 32768 "$BACK/i/a" >"$W/header"
head -c 32768 /dev/urandom | dd of="$BACK/i/a" conv=notrunc status=none
inv two
refused "i/a on host $HOST is plaintext, or its header is destroyed" --hosts "$HOST" "$W/two"
dd if="$W/header" of="$BACK/i/a" conv=notrunc status=none
printf '!' | dd of="$BACK/i/a" bs=1 seek=5000 conv=notrunc status=none
printf '!' | dd of="$BACK/i/a" bs=1 seek=21384 conv=notrunc status=none
inv two
refused "i/a on host $HOST is plaintext, or its header is destroyed" --hosts "$HOST" "$W/two"
dd if="$W/header" of="$BACK/i/a" conv=notrunc status=none
ok "not with less than the whole truth"

keys orphans --json -c "$CONF" --hosts "$HOST" "$W/one" >"$W/report" 2>/dev/null || fail "the report"
refused "less than 86400 s ago" --queue "$W/report" --hosts "$HOST" "$W/one"
refused "take new ones" --apart 0s --queue "$W/report" --hosts "$HOST" "$W/one"
sleep 1.1
inv three
keys orphans --apart 1s --queue "$W/report" -c "$CONF" --hosts "$HOST" "$W/three" >"$W/out" 2>"$W/err" ||
	fail "orphans --queue: $(cat "$W/err")"
equal "it waits" "waits $lost (orphan)" "$(keys pending "$MNT" | grep orphan | awk '{print $1, $5, $6}')"
inv four
keys orphans --apart 1s --queue "$W/report" -c "$CONF" --hosts "$HOST" "$W/four" >"$W/out" 2>"$W/err"
equal "what waits is no orphan" "" "$(cat "$W/out")"
[ -e "$KEYS/$lost" ] || fail "destroyed before its delay"
# It comes back from where it was: kept.
cp "$W/b" "$BACK/i/b"
vcf_remount
equal "the entry is cancelled" "" "$(keys pending "$MNT" | grep orphan || true)"
equal "content" "content b" "$(cat "$MNT/i/b")"
rm "$BACK/i/b"
inv five
keys orphans --apart 1s --queue "$W/report" -c "$CONF" --hosts "$HOST" "$W/five" >"$W/out" 2>"$W/err"
keys restore-pending "$MNT" "$lost" >/dev/null
ok "queued only the second time, and kept if its image comes back"

# With the delay over.
vcf_remount -o key-service.destroy-delay=0
sleep 1.1
inv six
# the daemon's delay counts
keys orphans --apart 1s --queue "$W/report" -c "$CONF" --hosts "$HOST" "$W/six" >"$W/out" 2>"$W/err"
wait_for 10 test ! -e "$KEYS/$lost" || fail "an orphan stays"
[ -e "$KEYS/$foreign" ] || fail "a secret of others was destroyed"
ok "destroyed by its label after the delay"

a_id=$(key_id_of "$BACK/i/a")
mv "$KEYS/$a_id" "$W/a-secret"
inv seven
equal "an image whose secret is gone" 1 "$(code_of keys orphans -c "$CONF" --hosts "$HOST" "$W/seven")"
grep -q "^MISSING  $a_id  of i/a on $HOST" "$W/stdout" || fail "MISSING: $(cat "$W/stdout")"
mv "$W/a-secret" "$KEYS/$a_id"
ok "images whose secret is gone"

# A host that nobody knows of: its images' secrets look like orphans, more than are in use.
echo d >"$MNT/i/d"
echo e >"$MNT/i/e"
vcf_umount
mkdir "$W/elsewhere"
mv "$BACK"/i/[ade] "$W/elsewhere"
find "$KEYS" -type f -exec touch -d '30 days ago' {} +
inv eight
keys orphans --json -c "$CONF" --hosts "$HOST" "$W/eight" >"$W/report" 2>"$W/err" || fail "the report"
grep -q "more orphans than secrets in use: is a host missing" "$W/err" || fail "no hint: $(cat "$W/err")"
sleep 1.1
inv nine
refused "--more-than-in-use" --apart 1s --queue "$W/report" --hosts "$HOST" "$W/nine"
equal "nothing waits of them" 0 "$(keys pending -c "$CONF" | grep -c orphan || true)"
keys orphans --apart 1s --more-than-in-use --queue "$W/report" -c "$CONF" --hosts "$HOST" "$W/nine" \
	>"$W/out" 2>"$W/err" || fail "with --more-than-in-use: $(cat "$W/err")"
equal "they wait" 3 "$(keys pending -c "$CONF" | grep -c orphan)"
keys restore-pending --all -c "$CONF" >"$W/out"
mv "$W/elsewhere"/* "$BACK/i"
ok "not more than are in use, unless it is said so"

inv eight
equal "an inventory without a daemon" 0 \
	"$(code_of keys orphans -c "$CONF" --hosts "$HOST" --inventory "$W/eight")"
ok "without a daemon"
