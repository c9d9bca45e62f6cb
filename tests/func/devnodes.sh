#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Device nodes: made and kept in passthrough folders as on any file system, refused where images are,
# and opened by nobody but the kernel, which does so only with nodev = no. The same goes for FIFOs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setpriv
vcf_setup
need "the right to make devices below" mknod "$BACK/zero" c 1 5
vcf_config <<<$'[rules]\npassthrough = plain/**'
NUMBERS=$(stat -c %t:%T /dev/zero)

# Everything of ours that looks at the tree, with what is opened meanwhile in $OPENED.
watch() { # COMMAND...
	coproc WATCH { py opened "$BACK" "$BACK/plain"; }
	local to=${WATCH[1]} from=${WATCH[0]} pid=$WATCH_PID line

	exec 8<&"$from" 9>&"$to"
	read -r line <&8
	equal "the watch" watching "$line"
	"$@"
	exec 9>&-
	eval "exec $to>&-"
	OPENED=$(cat <&8 | xargs)
	exec 8<&-
	wait "$pid" || fail "the watch failed"
}

# A device and a FIFO that lie below since before the mount, beside an image's container.
mkdir "$BACK/plain"
mkfifo "$BACK/fifo" "$BACK/plain/fifo"
mknod "$BACK/plain/zero" c 1 5
vcf_mount
echo content >"$MNT/image"
vcf_umount

look() {
	local f

	timeout 30 find "$MNT" -ls >"$W/found"
	equal "entries" 7 "$(wc -l <"$W/found")"
	for f in zero fifo plain/zero plain/fifo; do
		stat "$MNT/$f" >/dev/null
		chmod 640 "$MNT/$f"
		touch "$MNT/$f"
		must_fail truncate -s 10 "$MNT/$f"
		mv "$MNT/$f" "$MNT/$f.x"
		mv "$MNT/$f.x" "$MNT/$f"
		ln "$MNT/$f" "$MNT/$f.l"
		rm "$MNT/$f.l"
	done
	must_fail_with "Permission denied" cat "$MNT/zero"
	must_fail_with "Permission denied" cat "$MNT/plain/zero"
	cat "$MNT/image" >/dev/null
}

scan() {
	vcf_mount
	look
	vcf_umount
	"$VMCRYPTFS" check-tree -c "$CONF" >/dev/null
	must_fail_with "Invalid argument" "$VMCRYPTFS" info "$BACK/zero"
	must_fail_with "Invalid argument" timeout 30 "$VMCRYPTFS" info "$BACK/fifo"
}
watch scan
equal "opened by scans, lookups and changes" image "$OPENED"
ok "nothing but images is opened"

vcf_mount
must_fail_with "Operation not permitted" mknod "$MNT/new" c 1 5
must_fail_with "Operation not permitted" mknod "$MNT/new" b 7 0
[ ! -e "$BACK/new" ] || fail "a device among images"
must_fail_with "Invalid cross-device link" py rename2 noreplace "$MNT/plain/zero" "$MNT/new"
must_fail_with "Invalid cross-device link" ln "$MNT/plain/zero" "$MNT/new"
must_fail mv "$MNT/plain/zero" "$MNT/new"
[ -e "$BACK/plain/zero" ] || fail "mv lost it"
ok "not where images are, by no way"

make() {
	(umask 027; mknod "$MNT/plain/made" c 1 5)
	mknod -m 604 "$MNT/plain/blk" b 259 1234
	must_fail_with "File exists" mknod "$MNT/plain/made" c 1 5
	must_fail_with "Permission denied" cat "$MNT/plain/made"
}
watch make
equal "opened when they are made" "" "$OPENED"
for f in "$MNT" "$BACK"; do
	equal "made" "character special file 640 0:0 $NUMBERS" "$(stat -c '%F %a %u:%g %t:%T' "$f/plain/made")"
	equal "made" "block special file 604 103:4d2" "$(stat -c '%F %a %t:%T' "$f/plain/blk")"
done
mkdir -m 777 "$MNT/plain/all"
must_fail_with "Operation not permitted" setpriv --reuid=65534 --regid=65534 --clear-groups \
	mknod "$MNT/plain/all/n" c 1 5
setpriv --reuid=65534 --regid=65533 --clear-groups --inh-caps=+mknod --ambient-caps=+mknod \
	mknod "$MNT/plain/all/n" c 1 5
equal "the caller's" "65534:65533" "$(stat -c %u:%g "$BACK/plain/all/n")"
ok "made in passthrough folders with the caller's owner, group and umask, with CAP_MKNOD alone"

kill -KILL "$(vcf_status_get 's["server_pid"]')"
equal "after a take-over" "character special file $NUMBERS" "$(stat -c '%F %t:%T' "$MNT/plain/made")"
rm "$MNT/plain/blk"
mknod "$MNT/plain/blk" b 259 1235
rm "$MNT/plain/blk"
ok "kept by the next server"
vcf_umount

vcf_mount -o mount.nodev=no
use() {
	equal "read" 0000 "$(head -c 2 "$MNT/plain/zero" | od -An -tx1 | tr -d ' ')"
	equal "read" 0000 "$(head -c 2 "$MNT/plain/made" | od -An -tx1 | tr -d ' ')"
}
watch use
equal "opened below with nodev = no" "" "$OPENED"
ok "nodev = no: the kernel opens them itself"
expect_log 'err: the server \(pid .*\) was killed by signal 9 with .* takes over'
