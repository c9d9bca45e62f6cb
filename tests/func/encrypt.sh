#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# encrypt, decrypt, convert: the same bytes in another form, in the same place, with all that the file
# has besides; exactly the secrets that belong to images are at the service.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup setfattr getfattr
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = locks/**
derived = **/*.part
bind = ^([a-z]{4})/
CONFIG
options=(-o key-service.reserve=0 -o key-service.linger=1 -o key-service.destroy-delay=0)

encrypt() { "$VMCRYPTFS" encrypt -c "$CONF" "${options[@]}" "$@"; }
decrypt() { "$VMCRYPTFS" decrypt -c "$CONF" "${options[@]}" "$@"; }
convert() { "$VMCRYPTFS" convert -c "$CONF" "${options[@]}" "$@"; }
field() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
secrets() { find "$KEYS" -type f | wc -l; }
secrets_are() { [ "$(secrets)" = "$1" ]; }
blocks() { stat -c %b "$1"; }
nothing_left() {
	local left
	left=$(find "$BACK" "$W/out" -name '.*.vmcryptfs')
	equal "left behind" "" "$left"
}
exits() { # CODE COMMAND...
	local rc=0 want=$1
	shift
	"$@" >"$W/stdout" 2>"$W/stderr" || rc=$?
	equal "exit code of $*; $(cat "$W/stderr")" "$want" $rc
}
says() { grep -qF -- "$1" "$W/stderr" || fail "wanted '$1', got: $(cat "$W/stderr")"; }

mkdir "$BACK/aaaa" "$BACK/locks" "$W/out" "$W/ref"
pattern 1 3000001 >"$W/ref/disk"
truncate -s 40M "$W/ref/disk"
pattern 2 70000 | dd of="$W/ref/disk" bs=1M seek=20 conv=notrunc status=none
dd if=/dev/zero of="$W/ref/disk" bs=1M seek=30 count=4 conv=notrunc status=none
truncate -s 41234567 "$W/ref/disk"
pattern 3 100 >"$W/ref/small"
{ head -c 32768 /dev/zero; pattern 4 400000; } >"$W/ref/iso" # begins as one does
pattern 5 5000 >"$W/ref/x.part"
for f in disk small iso x.part; do cp --sparse=always "$W/ref/$f" "$BACK/aaaa/$f"; done
echo lock >"$BACK/locks/l"
: >"$BACK/aaaa/empty"
dd if=/dev/zero of="$BACK/aaaa/disk" bs=1M seek=30 count=4 conv=notrunc status=none
chmod 640 "$BACK/aaaa/disk"
setfattr -n user.origin -v somewhere "$BACK/aaaa/disk"
touch -d '2020-02-03 04:05:06.789' "$BACK/aaaa/disk"
[ "$(id -u)" != 0 ] || chown 12:34 "$BACK/aaaa/disk"
before=$(stat -c '%u %g %a %Y %y' "$BACK/aaaa/disk")

exits 8 encrypt "$BACK/locks/l"
says "a passthrough rule covers it"
exits 8 encrypt "$W/ref/disk"
says "is not below"
exits 4 encrypt "$BACK/aaaa/none"
ln "$BACK/aaaa/small" "$BACK/aaaa/other"
exits 8 encrypt "$BACK/aaaa/small"
says "has 2 names"
rm "$BACK/aaaa/other"
exec 9>>"$BACK/aaaa/small"
exits 5 encrypt "$BACK/aaaa/small"
says "somebody has it open"
exec 9>&-
head -c 2M /dev/zero >"$BACK/aaaa/zeros"
exits 8 encrypt "$BACK/aaaa/zeros"
says "creation was cut short"
rm "$BACK/aaaa/zeros"
exits 2 encrypt
exits 2 encrypt --all "$BACK/aaaa/small"
nothing_left
equal "secrets of what was refused" 0 "$(secrets)"
ok "refusals"

# A disk that is full: nothing is changed, nothing is left.
if [ "$(id -u)" = 0 ] && mkdir "$W/tmpfs" && mount -t tmpfs -o size=12m none "$W/tmpfs" 2>/dev/null; then
	at_exit "umount '$W/tmpfs'"
	pattern 6 7000000 >"$W/tmpfs/full"
	exits 1 encrypt -o mount.backing="$W/tmpfs" "$W/tmpfs/full"
	says "No space left"
	pattern 6 7000000 | same - "$W/tmpfs/full"
	equal "in the full folder" full "$(ls -A "$W/tmpfs")"
	equal "secrets when the disk was full" 0 "$(secrets)"
	ok "a full disk"
fi

# The site's secret is made by a mount that is served, else by the command.
vcf_mount --with-plaintext "${options[@]}"
expect_log 'plaintext'
exits 7 encrypt "$BACK/aaaa/x.part"
says "no secret of the site"
vcf_umount
site=1
exits 0 encrypt --wipe --json --parallel 3 --all
equal "files" 4 "$(grep -c '"result":"ok"' "$W/stdout")"
equal "secrets: three images" $((site + 3)) "$(secrets)"
equal "owner, mode, times" "$before" "$(stat -c '%u %g %a %Y %y' "$BACK/aaaa/disk")"
equal "attribute" somewhere "$(getfattr --only-values -n user.origin "$BACK/aaaa/disk" 2>/dev/null)"
equal "derived" True "$(field aaaa/x.part derived)"
equal "context" aaaa "$(field aaaa/disk context)"
equal "empty stays" 0 "$(stat -c %s "$BACK/aaaa/empty")"
equal "passthrough stays" lock "$(cat "$BACK/locks/l")"
[ "$(blocks "$BACK/aaaa/disk")" -lt 12000 ] || fail "holes and zeros are not sparse: $(blocks "$BACK/aaaa/disk")"
nothing_left
vcf_mount "${options[@]}"
for f in disk small iso x.part; do same "$W/ref/$f" "$MNT/aaaa/$f"; done
exits 0 encrypt "$BACK/aaaa/disk"
grep -q "encrypted already" "$W/stdout" || fail "the second time: $(cat "$W/stdout")"
ok "encrypt --all"

