#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What Nova does to its instances directory, with Nova's own code on a mount with the rules of
# contrib/nova/vmcryptfs.conf, while a watcher looks for plaintext below (novaops.py).
# usage: nova.sh GROUP FORMAT     GROUP: create life guest move safe; FORMAT: raw qcow2
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
# shellcheck source=tests/interop/left.lib.sh
. "$VCF_SRC/tests/interop/left.lib.sh"
group=${1:-create} format=${2:-raw}
here=$VCF_SRC/tests/interop
need_root
need_fuse
need_prog qemu-img qemu-io qemu-storage-daemon genisoimage mkfs.vfat mkfs.ext4 cryptsetup
[[ $group != create ]] || need_prog fsck.vfat isoinfo
[[ $group != @(create|guest) ]] || need_prog qemu-system-x86_64
[ "$group" != move ] || need_prog rsync scp ssh-keygen /usr/sbin/sshd
need "Nova (python3-nova)" test -s /usr/lib/python3/dist-packages/nova/virt/libvirt/driver.py
vcf_setup
vcf_faulty_helper
export VMCRYPTFS PYTHONDONTWRITEBYTECODE=1

# The backing folders have a file system of their own, so that the watcher sees all of it.
mkdir -p "$W/disk" "$W/mntb" "$W/bin"
truncate -s 6G "$W/disk.img"
mkfs.ext4 -q -F -E nodiscard "$W/disk.img"
need "loop devices" mount -o loop "$W/disk.img" "$W/disk"
# shellcheck disable=SC2016  # expanded at the exit
at_exit 'umount -l "$W/mntb" 2>/dev/null; umount -l "$W/disk" 2>/dev/null'
mkdir -m 755 "$W/disk/a" "$W/disk/b"
mkdir -m 700 "$W/disk/state-a" "$W/disk/state-b"

timeout=2
[ "$group" != life ] || timeout=30 # a deletion that waits for the service is seen

node_conf() { # NODE MOUNTPOINT
	cat <<-CONFIG
		[mount]
		backing = $W/disk/$1
		mountpoint = $2
		guard = no
		state-directory = $W/disk/state-$1
		runtime-directory = $W/run
		log-file = $LOG
	CONFIG
	sed -n '/^\[rules\]/,/^\[key-service\]/p' "$VCF_SRC/contrib/nova/vmcryptfs.conf"
	cat <<-CONFIG
		helper = $HELPER/vmcryptfs-key-test
		timeout = $timeout
		linger = 1
		destroy-delay = 1s
		destroy-rate = 6000
	CONFIG
}
node_conf a "$MNT" >"$W/a.conf"
node_conf b "$W/mntb" >"$W/b.conf"
chmod 600 "$W/a.conf" "$W/b.conf"

# An sshd for the second node, and ssh and scp that know the way.
ssh_keys() {
	mkdir -m 700 "$W/ssh"
	ssh-keygen -q -t ed25519 -N '' -f "$W/ssh/key"
	ssh-keygen -q -t ed25519 -N '' -f "$W/ssh/host"
	cp "$W/ssh/key.pub" "$W/ssh/authorized"
	port=$((20000 + $$ % 20000))
	cat >"$W/ssh/sshd_config" <<-CONFIG
		ListenAddress 127.0.0.1:$port
		HostKey $W/ssh/host
		AuthorizedKeysFile $W/ssh/authorized
		PidFile none
		StrictModes no
		UsePAM no
		PermitRootLogin yes
		Subsystem sftp internal-sftp
	CONFIG
	cat >"$W/ssh/config" <<-CONFIG
		Host *
		Port $port
		IdentityFile $W/ssh/key
		IdentitiesOnly yes
		StrictHostKeyChecking no
		UserKnownHostsFile /dev/null
		LogLevel ERROR
	CONFIG
	for p in ssh scp; do
		printf '#!/bin/sh\nexec /usr/bin/%s -F %s "$@"\n' "$p" "$W/ssh/config" >"$W/bin/$p"
		chmod 755 "$W/bin/$p"
	done
}
[ "$group" != move ] || ssh_keys

case $group in
safe)
	expect_log 'server \(pid .* (was )?(killed by|ended by) signal 9'
	expect_log 'generation [0-9]+ takes over'
	expect_log 'the keeper is gone'
	expect_log 'key service|unavailable|ETIMEDOUT|timed out|no such secret|not found'
	;;
guest)
	expect_log 'the keeper is gone'
	expect_log 'Input/output error'
	;;
life) expect_log 'key service|unavailable|timed out' ;;
esac
/usr/bin/python3 "$here/novaops.py" "$group" "$format" "$W" || fail "$group $format"

nothing_left

# And at last the medium itself, deleted blocks as well.
sync -f "$W/disk" # also where another mount namespace keeps it
umount "$W/disk"
/usr/bin/python3 "$here/novawatch.py" --image "$W/disk.img" "$W/patterns" >"$W/found" ||
	fail "in the clear on the medium: $(head -n 5 "$W/found")"
ok "$group $format: nothing in the clear on the whole medium, deleted blocks included"
