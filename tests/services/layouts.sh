#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The layouts of contrib/doc/key-services.md on a real Barbican: what check-keys sees, what a
# credential can do, and a host that may not delete beside a controller that may.
# usage: layouts.sh [IMAGES]
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
vcf_setup
services=$VCF_SRC/tests/services
S=$W/services
mkdir -m 700 "$S"
rc=0
at_exit "'$services/barbican-down' '$S'"
"$services/barbican-up" "$S" >"$W/up.log" 2>&1 || rc=$?
[ $rc != 77 ] || skip "$(sed -n 's/^skip: //p' "$W/up.log")"
[ $rc = 0 ] || fail "the services do not come up: $(cat "$W/up.log")"
# shellcheck disable=SC1091
. "$S/env"
images=${1:-5}

config() { # FILE CREDENTIAL-ID SECRET-FILE [OPTION...]   of [key-service]
	local file=$1 id=$2 secret=$3
	shift 3
	cat >"$file" <<-CONFIG
		[mount]
		backing = $BACK
		mountpoint = $MNT
		guard = no
		state-directory = $W/state
		runtime-directory = $W/run
		site = here
		[key-service]
		helper = $VCF_BUILD/crypto/keys/vmcryptfs-key-barbican
		reserve = 0
		linger = 0
		destroy-delay = 0
		$(printf '%s\n' "$@")
		[barbican]
		auth-url = $KEYSTONE_URL
		ca-file = $CA
		application-credential-id = $id
		application-credential-secret-file = $secret
	CONFIG
	chmod 600 "$file"
}
keys() { timeout 60 "$VMCRYPTFS" keys "$@"; }
checked() { # EXIT-CODE CONFIG
	local rc=0
	timeout 60 "$VMCRYPTFS" check-keys -c "$2" >"$W/stdout" 2>"$W/stderr" || rc=$?
	equal "check-keys $2: $(cat "$W/stdout")" "$1" "$rc"
}
sees() { grep -qF -- "$1" "$W/stdout" || fail "wanted '$1', got: $(cat "$W/stdout")"; }
records() { keys list -c "$W/controller.conf" | wc -l; }

config "$CONF" "$APP_KEEP_ID" "$CRED/app-keep" "destroyer = controller"
config "$W/controller.conf" "$APP_ID" "$CRED/app"
config "$W/group2.conf" "$APP_GROUP2_ID" "$CRED/app-group2"
config "$W/forgotten.conf" "$APP_KEEP_ID" "$CRED/app-keep"

checked 0 "$W/controller.conf"
sees "deletes yes"
checked 7 "$W/forgotten.conf"
sees "it may not delete: set destroyer = controller"
equal "what could not be deleted is there" 1 "$(records)"
checked 0 "$CONF"
sees "reads others' secrets yes, deletes no"
sees "Layout: hosts may not delete"
checked 0 "$W/group2.conf"
sees "lists yes (1 records, the test's own among them)"
sees "reads others' secrets unknown, deletes yes"
ok "what check-keys sees"

vcf_mount
for i in $(seq "$images"); do
	echo "image $i" >"$MNT/disk$i"
done
keep=$(key_id_of "$BACK/disk1")
before=$(records)
for i in $(seq 2 "$images"); do
	rm "$MNT/disk$i"
done
sleep 1
equal "the host deletes nothing" "$before" "$(records)"
HOST=$(uname -n)
keys inventory -c "$CONF" >"$W/inventory"
keys reap -c "$W/controller.conf" --hosts "$HOST" "$W/inventory" >"$W/receipts" 2>"$W/sums" ||
	fail "reap: $(cat "$W/sums")"
grep -q "barbican-manage db clean" "$W/receipts" || fail "a receipt promises too much"
keys reaped -c "$CONF" "$W/receipts" >/dev/null
equal "nothing waits" 0 "$(vcf_status_get 's["destroy_queue"]["waiting"]')"
equal "the content" "image 1" "$(cat "$MNT/disk1")"
keys list -c "$W/controller.conf" >"$W/list"
grep -q "^$keep " "$W/list" || fail "the secret of an image was destroyed"
sleep 1.1
keys inventory -c "$CONF" >"$W/inventory"
keys orphans -c "$W/controller.conf" --hosts "$HOST" "$W/inventory" >"$W/out" 2>"$W/sums" ||
	fail "orphans: $(cat "$W/sums")"
grep -q "0 orphans, .* 0 secrets are missing" "$W/sums" || fail "orphans: $(cat "$W/sums")"
ok "$images images at a host that may not delete: $(cat "$W/sums")"
