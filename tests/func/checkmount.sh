#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check-mount says whether plaintext would be safe at a path, also in a mount namespace of its own
# and where the daemon is dead, hangs or is another program.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog unshare
vcf_setup

check() { # WANTED-CODE [OPTION...]
	local want=$1 rc=0
	shift
	"$VMCRYPTFS" check-mount "$@" "$MNT" >"$W/out" 2>"$W/err" || rc=$?
	equal "check-mount $* ($(cat "$W/out" "$W/err"))" "$want" "$rc"
}
says() { grep -qF -- "$1" "$W/$2" || fail "wanted '$1' on $2, got: $(cat "$W/$2")"; } # TEXT out|err

check 13
says "NOT GUARDED" err
check 13 -q
equal "words of -q" "" "$(cat "$W/out" "$W/err")"
must_fail "$VMCRYPTFS" check-mount "$W/nowhere"
must_fail "$VMCRYPTFS" check-mount
mount -t tmpfs none "$MNT"
at_exit "umount -l '$MNT' 2>/dev/null"
check 10
says tmpfs err
umount "$MNT"
ok "nothing, and something else, is mounted"

vcf_mount
check 0
says "answers, of $BACK" out
mkdir "$MNT/inside"
"$VMCRYPTFS" check-mount -q "$MNT/inside" || fail "a folder inside of the mount"
ok "a mount that answers"

inside() { # SCRIPT   with the program and the mount, but neither sockets nor processes of the host
	local rc=0
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --propagation slave bash -c '
		mount -t tmpfs none "$2/run" && mount -t proc proc /proc && eval "$3"' - \
		"$VMCRYPTFS" "$W" "$1" >"$W/out" 2>"$W/err" || rc=$?
	return $rc
}
code_inside() { # WANTED SCRIPT
	local rc=0
	inside "$2" || rc=$?
	equal "in a namespace: $2 ($(cat "$W/out" "$W/err"))" "$1" "$rc"
}
code_inside 0 "'$VMCRYPTFS' check-mount '$MNT'"
code_inside 13 "umount -l '$MNT'; '$VMCRYPTFS' check-mount '$MNT'"
code_inside 10 "mount -t tmpfs none '$MNT'; '$VMCRYPTFS' check-mount '$MNT'"
mkdir "$W/var"
code_inside 0 "mount --bind '$MNT/inside' '$W/var'; '$VMCRYPTFS' check-mount '$W/var'"
# A mount that another one hides is in mountinfo all the same.
code_inside 4 "mount -t tmpfs none '$W'; '$VMCRYPTFS' check-mount '$MNT'"
ok "in a mount namespace of its own"

# Whoever runs it needs no rights but to look.
if id nobody >/dev/null 2>&1; then
	cp "$VMCRYPTFS" "$W/program"
	setpriv --reuid=nobody --clear-groups "$W/program" check-mount "$MNT" >"$W/out" ||
		fail "as another user"
	ok "as another user"
fi

server=$(vcf_status_get 's["server_pid"]')
kill -STOP "$server"
SECONDS=0
check 12 -t 1
says "within 1 s" err
[ $SECONDS -lt 15 ] || fail "it took $SECONDS s"
kill -CONT "$server"
check 0
ok "a server that hangs does not hang the command"

expect_log 'keeper is gone|takes over'
for p in "$VCF_PID" "$server"; do
	kill -KILL "$p"
done
wait_for 20 pid_gone "$server" || fail "the server lives"
wait_for 20 check 11 || check 11
says "daemon is gone" err
code_inside 11 "'$VMCRYPTFS' check-mount '$MNT'"
umount -l "$MNT"
check 13
ok "keeper and server were killed"

vcf_mount -o mount.xattr=no
check 0
getfattr -n user.x "$MNT" >/dev/null 2>&1 || true
check 0
ok "also without extended attributes"
