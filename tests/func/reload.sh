#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# SIGHUP: rules, key helper, log settings change under a mount at work; what must not change is
# refused, and then everything stays as it was.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
A=$W/app.log
sed -i "s|^runtime-directory = .*|&\nlog-file = $A|" "$CONF"
sed -i 's|^helper = .*|&\nreserve = 0|' "$CONF"
cat >>"$CONF" <<'CONFIG'
[rules]
passthrough = locks/**
derived = **/*.part
bind = ^([0-9a-f-]{36})(?:_resize|_del)?/
CONFIG
cp "$CONF" "$W/conf.first"
vcf_mount
a=11111111-1111-1111-1111-111111111111

lines() { grep -cE "$1" "$A" || true; }
more_lines() { [ "$(lines "$1")" -gt "$2" ]; }

# Reloads and waits for a further line in the log.
reload() { # EXPRESSION
	local had

	had=$(lines "$1")
	kill -HUP "$VCF_PID"
	wait_for 20 more_lines "$1" "$had" || fail "no '$1' in: $(tail -n 20 "$A")"
}
accepted='info: configuration reloaded: '
refused='err: the configuration is not reloaded, the old settings stay: '

change() { sed -i "$1" "$CONF"; } # SED-COMMAND

is_derived() { cryptsetup token export --token-id 0 "$BACK/$1" | grep -qE '"derived": *true'; }

mkdir "$MNT/locks" "$MNT/$a" "$MNT/_base" "$MNT/logs"
echo lock >"$MNT/locks/l"
echo image >"$MNT/$a/disk"
echo part >"$MNT/_base/x.part"
echo old >"$MNT/_base/unread"
pid=$(vcf_status_get "s['server_pid']")

# I/O that must not notice: one program writes and syncs, one reads and makes files.
mkdir "$MNT/work"
pattern work 1048576 >"$W/work"
(
	while [ ! -e "$W/stop" ]; do
		dd if="$W/work" of="$MNT/work/io" bs=64k conv=notrunc,fsync status=none
		cmp "$W/work" "$MNT/work/io"
	done
) >"$W/io.out" 2>&1 &
io1=$!
(
	i=0
	while [ ! -e "$W/stop" ]; do
		i=$((i + 1))
		echo "content $i" >"$MNT/work/f"
		mv "$MNT/work/f" "$MNT/work/g"
		grep -qx "content $i" "$MNT/work/g"
		rm "$MNT/work/g"
	done
	[ $i -gt 10 ]
) >"$W/io2.out" 2>&1 &
io2=$!

reload "$accepted.*nothing"
ok "without a change"

mv "$A" "$A.1"
kill -HUP "$VCF_PID"
wait_for 20 test -s "$A"
wait_for 20 more_lines "$accepted" 0
equal "lines in the old file" "$(wc -l <"$A.1")" "$(sleep 0.3; wc -l <"$A.1")"
ok "the log file is re-opened"

echo 'passthrough = logs/**' >>"$CONF"
change 's|^derived = .*|derived = **/*.tmp|'
reload "$accepted\\[rules\\]$"
echo plain >"$MNT/logs/l"
equal "passthrough now" plain "$(cat "$BACK/logs/l")"
echo tmp >"$MNT/_base/y.tmp"
is_derived _base/y.tmp || fail "*.tmp is not derived"
echo part >"$MNT/_base/y.part"
! is_derived _base/y.part || fail "*.part is derived yet"
is_derived _base/x.part || fail "an existing container changed"
equal "derived before" part "$(cat "$MNT/_base/x.part")"
echo lock2 >"$MNT/locks/l2"
equal "passthrough still" lock2 "$(cat "$BACK/locks/l2")"
ok "rules"

# An empty file has no container yet: what it gets is what the rules say then.
: >"$MNT/_base/empty.tmp"
exec 8>>"$MNT/_base/empty.tmp"
change 's|^derived = .*|derived = **/*.part|'
reload "$accepted\\[rules\\]$"
echo late >&8
exec 8>&-
! is_derived _base/empty.tmp || fail "an empty file keeps the old class"
equal "content" late "$(cat "$MNT/_base/empty.tmp")"
ok "an empty file follows the new rules"

cp "$CONF" "$W/good"
change 's|^passthrough = logs.*||'
reload "${refused}Operation not permitted"
grep -q 'logs/l: is there as passthrough and would become encrypt' "$A" || fail "no file named"
echo plain2 >"$MNT/logs/l2"
equal "passthrough still" plain2 "$(cat "$BACK/logs/l2")"
cp "$W/good" "$CONF"
echo 'passthrough = **/unread' >>"$CONF"
reload "${refused}Operation not permitted"
grep -q '_base/unread: is there as encrypt and would become passthrough' "$A" || fail "no file named"
cp "$W/good" "$CONF"
change 's|^bind = .*|bind = ^([^/]+)/|'
reload "${refused}Operation not permitted"
grep -q "_base/unread: belongs to instance '' and would belong to '_base'" "$A" || fail "no file named"
equal "content" image "$(cat "$MNT/$a/disk")"
ok "what would change the class or the instance of a file is refused and named"

