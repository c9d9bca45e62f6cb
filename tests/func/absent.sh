#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A nova-compute that starts, or goes on, while the mount is absent, dead or hangs writes nothing in the
# clear: neither as root nor as another user, on the host nor in a container, with check-mount as its
# ExecStartPre nor without. The medium is looked through for what it would have written.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog unshare nsenter setpriv chattr truncate findmnt
vcf_setup
sed -i 's/^guard = no/guard = yes/' "$CONF"

# A medium of its own where that can be had, so that its every byte is looked at.
truncate -s 256M "$W/medium"
mkdir "$W/disk"
if mkfs.ext4 -q "$W/medium" 2>/dev/null && mount -o loop "$W/medium" "$W/disk" 2>/dev/null; then
	at_exit "umount -l '$W/disk'"
else
	echo "without a loop device: the files are looked at, not the medium"
fi
mkdir "$W/disk/back" "$W/disk/mnt"
sed -i "s|^backing = .*|backing = $W/disk/back|; s|^mountpoint = .*|mountpoint = $W/disk/mnt|" "$CONF"
BACK=$W/disk/back MNT=$W/disk/mnt
at_exit "chattr -i '$MNT' 2>/dev/null; umount -l '$MNT' 2>/dev/null"
mkdir "$W/probe" "$W/disk/probe"
need "a file system with immutable folders, and CAP_LINUX_IMMUTABLE" \
	bash -c "chattr +i '$W/disk/probe' && chattr -i '$W/disk/probe'"

# What nova-compute does first: a probe, an instance's folder, its disk. MODE is check or blind.
MARK=PLAINTEXT-OF-A-GUEST
cp "$VMCRYPTFS" "$W/vmcryptfs"
cat >"$W/nova-compute" <<'NOVA'
#!/bin/bash
mode=$1 dir=$2 uuid=$3 mark=$4 program=$5
if [ "$mode" = check ]; then
	"$program" check-mount -t 2 "$dir" || exit 99
fi
umask 022
rc=0
printf %s "$mark" >"$dir/.directio.test.$uuid" || rc=1
rm -f "$dir/.directio.test.$uuid"
mkdir "$dir/$uuid" || rc=1
if command -v qemu-img >/dev/null; then
	qemu-img create -q -f raw "$dir/$uuid/disk" 1M || rc=1
fi
yes "$mark" 2>/dev/null | head -c 65536 >"$dir/$uuid/disk" || rc=1
sync -f "$dir" 2>/dev/null
exit $rc
NOVA
chmod 755 "$W/nova-compute" "$W/vmcryptfs"

cnt=0
nova() { # MODE USER PLACE   its exit status; PLACE: host, or a namespace made by `container`
	local run=(timeout -k 1 10 setpriv "--reuid=$2" --clear-groups)

	cnt=$((cnt + 1))
	[ "$3" = host ] || run=(nsenter "--mount=$3" "${run[@]}")
	"${run[@]}" "$W/nova-compute" "$1" "$MNT" "uuid-$cnt" "$MARK" "$W/vmcryptfs" >"$W/nova.out" 2>&1
}

# No file of it in the folder below, and none of its bytes on the medium.
medium_is_clean() { # WHEN
	local found

	sync
	# shellcheck disable=SC2016
	found=$(unshare --mount --propagation slave bash -c '
		while umount -l "$1" 2>/dev/null; do :; done
		find "$1" -mindepth 1' - "$MNT")
	[ -z "$found" ] || fail "$1: in the folder below: $found"
	! grep -rqa "$MARK" "$BACK" || fail "$1: plaintext in the backing folder"
	! grep -qa "$MARK" "$W/medium" || fail "$1: plaintext on the medium"
}

# A mount namespace that stays: with the host's mounts of later (slave), or without them (private);
# not with copies of other people's mounts, whose daemons could not end.
namespaces=()
container() { # NAME PROPAGATION
	mkdir -p "$W/ns"
	mountpoint -q "$W/ns" || {
		mount -t tmpfs none "$W/ns"
		mount --make-private "$W/ns"
		at_exit "umount '$W'/ns/* 2>/dev/null; umount -l '$W/ns'"
	}
	: >"$W/ns/$1"
	# shellcheck disable=SC2016
	unshare "--mount=$W/ns/$1" --propagation slave bash -c '
		[ "$1" = slave ] && exit
		mount --make-rprivate /
		findmnt -rn -t fuse.vmcryptfs -o TARGET | while read -r m; do umount -l "$m"; done
		exit 0' - "$2"
	namespaces+=("$W/ns/$1")
}

nobody_writes() { # WHEN PLACE...   in no mode, as no user
	local when=$1 place mode user rc
	shift
	for place in "$@"; do
		for mode in check blind; do
			for user in 0 65534; do
				rc=0
				nova $mode $user "$place" || rc=$?
				[ $rc != 0 ] || fail "$when: nova-compute ($mode, user $user, $place) made an instance"
				[ $mode != check ] || equal "$when: ($user, $place) $(cat "$W/nova.out")" 99 $rc
			done
		done
	done
	medium_is_clean "$when"
	ok "$when: $((4 * $#)) tries, nothing in the clear"
}
somebody_writes() { # PLACE...
	local place mode

	for place in "$@"; do
		for mode in check blind; do
			nova $mode 0 "$place" || fail "root, $place: $(cat "$W/nova.out")"
			nova $mode 65534 "$place" || fail "another user, $place: $(cat "$W/nova.out")"
		done
	done
	medium_is_clean "mounted"
	ok "mounted: instances are made, their disks are ciphertext"
}
both_killed() {
	local server

	server=$(vcf_status_get 's["server_pid"]')
	kill -KILL "$VCF_PID" "$server"
	wait_for 30 pid_gone "$server" || fail "the server lives"
}

# Does the search find what it is to find?
yes "$MARK" 2>/dev/null | head -c 65536 >"$W/disk/probe/x" || true
sync
! (medium_is_clean "probe") 2>/dev/null || [ ! -s "$W/medium" ] || ! mountpoint -q "$W/disk" ||
	fail "the search finds nothing"
shred -u "$W/disk/probe/x" 2>/dev/null || rm "$W/disk/probe/x"
sync

container before private # started before the first mount, without propagation
"$VMCRYPTFS" guard --on "$MNT" >/dev/null
nobody_writes "before the first mount" host "${namespaces[0]}"

vcf_mount
chown 65534 "$MNT"
container slave slave
somebody_writes host "${namespaces[1]}"
nobody_writes "a container that does not see the mount" "${namespaces[0]}"

server=$(vcf_status_get 's["server_pid"]')
for place in host "${namespaces[1]}"; do
	kill -STOP "$server"
	rc=0
	nova check 0 "$place" || rc=$?
	kill -CONT "$server"
	equal "hung ($place): $(cat "$W/nova.out")" 99 $rc
done
medium_is_clean "hung"
ok "a daemon that hangs: it does not start"

vcf_umount
nobody_writes "unmounted" host "${namespaces[@]}"

expect_log 'keeper is gone|takes over'
vcf_mount
both_killed
nobody_writes "keeper and server killed" host "${namespaces[@]}"
umount -l "$MNT"
nobody_writes "the dead mount detached" host "${namespaces[@]}"
vcf_mount
somebody_writes host "${namespaces[1]}"
