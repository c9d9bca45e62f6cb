#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# adopt --key-id: containers that cryptsetup and qemu-img made, whose passphrase the key service has,
# become images; what must not is refused with its own words.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need_fuse
need_prog cryptsetup qemu-img
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = plain/**
bind = ^([a-z]{4})/
CONFIG
expect_log 'header refused: no token|cannot open: Bad message'
opts=(-o key-service.reserve=0 -o key-service.linger=0 -o key-service.destroy-delay=0)
vcf_mount "${opts[@]}"
mkdir "$MNT/aaaa" "$MNT/plain"

# KDF without a benchmark; the form that is wanted comes behind.
format() { # FILE KEYFILE ARGUMENT...
	local file=$1 key=$2

	shift 2
	cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file "$key" "$@" "$file"
}
secret() { # ID: a new one at the service
	(umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$KEYS/$1")
}
adopt() { "$VMCRYPTFS" adopt -c "$CONF" "$@"; }
field() { "$VMCRYPTFS" info --json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
data_sum() { tail -c +$(($(field "$1" data_offset) + 1)) "$1" | sha256sum; }
slots() { cryptsetup luksDump "$1" | grep -cE '^ +[0-9]+: luks2|Key Slot [0-9]: ENABLED'; }

pattern 7 3000000 >"$W/plain"
truncate -s 8M "$W/plain"
secret id-luks1
secret id-qemu
secret id-4096
secret id-512
hex=$(cat "$KEYS/id-512")
# shellcheck disable=SC2059,SC2001
printf "$(sed 's/../\\x&/g' <<<"$hex")" >"$W/raw"

# A file in the clear becomes LUKS2, by cryptsetup's own encryption in place.
encrypted() { # FILE KEYFILE SECTOR-SIZE
	cp "$W/plain" "$1"
	truncate -s $((8 * 1024 * 1024 + 32 * 1024 * 1024)) "$1"
	cryptsetup reencrypt --encrypt -q --type luks2 --reduce-device-size 32M --sector-size "$3" \
		--cipher aes-xts-plain64 --key-size 512 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--resilience none --key-file "$2" "$1" >"$W/reencrypt.log" 2>&1
}
encrypted "$BACK/aaaa/luks2-4096" "$KEYS/id-4096" 4096 || fail "$(cat "$W/reencrypt.log")"
encrypted "$BACK/aaaa/luks2-512" "$W/raw" 512 || fail "$(cat "$W/reencrypt.log")"
by_qemu() {
	qemu-img convert -f raw -O luks --object "secret,id=s,file=$KEYS/id-qemu" -o key-secret=s,iter-time=10 \
		"$W/plain" "$BACK/aaaa/qemu" 2>"$W/stderr"
}
wait_for 30 by_qemu || fail "$(cat "$W/stderr")" # it measures the processor first, and gives up on a busy one
truncate -s 4M "$BACK/aaaa/luks1"
format "$BACK/aaaa/luks1" "$KEYS/id-luks1" --type luks1 --cipher aes-xts-plain64 --key-size 512 --hash sha256
# a second passphrase, which is to go
printf other >"$W/other"
cryptsetup luksAddKey -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file "$KEYS/id-4096" \
	"$BACK/aaaa/luks2-4096" "$W/other"

! cat "$MNT/aaaa/qemu" >/dev/null 2>&1 || fail "one that is not ours is read"
before=$(find "$KEYS" -type f | wc -l)
for f in luks1:id-luks1 qemu:id-qemu luks2-4096:id-4096 luks2-512:id-512; do
	file=$BACK/aaaa/${f%%:*} id=${f#*:}
	size=$(stat -c %s "$file")
	adopt --key-id "$id" "$file" >"$W/out" || fail "$f"
	grep -q "$id stays at the service" "$W/out" || fail "$f: $(cat "$W/out")"
	equal "size of $f" "$size" "$(stat -c %s "$file")"
	new=$(field "$file" key_id)
	[ "$new" != "$id" ] || fail "$f: it has no secret of its own"
	equal "key slots of $f" 1 "$(slots "$file")"
	cryptsetup open --test-passphrase --key-file "$KEYS/$new" "$file" || fail "$f: not with its secret"
	! cryptsetup open --test-passphrase --key-file "$KEYS/$id" "$file" 2>/dev/null || fail "$f: with the old one"
	equal "holes of $f" none "$(field "$file" holes)"
	equal "instance of $f" aaaa "$(field "$file" context)"
done
for f in qemu luks2-4096 luks2-512; do
	cmp -n 8388608 "$MNT/aaaa/$f" "$W/plain" || fail "$f: another content"
done
! cryptsetup open --test-passphrase --key-file "$W/other" "$BACK/aaaa/luks2-4096" 2>/dev/null ||
	fail "the second passphrase still opens it"
equal "secrets" $((before + 4)) "$(find "$KEYS" -type f | wc -l)"
ok "LUKS1 and LUKS2, of cryptsetup and qemu-img, by hex text and raw bytes"

# They are images like others now.
pattern 9 500000 | dd of="$MNT/aaaa/qemu" bs=1M conv=notrunc status=none
pattern 9 500000 | cmp -n 500000 - "$MNT/aaaa/qemu"
vcf_remount "${opts[@]}"
pattern 9 500000 | cmp -n 500000 - "$MNT/aaaa/qemu"
no_keys() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }
wait_for 20 no_keys || fail "its key stays"
must_fail_with "container of vmcryptfs already" adopt --key-id id-qemu "$BACK/aaaa/qemu"
rm "$MNT/aaaa/luks1"
gone() { [ "$(find "$KEYS" -type f | wc -l)" = $((before + 3)) ]; }
wait_for 20 gone || fail "the secret of a deleted one stays"
ok "written, mounted again, deleted"

refused() { # TEXT FILE [ARGUMENT...]   and it stays as it is
	local text=$1 file=$2 sum

	shift 2
	sum=$(sha256sum <"$file")
	must_fail_with "$text" adopt --key-id id-luks1 "$@" "$file"
	equal "$file" "$sum" "$(sha256sum <"$file")"
}
new_file() { # NAME
	file=$BACK/aaaa/$1
	truncate -s 20M "$file"
}
secrets=$(find "$KEYS" -type f | wc -l)
# Without a device mapper cryptsetup makes no such ones; their header says so all the same.
renamed() { # NAME CIPHER MODE
	new_file "$1"
	format "$file" "$KEYS/id-luks1" --type luks1 --cipher aes-xts-plain64 --key-size 512 --hash sha256
	{ printf %s "$2"; head -c 32 /dev/zero; } | head -c 32 | dd of="$file" bs=1 seek=8 conv=notrunc status=none
	{ printf %s "$3"; head -c 32 /dev/zero; } | head -c 32 | dd of="$file" bs=1 seek=40 conv=notrunc status=none
}
renamed null cipher_null ecb
refused "not encrypted at all" "$file"
renamed serpent serpent xts-plain64
refused "not aes-xts-plain64" "$file"
renamed plain aes xts-plain
refused "not aes-xts-plain64" "$file"
new_file cbc
format "$file" "$KEYS/id-luks1" --type luks2 --cipher aes-cbc-essiv:sha256 --key-size 256
refused "not XTS" "$file"
new_file short
format "$file" "$KEYS/id-luks1" --type luks2 --cipher aes-xts-plain64 --key-size 256
refused "not of 512 bits" "$file"
new_file sha1
format "$file" "$KEYS/id-luks1" --type luks1 --cipher aes-xts-plain64 --key-size 512 --hash sha1
refused "as it was" "$file"
new_file wrong
format "$file" "$KEYS/id-512" --type luks2 --key-size 512
refused "neither its hex text nor its bytes" "$file"
new_file detached
format "$file" "$KEYS/id-luks1" --type luks2 --key-size 512 --header "$BACK/aaaa/header"
refused "no LUKS container" "$file"
refused "another file" "$BACK/aaaa/header"
new_file under-way
format "$file" "$KEYS/id-luks1" --type luks2 --key-size 512
cryptsetup reencrypt --init-only -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
	--key-file "$KEYS/id-luks1" "$file" >"$W/reencrypt.log" 2>&1 || fail "$(cat "$W/reencrypt.log")"
refused "reencryption is under way" "$file"
new_file odd
format "$file" "$KEYS/id-luks1" --type luks2 --key-size 512 --sector-size 4096
truncate -s $((20 * 1024 * 1024 + 512)) "$file"
refused "whole number of sectors" "$file"
new_file full
format "$file" "$KEYS/id-luks1" --type luks1 --cipher aes-xts-plain64 --key-size 512 --hash sha256
for i in 1 2 3 4 5 6 7; do
	echo "$i" >"$W/key"
	cryptsetup luksAddKey -q --pbkdf-force-iterations 1000 --key-file "$KEYS/id-luks1" "$file" "$W/key"
done
refused "No space left" "$file"
echo plain >"$BACK/aaaa/plaintext"
refused "no LUKS container" "$BACK/aaaa/plaintext"
cp "$BACK/aaaa/wrong" "$BACK/plain/it"
must_fail_with "passthrough rule" adopt --key-id id-512 "$BACK/plain/it"
must_fail_with "Required key not available" adopt --key-id id-none "$BACK/aaaa/wrong"
must_fail adopt --key-id ../x "$BACK/aaaa/wrong"
must_fail adopt --key-id id-512 --reclone "$BACK/aaaa/wrong"
must_fail adopt --key-id id-512 "$BACK/aaaa/wrong" "$BACK/aaaa/short"
equal "secrets at the service" "$secrets" "$(find "$KEYS" -type f | wc -l)"
ok "what must not be adopted"

adopt --key-id id-512 --holes zero "$BACK/aaaa/wrong" >/dev/null
equal "what was never written" 0 "$(tr -d '\0' <"$MNT/aaaa/wrong" | wc -c)"
ok "holes of a new one read as zeros"
rm -f "$BACK/aaaa/plaintext"
