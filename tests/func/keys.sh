#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What waits for its end: listed, taken back, decided on; with the daemon and without it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
sed -i "s|^\[key-service\]|&\nreserve = 0|" "$CONF"
vcf_mount

keys() { "$VMCRYPTFS" keys "$@"; }
code_of() { local rc=0; "$@" >"$W/stdout" 2>"$W/stderr" || rc=$?; echo $rc; }
secrets() { find "$KEYS" -type f | wc -l; }
field() { python3 -c "import json,sys; s=json.load(sys.stdin); print($1)"; }

for f in a b c d e; do
	echo "content $f" >"$MNT/$f"
done
equal "nothing waits" "nothing waits" "$(keys pending "$MNT")"
a_id=$(key_id_of "$BACK/a")
rm "$MNT/a" "$MNT/b" "$MNT/c"
equal "they wait" "3 0" "$(vcf_status_get "s['destroy_queue']['waiting'], s['destroy_queue']['suspect']" |
	tr -d "(),")"
equal "paths in status" "a b c" "$(vcf_status_get '" ".join(e["path"] for e in s["destroy_queue"]["entries"])')"
"$VMCRYPTFS" status "$MNT" | grep -q "to be destroyed 3.*next due 20" || fail "status for people"
equal "pending" 3 "$(keys pending "$MNT" | grep -c '^waits ')"
equal "pending, by configuration" 3 "$(keys pending --json -c "$CONF" | field 's["waiting"]')"
ok "pending"

equal "not one of them" 4 "$(code_of keys restore-pending "$MNT" nonsense)"
grep -q "no such entry: nonsense" "$W/stderr" || fail "restore-pending nonsense"
equal "neither --all nor a name" 2 "$(code_of keys restore-pending "$MNT")"
keys restore-pending "$MNT" "$a_id" | grep -q "^kept.*a$" || fail "restore-pending"
equal "two are left" 2 "$(keys pending --json "$MNT" | field 's["waiting"]')"
equal "secrets" 5 "$(secrets)"
ok "restore-pending"

mapfile -t helpers < <(pgrep -P "$VCF_PID" -f vmcryptfs-key-file)
kill -STOP "${helpers[@]}"
(echo x >"$MNT/slow") &
writer=$!
state_is() { [ "$(vcf_status_get 's["key_service"]["state"]')" = "$1" ]; }
wait_for 8 state_is slow || fail "stopped helpers look well: $(vcf_status_get 's["key_service"]')"
kill -CONT "${helpers[@]}"
wait $writer
wait_for 8 state_is ok || fail "still slow"
ok "a service that does not answer is no service that is well"

vcf_umount
equal "pending without a daemon" 2 "$(keys pending --json -c "$CONF" | field 's["waiting"]')"
keys restore-pending -c "$CONF" b >"$W/stdout" || fail "restore-pending without a daemon"
equal "one is left" 1 "$(keys pending --json -c "$CONF" | field 's["waiting"]')"
equal "a mount point alone" 4 "$(code_of keys pending "$MNT")"
ok "without a daemon"

exec 8<>"$(find "$W/state" -name journal)"
flock 8
equal "somebody holds the journal" 5 "$(code_of keys pending -c "$CONF")"
exec 8>&-
ok "not behind the back of one who holds the journal"

# A header that does not fit: parked, then decided on.
vcf_mount -o key-service.destroy-delay=0
expect_log 'does not belong to this secret|is not destroyed'
python3 - "$KEYS/$(key_id_of "$BACK/d")" <<-'PY'
	import sys
	open(sys.argv[1], "w").write("0" * 64)
PY
rm "$MNT/d"
suspects_are() { [ "$(keys pending --json "$MNT" | field 's["suspect"]')" = "$1" ]; }
wait_for 10 suspects_are 1 || fail "not parked"
left=$(secrets)
equal "a suspect waits for nobody" 4 "$(code_of keys restore-pending "$MNT" d)"
equal "without the flag" 2 "$(code_of keys drop-suspect "$MNT" d)"
equal "without the flag" 2 "$(code_of keys confirm "$MNT" d)"
equal "nothing has happened" "$left" "$(secrets)"
keys confirm --destroy "$MNT" d >"$W/stdout" || fail "confirm"
secrets_are() { [ "$(secrets)" = "$1" ]; }
wait_for 10 secrets_are $((left - 1)) || fail "a confirmed suspect's secret stays"
ok "confirm --destroy"

