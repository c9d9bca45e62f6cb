# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Guests of real libvirtds. Each "node" is a libvirtd that sees its own mount at $INST; the guest
# takes commands on its console, which is a pair of pipes and outlives a migration. After vcf_setup.
INTEROP=$VCF_SRC/tests/interop
INST='' MNT2='' BACK2='' LOG2='' VCF_PID2=''
DOM=guest owner=12345 words='the guest keeps this to itself' failed=0

# A second daemon, $MNT2 over BACKING, with the same key service.
second_mount() { # BACKING [MOUNT-OPTION...]
	local conf=$W/second.conf run=$W/run2

	BACK2=$1 MNT2=$W/mnt2 LOG2=$W/log2
	shift
	mkdir -p "$BACK2" "$MNT2"
	mkdir -m 700 "$W/state2" "$run"
	sed -e "s|^mountpoint = .*|mountpoint = $MNT2|; s|^backing = .*|backing = $BACK2|" \
		-e "s|$W/state|$W/state2|; s|$W/run|$run|" "$CONF" >"$conf"
	chmod 600 "$conf"
	"$VMCRYPTFS" mount -f "$@" "$conf" >>"$LOG2" 2>&1 &
	VCF_PID2=$!
	at_exit "umount -l $MNT2 2>/dev/null; kill $VCF_PID2 2>/dev/null"
	wait_for 30 grep -qF " $MNT2 " /proc/self/mountinfo || fail "no second mount: $(cat "$LOG2")"
}

second_umount() {
	VMCRYPTFS_RUNTIME_DIRECTORY=$W/run2 "$VMCRYPTFS" umount "$MNT2"
	wait "$VCF_PID2" || fail "the second daemon's exit status"
	! grep -aE '\] (warn|err): |Sanitizer|runtime error' "$LOG2" | grep -avE 'killed by signal 9' ||
		fail "in the second daemon's log"
}

need_libvirt() {
	need_root
	need_fuse
	need_prog libvirtd virsh qemu-system-x86_64 qemu-img unshare gcc
	need "a mount namespace" unshare --mount --propagation slave mount -t tmpfs tmpfs /mnt
	need "a kernel for guests" "$INTEROP/guest-prep"
}

# Folders, pipes and the guest's kernel; the guest's disks are to be in $INST.
libvirt_setup() {
	local base

	INST=$W/inst
	mkdir -m 755 "$INST" "$W/kernel"
	mkdir -m 700 "$W/node1" "$W/node2"
	mount --bind "$W" "$W"
	mount --make-private "$W" # else each mount in it is hidden below it as well
	mount --make-shared "$W"
	at_exit "umount -l $W"
	base=$("$INTEROP/guest-prep")
	mkdir -p "$W/root/job"
	guest_job >"$W/root/job/run"
	guest_churn >"$W/root/job/churn"
	(cd "$W/root" && find . | cpio -o -H newc --quiet -R 0:0) | gzip -1 >"$W/job.gz"
	cat "$base/initrd.gz" "$W/job.gz" >"$W/kernel/initrd"
	cp "$base/vmlinuz" "$W/kernel/"
	mkfifo "$W/console.in" "$W/console.out"
	: >"$W/console"
	exec 7<>"$W/console.out" 8<>"$W/console.in"
	cat <&7 >>"$W/console" &
}

node_up() { # 1|2 MOUNT [FROM TO]...
	local n=$1 mount=$2

	shift 2
	at_exit "'$INTEROP/libvirt-down' '$W/node$n'"
	"$INTEROP/libvirt-up" "$W/node$n" "$mount" "$INST" "$@" || skip "no libvirtd comes up"
}

node_down() { "$INTEROP/libvirt-down" "$W/node$1"; }

# A power button ends the guest in good order; each line of the console is a command.
guest_job() {
	cat <<-'JOB'
		stty -echo
		for e in /dev/input/event*; do
			(
				dd if=$e bs=24 count=1 of=/dev/null 2>/dev/null
				touch /tmp/end
				until umount /mnt; do usleep 100000; done
				poweroff -f
			) </dev/null >/dev/null 2>&1 &
		done
		echo "@@ ready"
		while read -r id line; do
			rc=0
			sh -euc "$line" </dev/null 2>&1 || rc=$?
			echo "@@ $id status $rc"
		done
	JOB
}

# Writes a file and reads it back, again and again; says how often, or that it was wrong once.
guest_churn() {
	cat <<-'JOB'
		n=0
		while [ ! -e /tmp/bad ] && [ ! -e /tmp/end ]; do
			n=$((n + 1))
			diskpat write /mnt/churn $n 2097152 && diskpat verify /mnt/churn $n 2097152 ||
				touch /tmp/bad
			echo $n >/tmp/new
			mv /tmp/new /tmp/rounds
		done
	JOB
}

disk_xml() { # TARGET FILE
	cat <<-XML
		<disk type='file' device='disk'>
		<driver name='qemu' type='raw' cache='none' io='native' discard='unmap' error_policy='stop'/>
		<source file='$2'/><target dev='$1' bus='virtio'/></disk>
	XML
}

