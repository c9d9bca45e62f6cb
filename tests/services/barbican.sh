#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The Barbican helper against a real Barbican and Keystone: the protocol, what goes wrong and
# what is said then, images through a mount, and tokens that live for three seconds.
# usage: barbican.sh [IMAGES] [SECONDS-OF-SHORT-TOKENS]
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
vcf_setup
services=$VCF_SRC/tests/services
program=$VCF_BUILD/crypto/keys/vmcryptfs-key-barbican
S=$W/services
mkdir -m 700 "$S"

up() { # VARIABLE=VALUE...
	local rc=0

	env "$@" "$services/barbican-up" "$S" >"$W/up.log" 2>&1 || rc=$?
	[ $rc != 77 ] || skip "$(sed -n 's/^skip: //p' "$W/up.log")"
	[ $rc = 0 ] || fail "the services do not come up: $(cat "$W/up.log")"
}

at_exit "'$services/barbican-down' '$S'"
up
# shellcheck disable=SC1091
. "$S/env"
ok "up after $SECONDS s"

app=(auth-url="$KEYSTONE_URL" ca-file="$CA" application-credential-id="$APP_ID"
	application-credential-secret-file="$CRED/app" login-jitter=0)
"$VCF_SRC/tests/helper-conformance" "$program" "${app[@]}" || fail "conformance"
ok "conformance, $SECONDS s"
"$services/barbican-cases" "$program" "$S" || fail "cases"
ok "cases, $SECONDS s"

secrets() { "$services/barbican-cases" "$program" "$S" count; }
secrets_are() { [ "$(secrets)" = "$1" ]; }
images=${1:-105} # more than one page of the service's list
each() { seq -f "$MNT/disk%g" "$images" | xargs -P 4 -n 10 bash -ec "for f; do $1; done" x; }
sed -i "s|^helper = .*|helper = $program|; /^\[file\]/,\$d" "$CONF"
vcf_config <<-CONFIG
	reserve = 0
	destroy-delay = 0
	destroy-rate = 60000
	linger = 0
	[audit]
	file = $W/audit
	[barbican]
CONFIG
printf '%s\n' "${app[@]}" | vcf_config
before=$(secrets)
vcf_mount
begun=$SECONDS
# shellcheck disable=SC2016 # the inner shell expands it
each 'echo "this is $f" >"$f"'
equal "secrets with all images" $((before + images)) "$(secrets)"
ok "$images images made in $((SECONDS - begun)) s"
begun=$SECONDS
# shellcheck disable=SC2016
each '[ "$(cat "$f")" = "this is $f" ]' || fail "contents"
ok "$images images read in $((SECONDS - begun)) s"
. "$services/leaks.lib.sh"
for name in app node; do
	needle "$name" <"$CRED/$name"
done
image_needle secret "$program" "$(key_id_of "$BACK/disk1")" "${app[@]}"
[ "$(cat "$MNT/disk1")" = "this is $MNT/disk1" ] || fail "disk1"
no_leaks "$program" "$W/audit"
[ "$(grep -c '"event":"created"' "$W/audit")" = "$images" ] || fail "created in the audit trail"
ok "no secret, no password where others could find it"
begun=$SECONDS
# shellcheck disable=SC2016
each 'rm "$f"'
wait_for 100 secrets_are "$before" || fail "$(secrets) secrets in place of $before"
ok "$images images removed, and their secrets in $((SECONDS - begun)) s"
vcf_umount

"$services/barbican-down" "$S"
up TOKEN_TTL=3 TOKEN_CACHE=-1
"$services/barbican-cases" "$program" "$S" short-tokens "${2:-10}" || fail "short tokens"
ok "tokens of three seconds, and revoked ones; $SECONDS s"
