#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Hostile headers below the mount: each is refused with a documented errno, nothing is written
# to it, and the key service is asked for nothing that the token may not name.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog cryptsetup
vcf_setup
vcf_faulty_helper
opts=(-o key-service.reserve=0 -o key-service.linger=0 -o key-service.timeout=5)
vcf_mount "${opts[@]}"
for f in victim other; do
	pattern $f 131072 >"$MNT/$f"
done
pattern victim 131072 >"$W/victim"
vcf_umount
expect_log '^.*(x-|victim)[a-z0-9-]*: '

uuid=$(cryptsetup luksUUID "$BACK/victim")
cryptsetup token export --token-id 0 "$BACK/victim" >"$W/token"
id=$(key_id_of "$BACK/victim")
key=$W/key
awk '{ printf "%s", $1 }' "$HELPER/secrets/$id" >"$key"
printf %s attacker >"$W/attacker"
pbkdf=(--pbkdf pbkdf2 --pbkdf-force-iterations 1000)

attacker_format() { # FILE OPTION...
	local f=$1

	shift
	cp "$BACK/victim" "$f"
	cryptsetup luksFormat -q --type luks2 --uuid "$uuid" --cipher aes-xts-plain64 \
		--key-size 512 --sector-size 4096 --luks2-metadata-size 16k --offset 4096 \
		"${pbkdf[@]}" "$@" --key-file "$W/attacker" "$f" >/dev/null
}
with_token() { # FILE TOKEN-FILE
	cryptsetup token remove --token-id 0 "$1" 2>/dev/null || true
	cryptsetup token import --token-id 0 --json-file "$2" "$1"
}
edited() { sed -E "$1" "$W/token" >"$W/token.new" && echo "$W/token.new"; } # SED-SCRIPT

# An attacker's own container without a token.
attacker_format "$BACK/x-no-token"
# The victim's token on a header with the attacker's passphrase and volume key.
attacker_format "$BACK/x-own-key"
with_token "$BACK/x-own-key" "$W/token"
# Metadata that is well-formed, but not what we write: a key slot or data that is not encrypted
# at all ("null" cipher), weak parameters, data elsewhere.
while read -r name old new; do
	cp "$BACK/victim" "$BACK/x-meta-$name"
	py luks2_edit "$BACK/x-meta-$name" "$old" "$new"
done <<-'EDITS'
	nullslot ("area":\{[^}]*"encryption":)"aes-xts-plain64" \1"cipher_null-ecb"
	nulldata ("segments":\{.*"encryption":)"aes-xts-plain64" \1"cipher_null-ecb"
	cbc ("segments":\{.*"encryption":)"aes-xts-plain64" \1"aes-cbc-plain64"
	tweak "iv_tweak":"0" "iv_tweak":"8"
	offset ("segments":\{[^}]*"offset":)"2097152" \1"4194304"
	sector "sector_size":4096 "sector_size":1024
	stripes "stripes":4000 "stripes":2
	iterations ("keyslots":\{.*?"iterations":)1000 \g<1>999
	endless ("keyslots":\{.*?"iterations":)1000 \g<1>4000000000
	reencrypt ("config":\{) \1"requirements":{"mandatory":["online-reencrypt-v2"]},
	generation "generation":1 "generation":2
EDITS
# Another cipher, and more than one token.
cp "$BACK/victim" "$BACK/x-cipher"
cryptsetup luksFormat -q --type luks2 --uuid "$uuid" --cipher serpent-xts-plain64 --key-size 512 \
	--sector-size 4096 --luks2-metadata-size 16k --offset 4096 "${pbkdf[@]}" \
	--key-file "$key" "$BACK/x-cipher" 2>/dev/null || rm -f "$BACK/x-cipher"
[ ! -e "$BACK/x-cipher" ] || with_token "$BACK/x-cipher" "$W/token"
# The other's slot under the victim's metadata.
cp "$BACK/victim" "$BACK/x-slot"
dd if="$BACK/other" of="$BACK/x-slot" bs=32k skip=1 seek=1 count=63 conv=notrunc status=none
# Planted key ids. The token's MAC is the victim's.
n=0
for script in 's|"key_id": *"[^"]*"|"key_id":"../../../etc/shadow"|' \
	's|"key_id": *"[^"]*"|"key_id":"id\\n0 destroy x"|' \
	's|"key_id": *"[^"]*"|"key_id":".hidden"|' \
	's|"key_id": *"[^"]*"|"key_id":""|' \
	's|"key_id": *"[^"]*"|"key_id":"id 2"|' \
	's|"service": *"[^"]*"|"service":"elsewhere"|' \
	's|"version": *1|"version":2|' \
	's|"keyslots": *\["0"\]|"keyslots":[]|'; do
	n=$((n + 1))
	cp "$BACK/victim" "$BACK/x-id$n"
	with_token "$BACK/x-id$n" "$(edited "$script")"
done
# Torn sizes.
cp "$BACK/victim" "$BACK/x-torn"
truncate -s $((2097152 + 100)) "$BACK/x-torn"
cp "$BACK/victim" "$BACK/x-cut"
truncate -s 100000 "$BACK/x-cut"

(cd "$BACK" && sha256sum x-*) >"$W/sums"
vcf_mount "${opts[@]}"
: >"$HELPER/calls"
for f in "$MNT"/x-*; do
	must_fail cat "$f"
	reason=$(sed 's/.*: //' "$W/stderr")
	case $f:$reason in
	*x-own-key:"Key was rejected by service") ;;
	*x-slot:"Key was rejected by service") ;;
	*:"Bad message") ;;
	*x-id6:"Required key not available") ;; # a service nobody configured
	*) fail "$f: $reason" ;;
	esac
	must_fail py open_only "$f" rw
	must_fail py open_only "$f" trunc
	echo "${f##*/}: $reason"
