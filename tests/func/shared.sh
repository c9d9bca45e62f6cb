#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two daemons over one folder: what one does, the other sees at once.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$FUNC/shared.lib.sh"
need_fuse
vcf_setup
vcf_config <<-CONFIG
	[rules]
	passthrough = plain/**
CONFIG
shared_mount
! "$VMCRYPTFS" mount -f -o "mount.state-directory=$W/third" "$CONF2" >/dev/null 2>&1 ||
	fail "one that is not shared was mounted beside them"
ok "one that is not shared is refused"

both_ways() { # FROM TO
	local a=$1 b=$2 d f
	for d in "" plain/; do
		mkdir -p "$a/$d"
		f=${d}f
		[ ! -e "$b/$f" ] || fail "$f is there"
		: >"$a/$f"
		equal "empty" 0 "$(stat -c %s "$b/$f")"
		exec 7<"$b/$f" # before it is a container
		printf hello >"$a/$f"
		equal "first bytes" hello "$(cat "$b/$f")"
		equal "by an old handle" hello "$(cat <&7)"
		exec 7<&-
		exec 7<>"$b/$f"
		pattern 1 10000 >"$W/p"
		cp "$W/p" "$a/$f"
		same "$W/p" "$b/$f"
		truncate -s 1000001 "$a/$f"
		equal "grown" 1000001 "$(stat -c %s "$b/$f")"
		truncate -s 5001 "$a/$f"
		equal "shrunk" 5001 "$(stat -c %s "$b/$f")"
		printf abc >&7 # at 0, by a handle from before
		printf 'abc' | dd of="$W/p" conv=notrunc status=none
		truncate -s 5001 "$W/p"
		same "$W/p" "$a/$f"
		exec 7>&-
		printf one >>"$a/$f"
		printf two >>"$b/$f"
		printf three >>"$a/$f"
		printf onetwothree >>"$W/p"
		same "$W/p" "$b/$f"
		exec 7>>"$a/$f" 8>>"$b/$f"
		for _ in 1 2 3; do
			printf x >&7
			printf y >&8
		done
		exec 7>&- 8>&-
		equal "appended" xyxyxy "$(tail -c 6 "$a/$f")"
		fallocate -p -o 0 -l 4096 "$a/$f"
		equal "punched" 0 "$(head -c 4096 "$b/$f" | tr -d '\0' | wc -c)"
		mv "$a/$f" "$a/${d}g"
		[ ! -e "$b/$f" ] && [ -e "$b/${d}g" ] || fail "rename"
		setfattr -n user.k -v 1 "$a/${d}g"
		equal "xattr" 1 "$(getfattr --only-values -n user.k "$b/${d}g" 2>/dev/null)"
		setfattr -n user.k -v 2 "$a/${d}g"
		equal "xattr" 2 "$(getfattr --only-values -n user.k "$b/${d}g" 2>/dev/null)"
		chmod 600 "$a/${d}g"
		equal "mode" 600 "$(stat -c %a "$b/${d}g")"
		rm "$a/${d}g"
		[ ! -e "$b/${d}g" ] || fail "unlink"
	done
}
need_prog setfattr getfattr
both_ways "$MNT" "$MNT2"
both_ways "$MNT2" "$MNT"
ok "names, bytes, sizes, attributes"

# Sectors that are written in part, from both sides, each its own bytes.
: >"$MNT/parts"
stripes() { # FOLDER FIRST BYTE
	python3 - "$1/parts" "$2" "$3" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDWR)
		for i in range(int(sys.argv[2]), 1000, 2):
		    os.pwrite(fd, sys.argv[3].encode() * 37, i * 37)
	PY
}
stripes "$MNT" 0 a & a=$!
stripes "$MNT2" 1 b & b=$!
wait "$a" || fail "a writer"
wait "$b" || fail "a writer"
python3 -c 'import sys; sys.stdout.write(("a"*37+"b"*37)*500)' >"$W/want"
same "$W/want" "$MNT/parts"
same "$W/want" "$MNT2/parts"
ok "parts of sectors"

# The first byte of many files, from both sides at once: one header, one secret.
mkdir "$MNT/race"
race() { # FOLDER OFFSET BYTE
	python3 - "$1/race" "$2" "$3" <<-'PY'
		import os, sys
		for i in range(40):
		    fd = os.open(f"{sys.argv[1]}/{i}", os.O_RDWR | os.O_CREAT, 0o644)
		    os.pwrite(fd, sys.argv[3].encode() * 100, int(sys.argv[2]))
		    os.close(fd)
	PY
}
pids=()
for n in 0 1 2; do
	race "$MNT" $((n * 200)) "$n" & pids+=($!)
	race "$MNT2" $((n * 200 + 100)) $((n + 3)) & pids+=($!)
done
for p in "${pids[@]}"; do wait "$p" || fail "a writer"; done
python3 -c 'import sys; sys.stdout.write("".join(c*100 for c in "031425"))' >"$W/want"
for ((i = 0; i < 40; i++)); do
	same "$W/want" "$MNT/race/$i"
	same "$W/want" "$MNT2/race/$i"
done
ok "headers made at once"

# Its last name goes here while the other has it open: that one goes on.
pattern 5 300000 >"$W/p"
cp "$W/p" "$MNT/doomed"
exec 7<>"$MNT2/doomed"
rm "$MNT/doomed"
sleep 2.5
cmp "$W/p" <(cat <&7) || fail "its content went with the name"
printf more >&7
exec 7>&-
held() { find "/proc/$(server_of 1)/fd" -lname '*doomed (deleted)' 2>/dev/null | grep . >/dev/null; }
gone() { ! held; }
wait_for 5 gone || fail "it is still waited for"
ok "an image that is open elsewhere is deleted with its last handle"

# One dies in the middle of it: the other goes on, and so does it.
for n in 1 2; do
	race "$MNT" 600 6 & a=$!
	race "$MNT2" 700 7 & b=$!
	sleep 0.05
	kill -9 "$(server_of $n)"
	wait "$a" || fail "kill -9"
	wait "$b" || fail "kill -9"
done
expect_log 'was killed by signal 9'
for ((i = 0; i < 40; i++)); do
	equal "size" 800 "$(stat -c %s "$MNT/race/$i")"
	equal "end" 7 "$(tail -c 1 "$MNT2/race/$i")"
	cmp "$MNT/race/$i" "$MNT2/race/$i"
done
ok "kill -9 of either"

# As many secrets as containers and reserves: no orphan.
rm "$MNT"/race/*
for m in "$MNT" "$MNT2"; do [ -z "$(ls "$m/race")" ] || fail "not empty"; done
must_fail_with "No such device" py mmap_write "$MNT/parts" 0 x
py mmap_private "$MNT/parts" 0 x
ok "no shared mapping"
shared_umount
