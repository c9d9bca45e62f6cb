#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Whatever is planted, moved, copied or lost: no other image's secret is touched, and no secret
# at the service is without a name on this side.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
sed -i "s|^\[key-service\]|site = here\n[rules]\nbind = ^(i[0-9])/\npassthrough = archive/**\n&|" "$CONF"
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0)
vcf_mount "${now[@]}"

keys() { timeout 60 "$VMCRYPTFS" keys "$@"; }
secrets() { find "$HELPER/secrets" -type f | wc -l; }
secrets_are() { [ "$(secrets)" = "$1" ]; }
has_secret() { [ -e "$HELPER/secrets/$1" ]; }
said() { grep -aqE -- "$1" "$LOG"; }
orphans() { # prints them; fails if a secret is missing
	sleep 1.1
	keys inventory -c "$CONF" >"$W/inventory"
	keys orphans -c "$CONF" --hosts "$(uname -n)" "$W/inventory" 2>"$W/sums" ||
		fail "orphans: $(cat "$W/sums")"
}
queue_is_empty() { [ "$(vcf_status_get 's["destroy_queue"]["waiting"]')" = 0 ]; }

orphans_are() { # WHAT KEY-ID...   exactly these have no image
	local what=$1
	shift
	equal "$what" "$(printf '%s\n' "$@" | sort)" "$(orphans | awk '{print $2}' | sort)"
}

plant() { # CONTAINER KEY-ID   puts another key id into both copies of its token
	python3 - "$1" "$2" <<-'PY'
		import hashlib, re, sys
		path, key = sys.argv[1], sys.argv[2].encode()
		with open(path, "r+b") as f:
		    for base in (0, 16384):
		        f.seek(base)
		        h = bytearray(f.read(16384))
		        text = re.sub(rb'"key_id":"[^"]*"', b'"key_id":"' + key + b'"', bytes(h[4096:]))
		        h[4096:] = text[:12288].ljust(12288, b"\0")
		        h[0x1c0:0x200] = bytes(64)
		        h[0x1c0:0x1e0] = hashlib.sha256(h).digest()
		        f.seek(base)
		        f.write(h)
	PY
}

mkdir "$MNT/i1" "$MNT/i2"
for f in victim planted other; do
	echo "content $f" >"$MNT/i1/$f"
done
victim=$(key_id_of "$BACK/i1/victim")
own=$(key_id_of "$BACK/i1/planted")
vcf_umount # nothing is in memory
plant "$BACK/i1/planted" "$victim"
vcf_mount "${now[@]}"
equal "planted" "$victim" "$(key_id_of "$BACK/i1/planted")"
expect_log 'i1/planted: |is not destroyed: '
must_fail_with "Key was rejected" cat "$MNT/i1/planted"
cp "$BACK/i1/planted" "$W/planted"
rm "$MNT/i1/planted"
wait_for 10 said 'planted.*not destroyed: a container .* uses it' || fail "not seen that it is in use"
equal "secrets" 3 "$(secrets)"
equal "content" "content victim" "$(cat "$MNT/i1/victim")"
ok "a planted key id of an image that is here"

mv "$BACK/i1/victim" "$W/victim" # as if it were on another host
cp "$W/planted" "$BACK/i1/planted"
rm "$MNT/i1/planted"
wait_for 10 said 'planted.*does not belong to this secret' || fail "not parked"
keys confirm --destroy "$MNT" i1/planted >/dev/null
wait_for 10 said 'planted.*not destroyed: invalid' || fail "the label is not compared"
equal "secrets" 3 "$(secrets)"
has_secret "$victim" || fail "the victim's secret is gone"
keys drop-suspect --forget "$MNT" i1/planted >/dev/null
mv "$W/victim" "$BACK/i1/victim"
equal "content" "content victim" "$(cat "$MNT/i1/victim")"
orphans_are "its own secret is named" "$own"
ok "a planted key id of an image on another host"

