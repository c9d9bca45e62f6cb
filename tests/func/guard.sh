#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# guard = yes: while the mount is absent nobody makes a file in the folder below it, not even root,
# and not in the moments when a dead mount is replaced.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog chattr
vcf_setup
sed -i 's/^guard = no/guard = yes/' "$CONF"
mkdir "$W/probe"
at_exit "chattr -i '$MNT' '$W/probe' 2>/dev/null"
need "a file system with immutable folders, and CAP_LINUX_IMMUTABLE" chattr +i "$W/probe"

guard() { # WANTED-CODE [OPTION]
	local want=$1 rc=0
	shift
	"$VMCRYPTFS" guard "$@" "$MNT" >"$W/out" 2>&1 || rc=$?
	equal "guard $* ($(cat "$W/out"))" "$want" "$rc"
}
below() { # how many files there are in the folder below all mounts
	# shellcheck disable=SC2016
	unshare --mount --propagation slave bash -c '
		while umount -l "$1" 2>/dev/null; do :; done; ls -A "$1" | wc -l' - "$MNT"
}

guard 13
vcf_mount
guard 0
echo data >"$MNT/f"
same "$MNT/f" <(echo data)
equal "guard in status" on "$(vcf_status_get 's["guard"]')"
vcf_umount
equal "mode" 0 "$(stat -c %a "$MNT")"
must_fail touch "$MNT/g"
must_fail mkdir "$MNT/g"
must_fail chmod 755 "$MNT"
guard 0
must_fail "$VMCRYPTFS" check-mount "$MNT"
grep -q "the folder is guarded" "$W/stderr" || fail "check-mount: $(cat "$W/stderr")"
ok "root cannot write there after umount"

# Root creates files as fast as it can while keeper and server are killed and a new daemon mounts.
python3 - "$MNT" "$W/stop" >"$W/tries" <<'PY' &
import os, sys, time
tried = made = 0
errors = set()
while not os.path.exists(sys.argv[2]):
    for _ in range(100):
        tried += 1
        try:
            os.close(os.open(f"{sys.argv[1]}/t{tried}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            made += 1
            time.sleep(0.002)  # in the mount: no hurry
        except OSError as e:
            errors.add(os.strerror(e.errno))
print(tried, made, sorted(errors))
PY
writer=$!
expect_log 'keeper is gone|takes over'
mount_again() { # [MOUNT-OPTION...]   over the dead one, which is in mountinfo as well
	vcf_try_mount "$@" || true
	wait_for 60 "$VMCRYPTFS" check-mount -q "$MNT" || fail "not mounted again"
}
kill_both() {
	local server

	server=$(vcf_status_get 's["server_pid"]')
	kill -KILL "$VCF_PID" "$server"
	wait_for 30 pid_gone "$server" || fail "the server lives"
}
for _ in 1 2; do
	mount_again
	kill_both
done
[ -d "/proc/$writer" ] || fail "the writer has ended"
equal "files in the folder below" 0 "$(below)"
ok "killed and mounted again: no file below"

# Before Linux 6.5 the folder is seen for a moment: there the guard itself must hold.
mkdir "$W/old"
cp "$VCF_BUILD/crypto/keys/vmcryptfs-key-file" "$W/old"
cp "$VCF_BUILD/tests/func/oldkernel" "$W/old/vmcryptfs"
program=$VMCRYPTFS VMCRYPTFS=$W/old/vmcryptfs
for _ in 1 2; do
	mount_again
	kill_both
done
VMCRYPTFS=$program
equal "files in the folder below" 0 "$(below)"
ok "the same where the kernel cannot mount beneath"

# Without the guard the dead mount itself must stay until the new one is there.
if [ "$(uname -r | cut -d. -f1)" -ge 7 ] || [[ "$(uname -r)" =~ ^6\.([5-9]|[1-9][0-9]) ]]; then
	mount_again
	kill_both
	guard 0 --off
	for _ in 1 2; do
		mount_again -o mount.guard=no
		kill_both
	done
	equal "files in the folder below" 0 "$(below)"
	guard 0 --on
	ok "the same without the guard, where the kernel mounts beneath"
fi
touch "$W/stop"
wait "$writer" || true
echo "tries, files in the mount, errors: $(cat "$W/tries")"
grep -q "endpoint" "$W/tries" || fail "the writer never met the dead mount"
umount -l "$MNT"

guard 0 --off
equal "mode" 755 "$(stat -c %a "$MNT")"
echo old >"$MNT/old"
require_log "hides 1 entries that lie there in the clear"
require_log "not guarded.*Directory not empty"
vcf_mount
vcf_umount
guard 13
guard 1 --on
rm "$MNT/old"
ok "a folder with content is left as it is, with a warning"

mount -t ramfs none "$MNT"
at_exit "umount -l '$MNT' 2>/dev/null"
require_log "not guarded.*(Inappropriate ioctl|not supported)"
mount_again
"$VMCRYPTFS" umount "$MNT"
vcf_wait
guard 13
grep -q "root can write" "$W/out" || fail "$(cat "$W/out")"
umount "$MNT"
ok "a file system without immutable folders"

"$VMCRYPTFS" mount "$BACK" "$MNT" -o "file.directory=$KEYS" -o "mount.state-directory=$W/state" \
	-o "mount.runtime-directory=$W/run" -o "mount.log-file=$LOG"
guard 13
"$VMCRYPTFS" umount "$MNT"
rmdir "$MNT"
mkdir "$MNT"
ok "the quick form leaves the folder as it is"

sed -i "s|^mountpoint = .*|mountpoint = $BACK|" "$CONF"
folder=$MNT MNT=$BACK
vcf_mount -o mount.overmount=yes
vcf_umount
touch "$BACK/x"
rm "$BACK/x"
MNT=$folder
ok "over the backing folder itself there is no guard"
