#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An image that a rename takes from derived to encrypt gets a secret of its own: closed or open, with
# the service up or down, and after the server was killed. Its data stays; cryptsetup agrees.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
vcf_faulty_helper
vcf_config <<'CONFIG'
[rules]
derived = **/*.part
CONFIG
opts=(-o key-service.timeout=2 -o key-service.linger=1 -o key-service.reserve=0)
vcf_mount "${opts[@]}"
expect_log 'key service|key helper'
mkdir "$MNT/_base"

token() { # FILE FIELD
	"$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"
}

own() { [ "$(token "$1" derived)" = False ]; }

# The hexadecimal secret of a derived container, from the site's.
derived_secret() { # FILE
	python3 - "$(token "$1" uuid)" "$HELPER/secrets/$(token "$1" key_id)" <<-'PYTHON'
		import hashlib, hmac, sys, uuid
		site = bytes.fromhex(open(sys.argv[2]).read().split()[0])
		prk = hmac.new(uuid.UUID(sys.argv[1]).bytes, site, hashlib.sha256).digest()
		out = hmac.new(prk, b"vmcryptfs derived v1\x01", hashlib.sha256).hexdigest()
		sys.stdout.write(out)
	PYTHON
}

opens() { # FILE SECRET
	printf %s "$2" | cryptsetup open --test-passphrase --key-file - "$BACK/$1"
}

own_secret() { cut -d' ' -f1 "$HELPER/secrets/$(token "$1" key_id)" | tr -d '\n'; }

check_own() { # FILE OLD-SECRET
	equal "generation of $1" 2 "$(token "$1" generation)"
	equal "the key id is of the uuid" "id-$(token "$1" uuid)" "$(token "$1" key_id)"
	opens "$1" "$(own_secret "$1")" || fail "$1: cryptsetup does not open it with its own secret"
	! opens "$1" "$2" 2>/dev/null || fail "$1: cryptsetup opens it with the derived secret"
}

make() { # NAME SEED
	pattern "$2" 300000 >"$W/$2"
	cp "$W/$2" "$MNT/_base/$1.part"
	old=$(derived_secret "_base/$1.part")
	opens "_base/$1.part" "$old" || fail "not derived from the site secret"
}

make a 1
mv "$MNT/_base/a.part" "$MNT/_base/a"
wait_for 20 own _base/a || fail "still derived"
check_own _base/a "$old"
same "$W/1" "$MNT/_base/a"
equal "nothing waits" 0 "$(vcf_status_get 's["promote_queue"]')"
ok "a closed image"

make b 2
exec 9<>"$MNT/_base/b.part"
mv "$MNT/_base/b.part" "$MNT/_base/b"
wait_for 20 own _base/b || fail "still derived"
check_own _base/b "$old"
pattern 3 5000 >&9
{ pattern 3 5000; tail -c +5001 "$W/2"; } >"$W/2b"
same "$W/2b" "$MNT/_base/b"
kill -KILL "$(vcf_status_get 's["server_pid"]')"
require_log 'server.*killed|signal 9'
same "$W/2b" "$MNT/_base/b"
equal "uuid of the open image" "$(token _base/b uuid)" \
	"$(vcf_status_get '[i["uuid"] for i in s["images"] if i["path"].endswith("_base/b")][0]')"
gets=$(helper_calls "get $(token _base/b key_id)")
pattern 4 100 >&9
exec 9>&-
equal "no key was fetched for what was open" "$gets" "$(helper_calls "get $(token _base/b key_id)")"
ok "an open image, whose handle and whose key after a kill go on"

fault new unavailable
make c 5
mv "$MNT/_base/c.part" "$MNT/_base/c"
waiting() { [ "$(vcf_status_get 's["promote_queue"]')" = "$1" ]; }
wait_for 10 waiting 1 || fail "it does not wait"
same "$W/5" "$MNT/_base/c"
mv "$MNT/_base/c" "$MNT/_base/c2" # it waits under its new name
sleep 3
equal "derived while the service is down" True "$(token _base/c2 derived)"
waiting 1 || fail "it does not wait any more"
fault
wait_for 30 own _base/c2 || fail "still derived"
check_own _base/c2 "$old"
same "$W/5" "$MNT/_base/c2"
ok "the service is down, and comes back"

fault new unavailable
make d 6
exec 9<"$MNT/_base/d.part"
mv "$MNT/_base/d.part" "$MNT/_base/d"
make e 7
mv "$MNT/_base/e.part" "$MNT/_base/e"
old_e=$old
old=$(derived_secret _base/d)
one_key() { [ "$(vcf_status_get 's["keys"]')" = 1 ]; }
wait_for 20 one_key || fail "more than the open image has a key"
kill -KILL "$(vcf_status_get 's["server_pid"]')"
fault
wait_for 30 own _base/d || fail "the open one is still derived"
check_own _base/d "$old"
exec 9<&-
own _base/e && fail "nobody knows of it yet"
same "$W/7" "$MNT/_base/e"
wait_for 30 own _base/e || fail "still derived"
check_own _base/e "$old_e"
ok "killed while they wait: the open one at once, the other one when it is opened"

make f 8
rm "$MNT/_base/f.part"
make f 8
fault new unavailable
mv "$MNT/_base/f.part" "$MNT/_base/f"
rm "$MNT/_base/f"
fault
sleep 3
wait_for 20 waiting 0 || fail "a removed image waits for ever"
ok "a removed one is forgotten"

vcf_remount "${opts[@]}"
for f in a:1 b:2b c2:5 d:6 e:7; do
	[ "$f" = b:2b ] || same "$W/${f#*:}" "$MNT/_base/${f%:*}"
done
accounted() {
	[ "$(find "$HELPER/secrets" -type f | wc -l)" = $((6 + $(vcf_status_get 's["key_service"]["reserve"]'))) ]
}
wait_for 10 accounted || fail "more secrets than the site's, one for each image and the reserve's"
vcf_umount
for f in a b c2 d e; do
	[ -s "$HELPER/secrets/$(token _base/$f key_id)" ] || fail "$f has no secret"
done
ok "no secret is left over"

vcf_mount "${opts[@]}" -o rules.promote=no
make g 9
mv "$MNT/_base/g.part" "$MNT/_base/g"
same "$W/9" "$MNT/_base/g"
sleep 2
equal "derived" True "$(token _base/g derived)"
ok "promote = no"
