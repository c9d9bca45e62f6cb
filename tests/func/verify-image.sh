#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# verify: each kind of damage is found and named with its way out, none is where there is none, nothing
# is changed, and nobody is kept out.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = locks/**
derived = **/*.part
bind = ^([a-z]{4})/
CONFIG
opts=(-o key-service.reserve=0 -o key-service.linger=0)
D=2097152

verify() { "$VMCRYPTFS" verify -c "$CONF" "$@"; }

# The only fault of a file, and the exit code.
finds() { # FILE KIND CODE TEXT
	local rc=0

	verify --json "$1" >"$W/json" 2>"$W/stderr" || rc=$?
	equal "$2: exit code" "$3" "$rc"
	equal "faults of $1" "$2" "$(python3 -c '
import json, sys
for line in sys.stdin:
    o = json.loads(line)
    if o["event"] == "file":
        print(",".join(f["kind"] for f in o["faults"]))
        assert all(f["way_out"] and f["text"] for f in o["faults"])
        assert o["result"] == ("failed" if o["faults"] else "ok"), o
' <"$W/json")"
	must_fail_with "$4" verify "$1"
}

damaged() { # NAME [SOURCE]   a copy to damage, in a place that the rules know
	cp --sparse=always "$BACK/${2:-aaaa/disk}" "$BACK/aaaa/x-$1"
	echo "$BACK/aaaa/x-$1"
}

put() { # FILE OFFSET BYTES
	head -c "$3" /dev/urandom | dd of="$1" bs=1M seek="$2" oflag=seek_bytes conv=notrunc status=none
}

vcf_mount "${opts[@]}"
mkdir "$MNT/aaaa" "$MNT/bbbb" "$MNT/locks"
pattern 1 300001 >"$MNT/aaaa/disk"
truncate -s 3000000 "$MNT/aaaa/disk"
pattern 2 8192 >"$MNT/bbbb/whole"
pattern 3 5000 >"$MNT/aaaa/small.part"
: >"$MNT/aaaa/empty"
echo lock >"$MNT/locks/l"
vcf_remount "${opts[@]}" -o format.type=luks1 -o format.sector-size=512
pattern 4 100001 >"$MNT/aaaa/luks1"
exec 9<>"$MNT/aaaa/disk"
verify --all --full >"$W/out" 2>"$W/stderr" || fail "sound ones: $(cat "$W/stderr")"
equal "sound ones" 4 "$(grep -c ': sound, and all of it can be read$' "$W/out")"
grep -q 'empty: an empty image' "$W/out" || fail "empty"
! grep -q locks "$W/out" || fail "--all looks at passthrough files"
verify "$MNT/aaaa/disk" "$MNT/locks/l" >"$W/out" || fail "by its name in the mount"
grep -q 'passthrough by the rules' "$W/out" || fail "passthrough"
ok "sound images, by either name, also one that is open"

# While it is written to, grows and shrinks all the time, it is sound at every moment.
(
	trap - EXIT
	exec python3 - "$MNT/bbbb/grows" <<-'PY'
		import os, random, sys, time
		f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
		end = time.monotonic() + 60
		while time.monotonic() < end:
		    os.ftruncate(f, random.randrange(1, 100000))
		    os.pwrite(f, b"x" * 5000, random.randrange(100000))
	PY
) &
writer=$!
wait_for 10 test -s "$BACK/bbbb/grows"
for _ in $(seq 30); do
	verify "$BACK/bbbb/grows" >/dev/null || fail "a growing image"
done
kill $writer
wait $writer 2>/dev/null || true
exec 9>&-
ok "an image that changes all the time"
vcf_umount
rm "$BACK/bbbb/grows"
(cd "$BACK" && find . -type f -exec sha256sum {} + | sort) >"$W/sums"

f=$(damaged first)
put "$f" 5000 100
finds "$f" header-copy 1 "the first copy of its header is damaged ('vmcryptfs repair'"
f=$(damaged second)
put "$f" 20000 100
finds "$f" header-copy 1 "the second copy of its header is damaged"
# What is being changed is no fault: it is right again a moment later.
f=$(damaged passing)
head -c 32768 "$f" >"$W/head"
put "$f" 5000 100
(sleep 0.15; dd if="$W/head" of="$f" bs=32768 conv=notrunc status=none) &
verify "$f" >/dev/null || fail "a header that was being changed"
wait $!
rm "$f"
f=$(damaged both)
put "$f" 5000 100
put "$f" 20000 100
finds "$f" header 1 "in all its copies"
f=$(damaged gone)
put "$f" 0 $D
finds "$f" plaintext 1 "its header is destroyed"
f=$(damaged slot)
put "$f" 40000 50000
finds "$f" key-slot 1 "key slot 0 does not open: it is damaged ('vmcryptfs header restore'"
f=$(damaged field)
py luks2_edit "$f" '"generation":1' '"generation":2'
finds "$f" mac 1 "its MAC is wrong: the header was changed"
f=$(damaged refused)
py luks2_edit "$f" '"stripes":4000' '"stripes":2'
finds "$f" header 1 "header refused"
f=$(damaged exchanged)
py luks2_edit "$f" "$(key_id_of "$BACK/aaaa/disk")" "$(key_id_of "$BACK/bbbb/whole")"
finds "$f" mac 1 "neither its MAC nor its key slot"
ok "headers"

f=$(damaged luks1 aaaa/luks1)
put "$f" 1100 4
finds "$f" header 1 "checksum is wrong"
f=$(damaged luks1slot aaaa/luks1)
put "$f" 5000 50000
finds "$f" key-slot 1 "it is damaged"
ok "headers of LUKS1"

f=$(damaged torn)
truncate -s $((D + 100)) "$f"
finds "$f" size 1 "100 bytes behind the header are no whole sector"
f=$(damaged cut)
truncate -s 100000 "$f"
finds "$f" size 1 "it ends inside its header: 100000 bytes of $D"
f=$(damaged marker)
put "$f" $(($(stat -c %s "$f") - 1)) 1
finds "$f" marker 1 "only tell its size, are data"
truncate -s $((D + 10 * 4096 + 100)) "$f" # in the middle of data
finds "$f" marker 1 "the 100 bytes behind its last sector"
ok "sizes"

f=$BACK/bbbb/x-context
cp "$BACK/aaaa/disk" "$f"
finds "$f" context 1 "it belongs to instance 'aaaa', not 'bbbb'"
echo clear >"$BACK/aaaa/x-clear"
finds "$BACK/aaaa/x-clear" plaintext 1 "vmcryptfs encrypt"
f=$(damaged secret bbbb/whole)
mv "$BACK/aaaa/x-secret" "$BACK/bbbb/x-secret"
f=$BACK/bbbb/x-secret
id=$(key_id_of "$f")
mv "$KEYS/$id" "$W/secret"
finds "$f" secret 7 "there is no secret $id of service 'default'"
mv "$W/secret" "$KEYS/$id"
verify "$f" >/dev/null || fail "the secret is back"
f=$(damaged service)
py luks2_edit "$f" '"service":"default"' '"service":"elsewhere"'
finds "$f" service 7 "its key service 'elsewhere' is not configured"
must_fail verify "$BACK/nothing"
equal "no such file" 4 "$(verify "$BACK/nothing" 2>/dev/null || echo $?)"
ok "places, plaintext, secrets"

# A disk that has lost something, in a program that reads it so.
faulty=$VCF_BUILD/tests/func/faultyread
helper=(-o "key-service.helper=$VCF_BUILD/crypto/keys/vmcryptfs-key-file")
export FAULTY_FROM=$((D + 8200)) FAULTY_TO=$((D + 8300))
rc=0
"$faulty" verify --full --json "${helper[@]}" -c "$CONF" "$BACK/aaaa/disk" >"$W/json" || rc=$?
equal "unreadable: exit code" 1 "$rc"
grep -q '"text":"bytes 8192 to 12287 of the image cannot be read' "$W/json" || fail "which? $(cat "$W/json")"
grep -q '"unreadable":4096' "$W/json" || fail "how much? $(cat "$W/json")"
"$faulty" verify "${helper[@]}" -c "$CONF" "$BACK/aaaa/disk" >/dev/null || fail "data is nothing to a short look"
unset FAULTY_FROM FAULTY_TO
ok "sectors that cannot be read"

rc=0
verify --all --parallel 4 >"$W/out" 2>"$W/stderr" || rc=$?
[ $rc != 0 ] || fail "--all finds nothing"
equal "found by --all" "$(find "$BACK" -name 'x-*' ! -name x-secret | wc -l)" \
	"$(grep -c '/x-' "$W/stderr")"
rm "$BACK"/*/x-*
(cd "$BACK" && sha256sum -c --quiet "$W/sums") || fail "something was changed"
ok "--all; nothing was changed"
