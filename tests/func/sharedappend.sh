#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two nodes append to one file (an image, a plain file) while one's server is killed again and again:
# each line is there, whole, once, and of each node in the order that it wrote them.
# usage: sharedappend.sh [SECONDS]
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$FUNC/shared.lib.sh"
need_fuse
seconds=${1:-6}
vcf_setup
expect_log 'was killed by signal 9'
shared_mount -o 'rules.passthrough=pass/**'
mkdir "$MNT/pass"

# Lines of 100 bytes by the node's letter and a number; prints how many.
append() { # LETTER FILE
	python3 - "$@" "$seconds" <<'PY'
import os
import sys
import time

letter, path, seconds = sys.argv[1:]
fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
end, n = time.monotonic() + float(seconds), 0
while time.monotonic() < end:
    line = f"{letter} {n:09d} ".encode().ljust(99, letter.encode()) + b"\n"
    if os.write(fd, line) != len(line):
        sys.exit("a short write")
    n += 1
print(n)
PY
}

check() { # FILE COUNT-A COUNT-B
	python3 - "$@" <<'PY'
import sys

path, want = sys.argv[1], {"A": int(sys.argv[2]), "B": int(sys.argv[3])}
seen = {"A": 0, "B": 0}
with open(path, encoding="ascii", errors="replace") as f:
    for at, line in enumerate(f):
        letter = line[0]
        right = f"{letter} {seen.get(letter, -1):09d} ".ljust(99, letter) + "\n"
        if line != right:
            sys.exit(f"line {at}: {line!r} where {right!r} belongs")
        seen[letter] += 1
if seen != want:
    sys.exit(f"{seen} lines, {want} were written")
PY
}

for name in disk pass/log; do
	: >"$MNT/$name"
	append A "$MNT/$name" >"$W/a" &
	first=$!
	append B "$MNT2/$name" >"$W/b" &
	second=$!
	kills=0
	while kill -0 $first 2>/dev/null; do
		kill -9 "$(server_of 1)" 2>/dev/null && kills=$((kills + 1))
		sleep 0.3
	done
	wait $first || fail "$name: the first node's appends"
	wait $second || fail "$name: the second node's appends"
	[ $kills -gt 3 ] || fail "only $kills kills"
	check "$MNT/$name" "$(cat "$W/a")" "$(cat "$W/b")" || fail "$name"
	check "$MNT2/$name" "$(cat "$W/a")" "$(cat "$W/b")" || fail "$name, the second node"
	ok "$name: $(cat "$W/a") and $(cat "$W/b") lines, $kills kills"
done

: >"$MNT/aligned"
refused=$(python3 -c 'import os, mmap, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_DIRECT)
try:
    os.write(fd, mmap.mmap(-1, 4096))
except OSError as e:
    print(e.errno)' "$MNT/aligned")
equal "O_APPEND with O_DIRECT" 22 "$refused"
ok "no order among the pieces of an asynchronous append: refused"
shared_umount
