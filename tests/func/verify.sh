#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Others' words for it: what fio wrote, it finds again, in a new mount as well; stress-ng's processes
# work on one tree and check what they get. tests/interop/suites has the long form.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog fio stress-ng
SECS=${1:-3}
vcf_setup
vcf_config <<<$'[rules]\npassthrough = plain/**'
mkdir "$BACK/plain"

fio_on() { # FILE OPTION...
	(cd "$W" && fio --name=v --filename="$MNT/$1" --size=8m --rw=randwrite --iodepth=8 \
		--verify=crc32c --verify_fatal=1 --end_fsync=1 --randseed=6 "${@:2}") \
		>"$W/fio.log" 2>&1 </dev/null
}

each() { # OPTION...
	local dir direct

	for dir in . plain; do
		for direct in 0 1; do
			fio_on "$dir/sync-$direct" --ioengine=sync --direct=$direct --bsrange=4k-64k "$@" &&
				fio_on "$dir/aio-$direct" --ioengine=libaio --direct=$direct --bs=4k "$@" ||
				fail "fio in $dir, direct=$direct $*: $(cat "$W/fio.log")"
		done
		fio_on "$dir/bytes" --ioengine=sync --bsrange=1k-100k --bs_unaligned "$@" ||
			fail "fio in $dir, unaligned $*: $(cat "$W/fio.log")"
	done
}

vcf_mount
each
ok "written and verified by fio, as images and plain, through the page cache and O_DIRECT"
vcf_remount
each --verify_only
ok "verified in another mount"
vcf_umount
printf x | dd of="$BACK/plain/aio-0" bs=1 seek=5000000 conv=notrunc 2>"$W/dd.log"
vcf_mount
must_fail fio_on plain/aio-0 --ioengine=libaio --bs=4k --verify_only
ok "a byte that is another one is found"

for dir in . plain; do
	mkdir "$MNT/$dir/stress"
	(cd "$MNT/$dir/stress" && stress-ng --temp-path . --verify -t "$SECS" --dentry 1 --dir 1 \
		--fallocate 1 --filename 1 --fpunch 1 --fstat 1 --hdd 1 --hdd-bytes 16m --iomix 1 \
		--iomix-bytes 16m --link 1 --lockofd 1 --rename 1 --symlink 1 --utime 1) \
		>"$W/stress.log" 2>&1 || fail "stress-ng in $dir: $(cat "$W/stress.log")"
	rm -r "$MNT/$dir/stress"
done
equal "deaths of the server" 0 "$(vcf_status_get 's["deaths"]')"
ok "stress-ng: 13 kinds of processes on one tree for $SECS seconds, as images and plain"
