#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Escrow: what is made, and what gets another secret, can be opened with the offline key when the
# key service and all its secrets are gone; and given to a new service.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
vcf_config <<'CONFIG'
[rules]
derived = **/*.part
CONFIG
format=(-o "format.type=${1:-luks2}" -o "format.sector-size=$([ "${1:-}" = luks1 ] && echo 512 || echo 4096)")
vcf_mount "${format[@]}"
echo before >"$MNT/before"
equal "without a key" None "$(vcf_status_get 's["escrow"]')"
vcf_umount

key=$KEYS/escrow
"$VMCRYPTFS" keys escrow-keygen "$key" >"$W/out"
equal "mode of the private key" 600 "$(stat -c %a "$key")"
must_fail "$VMCRYPTFS" keys escrow-keygen "$key"
install -m 644 "$key.pub" "$W/escrow.pub"
vcf_config <<CONFIG
[escrow]
public-key = $W/escrow.pub
CONFIG
"$VMCRYPTFS" check-config "$CONF"
ok "a key pair"

vcf_mount "${format[@]}"
pattern 1 300000 >"$MNT/image"
pattern 2 5000 >"$MNT/small.part"
pattern 3 70000 >"$MNT/moved.part"
mv "$MNT/moved.part" "$MNT/moved"
own() { "$VMCRYPTFS" info --json "$BACK/moved" | grep -q '"derived": *false'; }
wait_for 20 own || fail "not promoted"
equal "content" before "$(cat "$MNT/before")"
equal "coverage" "3 1" "$(vcf_status_get 's["escrow"]["with"], s["escrow"]["without"]' | tr -d '(),')"
kill -KILL "$(vcf_status_get 's["server_pid"]')"
require_log 'was killed by signal 9'
covered() { [ "$(vcf_status_get 's["escrow"]["with"], s["escrow"]["without"]' | tr -d '(),')" = "3 1" ]; }
wait_for 20 covered || fail "the next server sees another coverage"
"$VMCRYPTFS" status "$MNT" | grep -q 'escrow .* 3 images with it, 1 without' || fail "status"
vcf_umount
ok "new images, derived and promoted ones have a token"

recover() { "$VMCRYPTFS" recover --escrow-key "$key" "$@"; }
mkdir -m 700 "$KEYS.gone"
at_exit "rm -rf '$KEYS.gone'"
mv "$KEYS"/????????-* "$KEYS.gone/"
recover "$BACK/image" "$BACK/small.part" "$BACK/moved" >"$W/out"
equal "opened" 3 "$(grep -c 'the escrow key opens it' "$W/out")"
must_fail_with "no escrow token" recover "$BACK/before"
for f in image:1:300000 small.part:2:5000 moved:3:70000; do
	IFS=: read -r name seed size <<<"$f"
	rm -f "$KEYS/out"
	recover --out-key "$KEYS/out" --print-cryptsetup "$BACK/$name" >"$W/out"
	equal "mode of the key file" 600 "$(stat -c %a "$KEYS/out")"
	grep -qF -- "--key-file '$KEYS/out' '$BACK/$name'" "$W/out" || fail "command: $(cat "$W/out")"
	cryptsetup open --test-passphrase --key-file "$KEYS/out" "$BACK/$name" ||
		fail "cryptsetup does not open $name"
	if python3 -c 'import cryptography' 2>/dev/null; then
		python3 "$VCF_SRC/contrib/luksread.py" "$BACK/$name" "$KEYS/out" "$W/plain"
		pattern "$seed" "$size" | same - "$W/plain"
	fi
done
mv "$BACK/image" "$BACK/it's"
recover --print-cryptsetup "$BACK/it's" >"$W/out"
eval "words=($(cat "$W/out"))"
# shellcheck disable=SC2154  # by eval
equal "a quote in a name" "$BACK/it's" "${words[8]}"
mv "$BACK/it's" "$BACK/image"
must_fail_with "not in memory" recover --out-key "$W/key" "$BACK/image"
[ ! -e "$W/key" ] || fail "the key file was left on the disk"
must_fail_with "File exists" recover --out-key "$KEYS/out" "$BACK/image"
ok "opened without the service"

"$VMCRYPTFS" keys escrow-keygen "$KEYS/other" >/dev/null
must_fail_with "for another key" "$VMCRYPTFS" recover --escrow-key "$KEYS/other" "$BACK/image"
install -m 600 "$key.pub" "$KEYS/public"
must_fail_with "not a private escrow key" "$VMCRYPTFS" recover --escrow-key "$KEYS/public" "$BACK/image"
chmod 644 "$KEYS/other"
must_fail_with "others than its owner" "$VMCRYPTFS" recover --escrow-key "$KEYS/other" "$BACK/image"
ok "another key, a public one, one that anybody may read"

# To a new service, which is empty.
must_fail "$VMCRYPTFS" recover --escrow-key "$key" --to-service -c "$CONF" "$BACK/before"
recover --to-service -o audit.file="$W/audit" -c "$CONF" "$BACK/image" "$BACK/small.part" "$BACK/moved"
equal "lines in the audit trail" "3 assigned 3 created 3 recovered" "$(grep '"command":"recover"' "$W/audit" |
	sed 's/.*"event":"\([a-z]*\)".*/\1/' | sort | uniq -c | awk '{print $1, $2}' | paste -sd ' ')"
equal "secrets at the new service" 3 "$(find "$KEYS" -name '????????-*' | wc -l)"
recover "$BACK/image" >/dev/null
sed '/^\[escrow\]/,/^$/d; /^public-key/d' "$CONF" >"$W/bare.conf"
cp "$BACK/moved" "$W/copy"
recover --to-service -c "$W/bare.conf" "$W/copy" 2>"$W/stderr"
grep -q "copy: its escrow token was of the old secret" "$W/stderr" || fail "without a word: $(cat "$W/stderr")"
must_fail_with "no escrow token" recover "$W/copy"
expect_log 'before|site'
vcf_mount "${format[@]}"
pattern 1 300000 | same - "$MNT/image"
pattern 2 5000 | same - "$MNT/small.part"
pattern 3 70000 | same - "$MNT/moved"
must_fail cat "$MNT/before"
ok "given to a new service"
