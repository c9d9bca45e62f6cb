#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shred: the header is overwritten, the secret destroyed at once, and the receipt says what the service
# answered. What is in use, is no container of ours, or shares its secret stays as it is.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
vcf_faulty_helper
vcf_config <<'CONFIG'
[rules]
derived = **/*.part
passthrough = plain/**
CONFIG
opts=(-o key-service.reserve=0 -o key-service.linger=1)
expect_log 'key service|key helper'
vcf_mount "${opts[@]}"
mkdir "$MNT/plain"
for f in a b c d e f x.part plain/p; do
	pattern 1 300000 >"$MNT/$f"
done
: >"$MNT/empty"

field() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
secrets() { find "$HELPER/secrets" -type f | wc -l; }
shred() { timeout 60 "$VMCRYPTFS" shred --yes -c "$CONF" -o key-service.timeout=2 "$@"; }
exits() { # CODE TEXT COMMAND...
	local rc=0

	"${@:3}" >"$W/stdout" 2>"$W/stderr" || rc=$?
	equal "exit code of ${*:3}" "$1" $rc
	grep -qF -- "$2" "$W/stderr" || fail "${*:3}: wanted '$2', got: $(cat "$W/stderr")"
}
receipt() { # FILE-WITH-RECEIPTS NUMBER EXPRESSION
	python3 -c "import json,sys; o=[json.loads(l) for l in open(sys.argv[1])][$2]; print($3)" "$1"
}
is_closed() { [ "$(vcf_status_get '[i for i in s["images"] if i["path"].endswith("'"$1"'")]')" = '[]' ]; }

# --- refusals ---

exec 8<"$MNT/a"
before=$(secrets)
exits 5 "daemon has it open" shred "$MNT/a"
exits 5 "daemon has it open" shred "$BACK/a"
exec 8<&-
for f in a b c d e f; do
	wait_for 20 is_closed $f || fail "$f is still open"
done
exits 2 "--yes" "$VMCRYPTFS" shred -c "$CONF" "$MNT/a"
exits 2 "" shred
exits 2 "" "$VMCRYPTFS" shred --yes "$MNT/a"
exits 8 "no container" shred "$MNT/plain/p"
exits 1 "no header" shred "$MNT/empty"
exits 4 "No such file" shred "$MNT/nothing"
ln -s a "$MNT/link"
exits 1 "symbolic link" shred "$MNT/link"
ln "$MNT/a" "$MNT/a2"
exits 6 "it has 2 names" shred "$MNT/a"
rm "$MNT/a2" "$MNT/link"
cp --sparse=always "$BACK/a" "$BACK/copy"
exits 5 "copy has the same secret" shred "$MNT/a"
rm "$BACK/copy"
exits 6 "destroyer = controller" shred -o key-service.destroyer=controller "$MNT/a"
fault get unavailable
exits 7 "nothing is changed" shred "$MNT/a"
fault
fault get notfound
exits 7 "nothing is changed" shred "$MNT/a"
fault
equal "secrets" "$before" "$(secrets)"
pattern 1 300000 | cmp - "$MNT/a" || fail "it is not as it was"
wait_for 20 is_closed a || fail "still open"
ok "refusals change nothing"

# --- the end ---

uuid=$(field a uuid) key=$(field a key_id)
head -c 2097152 "$BACK/a" >"$W/header" # what a thief might have
cp "$HELPER/secrets/$key" "$W/secret"
shred "$MNT/a" >"$W/receipts" 2>"$W/stderr" || fail "$(cat "$W/stderr")"
[ ! -e "$BACK/a" ] || fail "the file is there"
[ ! -e "$HELPER/secrets/$key" ] || fail "the secret is there"
equal "one line" 1 "$(wc -l <"$W/receipts")"
equal "receipt" "vmcryptfs-shredded $uuid $key default overwritten destroyed removed False" \
	"$(receipt "$W/receipts" 0 'o["type"], o["uuid"], o["key_id"], o["service"], o["header"], o["answer"], o["file"], o["derived"]' | tr -d "(',)")"
[ $(($(date +%s) - $(date -d "$(receipt "$W/receipts" 0 'o["time"]')" +%s))) -lt 60 ] || fail "time"
equal "path" "$BACK/a" "$(receipt "$W/receipts" 0 'o["path"]')"
gone() { [ ! -e "$MNT/a" ]; }
wait_for 5 gone || fail "the mount still has it"
ok "a receipt, and nothing else is left"

key=$(field b key_id)
shred --keep-file --receipt "$W/file" "$BACK/b" >"$W/stdout"
equal "output" "" "$(cat "$W/stdout")"
equal "answer" "destroyed" "$(receipt "$W/file" 0 'o["answer"]')"
equal "file" "kept" "$(receipt "$W/file" 0 'o["file"]')"
equal "length" $((2097152 + 303104 + 992)) "$(stat -c %s "$BACK/b")"
[ ! -e "$HELPER/secrets/$key" ] || fail "the secret is there"
printf %s "$(cut -d' ' -f1 "$W/secret")" >"$W/b.key"
! cryptsetup luksDump "$BACK/b" >/dev/null 2>&1 || fail "a header is left"
rm "$BACK/b"
shred --json --parallel 2 "$MNT/c" "$MNT/d" "$MNT/x.part" >"$W/json"
python3 - "$W/json" <<'PYTHON' || fail "said: $(cat "$W/json")"
import json, os, sys
files = [o for o in map(json.loads, open(sys.argv[1])) if o["event"] == "file"]
answers = {os.path.basename(o["path"]): o["receipt"]["answer"] for o in files}
assert answers == {"c": "destroyed", "d": "destroyed", "x.part": "local"}, answers
PYTHON
equal "secrets: of two images, and the site's" 3 "$(secrets)"
ok "kept files, several at once, a derived one"

# --- outages ---

key=$(field e key_id) uuid=$(field e uuid)
fault destroy unavailable
exits 7 "its secret is not destroyed" shred "$MNT/e"
[ -e "$HELPER/secrets/$key" ] || fail "it was destroyed"
equal "cut to nothing" 0 "$(stat -c %s "$BACK/e")"
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$W/secret" 2>"$W/stderr" || true
grep -q 'e: shred was cut short' "$W/stderr" || fail "another command says: $(cat "$W/stderr")"
[ -e "$HELPER/secrets/$key" ] || fail "another command destroyed it"
exits 7 "was cut short" shred "$MNT/e"
fault
shred "$MNT/e" >"$W/receipts" 2>"$W/stderr" || fail "$(cat "$W/stderr")"
equal "receipt" "$uuid destroyed" "$(receipt "$W/receipts" 0 'o["uuid"] + " " + o["answer"]')"
[ ! -e "$HELPER/secrets/$key" ] || fail "the secret is there"
[ ! -e "$BACK/e" ] || fail "the file is there"
exits 4 "No such file" shred "$MNT/e"
ok "the service is down: the same command completes it later"

key=$(field f key_id)
fault destroy unavailable
exits 7 "its secret is not destroyed" shred "$MNT/f"
fault
written() { pattern 3 5000 >"$MNT/f" && [ -n "$(field f uuid)" ]; }
wait_for 10 written || fail "an empty file cannot be written to"
exits 1 "was written since" shred "$MNT/f"
[ ! -e "$HELPER/secrets/$key" ] || fail "the secret is there"
pattern 3 5000 | cmp - "$MNT/f" || fail "what was written since is lost"
ok "what was written since stays"
equal "secrets: of one image, and the site's" 2 "$(secrets)"
