# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A GlusterFS volume with two clients on this machine, each a FUSE mount as a node of its own has it.
# All of it lives in namespaces of its own (mounts, network, processes) and ends with the script.

# Says what it cannot run without; 1 if nothing is missing.
gluster_missing() {
	local p

	for p in glusterd gluster glusterfs ip unshare; do
		command -v "$p" >/dev/null || { echo "needs the program $p"; return 0; }
	done
	! unshare --mount --net --pid --fork true 2>/dev/null || return 1
	echo "needs namespaces, and root"
}

# Before anything else: executes the script again, in there.
gluster_namespace() { # SCRIPT-ARGUMENT...
	local other

	if [ -z "${VCF_GLUSTER_NAMESPACE:-}" ]; then
		! gluster_missing >/dev/null || skip "$(gluster_missing)"
		VCF_GLUSTER_NAMESPACE=1 exec unshare --mount --net --pid --fork --kill-child \
			--mount-proc --propagation slave bash "$0" "$@"
	fi
	# The copies of other people's mounts would keep those busy.
	while read -r other; do
		umount -l "$other" 2>/dev/null || true
	done < <(findmnt -rno TARGET -t fuse.vmcryptfs)
	ip link set lo up
	ip link add gluster0 type veth peer name gluster1
	ip addr add 10.77.0.1/24 dev gluster0
	ip link set gluster0 up
	ip link set gluster1 up
}

# Starts one (GLUSTER_IN_MEMORY=1: its brick there); its clients' mounts are $CLIENT1 and $CLIENT2.
gluster_up() { # FOLDER
	local d=$1 option

	mkdir "$d"
	GLUSTER_OUT=$d/out
	CLIENT1=$d/client1 CLIENT2=$d/client2
	mkdir -p "$d"/{brick,client1,client2,lib,log}
	[ -z "${GLUSTER_IN_MEMORY:-}" ] || mount -t tmpfs tmpfs "$d/brick"
	{
		mount -t tmpfs tmpfs /run || return 1
		mkdir -p /run/gluster /run/lock /var/lib/glusterd /var/log/glusterfs || return 1
		mount --bind "$d/lib" /var/lib/glusterd || return 1
		mount --bind "$d/log" /var/log/glusterfs || return 1
		glusterd --log-level ERROR --pid-file "$d/glusterd.pid" || return 1
		wait_for 30 gluster --mode=script volume list || return 1
		gluster --mode=script volume create v1 "10.77.0.1:$d/brick" force || return 1
		for option in write-behind quick-read io-cache read-ahead stat-prefetch open-behind \
			readdir-ahead; do
			gluster --mode=script volume set v1 "performance.$option" off || return 1
		done
		gluster --mode=script volume start v1 || return 1
		gluster_client "$CLIENT1" && gluster_client "$CLIENT2" || return 1
	} >"$GLUSTER_OUT" 2>&1
	wait_for 30 gluster_ready
}

gluster_client() { # MOUNTPOINT
	glusterfs --volfile-server=10.77.0.1 --volfile-id=v1 --attribute-timeout=0 --entry-timeout=0 \
		--direct-io-mode=enable --pid-file="$1.pid" "$1"
}

gluster_ready() {
	mountpoint -q "$CLIENT1" && mountpoint -q "$CLIENT2" && : >"$CLIENT1/.probe" &&
		[ -e "$CLIENT2/.probe" ] && rm "$CLIENT2/.probe"
}

gluster_ended() { ! kill -0 "$(cat "$1/glusterd.pid")"; }

gluster_down() { # FOLDER
	umount -l "$CLIENT1" "$CLIENT2"
	gluster --mode=script volume stop v1 force >/dev/null 2>&1 || true
	kill "$(cat "$1/glusterd.pid")" 2>/dev/null || true
	wait_for 10 gluster_ended "$1" || true
	umount -l /var/log/glusterfs /var/lib/glusterd
	umount -l "$1/brick" 2>/dev/null || true
}
