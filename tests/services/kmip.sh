#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The kmip helper against a real KMIP server: the protocol of helpers, faults, and images on a
# mount, whose keys the server itself lists: as many as there are images, none when they are gone.
# usage: kmip.sh [IMAGES]     default 20
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
services=$VCF_SRC/tests/services
images=${1:-20}
need_fuse
need_prog openssl pykmip-server
need "python3-pykmip, python3-cryptography" /usr/bin/python3 -c 'import kmip, cryptography'
vcf_setup
. "$services/svc.sh"
at_exit "'$services/kmip-down' '$KEYS/kmip' 2>&1"
# In memory: each answer waits for the server's disk.
"$services/kmip-up" "$KEYS/kmip" >"$W/up.log" || fail "kmip-up: $(cat "$W/up.log")"
# shellcheck source=/dev/null
. "$KEYS/kmip/env"
helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-kmip
options=("server=$KMIP_SERVER" "ca-file=$KMIP_TLS/ca.crt" "client-cert=$KMIP_TLS/client.crt"
	"client-key=$KMIP_TLS/client.key")

for more in protocol=auto protocol=1.2 protocol=2.0 activate=no; do
	"$VCF_SRC/tests/helper-conformance" "$helper" "${options[@]}" $more >"$W/conformance" ||
		fail "helper-conformance with $more: $(cat "$W/conformance")"
	ok "helper-conformance, $more"
done

"$services/kmip-faults.py" "$helper" "$KEYS/kmip" || fail "a fault is not answered as it should be"

# What the server has, asked of its database: "ID NAME" a line.
server_keys() {
	/usr/bin/python3 - "$KMIP_DB" <<-'PY'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		for row in db.execute("SELECT o.uid, n.name FROM managed_objects o LEFT JOIN "
		                      "managed_object_names n ON n.mo_uid = o.uid ORDER BY o.uid"):
		    print(*row)
	PY
}
count() { server_keys | wc -l; }
count_is() { [ "$(count)" = "$1" ]; }
equal "keys after conformance and faults" 0 "$(count)"

sed -i '/^helper = /s/.*/helper = kmip/; /^\[file\]/,$d' "$CONF"
vcf_config <<CONFIG
timeout = 4
linger = 0
reserve = 0
destroy-delay = 0
destroy-rate = 60000
[kmip]
server = $KMIP_SERVER
ca-file = $KMIP_TLS/ca.crt
client-cert = $KMIP_TLS/client.crt
client-key = $KMIP_TLS/client.key
CONFIG
vcf_mount
begun=$(date +%s%N)
took() { # seconds since the last call
	local now
	now=$(date +%s%N)
	printf '%d.%02d s' $(((now - begun) / 1000000000)) $(((now - begun) / 10000000 % 100))
	begun=$now
}
for i in $(seq "$images"); do
	echo "content $i" >"$MNT/f$i"
done
created=$(took)
vcf_remount
took >/dev/null
for i in $(seq "$images"); do
	equal "f$i" "content $i" "$(<"$MNT/f$i")"
done
opened=$(took)
equal "keys of $images images" "$images" "$(count)"
for i in 1 "$images"; do
	server_keys | grep -q "^$(key_id_of "$BACK/f$i") vmcryptfs-" || fail "f$i has no key of its own"
done
# The server's listing and ours, over several pages.
printf 'option %s\n' "${options[@]/=/ }" ready >"$W/ask"
sed -i 's/^option ready$/ready/' "$W/ask"
echo "1 list" >>"$W/ask"
"$helper" <"$W/ask" | awk '$2 == "item" { print $3, "vmcryptfs-" $4 }' | sort >"$W/listed"
server_keys | sort | cmp - "$W/listed" || fail "list is not what the server has"
took >/dev/null
for i in $(seq 10 "$images"); do
	rm "$MNT/f$i"
done
wait_for $((30 + images)) count_is 9 || fail "keys of removed images stay: $(count)"
ok "$images images: created $created, opened $opened, removed $(took)"

# Faults as programs see them, and the way back.
expect_log '(f[0-9]+|again|key service default): |kmip: KMIP at|key-kmip'
must_fail_with() { # as in lib.sh, with a limit
	must_fail timeout 30 "${@:2}"
	grep -qF -- "$1" "$W/stderr" || fail "wanted '$1', got: $(cat "$W/stderr")"
}
well() { # IMAGE
	equal "content $1" "content $1" "$(timeout 30 cat "$MNT/f$1")"
}

no_keys() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }
wait_for 20 no_keys || fail "keys stay" # of the images that were just read
exec 9<>"$MNT/f9"
kill -STOP "$(svc_pid "$KEYS/kmip" kmip)"
must_fail_with "Connection timed out" cat "$MNT/f1"
echo "changed 9" >&9 || fail "an open image suffers"
kill -CONT "$(svc_pid "$KEYS/kmip" kmip)"
well 1
ok "the server hangs: ETIMEDOUT, then well again"

"$services/kmip-down" "$KEYS/kmip"
must_fail_with "Connection timed out" cat "$MNT/f2"
grep -q 'cannot connect: Connection refused' "$LOG" || fail "the log does not say why"
"$services/kmip-up" "$KEYS/kmip" >/dev/null 9>&-
well 2
equal "an open image" "changed 9" "$(head -n 1 "$MNT/f9")"
exec 9>&-
ok "the server is down: ETIMEDOUT, then well again"

. "$services/leaks.lib.sh"
for i in 1 2; do
	image_needle "secret$i" "$helper" "$(key_id_of "$BACK/f$i")" "${options[@]}"
done
sed '/^-----/d' "$KMIP_TLS/client.key" | base64 -d >"$W/key.der"
tail -c +16 "$W/key.der" | head -c 100 | needle client-key
sed -n 3p "$KMIP_TLS/client.key" | tr -d '\n' | needle client-key-line
well 1
no_leaks "$helper"
ok "no secret, no client key where others could find it"

vcf_umount
sed -i 's|/client.crt|/client-b.crt|; s|/client.key|/client-b.key|' "$CONF"
vcf_mount
must_fail_with "Key was rejected" cat "$MNT/f3"
grep -q 'refuses Get: Permission Denied' "$LOG" || fail "the log does not say why"
vcf_umount
sed -i 's|/client-b.crt|/client.crt|; s|/client-b.key|/client.key|' "$CONF"
vcf_mount
well 3
ok "another client's certificate: EKEYREJECTED"

cp "$BACK/f4" "$W/old"
rm "$MNT/f4"
wait_for 60 count_is 8 || fail "the key stays"
cp "$W/old" "$BACK/again"
must_fail_with "Required key not available" cat "$MNT/again"
rm "$BACK/again"
ok "a key that is gone: ENOKEY"

rm "$MNT"/f?
wait_for 60 count_is 0 || fail "keys without an image: $(server_keys)"
ok "no key is left"