# Interrupted: it is as it was, or done already.
vcf_umount
cp "$W/ref/disk" "$BACK/aaaa/long"
dd if=/dev/urandom of="$BACK/aaaa/long" bs=1M count=400 conv=notrunc status=none
sum=$(sha256sum <"$BACK/aaaa/long")
before_secrets=$(secrets)
"$VMCRYPTFS" encrypt -c "$CONF" "${options[@]}" "$BACK/aaaa/long" >/dev/null 2>"$W/stderr" &
pid=$!
begun() { [ -e "$BACK/aaaa/.long.vmcryptfs" ]; }
wait_for 10 begun || fail "does not begin"
kill -TERM $pid
rc=0
wait $pid || rc=$?
equal "interrupted" 1 $rc
says "interrupted; it is as it was"
equal "content" "$sum" "$(sha256sum <"$BACK/aaaa/long")"
equal "secrets" "$before_secrets" "$(secrets)"
nothing_left
rm "$BACK/aaaa/long"
vcf_mount "${options[@]}"
ok "interrupted"

# Under a served mount, by its name there.
vcf_umount
cp "$W/ref/disk" "$BACK/aaaa/late"
vcf_mount --with-plaintext "${options[@]}"
must_fail cat "$MNT/aaaa/late"
expect_log 'late: plaintext under an encrypt rule'
exits 0 encrypt "$MNT/aaaa/late"
can_read() { cat "$MNT/aaaa/late" >/dev/null 2>&1; }
wait_for 10 can_read || fail "cannot be read"
same "$W/ref/disk" "$MNT/aaaa/late"
equal "secrets" $((site + 4)) "$(secrets)"
ok "encrypt below a served mount"

exec 9<"$MNT/aaaa/disk"
exits 5 convert --format luks1 "$BACK/aaaa/disk"
says "a daemon has it open"
exits 5 decrypt --output "$W/out/disk" "$MNT/aaaa/disk"
exec 9<&-
exits 2 convert "$BACK/aaaa/disk"
exits 2 convert --sector-size 1024 "$BACK/aaaa/disk"
exits 1 convert --format luks1 --sector-size 4096 "$BACK/aaaa/disk"
old=$(field aaaa/disk key_id)
for how in "--format luks1" "--format luks2 --sector-size 4096" "--sector-size 512" "--data-offset 4M"; do
	# shellcheck disable=SC2086
	exits 0 convert $how "$MNT/aaaa/disk"
	same "$W/ref/disk" "$MNT/aaaa/disk"
	equal "owner, mode, times after $how" "$before" "$(stat -c '%u %g %a %Y %y' "$BACK/aaaa/disk")"
done
equal "format" "luks2 512 4194304" "$(field aaaa/disk format) $(field aaaa/disk sector_size) $(field aaaa/disk data_offset)"
[ "$(field aaaa/disk key_id)" != "$old" ] || fail "the old secret is used again"
wait_for 20 secrets_are $((site + 4)) || fail "secrets: $(secrets)"
[ ! -e "$KEYS/$old" ] || fail "the old secret stays"
exits 0 convert --sector-size 512 "$BACK/aaaa/disk"
grep -q "is so already" "$W/stdout" || fail "again: $(cat "$W/stdout")"
exits 0 convert --format luks1 "$BACK/aaaa/x.part"
equal "derived" True "$(field aaaa/x.part derived)"
same "$W/ref/x.part" "$MNT/aaaa/x.part"
nothing_left
ok "convert, old secrets go"

exits 2 decrypt "$BACK/aaaa/disk"
exits 0 decrypt --output "$W/out/disk" "$BACK/aaaa/disk"
same "$W/ref/disk" "$W/out/disk"
equal "mode and times" "$before" "$(stat -c '%u %g %a %Y %y' "$W/out/disk")"
[ "$(blocks "$W/out/disk")" -lt 12000 ] || fail "holes are not sparse"
exits 1 decrypt --output "$W/out/disk" "$BACK/aaaa/disk"
says "is there already"
exits 8 decrypt --output "$BACK/aaaa/plain" "$BACK/aaaa/disk"
says "lies in the backing folder"
exits 0 decrypt --output-dir "$W/out/tree" "$BACK/aaaa/small" "$MNT/aaaa/iso"
same "$W/ref/small" "$W/out/tree/aaaa/small"
same "$W/ref/iso" "$W/out/tree/aaaa/iso"
same "$W/ref/disk" "$MNT/aaaa/disk"
exits 0 decrypt --replace-by-plaintext "$BACK/aaaa/late"
same "$W/ref/disk" "$BACK/aaaa/late"
wait_for 20 secrets_are $((site + 3)) || fail "secrets: $(secrets)"
exits 8 decrypt --replace-by-plaintext "$BACK/aaaa/late"
says "is plaintext"
nothing_left
ok "decrypt"