echo "content two" >"$MNT/i2/disk"
two=$(key_id_of "$BACK/i2/disk")
mv "$BACK/i1/other" "$BACK/i2/disk" # over another one, to another instance
expect_log 'i2/disk: '
must_fail_with "Bad message" cat "$MNT/i2/disk"
orphans_are "both are named" "$own" "$two"
other=$(key_id_of "$BACK/i2/disk")
rm "$MNT/i2/disk"
gone() { ! has_secret "$1"; }
wait_for 10 gone "$other" || fail "the secret of a moved container stays"
has_secret "$two" || fail "the secret of the image that was replaced was destroyed"
has_secret "$victim" || fail "another image's secret was destroyed"
ok "a moved container takes its own secret with it, and no other"

# A host that may not delete: check-keys says so, and loses nothing.
before=$(secrets)
fault destroy denied
expect_log 'Key was rejected'
checked() { timeout 60 "$VMCRYPTFS" check-keys -c "$CONF" "$@" >"$W/stdout" 2>&1; }
! checked || fail "check-keys: a missing right is no fault"
grep -q "it may not delete: set destroyer = controller" "$W/stdout" || fail "check-keys: $(cat "$W/stdout")"
grep -q "it waits for its end in this host's journal" "$W/stdout" || fail "check-keys: $(cat "$W/stdout")"
checked -o key-service.destroyer=controller || fail "check-keys with a controller: $(cat "$W/stdout")"
grep -q "Layout: hosts may not delete" "$W/stdout" || fail "check-keys: $(cat "$W/stdout")"
equal "two test secrets" $((before + 2)) "$(secrets)"
equal "both are named" 2 "$(vcf_status_get 's["destroy_queue"]["waiting"]')"
fault
orphans_are "the tests' secrets are no orphans" "$own" "$two"
vcf_remount "${now[@]}" # sooner than the queue would try again
wait_for 10 secrets_are "$before" || fail "a test's secret stays"
ok "check-keys without the right to delete"

fault new lose
expect_log 'helper.*(ended|died)|its request is repeated'
before=$(secrets)
(sleep 1.5; fault) &
faultless=$!
echo "content lost" >"$MNT/i1/lost" || fail "a lost reply is a failure"
wait $faultless
equal "one secret" $((before + 1)) "$(secrets)"
equal "content" "content lost" "$(cat "$MNT/i1/lost")"
ok "a lost reply to new"

# Lost, and all of us die before anybody asks.
fault new lose
(timeout 5 bash -c "echo x >'$MNT/i1/never'" || true) 2>/dev/null &
writer=$!
stored() { [ "$(secrets)" -gt $((before + 1)) ]; }
wait_for 5 stored || fail "not stored"
expect_log 'keeper is gone' # the server may live that much longer
kill -KILL "$VCF_PID" "$(cut -d' ' -f1 <(vcf_status_get 's["server_pid"]'))"
wait $writer || true
umount -l "$MNT"
wait_for 10 test -s "$W/daemon.rc"
fault
vcf_mount "${now[@]}"
orphans_are "no more orphans than before" "$own" "$two"
ok "a lost reply, and a daemon that dies"

cp "$BACK/i1/victim" "$BACK/i1/copy"
rm "$MNT/i1/victim"
wait_for 10 said 'i1/victim.*not destroyed: a container .* uses it' || fail "not seen that a copy uses it"
equal "the copy" "content victim" "$(cat "$MNT/i1/copy")"
mkdir "$BACK/archive"
mv "$BACK/i1/copy" "$BACK/archive/copy"
cp "$BACK/archive/copy" "$BACK/i1/again"
rm "$MNT/i1/again"
wait_for 10 said 'i1/again.*not destroyed: a container .* uses it' || fail "not seen in a passthrough place"
orphans_are "it is no orphan there" "$own" "$two"
mv "$BACK/archive/copy" "$BACK/i1/copy"
rm "$MNT/i1/copy"
wait_for 10 gone "$victim" || fail "the secret of the last copy stays"
wait_for 10 queue_is_empty || fail "something waits"
orphans_are "no more orphans than before" "$own" "$two"
ok "a copied container whose source is deleted"