cp "$W/good" "$CONF"
echo 'nonsense = 1' >>"$CONF"
reload "${refused}it is faulty"
grep -q "$CONF:.*nonsense" "$A" || fail "no line named"
cp "$W/good" "$CONF"
change "s|^\\[mount\\]|&\nthreads = 3|"
reload "${refused}Invalid argument"
grep -q '\[mount\] threads cannot change while it is mounted' "$A" || fail "no option named"
cp "$W/good" "$CONF"
change "s|^helper = .*|helper = /nonexistent|"
reload "$refused"
rm "$CONF"
reload "${refused}No such file"
cp "$W/good" "$CONF"
change "/^log-file/d"
reload "${refused}Invalid argument"
cp "$W/good" "$CONF"
cp "$MNT/_base/unread" "$W/unread"
echo more >"$MNT/logs/l3"
equal "passthrough still" more "$(cat "$BACK/logs/l3")"
ok "a faulty file, another mount and a helper that is none are refused"

change "s|^\\[mount\\]|&\nlog-level = dbg|"
reload "$accepted"'log-level'
grep -q ' dbg: ' "$A" || reload ' dbg: '
change 's|^log-level = .*|log-level = err|'
kill -HUP "$VCF_PID"
sleep 1
n=$(wc -l <"$A")
kill -HUP "$VCF_PID"
sleep 1
equal "lines at level err" "$n" "$(wc -l <"$A")"
change '/^log-level/d'
reload "$accepted"'log-level'
ok "the log level"

mkdir -m 700 "$KEYS.new"
at_exit "rm -rf '$KEYS.new'"
change "s|^directory = .*|directory = $KEYS.new|; s|^reserve = .*|reserve = 2|"
change 's|^reserve = .*|&\nlinger = 1\nchildren = 1|'
find "$KEYS" -type f -exec cp -p {} "$KEYS.new/" \;
reload "$accepted.*children, linger, reserve, \\[file\\]"
mv "$KEYS" "$KEYS.gone"
at_exit "rm -rf '$KEYS.gone'"
mkdir -m 700 "$KEYS"
two_new() { [ "$(vcf_status_get "s['key_service']['reserve']")" = 2 ]; }
wait_for 20 two_new || fail "the reserve is not filled"
echo new >"$MNT/$a/new"
test -e "$KEYS.new/$(key_id_of "$BACK/$a/new")" || fail "not in the new folder"
equal "keys in the old folder" 0 "$(find "$KEYS" -type f | wc -l)"
no_keys() { [ "$(vcf_status_get "[i for i in s['images'] if '/disk' in i['path']]")" = '[]' ]; }
wait_for 20 no_keys || fail "linger did not change"
equal "content, with a key from the new folder" image "$(cat "$MNT/$a/disk")"
ok "the key helper's options, linger and reserve"

for _ in 1 2 3 4 5 6 7 8; do kill -HUP "$VCF_PID"; done
reload "$accepted"
equal "the same server" "$pid" "$(vcf_status_get "s['server_pid']")"

# What the next server is made of is what the last one had accepted.
other_server() { [ "$(vcf_status_get "s['server_pid']")" != "$pid" ]; }
kill -KILL "$pid"
wait_for 20 other_server || fail "no other server"
echo plain4 >"$MNT/logs/l4"
equal "passthrough still" plain4 "$(cat "$BACK/logs/l4")"
wait_for 20 two_new || fail "the reserve is not filled by the next server"
echo newer >"$MNT/$a/newer"
test -e "$KEYS.new/$(key_id_of "$BACK/$a/newer")" || fail "not in the new folder"
pid=$(vcf_status_get "s['server_pid']")
reload "$accepted.*nothing"
equal "the same server" "$pid" "$(vcf_status_get "s['server_pid']")"
ok "a server that replaces a dead one"

touch "$W/stop"
wait $io1 || fail "I/O meanwhile: $(cat "$W/io.out")"
wait $io2 || fail "files meanwhile: $(cat "$W/io2.out")"
[ ! -s "$W/io.out" ] && [ ! -s "$W/io2.out" ] || fail "$(cat "$W/io.out" "$W/io2.out")"
ok "nobody noticed"

vcf_umount
grep -q 'info: .* unmounted' "$A" || fail "the keeper still writes to the old file"
! grep -q unmounted "$A.1" || fail "the keeper still writes to the old file"
ok "the keeper's log as well"

# The quick form has no file: the log is re-opened, nothing else.
"$VMCRYPTFS" mount -o "mount.log-file=$W/quick.log" -o "mount.state-directory=$W/state" \
	-o "mount.runtime-directory=$W/run" -o "file.directory=$KEYS.new" "$BACK" "$MNT" 2>"$W/quick.err" &&
	fail "mounted without its rules" # passthrough files would be plaintext
"$VMCRYPTFS" mount --with-plaintext -o "mount.log-file=$W/quick.log" \
	-o "mount.state-directory=$W/state" -o "mount.runtime-directory=$W/run" \
	-o "file.directory=$KEYS.new" "$BACK" "$MNT" 2>"$W/quick.err" || fail "$(cat "$W/quick.err")"
rm "$W/quick.log"
kill -HUP "$(vcf_status_get "s['keeper_pid']")"
quick_said() { grep -q "$accepted.*nothing" "$W/quick.log"; }
wait_for 20 quick_said || fail "no line in the new file"
equal "content" part "$(cat "$MNT/_base/x.part")"
"$VMCRYPTFS" umount "$MNT"
ok "the quick form"
