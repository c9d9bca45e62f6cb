#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A new file may get the inode number of one that has just been deleted, whose key still
# lingers: it is a new image with a key of its own.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

ino() { stat -c %i "$1"; }
reused=0
for i in 1 2 3 4 5 6; do
	pattern "old$i" 100000 >"$W/old"
	pattern "new$i" 50001 >"$W/new"
	cp "$W/old" "$MNT/a"
	before=$(ino "$BACK/a")
	rm "$MNT/a"
	sleep 0.2 # the kernel forgets the inode
	cp "$W/new" "$MNT/b"
	[ "$(ino "$BACK/b")" = "$before" ] && reused=$((reused + 1))
	same "$W/new" "$MNT/b"
	vcf_remount
	same "$W/new" "$MNT/b"
	rm "$MNT/b"
done
[ $reused -gt 0 ] || echo "(no inode number was used twice here)"
ok "$reused of 6 new files with the inode number of a deleted one"

# Removed below the mount: nothing tells the daemon but the file itself.
reused=0
for i in 1 2 3; do
	cp "$W/old" "$MNT/a"
	before=$(ino "$BACK/a")
	rm "$BACK/a"
	sleep 1.2 # the kernel asks again, and forgets the inode
	[ ! -e "$MNT/a" ] || fail "a removed file is still there"
	cp "$W/new" "$MNT/b"
	[ "$(ino "$BACK/b")" = "$before" ] && reused=$((reused + 1))
	vcf_remount
	same "$W/new" "$MNT/b"
	rm "$MNT/b"
done
ok "$reused of 3 new files with the inode number of one removed below"
