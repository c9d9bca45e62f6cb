#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mount(8), umount(8) and an fstab: by configuration and by backing folder, `mount -a`, options that
# are known, passed on or refused.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog mount umount findmnt unshare
# Helpers are looked for in /sbin only, so the test has one of its own: a namespace where that is a
# folder of links.
if [ -z "${VCF_FSTAB_NAMESPACE:-}" ]; then
	need "mount namespaces" unshare --mount --propagation slave true
	exec env VCF_FSTAB_NAMESPACE=1 unshare --mount --propagation slave bash "$0" "$@"
fi
vcf_setup
sbin=$(realpath /sbin)
mkdir "$W/sbin"
mount --bind "$sbin" "$W/sbin"
at_exit "umount -l '$sbin' '$W/sbin'"
mount -t tmpfs none "$sbin"
for p in "$W/sbin"/*; do
	ln -s "$p" "$sbin/"
done
for name in mount.fuse.vmcryptfs mount.vmcryptfs umount.fuse.vmcryptfs; do
	rm -f "$sbin/$name"
	ln -s "$VMCRYPTFS" "$sbin/$name"
done
vcf_config <<<''
sed -i "s|^guard = no|&\nlog-file = $LOG|" "$CONF"

keeper() { vcf_status_get 's["keeper_pid"]'; }
# Unmounts by umount(8) and waits for the daemon's end: it was not started by this script.
ended() { # COMMAND...
	local pid

	pid=$(keeper)
	"$@" || fail "$*"
	! is_mounted || fail "still mounted after $*"
	wait_for 30 pid_gone "$pid" || fail "the daemon lives after $*"
}

fstab=$W/fstab
echo "$CONF $MNT fuse.vmcryptfs noauto,nofail,_netdev,nosuid,nodev,x-systemd.requires=network-online.target 0 0" >"$fstab"
mount -T "$fstab" "$MNT"
equal "findmnt" "$BACK fuse.vmcryptfs" "$(findmnt -n -o SOURCE,FSTYPE "$MNT" | tr -s ' ')"
findmnt -n -o OPTIONS "$MNT" | grep -q "rw,nosuid,nodev" || fail "options: $(findmnt -n -o OPTIONS "$MNT")"
echo data >"$MNT/f"
"$VMCRYPTFS" check-mount -q "$MNT" || fail "check-mount"
equal "name" vmcryptfs "$(cat "/proc/$(keeper)/comm")"
ok "mount MOUNTPOINT, by an fstab"

exec 7<"$MNT/f"
must_fail umount "$MNT"
grep -q "use it" "$W/stderr" || fail "umount names nobody: $(cat "$W/stderr")"
exec 7<&-
ended umount "$MNT"
ok "umount refuses while a file is open, and waits for the daemon's end"

sed -i 's/noauto,//' "$fstab"
echo "none $W/state tmpfs noauto 0 0" >>"$fstab"
mount -a -T "$fstab"
is_mounted || fail "mount -a"
pid=$(keeper)
mount -a -T "$fstab" || fail "mount -a a second time"
equal "the daemon after a second mount -a" "$pid" "$(keeper)"
equal "mounts" 1 "$(grep -cF " $MNT " /proc/self/mountinfo)"
ended umount -i "$MNT" # without the helper: umount(2) alone
ok "mount -a, twice"

mount -t fuse.vmcryptfs "$CONF" "$MNT" -o mount.xattr=no
equal "data" data "$(cat "$MNT/f")"
ended umount "$MNT"
mount -t vmcryptfs "$CONF" "$MNT"
ended "$VMCRYPTFS" umount "$MNT"
mount -t fuse.vmcryptfs "$BACK" "$MNT" \
	-o "file.directory=$KEYS,mount.state-directory=$W/state,mount.runtime-directory=$W/run,mount.log-file=$LOG,mount.nosuid=no"
equal "data" data "$(cat "$MNT/f")"
! findmnt -n -o OPTIONS "$MNT" | grep -q nosuid || fail "mount.nosuid=no was not passed on"
ended umount "$MNT"
ok "mount -t, by configuration and by backing folder"

must_fail_with "always mounted for reading and writing" mount -t fuse.vmcryptfs -o ro "$CONF" "$MNT"
must_fail_with "'noexec': not supported" mount -t fuse.vmcryptfs -o noexec "$CONF" "$MNT"
must_fail_with "option 'nonsense': unknown" mount -t fuse.vmcryptfs -o nonsense=1 "$CONF" "$MNT"
mkdir "$W/elsewhere"
must_fail_with "is mounted on $MNT, by its configuration" mount -t fuse.vmcryptfs "$CONF" "$W/elsewhere"
must_fail_with "No such file" mount -t fuse.vmcryptfs "$W/none.conf" "$MNT"
must_fail_with "everybody's to read" mount -t fuse.vmcryptfs "$BACK" "$MNT" -o key-service.helper=static,static.secret=00
must_fail mount -t fuse.vmcryptfs "$CONF" "$MNT" -o key-service.helper=nothing
! is_mounted || fail "mounted all the same"
expect_log "key helper|not used as"
rc=0
mount -t fuse.vmcryptfs -o ro "$CONF" "$MNT" 2>/dev/null || rc=$?
[ "$rc" != 0 ] || fail "exit status"
mount -f -t fuse.vmcryptfs "$CONF" "$MNT" || fail "mount -f"
mount -s -t fuse.vmcryptfs -o nonsense "$CONF" "$MNT" || fail "mount -s"
ended umount -l "$MNT"
ok "options and folders that cannot be are refused with words"

# A dead mount is replaced by mount(8) as well.
mount -T "$fstab" "$MNT"
server=$(vcf_status_get 's["server_pid"]')
expect_log 'keeper is gone|takes over'
kill -KILL "$(keeper)" "$server"
wait_for 20 pid_gone "$server"
mount -a -T "$fstab" || fail "mount -a over a dead mount"
equal "data" data "$(cat "$MNT/f")"
ended umount "$MNT"
ok "over a dead mount"