python3 - "$KEYS/$(key_id_of "$BACK/e")" <<-'PY'
	import sys
	open(sys.argv[1], "w").write("0" * 64)
PY
rm "$MNT/e"
wait_for 10 suspects_are 1 || fail "not parked"
keys drop-suspect --forget "$MNT" e >"$W/stdout" || fail "drop-suspect"
wait_for 10 suspects_are 0 || fail "not forgotten"
equal "its secret stays" $((left - 1)) "$(secrets)"
ok "drop-suspect --forget"

equal "list" "$(secrets)" "$(keys list -c "$CONF" | wc -l)"
equal "list of a prefix" 1 "$(keys list --json -c "$CONF" "$a_id" | grep -c "\"key_id\":\"$a_id\"")"
equal "list of nothing" 0 "$(keys list -c "$CONF" 0000 | wc -l)"
equal "a helper that fails" 7 "$(code_of keys list -o file.directory=/nonexistent -o key-service.timeout=1 -c "$CONF")"
ok "list"

"$VMCRYPTFS" check-keys -c "$CONF" >"$W/out" || fail "check-keys: $(cat "$W/out")"
grep -q "^destroy  ok" "$W/out" || fail "check-keys: $(cat "$W/out")"
equal "nothing is left behind" $((left - 1)) "$(secrets)"
equal "json" "True yes" "$("$VMCRYPTFS" check-keys --json -c "$CONF" | field 's["ok"], s["deletes"]' | tr -d "(),'")"
equal "no service" 7 "$(code_of "$VMCRYPTFS" check-keys -o file.directory=/nonexistent \
	-o key-service.timeout=1 -c "$CONF")"
equal "no configuration" 3 "$(code_of "$VMCRYPTFS" check-keys -o key-service.helper= -c "$CONF")"
# The same sections as check-config: a misnamed one would not be heeded.
sed 's/^\[file\]/[fiel]/' "$CONF" >"$W/misnamed.conf"
equal "check-config" 3 "$(code_of "$VMCRYPTFS" check-config "$W/misnamed.conf")"
equal "a misnamed section" 3 "$(code_of "$VMCRYPTFS" check-keys -c "$W/misnamed.conf")"
grep -q '\[fiel\]: unknown section' "$W/stderr" || fail "which section: $(cat "$W/stderr")"
equal "a misnamed section" 3 "$(code_of keys list -c "$W/misnamed.conf")"
ok "check-keys"

# A helper that does not start is no service that is down.
printf '#!/bin/sh\necho it lacks a library >&2\n' >"$W/ends"
printf '#!/nonexistent/interpreter\n' >"$W/noexec"
chmod 755 "$W/ends" "$W/noexec"
for row in "ends it lacks a library" "noexec No such file"; do
	read -r helper why <<<"$row"
	begin=$SECONDS
	equal "keys list with $helper" 7 "$(code_of keys list -o key-service.helper="$W/$helper" -c "$CONF")"
	[ $((SECONDS - begin)) -lt 20 ] || fail "keys list repeats it"
	grep -q "$why" "$W/stderr" || fail "no reason: $(cat "$W/stderr")"
done
grep -q 'the key helper does not start: cannot start the helper: No such file' "$W/stderr" ||
	fail "no reason: $(cat "$W/stderr")"
ok "a helper that does not start"

# Unused secrets of another machine: suspects without a path. Nothing named is nothing meant.
if [ "$(id -u)" = 0 ] && [ -s /etc/machine-id ] && unshare -m true 2>/dev/null; then
	vcf_remount -o key-service.reserve=2
	refilled() { [ "$(secrets)" -ge $((left + 1)) ]; }
	wait_for 10 refilled || fail "no reserve"
	vcf_umount
	echo 0123456789abcdef0123456789abcdef >"$W/machine-id"
	# shellcheck disable=SC2016
	elsewhere() { unshare -m sh -c 'mount --bind "$0" /etc/machine-id; exec "$@"' "$W/machine-id" "$VMCRYPTFS" keys "$@"; }
	parked=$(elsewhere pending -c "$CONF" 2>/dev/null | grep -c "^suspect")
	[ "$parked" -ge 2 ] || fail "not parked: $parked"
	equal "confirm of nothing" 4 "$(code_of elsewhere confirm --destroy -c "$CONF" "")"
	equal "still parked" "$parked" "$(elsewhere pending -c "$CONF" 2>/dev/null | grep -c "^suspect")"
	ok "an empty name"
fi
