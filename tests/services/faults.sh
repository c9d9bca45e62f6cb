#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What can go wrong between a mount and a real Barbican: for each fault what a program sees, what the
# log says, and that the image opens once it is mended. Prints a table.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
vcf_setup
services=$VCF_SRC/tests/services
. "$services/svc.sh"
S=$W/services
rc=0
mkdir -m 700 "$S"
at_exit "'$services/barbican-down' '$S'"
TOKEN_CACHE=-1 "$services/barbican-up" "$S" >"$W/up.log" 2>&1 || rc=$?
[ $rc != 77 ] || skip "$(sed -n 's/^skip: //p' "$W/up.log")"
[ $rc = 0 ] || fail "the services do not come up: $(cat "$W/up.log")"
# shellcheck disable=SC1091
. "$S/env"
exec {proxy}> >(exec /usr/bin/python3 "$services/spoilproxy.py" "$BARBICAN_URL" "$TLS" "$W" 2>"$W/proxy.log")
wait_for 20 test -s "$W/proxy-url" || fail "no proxy: $(cat "$W/proxy.log")"
expect_log '.*' # each row looks at its own line

config() { # OPTION=VALUE...   of [barbican]; the last of a name counts
	declare -A set=([auth-url]=$KEYSTONE_URL [endpoint]=$(cat "$W/proxy-url") [ca-file]=$CA
		[application-credential-id]=$APP_ID [application-credential-secret-file]=$CRED/app
		[login-jitter]=0)
	local o

	for o; do
		set[${o%%=*}]=${o#*=}
		[ -n "${o#*=}" ] || unset "set[${o%%=*}]"
	done
	sed -i '/^\[key-service\]/,$d' "$CONF"
	{
		printf '[key-service]\nhelper = barbican\nreserve = 0\nlinger = 0\ndestroy-delay = 0\n'
		printf 'timeout = %s\n[barbican]\n' "${timeout:-12}"
		for o in "${!set[@]}"; do
			echo "$o = ${set[$o]}"
		done
	} | vcf_config
}
use() { # OPTION=VALUE...   a mount with these
	! is_mounted || vcf_umount
	config "$@"
	: >"$LOG"
	vcf_mount
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }
opens() { [ "$(timeout 60 cat "$MNT/disk" 2>/dev/null)" = content ]; }

forgotten() { [ "$(vcf_status_get 's["keys"]')" = 0 ]; }

# One line of the table: what the program was told, after how long, what the log says.
sees() { # NAME ERRNO-TEXT LOG-PATTERN COMMAND...
	local name=$1 want=$2 pattern=$3 begun rc=0 line

	shift 3
	wait_for 20 forgotten || fail "$name: a key stays"
	: >"$LOG"
	begun=$(now_ms)
	timeout 90 "$@" >/dev/null 2>"$W/stderr" || rc=$?
	took=$(($(now_ms) - begun))
	if [ "$want" = - ]; then
		[ $rc = 0 ] || fail "$name: $(cat "$W/stderr")"
	else
		grep -qF -- "$want" "$W/stderr" || fail "$name: wanted '$want', got '$(cat "$W/stderr")', rc $rc"
	fi
	if [ "$want" = - ]; then
		printf '%-34s %-28s %6d ms\n' "$name" 'opens after' "$took"
		return
	fi
	line=$(grep -aoE -- "$pattern.*" "$LOG" | head -n 1) || true
	[ -n "$line" ] || fail "$name: the log lacks '$pattern': $(cat "$LOG")"
	printf '%-34s %-28s %6d ms  %s\n' "$name" "$want" "$took" "$(cut -c1-150 <<<"$line")"
}
mended() { # NAME
	local begun

	begun=$(now_ms)
	wait_for 40 opens || fail "$1: does not open again: $(tail -n 5 "$LOG")"
	printf '%-34s %-28s %6d ms\n' '' 'opens again after' $(($(now_ms) - begun))
}

config
vcf_mount
echo content >"$MNT/disk"
spoil() { echo "$1" >"$W/fault"; }
late='Connection timed out' keyrej='Key was rejected' nokey='Required key not available'

kill -STOP -- "-$(svc_pid "$S" barbican)"
sees "service stopped" "$late" 'did not answer in time|no (whole )?reply within' cat "$MNT/disk"
kill -CONT -- "-$(svc_pid "$S" barbican)"
mended "service stopped"
use endpoint=https://localhost:1
sees "connection refused" "$late" 'cannot connect: Connection refused' cat "$MNT/disk"
use endpoint=https://no-such-host.invalid
sees "DNS name unknown" "$late" 'its host name is not known to DNS' cat "$MNT/disk"
use ca-file="$TLS/other-ca.crt"
sees "TLS: wrong CA" "$late" 'certificate is not signed by a CA' cat "$MNT/disk"
use auth-url="${KEYSTONE_URL/localhost/127.0.0.1}"
sees "TLS: wrong host" "$late" 'certificate is for another host' cat "$MNT/disk"
use endpoint="$BARBICAN_EXPIRED_URL"
sees "TLS: expired" "$late" 'certificate has expired' cat "$MNT/disk"
use endpoint="$BARBICAN_MTLS_URL"
sees "TLS: no client certificate" "$late" 'wants a TLS client' cat "$MNT/disk"
use endpoint="$BARBICAN_MTLS_URL" client-cert="$TLS/client.crt" client-key="$TLS/client.key"
mended "TLS"
use
mended "endpoints"

for status in 500 502 503; do
	spoil $status
	sees "$status with HTML" "$late" "answers $status" cat "$MNT/disk"
	spoil ''
	mended $status
done
spoil 429
sees "429, Retry-After: 2" "$late" 'answers 429' cat "$MNT/disk"
spoil ''
mended 429
spoil truncated
sees "reply truncated" "$late" 'cut off|bytes' cat "$MNT/disk"
spoil ''
mended truncated
spoil too-long
sees "reply too long" "$late" 'larger than|too long' cat "$MNT/disk"
spoil ''
mended too-long
spoil short-secret
sees "payload of 16 bytes" "$late" '16 bytes|32 bytes' cat "$MNT/disk"
spoil ''
mended short-secret
spoil wrong-secret
sees "wrong secret" "$keyrej" 'disk: .*(does not open|MAC)' cat "$MNT/disk"
spoil ''
mended wrong-secret
timeout=30 use
spoil slow
sees "10 s for each reply" - '' cat "$MNT/disk"
spoil ''

use application-credential-id= application-credential-secret-file= user-id="$WATCHER_ID" \
	password-file="$CRED/watcher" project-id="$PROJECT_ID"
sees "role missing (create)" "$keyrej" 'denied' bash -c "echo x >'$MNT/other'"
use application-credential-id= application-credential-secret-file= username=nobody \
	user-domain-name=Default password-file="$CRED/nobody" project-id="$PROJECT_ID"
sees "role missing (read)" "$keyrej" 'denied' cat "$MNT/disk"
echo wrong >"$W/wrong"
chmod 600 "$W/wrong"
use application-credential-secret-file="$W/wrong"
sees "wrong credential" "$keyrej" 'denied' cat "$MNT/disk"
use
mended "credentials"

token_of() { # USER PROJECT
	curl -s --cacert "$CA" -o /dev/null -D - -H 'Content-Type: application/json' "$KEYSTONE_URL/auth/tokens" \
		-d @- <<-JSON | tr -d '\r' | sed -n 's/^[Xx]-[Ss]ubject-[Tt]oken: //p'
		{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"$1",
		"domain":{"name":"Default"},"password":"$(cat "$CRED/$1")"}}},
		"scope":{"project":{"name":"$2","domain":{"name":"Default"}}}}}
	JSON
}
token=$(token_of admin admin)
quota() { # METHOD [BODY]
	curl -sf --cacert "$CA" -X "$1" -H "X-Auth-Token: $token" -H 'Content-Type: application/json' \
		"$BARBICAN_URL/v1/project-quotas/$PROJECT_ID" ${2:+-d "$2"} >"$W/quota" || return 1
}
if [ -n "$token" ] && quota PUT '{"project_quotas":{"secrets":0}}'; then
	sees "quota full" "Disk quota exceeded" 'quota' bash -c "echo x >'$MNT/fresh'"
	quota DELETE
	wait_for 20 bash -c "echo x >'$MNT/fresh'" || fail "quota: not mended"
	ok "a new image once the quota is lifted"
else
	fail "no quota could be set"
fi
id=$(key_id_of "$BACK/fresh")
token=$(token_of node compute)
curl -sf --cacert "$CA" -X DELETE -H "X-Auth-Token: $token" "$BARBICAN_URL/v1/secrets/$id" || fail "delete"
vcf_remount
sees "secret deleted at the service" "$nokey" 'fresh: ' cat "$MNT/fresh"
exec {proxy}>&-
ok "all faults"
