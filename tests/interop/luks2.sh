#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cryptsetup and an independent reader agree with what the mount writes: header, passphrase,
# token, every byte of data, sizes and holes.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog cryptsetup
need "python3-cryptography" /usr/bin/python3 -c 'import cryptography'
vcf_setup
luksread() { /usr/bin/python3 "$VCF_SRC/contrib/luksread.py" "$@"; }

make_images() { # SUFFIX
	pattern "whole $1" 1048576 >"$MNT/whole$1"
	pattern "odd $1" 123457 >"$MNT/odd$1"
	truncate -s 10000001 "$MNT/sparse$1"
	printf 'in the middle of a hole' |
		dd of="$MNT/sparse$1" bs=1 seek=5000001 conv=notrunc status=none
	pattern "punched $1" 300000 >"$MNT/punched$1"
	fallocate -p -o 5000 -l 200000 "$MNT/punched$1"
	: >"$W/small"
	printf x >"$MNT/one$1"
}

for kind in luks2:4096 luks2:512 luks1:512; do
	vcf_mount -o "format.type=${kind%:*}" -o "format.sector-size=${kind#*:}"
	make_images ".$kind"
	mkdir -p "$W/plain"
	cp --sparse=always "$MNT"/*."$kind" "$W/plain/"
	vcf_umount
	for f in "$W/plain"/*."$kind"; do
		name=${f##*/}
		luksread --info "$BACK/$name" "$KEYS/x" >/dev/null 2>&1 && fail "opened without a key"
		id=$(key_id_of "$BACK/$name")
		luksread "$BACK/$name" "$KEYS/$id" "$W/decrypted"
		same "$f" "$W/decrypted"
		cryptsetup open --test-passphrase --key-file "$KEYS/$id" "$BACK/$name" ||
			fail "cryptsetup does not open $name"
		must_fail cryptsetup open --test-passphrase --key-file "$CONF" "$BACK/$name"
	done
	ok "$kind: the independent reader gives the plaintext; cryptsetup opens"
done

f=$BACK/whole.luks2:4096
cryptsetup luksDump "$f" | tr '\t' ' ' >"$W/dump"
for want in 'Version: *2' 'cipher: *aes-xts-plain64' 'sector: *4096' 'offset: *2097152' \
	'PBKDF: *pbkdf2' 'Iterations: *1000' 'Cipher key: *512 bits' '0: vmcryptfs' \
	'Metadata area: *16384'; do
	grep -qE "$want" "$W/dump" || fail "luksDump lacks '$want': $(cat "$W/dump")"
done
cryptsetup isLuks --type luks2 "$f" || fail "isLuks"
cryptsetup isLuks --type luks1 "$BACK/whole.luks1:512" || fail "isLuks (luks1)"
ok "luksDump"

# The oracle: cryptsetup itself encrypts the same plaintext with the same volume key.
for s in 4096 512; do
	name=whole.luks2:$s
	id=$(key_id_of "$BACK/$name")
	rm -f "$W/vk"
	cryptsetup luksDump -q --dump-volume-key --key-file "$KEYS/$id" \
		--volume-key-file "$W/vk" "$BACK/$name" >/dev/null
	cp "$W/plain/$name" "$W/device"
	rm -f "$W/header"
	cryptsetup reencrypt -q --encrypt --type luks2 --force-offline-reencrypt \
		--header "$W/header" --cipher aes-xts-plain64 --key-size 512 --sector-size $s \
		--volume-key-file "$W/vk" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--key-file "$KEYS/$id" "$W/device"
	tail -c +2097153 "$BACK/$name" | cmp - "$W/device" || fail "S=$s: other ciphertext"
	ok "S=$s: the same ciphertext as cryptsetup's"
done
rm -f "$W/vk"