domain_xml() { # TARGET FILE...
	cat <<-XML
		<domain type='qemu'><name>$DOM</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type><kernel>$W/kernel/vmlinuz</kernel>
		<initrd>$W/kernel/initrd</initrd>
		<cmdline>console=ttyS0 quiet panic=-1 mitigations=off</cmdline></os>
		<features><acpi/></features>
		<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
	XML
	while [ $# -gt 0 ]; do
		disk_xml "$1" "$2"
		shift 2
	done
	cat <<-XML
		<serial type='pipe'><source path='$W/console'/><target port='0'/></serial>
		<memballoon model='none'/></devices></domain>
	XML
}

on() { # NODE VIRSH-ARGUMENT...
	local node=$1

	shift
	timeout 120 virsh -q -c "$(cat "$W/node$node/uri")" "$@"
}

boots() { grep -ac '@@ ready' "$W/console" || true; }
booted() { [ "$(boots)" -gt "$1" ]; }

# Later items need not wait for it.
guest_is_lost() { # WHY
	touch "$W/lost"
	fail "$1: $(tail -n 5 "$W/console")"
}

guest_comes() { # BOOTS-BEFORE
	wait_for 120 booted "$1" || guest_is_lost "the guest does not boot"
}

# Runs a command line in the guest, which must succeed.
guest() {
	local id=c$EPOCHREALTIME

	[ ! -e "$W/lost" ] || fail "the guest was lost before"
	echo "$id $*" >&8
	wait_for 60 grep -aq "@@ $id status" "$W/console" ||
		guest_is_lost "the guest does not answer: $*"
	grep -aq "@@ $id status 0" "$W/console" ||
		fail "in the guest: $*: $(tail -n 5 "$W/console")"
}

guest_says() { # COMMAND...   the one line that it prints
	guest "echo \"@= \$($*)\""
	tr -d '\r' <"$W/console" | sed -n 's/.*@= //p' | tail -n 1
}

item() { # NAME FUNCTION   one row; the next one is tried in any case
	local rc=0 begun=$SECONDS

	set +e
	(set -e; $2)
	rc=$?
	set -e
	[ $rc = 0 ] || { failed=$((failed + 1)); echo "FAIL: $1"; return 0; }
	ok "$1 ($((SECONDS - begun)) s)"
}

owner_of() { stat -c %u "$1"; }
remembered() { getfattr --absolute-names -m '^trusted\.libvirt\.' "$1" 2>/dev/null | grep -c '^trusted'; }
used() { sync -f "$1"; du -k "$1" | cut -f1; }
qemu_user() { id -u "$(cat "$W/node1/user")"; }
state_is() { [ "$(on "${2:-1}" domstate "$DOM")" = "$1" ]; }

secret_below() { # the guest's words stand in no file of a backing folder
	! grep -raqF "$words" "$BACK" ${BACK2:+"$BACK2"} || fail "the guest's words stand below the mount"
}

# In the guest: all that it has written is there, and no round of writing and reading failed.
data_is_right() {
	local before

	guest 'echo 3 > /proc/sys/vm/drop_caches; cd /mnt; sha256sum -c -s SUMS'
	before=$(guest_says cat /tmp/rounds)
	guest "n=0; while [ \$(cat /tmp/rounds) -le $before ]; do usleep 100000; n=\$((n + 1)); [ \$n -lt 400 ]; done"
	guest '[ ! -e /tmp/bad ]'
	[ "$(on "${1:-1}" domblkerror "$DOM")" = "No errors found" ] || fail "$(on "${1:-1}" domblkerror "$DOM")"
}

guest_churns() {
	guest 'mount -t ext4 /dev/vda /mnt; [ -e /mnt/churn ] || truncate -s 2M /mnt/churn; echo 0 > /tmp/rounds'
	guest 'sh /job/churn > /tmp/churn.log 2>&1 &'
}

start() {
	chown $owner:$owner "$MNT/disk"
	domain_xml vda "$INST/disk" >"$W/guest.xml"
	on 1 define "$W/guest.xml"
	on 1 start "$DOM"
	guest_comes 0
	equal "the disk's owner" "$(qemu_user)" "$(owner_of "$MNT/disk")"
	[ "$(remembered "$MNT/disk")" -gt 0 ] || fail "libvirt kept no note of the owner"
	guest 'mkfs.ext4 -q -F /dev/vda; mount -t ext4 /dev/vda /mnt'
	guest 'for i in 1 2 3 4; do truncate -s ${i}M /mnt/f$i; diskpat write /mnt/f$i $i $((i << 20)); done'
	guest "for i in \$(seq 50); do echo $words \$i > /mnt/s\$i; done; cp /mnt/s1 /tmp/words"
	guest 'cd /mnt; sha256sum f* s* > SUMS; sync; cd /; umount /mnt'
	guest_churns
	data_is_right
	grep -aqF "$words" "$MNT/disk" || fail "the guest's words are not on its disk"
	secret_below
}

# Live, peer to peer, as Nova does it.
move() { # FROM TO VIRSH-OPTION...
	local from=$1 to=$2

	shift 2
	on "$from" migrate "$DOM" "$(cat "$W/node$to/uri")" tcp://127.0.0.1 --live --p2p --persistent \
		--undefinesource --listen-address 127.0.0.1 --timeout 60 "$@" >"$W/job"
}

migrate() { # FROM TO VIRSH-OPTION...
	move "$@"
	state_is running "$2"
	data_is_right "$2"
}
