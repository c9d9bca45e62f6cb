#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Several key services: the rules say which one has a new image's secret, the image's header says
# it ever after; a server that replaces a dead one, and a reload, keep them apart.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
A=$W/app.log
GOLD=$KEYS.gold
mkdir -m 700 "$GOLD" "$GOLD.3"
at_exit "rm -rf '$GOLD' '$GOLD.3'"
sed -i "s|^runtime-directory = .*|&\nlog-file = $A|" "$CONF"
sed -i 's|^helper = .*|&\nreserve = 1\nchildren = 2|' "$CONF"
cat >>"$CONF" <<CONFIG
[service gold]
helper = file
directory = $GOLD
reserve = 2
linger = 1
destroy-delay = 0
[rules]
derived = **/*.part
service = gold rich/**
CONFIG
cp "$CONF" "$W/conf.first"
vcf_mount

lines() { grep -cE "$1" "$A" || true; }
more_lines() { [ "$(lines "$1")" -gt "$2" ]; }
reload() { # EXPRESSION
	local had

	had=$(lines "$1")
	kill -HUP "$VCF_PID"
	wait_for 20 more_lines "$1" "$had" || fail "no '$1' in: $(tail -n 20 "$A")"
}
accepted='info: configuration reloaded: '
refused='err: the configuration is not reloaded, the old settings stay: '

service_of() { # BACKING-FILE
	"$VMCRYPTFS" info --json "$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["service"])'
}
at() { # FOLDER NAME...   the secret lies there
	local folder=$1 f
	shift
	for f; do
		test -e "$folder/$(key_id_of "$BACK/$f")" || fail "$f: no secret in $folder"
	done
}
new_server() { # kills the one there is
	local pid

	pid=$(vcf_status_get "s['server_pid']")
	kill -KILL "$pid"
	wait_for 20 other_than "$pid" || fail "no other server"
}
other_than() { [ "$(vcf_status_get "s['server_pid']")" != "$1" ]; }
reserve_is() { [ "$(vcf_status_get "[k['reserve'] for k in s['key_services']]")" = "$1" ]; }

mkdir "$MNT/rich" "$MNT/poor"
for d in rich poor; do
	echo "$d image" >"$MNT/$d/disk"
	echo "$d part" >"$MNT/$d/x.part"
done
equal "services" "gold default gold default" "$(for f in rich/disk poor/disk rich/x.part poor/x.part; do
	service_of "$BACK/$f"
done | xargs)"
at "$GOLD" rich/disk rich/x.part
at "$KEYS" poor/disk poor/x.part
[ "$(key_id_of "$BACK/rich/x.part")" != "$(key_id_of "$BACK/poor/x.part")" ] || fail "one site secret for both"
mv "$MNT/rich/disk" "$MNT/poor/moved"
equal "moved" gold "$(service_of "$BACK/poor/moved")"
wait_for 20 reserve_is '[1, 2]' || fail "reserves"
ok "by rule, also the derived ones; a rename changes nothing"

equal "names" "['default', 'gold']" "$(vcf_status_get "[k['name'] for k in s['key_services']]")"
equal "helpers" "file ok closed" "$(vcf_status_get "' '.join((s['key_services'][1]['helper'][-4:], s['key_services'][1]['state'], s['key_services'][1]['breaker']))")"
for f in poor/moved poor/disk rich/x.part poor/x.part; do
	"$VMCRYPTFS" info -c "$CONF" "$BACK/$f" | grep -q 'MAC  *ok' || fail "info $f"
done
ok "status and info know both"

helpers() { ps -o pid= --ppid "$VCF_PID" | while read -r p; do
	grep -qs vmcryptfs-key "/proc/$p/cmdline" && echo "$p"; done | sort | xargs; }
before=$(helpers)
new_server
vcf_remountless() { cat "$MNT/poor/moved" "$MNT/poor/disk" "$MNT/rich/x.part" "$MNT/poor/x.part"; }
wanted="rich image poor image rich part poor part"
equal "after kill -9" "$wanted" "$(vcf_remountless | xargs)"
[ -n "$before" ] || fail "no helpers"
for p in $before; do
	kill -0 "$p" || fail "helper $p did not survive"
done
echo late >"$MNT/rich/late"
at "$GOLD" rich/late
vcf_remount
equal "after a remount" "$wanted" "$(vcf_remountless | xargs)"
ok "after kill -9 each service has its own helpers, after a remount its own site secret"

id=$(key_id_of "$BACK/rich/late")
rm "$MNT/rich/late"
gone() { [ ! -e "$1" ]; }
wait_for 20 gone "$GOLD/$id" || fail "the secret is not destroyed"
id=$(key_id_of "$BACK/poor/disk")
rm "$MNT/poor/disk"
sleep 1
test -e "$KEYS/$id" || fail "destroyed by the other service's rule"
equal "queue" "1 0" "$(vcf_status_get "s['destroy_queue']['waiting'], s['destroy_unconfigured']" | tr -d '(),')"
ok "each deletes as its own section says"

# A third service comes with a reload, and goes again.
cat >>"$CONF" <<CONFIG
service = third three/**
[service third]
helper = file
directory = $GOLD.3
reserve = 1
linger = 1
CONFIG
reload "$accepted.*\\[service third\\]"
mkdir "$MNT/three"
echo third >"$MNT/three/disk"
at "$GOLD.3" three/disk
new_server
equal "the third's" third "$(cat "$MNT/three/disk")"
exec 8<"$MNT/three/disk"
cp "$W/conf.first" "$CONF"
reload "$refused"
grep -q '\[service third\] is still needed: three/disk is open' "$A" || fail "not named"
echo more >"$MNT/three/more"
at "$GOLD.3" three/more
exec 8<&-
rm "$MNT/three/more"
sleep 2.5
reload "${refused}"
grep -q '\[service third\] is still needed: the secret of three/more is to be destroyed' "$A" || fail "not named"
sed 's|^linger = 1|&\ndestroy-delay = 0|' "$W/conf.first" >/dev/null
ok "a service that is needed stays"

vcf_umount
vcf_mount
equal "unconfigured" "2 1" "$(vcf_status_get "s['destroy_queue']['waiting'], s['destroy_unconfigured']" | tr -d '(),')"
must_fail_with "Required key not available" cat "$MNT/three/disk"
grep -q "three/disk: its key service 'third' is not configured: add a section \\[service third\\]" "$A" ||
	fail "the section is not named"
cat >>"$CONF" <<CONFIG
service = third three/**
[service third]
helper = file
directory = $GOLD.3
CONFIG
reload "$accepted.*\\[service third\\]"
equal "again" third "$(cat "$MNT/three/disk")"
equal "configured" "2 0" "$(vcf_status_get "s['destroy_queue']['waiting'], s['destroy_unconfigured']" | tr -d '(),')"
ok "without its section an image does not open, and its secret is left alone; with it, it does"

# One that nobody needs goes.
cat >>"$CONF" <<CONFIG
[service fourth]
helper = file
directory = $GOLD.3
reserve = 0
CONFIG
reload "$accepted.*\\[service fourth\\]"
equal "services" 4 "$(vcf_status_get "len(s['key_services'])")"
sed -i '/^\[service fourth\]/,$d' "$CONF"
reload "$accepted.*\\[service fourth\\]"
equal "services" 3 "$(vcf_status_get "len(s['key_services'])")"
echo again >"$MNT/three/again"
new_server
equal "content" again "$(cat "$MNT/three/again")"
ok "one that nobody needs goes"

echo 'service = fifth five/**' >>"$CONF"
sed -i 's|^service = third.*|&\nservice = fifth five/**|' "$CONF"
reload "$refused"
must_fail "$VMCRYPTFS" check-config "$CONF"
grep -q 'service = fifth five/\*\*: there is no \[service fifth\]' "$W/stderr" || fail "$(cat "$W/stderr")"
ok "a rule for a service that is not there is an error"