done
while read -r verb arg; do
	[ "$verb $arg" = "get $id" ] || fail "the service was asked: $verb $arg"
done <"$HELPER/calls"
ok "refused; the service was asked for the victim's own secret only"

# The other image's id: the MAC does not fit, whichever secret comes.
vcf_umount
with_token "$BACK/victim" "$(edited "s|\"key_id\": *\"[^\"]*\"|\"key_id\":\"$(key_id_of "$BACK/other")\"|")"
vcf_mount "${opts[@]}"
must_fail cat "$MNT/victim"
grep -qE 'Key was rejected|Bad message' "$W/stderr" || fail "$(cat "$W/stderr")"
ok "another image's key id: $(sed 's/.*: //' "$W/stderr")"
# The right id and slot, but a field changed: the MAC alone stands against that.
for script in 's|"context": *"[^"]*"|"context":"elsewhere"|' \
	's|"holes": *"zero"|"holes":"none"|' 's|"generation": *1|"generation":2|' \
	's|"created": *"20|"created":"19|'; do
	vcf_umount
	with_token "$BACK/victim" "$(edited "$script")"
	vcf_mount "${opts[@]}"
	must_fail_with "Bad message" cat "$MNT/victim"
done
ok "a changed field of the token: Bad message"

vcf_umount
with_token "$BACK/victim" "$W/token"
(cd "$BACK" && sha256sum -c --quiet "$W/sums") || fail "a refused container was changed"
vcf_mount "${opts[@]}"
same "$W/victim" "$MNT/victim"
ok "the victim's own token: opens again, the refused ones are untouched"

# One damaged copy of the header of two is mended and said.
vcf_umount
dd if=/dev/urandom of="$BACK/victim" bs=512 seek=10 count=1 conv=notrunc status=none
require_log 'victim.*'
vcf_mount "${opts[@]}"
same "$W/victim" "$MNT/victim"
echo >>"$MNT/victim"
vcf_umount
cryptsetup luksDump "$BACK/victim" >/dev/null 2>"$W/stderr" || fail "luksDump"
vcf_mount "${opts[@]}"
equal "size" 131073 "$(stat -c %s "$MNT/victim")"
ok "one damaged header copy is mended"

# A rolled-back header: its secret is gone from the service.
rm "$HELPER/secrets/$id"
must_fail_with "Required key not available" cat "$MNT/victim"
ok "an old header whose secret is gone"
