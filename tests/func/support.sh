#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `support`: one archive, mode 0600, that tar reads, with what is asked for first; of secrets that lie in the
# configuration, on the command line, in the log and at the key service it has none.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3 tar gzip
expect_log 'static|secret'
vcf_setup
STATIC=$(python3 -c 'import os; print(os.urandom(32).hex())')
PASSWORD='Tr0ub4dor&3-is-planted'
TOKEN=gAAAAABm$(python3 -c 'import os,base64; print(base64.urlsafe_b64encode(os.urandom(60)).decode())')
VAULT=hvs.$(python3 -c 'import os,base64; print(base64.urlsafe_b64encode(os.urandom(24)).decode().rstrip("="))')
BASE64=$(python3 -c 'import os,base64; print(base64.b64encode(bytes([65,200,7,33])+os.urandom(28)).decode())')
vcf_config <<-CONFIG
	[service gold]
	helper = static
	secret = $STATIC
	[rules]
	service = gold gold/**
CONFIG
sed -i "s|^\[key-service\]|log-file = $W/daemon.log\n[key-service]|" "$CONF"
chmod 600 "$CONF"
mkdir "$BACK/gold"
vcf_mount
echo content-of-an-image >"$MNT/disk-of-alice"
echo content-of-an-image >"$MNT/gold/disk-of-bob"
rm "$MNT/gold/disk-of-bob"
kill -KILL "$(vcf_status_get "s['server_pid']")"
wait_for 30 vcf_status || fail "no successor"
{
	echo "helper: login failed: {\"password\": \"$PASSWORD\", \"user\": \"nova\"}"
	echo "helper: sent X-Auth-Token: $TOKEN"
	echo "helper: reply for $TOKEN was refused"
	echo "helper: vault says $VAULT is revoked"
	echo "helper: put {payload $BASE64} to it, and $STATIC"
} >>"$W/daemon.log"

"$VMCRYPTFS" support -o "$W/a.tar" "$MNT" 2>"$W/note" || fail "support: $(cat "$W/note")"
equal "its mode" 600 "$(stat -c %a "$W/a.tar")"
mkdir "$W/a"
tar -xf "$W/a.tar" -C "$W/a" --strip-components 1 2>"$W/stderr" || fail "tar: $(cat "$W/stderr")"
[ ! -s "$W/stderr" ] || fail "tar complains: $(cat "$W/stderr")"
equal "its parts" "README config.txt history.txt log.txt machine.txt mounts.txt processes.txt status.json versions.txt" \
	"$(find "$W/a" -type f -printf '%f\n' | sort | tr '\n' ' ' | sed 's/ $//')"
must_fail "$VMCRYPTFS" support -o "$W/a.tar" "$MNT"
ok "an archive, which is never written over"

has() { grep -qE -- "$2" "$W/a/$1" || fail "$1 has no '$2': $(tail -n 20 "$W/a/$1")"; }
has status.json '"path": ?"disk-of-alice"'
has status.json '"deaths": ?1'
has config.txt "^backing = $BACK"
has config.txt '^; secret is set'
has processes.txt 'Max open files'
has mounts.txt "$MNT"
has history.txt 'was killed by signal 9'
has log.txt 'helper: vault says \[masked\] is revoked'
has log.txt "mounted on $MNT"
has versions.txt '^kernel: '
has machine.txt '^processors: [1-9]'
ok "what is asked for first"

cat >"$W/other.conf" <<-CONFIG
	[mount]
	backing = $BACK
	mountpoint = $MNT
	log-file = $W/daemon.log
	[key-service]
	helper = barbican
	[barbican]
	auth-url = https://u:$PASSWORD@keystone.example
	auth = password
	password = $PASSWORD
	application-credential-secret = $BASE64
	request-timeout = $VAULT
	unheard-of = $TOKEN
	mode = kv
CONFIG
chmod 600 "$W/other.conf"
"$VMCRYPTFS" support -o "$W/b.tar.gz" -c "$W/other.conf" "$MNT" 2>/dev/null
gzip -dc "$W/b.tar.gz" >"$W/b.tar" || fail "not gzipped"
"$VMCRYPTFS" support --anonymous -o "$W/c.tar" "$MNT"
tar -tf "$W/b.tar" | grep -q log.txt || fail "no log"
! tar -tf "$W/c.tar" | grep -q log.txt || fail "an anonymous bundle has a log"
tar -xOf "$W/b.tar" --wildcards '*/config.txt' >"$W/config"
grep -q '^; barbican auth = password' "$W/config" || fail "a harmless value is not shown: $(cat "$W/config")"
python3 - "$W" "$KEYS" "$STATIC" "$PASSWORD" "$TOKEN" "$VAULT" "$BASE64" <<'PYTHON' || fail "a secret is in a bundle"
import base64, os, sys

w, keys, *planted = sys.argv[1:]
for name in os.listdir(keys):
    planted.append(open(f"{keys}/{name}").read())
assert len(planted) > 7, "the key service has no secrets"
bad = 0
for bundle in "a.tar", "b.tar", "c.tar":
    data = open(f"{w}/{bundle}", "rb").read()
    for p in planted + ["content-of-an-image"]:
        forms = {p}
        if len(p) == 64:
            forms |= {p.upper(), base64.b64encode(bytes.fromhex(p)).decode()}
        for f in forms:
            for i in range(0, max(1, len(f) - 12), 4):
                if f[i : i + 12].encode() in data:
                    print(bundle, "has", f[i : i + 12], "of", p)
                    bad = 1
anonymous = open(f"{w}/c.tar", "rb").read()
for name in "disk-of-alice", "disk-of-bob", w, os.uname().nodename + " ":
    if name.encode() in anonymous:
        print("c.tar has the name", name)
        bad = 1
sys.exit(bad)
PYTHON
ok "no secret, and no name where none is wanted"

vcf_umount
"$VMCRYPTFS" support -o "$W/d.tar" -c "$CONF" "$MNT" 2>/dev/null || fail "without a daemon"
tar -xOf "$W/d.tar" --wildcards '*/status.json' | grep -q 'no server answers' || fail "its status"
tar -xOf "$W/d.tar" --wildcards '*/history.txt' | grep -q 'unmounted' || fail "its history"
ok "also where nobody serves"
