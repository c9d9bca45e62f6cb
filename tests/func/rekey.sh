#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# rekey: another secret for an image, without a daemon and under guests' I/O; while the server is
# killed and while the key service is down; many at once, by age, to another service. Afterwards the
# service holds one secret for each image, and what waits for its end.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
GOLD=$KEYS.gold
mkdir -m 700 "$GOLD"
at_exit "rm -rf '$GOLD'"
cat >>"$CONF" <<CONFIG
[service gold]
helper = file
directory = $GOLD
reserve = 0
[rules]
derived = **/*.part
passthrough = plain/**
bind = ^([a-z]{4})/
CONFIG
expect_log 'the server \(pid [0-9]+, generation [0-9]+\) was killed by signal 9'
opts=(-o key-service.reserve=0 -o key-service.linger=1)

field() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
rekey() { timeout 60 "$VMCRYPTFS" rekey -c "$CONF" "$@"; }
opens() { cryptsetup open --test-passphrase --key-file "$2" "$BACK/$1" 2>/dev/null; }
secrets() { find "$1" -type f ! -name '.*' | wc -l; } # DIRECTORY
waiting() { "$VMCRYPTFS" keys pending --json -c "$CONF" |
	python3 -c "import json,sys; print(json.load(sys.stdin)['waiting'])"; }
is_waiting() { [ "$(waiting)" = "$1" ]; }

check_new() { # FILE OLD-UUID OLD-KEY-FILE GENERATION
	[ "$(field "$1" uuid)" != "$2" ] || fail "$1 has its old uuid"
	equal "generation of $1" "$4" "$(field "$1" generation)"
	opens "$1" "$KEYS/$(field "$1" key_id)" || fail "$1: not with its new secret"
	! opens "$1" "$3" || fail "$1: cryptsetup opens it with its old secret"
}

# --- nobody serves it ---

vcf_mount "${opts[@]}"
mkdir "$MNT/aaaa" "$MNT/bbbb" "$MNT/plain"
pattern 1 300000 >"$W/1"
for f in aaaa/a aaaa/b aaaa/c aaaa/x.part plain/p; do
	cp "$W/1" "$MNT/$f"
done
: >"$MNT/aaaa/empty"
vcf_umount

uuid=$(field aaaa/a uuid) key=$(field aaaa/a key_id)
cp "$KEYS/$key" "$W/old.key"
rekey "$BACK/aaaa/a" >"$W/out"
grep -q "uuid $uuid is $(field aaaa/a uuid) now, key $(field aaaa/a key_id) at default; its old secret $key at default is destroyed from " \
	"$W/out" || fail "said: $(cat "$W/out")"
check_new aaaa/a "$uuid" "$W/old.key" 2
[ -e "$KEYS/$key" ] || fail "the old secret did not wait"
equal "waiting" 1 "$(waiting)"
key=$(field aaaa/b key_id) uuid=$(field aaaa/b uuid)
cp "$KEYS/$key" "$W/old.key"
rekey --destroy-now --json "$BACK/aaaa/b" >"$W/out"
python3 - "$W/out" "$key" "$(field aaaa/b uuid)" <<'PYTHON' || fail "said: $(cat "$W/out")"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
[o] = [line for line in lines if line["event"] == "file"]
assert o["result"] == "ok" and o["old_key_id"] == sys.argv[2] and o["uuid"] == sys.argv[3], o
PYTHON
check_new aaaa/b "$uuid" "$W/old.key" 2
[ ! -e "$KEYS/$key" ] || fail "the old secret is still there"
equal "waiting" 1 "$(waiting)"
ok "without a daemon"

refused() { # EXIT-CODE TEXT COMMAND...
	local rc=0

	"${@:3}" >"$W/stdout" 2>"$W/stderr" || rc=$?
	equal "exit code of ${*:3}" "$1" $rc
	grep -qF -- "$2" "$W/stderr" || fail "${*:3}: wanted '$2', got: $(cat "$W/stderr")"
}
mkdir "$BACK/cccc"
cp --sparse=always "$BACK/aaaa/c" "$BACK/cccc/c"
before=$(secrets "$KEYS")
refusals() {
	refused 6 "derived from the site's" rekey "$1/aaaa/x.part"
	refused 1 "no header and no secret" rekey "$1/aaaa/empty"
	refused 8 "no container" rekey "$1/plain/p"
	refused 4 "No such file" rekey "$1/aaaa/nothing"
	refused 1 "bound to another instance" rekey "$1/cccc/c"
	refused 3 "no [service silver]" rekey --service silver "$1/aaaa/a"
	refused 2 "" rekey
	refused 2 "" rekey --all "$1/aaaa/a"
	refused 2 "no duration" rekey --older-than soon
}
refusals "$BACK"
rm "$BACK/cccc/c"
equal "secrets after refusals" "$before" "$(secrets "$KEYS")"
refused 2 "" "$VMCRYPTFS" rekey --all
refused 1 "-c CONFIG is needed" "$VMCRYPTFS" rekey "$BACK/aaaa/a"
ok "refusals, and nothing is left of them"

# --- under I/O ---

vcf_mount "${opts[@]}"
for f in a b c x.part; do
	same "$W/1" "$MNT/aaaa/$f"
done
cp --sparse=always "$BACK/aaaa/c" "$BACK/cccc/c"
refusals "$MNT"
rm "$BACK/cccc/c"
stripes() { # SECONDS FILE
	exec "$VCF_BUILD/tests/func/stripes" -t 4 -w 1000 -k "$1" -s 262144 "$MNT/$2" >"$W/stripes.out" 2>&1
}
end_io() { # PROCESS TIMES
	[ "$2" -ge 3 ] || fail "only $2 times while the I/O ran"
	wait "$1" || fail "verified I/O: $(cat "$W/stripes.out")"
}
has_header() { [ -n "$(field "$1" uuid 2>/dev/null)" ]; }

stripes 12 aaaa/disk &
io=$!
wait_for 10 has_header aaaa/disk || fail "no header"
exec 7<"$MNT/aaaa/disk"
before=$(waiting) under=0
for i in {1..20}; do
	uuid=$(field aaaa/disk uuid) key=$(field aaaa/disk key_id)
	cp "$KEYS/$key" "$W/old.key"
	if [ $((i % 2)) = 0 ]; then
		rekey "$MNT/aaaa/disk" >"$W/out"
	else
		rekey "$BACK/aaaa/disk" >"$W/out"
	fi
	grep -q "its old secret $key at default is destroyed from" "$W/out" || fail "said: $(cat "$W/out")"
	check_new aaaa/disk "$uuid" "$W/old.key" $((i + 1))
	! kill -0 $io 2>/dev/null || under=$i
done
equal "uuid in status" "$(field aaaa/disk uuid)" \
	"$(vcf_status_get '[i["uuid"] for i in s["images"] if i["path"].endswith("aaaa/disk")][0]')"
equal "old secrets that wait" $((before + 20)) "$(waiting)"
exec 7<&-
end_io $io "$under"
ok "20 times under verified I/O"

stripes 12 aaaa/disk2 &
io=$!
wait_for 10 has_header aaaa/disk2 || fail "no header"
under=0
for i in {1..8}; do
	uuid=$(field aaaa/disk2 uuid)
	rekey "$MNT/aaaa/disk2" >"$W/out" 2>&1 &
	command=$!
	sleep "0.0$((i * 7 % 10))"
	kill -KILL "$(vcf_status_get 's["server_pid"]' 2>/dev/null)" 2>/dev/null || true
	wait $command || fail "kill $i: $(cat "$W/out")"
	[ "$(field aaaa/disk2 uuid)" != "$uuid" ] || fail "kill $i: $(cat "$W/out")"
	opens aaaa/disk2 "$KEYS/$(field aaaa/disk2 key_id)" || fail "kill $i: not with its secret"
	! kill -0 $io 2>/dev/null || under=$i
done
end_io $io "$under"
ok "the server is killed meanwhile, and guests see nothing of it"

# What no image has is at its end, or in the queue; what a kill left, settled.
accounted() { # IMAGES-WITH-A-SECRET
	[ "$(secrets "$KEYS")" = $(($1 + $(waiting))) ]
}
wait_for 20 accounted 6 || fail "secrets: $(secrets "$KEYS"), waiting: $(waiting)"
vcf_remount "${opts[@]}" -o key-service.destroy-delay=0
accounted 6 || fail "after another mount: secrets: $(secrets "$KEYS"), waiting: $(waiting)"
ok "one secret for each image, one for the site, and those that wait"

# --- many at once, by age, another service ---

mkdir "$MNT/many"
for i in {1..50}; do
	echo "content $i" >"$MNT/many/$i"
done
for i in {1..50}; do
	field "many/$i" key_id
done >"$W/keys.before"
rekey --all --parallel 4 --destroy-now >"$W/out" || fail "$(cat "$W/out")"
equal "changed" 55 "$(grep -c ' now, key ' "$W/out")"
for i in {1..50}; do
	equal "content" "content $i" "$(cat "$MNT/many/$i")"
	equal "generation" 2 "$(field "many/$i" generation)"
done
old_gone() {
	local key

	while read -r key; do
		[ ! -e "$KEYS/$key" ] || return 1
	done <"$W/keys.before"
}
wait_for 60 old_gone || fail "old secrets stay"
ok "50 and more, four at a time, the old secrets destroyed now"

rekey --older-than 1d >"$W/out" || fail "$(cat "$W/out")"
equal "left alone" 0 "$(wc -l <"$W/out")"
sleep 2
rekey --older-than 1s "$MNT/many/1" "$MNT/many/2" >"$W/out"
equal "changed" 2 "$(grep -c ' now, key ' "$W/out")"
rekey --older-than 1h "$MNT/many/1" >"$W/out"
grep -q 'left alone' "$W/out" || fail "$(cat "$W/out")"
equal "generation" 3 "$(field many/1 generation)"
equal "generation" 2 "$(field many/3 generation)"
ok "by age"

vcf_umount
rekey --all --parallel 4 >"$W/out" 2>"$W/stderr" || fail "$(cat "$W/stderr")"
equal "changed" 55 "$(grep -c ' now, key ' "$W/out")"
vcf_mount "${opts[@]}" -o key-service.destroy-delay=0
for i in {1..50}; do
	equal "content" "content $i" "$(cat "$MNT/many/$i")"
done
ok "four at a time without a daemon"

rm -r "$MNT/many"
rekey --service gold "$MNT/aaaa/a" >"$W/out"
equal "service" gold "$(field aaaa/a service)"
[ -e "$GOLD/$(field aaaa/a key_id)" ] || fail "not at the other service"
rekey --service gold --all >"$W/out"
! grep -q /aaaa/a: "$W/out" || fail "one that was there already: $(cat "$W/out")"
equal "moved" 4 "$(grep -c ' at gold; its old secret .* at default' "$W/out")"
equal "secrets at the other service" 5 "$(secrets "$GOLD")"
vcf_umount
same_without() { # FILE
	local id
	id=$(field "$1" key_id)
	cryptsetup open --test-passphrase --key-file "$GOLD/$id" "$BACK/$1" || fail "$1"
}
same_without aaaa/a
same_without aaaa/disk
vcf_mount "${opts[@]}"
for f in a b c x.part; do
	same "$W/1" "$MNT/aaaa/$f"
done
vcf_umount
rekey --service default "$BACK/aaaa/a" >"$W/out"
equal "service" default "$(field aaaa/a service)"
ok "to another service, and back without a daemon"

# --- outages ---

rm -rf "$BACK" "$W/state"
mkdir -m 755 "$BACK"
mkdir -m 700 "$W/state"
vcf_faulty_helper
opts+=(-o key-service.timeout=2)
expect_log 'key service|key helper|cannot be destroyed yet|closed: cannot open: Key was rejected'
vcf_mount "${opts[@]}"
for f in open closed; do
	cp "$W/1" "$MNT/$f"
done
exec 8<>"$MNT/open"
helper_secrets() { secrets "$HELPER/secrets"; }
outage() { # VERB FAULT FILE
	local uuid

	uuid=$(field "$(basename "$3")" uuid)
	fault "$1" "$2"
	refused 7 "it is as it was" rekey -o key-service.timeout=2 "$3"
	fault
	equal "uuid" "$uuid" "$(field "$(basename "$3")" uuid)"
}
outage get unavailable "$MNT/open"
outage new unavailable "$MNT/open"
lost() { # FILE   the answer is lost: the service is asked whether it has it
	fault new lose
	rekey -o key-service.timeout=2 "$1" >"$W/out" 2>&1 || grep -q 'it is as it was' "$W/out" ||
		fail "$(cat "$W/out")"
	fault
}
lost "$MNT/closed"
outage get denied "$MNT/closed"
pattern 9 1000 >&8
wait_for 10 cmp "$W/1" "$MNT/closed" || fail "not the same" # a refusal is remembered for a moment
fault destroy unavailable
rekey --destroy-now "$MNT/open" "$MNT/closed" >"$W/out"
[ "$(waiting)" -ge 2 ] || fail "what waits: $(waiting)"
fault
exec 8<&-
vcf_umount
for verb in get new; do
	outage $verb unavailable "$BACK/open"
done
lost "$BACK/open"
rekey -o key-service.timeout=2 --destroy-now "$BACK/closed" >"$W/out" 2>&1
fault destroy unavailable
rekey -o key-service.timeout=2 --destroy-now "$BACK/open" >"$W/out" 2>&1 ||
	fail "its end could not be queued: $(cat "$W/out")"
fault
vcf_mount "${opts[@]}" -o key-service.destroy-delay=0
{ pattern 9 1000; tail -c +1001 "$W/1"; } >"$W/1b"
same "$W/1b" "$MNT/open"
same "$W/1" "$MNT/closed"
# Those of `lost` wait for a week.
all_settled() { [ "$(waiting)" -le 2 ] && [ "$(helper_secrets)" = $((2 + $(waiting))) ]; }
wait_for 20 all_settled || fail "secrets: $(helper_secrets), waiting: $(waiting), $(ls "$HELPER/secrets")"
ok "outages: the image opens, and no secret is left over"
