#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Vault, both modes: the rules of the protocol, and a real mount: 40 images (or as many as given) are made, opened
# after a remount, removed; what the service lists is the same before and after. The server
# is vaultreplay.py: see there what it is worth.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog python3
need "python3-cryptography" python3 -c 'import cryptography'
vcf_setup

SERVICES=$VCF_SRC/tests/services
PROGRAM=$VCF_BUILD/crypto/keys/vmcryptfs-key-vault
COUNT=${1:-40} FEWER=12 tokens=0
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0
	-o key-service.destroy-rate=60000)

replay() { python3 "$SERVICES/vaultreplay.py" "$@"; }
listed() { replay list "$W" | wc -l; }
listed_are() { [ "$(listed)" = "$1" ]; }

python3 "$SERVICES/certs.py" "$W/certs"
exec {server}> >(exec python3 "$SERVICES/vaultreplay.py" serve "$W/certs" "$W" 2>"$W/replay.log")
wait_for 20 test -s "$W/url" || fail "the replay server does not start: $(cat "$W/replay.log")"
url=$(head -n 1 "$W/url")
(umask 077 && echo node-secret-id >"$W/secret-id")
common=("address=$url" "ca-file=$W/certs/ca.crt")
approle=("role-id=node-role" "secret-id-file=$W/secret-id")
cert=("auth=cert" "client-cert=$W/certs/client.crt" "client-key=$W/certs/client.key")
transit=("mode=transit" "transit-key=images")

conforms() { # OPTION=VALUE...
	"$VCF_SRC/tests/helper-conformance" "$PROGRAM" "${common[@]}" "$@" >"$W/rules" ||
		fail "$* breaks a rule: $(grep WRONG "$W/rules")"
	equal "records after it" 0 "$(listed)"
	ok "the rules, with $*"
}

configure() { # OPTION=VALUE...
	sed -i '/^\[key-service\]/,$d' "$CONF"
	{
		printf '[key-service]\nhelper = vault\n[vault]\n'
		printf '%s\n' "${common[@]}" "$@"
	} | vcf_config
}

round_trip() { # COUNT
	local i count=$1

	for ((i = 0; i < count; i++)); do
		echo "content $i" >"$MNT/image$i" || fail "image $i cannot be made"
	done
	vcf_remount "${now[@]}"
	for ((i = 0; i < count; i++)); do
		equal "image $i" "content $i" "$(cat "$MNT/image$i")"
	done
}

. "$SERVICES/leaks.lib.sh"
queued() { vcf_status_get 's["destroy_queue"]["waiting"]'; }
queue_is_empty() { [ "$(queued)" = 0 ]; }

conforms "${approle[@]}"
conforms "${cert[@]}" "${transit[@]}"

configure "${approle[@]}"
before=$(replay tokens "$W" | wc -l)
vcf_mount "${now[@]}"
for i in {1..8}; do # several helpers at once
	echo "content $i" >"$MNT/early$i" &
	early[i]=$!
done
wait "${early[@]}" || fail "an image cannot be made"
equal "log-ins for all helpers of the mount" $((before + 1)) "$(replay tokens "$W" | wc -l)"
rm "$MNT"/early*
wait_for 30 listed_are 0 || fail "$(listed) records are left"
round_trip "$COUNT"
equal "records" "$COUNT" "$(listed)"
for f in "$BACK"/image*; do
	replay list "$W" | grep -qxF "vmcryptfs/$(key_id_of "$f")" || fail "$f: no record of its key id"
	break
done
for i in 1 2; do
	image_needle "secret$i" "$PROGRAM" "$(key_id_of "$BACK/image$i")" "${common[@]}" "${approle[@]}"
done
needle secret-id < <(tr -d '\n' <"$W/secret-id")
while read -r token; do
	tokens=$((tokens + 1))
	needle "token$tokens" < <(printf %s "$token")
done < <(replay tokens "$W")
[ "$tokens" -gt 1 ] || fail "no token to look for"
cat "$MNT/image1" >/dev/null
no_leaks "$PROGRAM"
ok "no secret, no token, no secret id where others could find it"
# In two parts, the second while the service is sealed.
rm "$MNT"/image[0-4]*
left=$(find "$BACK" -name "image*" | wc -l)
wait_for 30 listed_are "$left" || fail "$(listed) records are left of $left"
vcf_remount "${now[@]}"
replay ctl "$W" '{"sealed": true}'
expect_log 'sealed|destroyed yet'
rm "$MNT"/image* || fail "a sealed service must not stop a delete"
equal "records while it is sealed" "$left" "$(listed)"
replay ctl "$W" '{"sealed": false}'
vcf_remount "${now[@]}"
wait_for 30 listed_are 0 || fail "$(listed) records are left"
ok "kv: $COUNT images made, opened, removed; no record is left"
vcf_umount

configure "${cert[@]}" "${transit[@]}"
vcf_mount "${now[@]}"
round_trip $FEWER
equal "records" 0 "$(listed)"
equal "what the status says of it" True "$(vcf_status_get 's["key_service"]["wrapped"]')"
id=$(key_id_of "$BACK/image7")
[[ $id =~ ^[0-9a-f-]{36}:vault:v1:[A-Za-z0-9+/=]+$ ]] || fail "key id $id"
equal "its label" "$(cryptsetup luksUUID "$BACK/image7")" "${id%%:*}"
rm "$MNT"/image*
wait_for 30 queue_is_empty || fail "$(queued) deletions stay"
grep -q 'image7: its secret was wrapped by .* cannot forget it' "$LOG" || fail "the log promises too much"
ok "transit: $FEWER images made, opened, removed; nothing was ever stored"
vcf_umount
exec {server}>&-
