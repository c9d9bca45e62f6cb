#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest opens a LUKS1 container by libvirt's secret, without the mount, then the mount what it wrote, and
# back. What is not fit for that is refused, and the secret is in no argument and on no disk.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_root
need_fuse
need_prog libvirtd virsh qemu-system-x86_64 qemu-img unshare cpio
INTEROP=$VCF_SRC/tests/interop
need "a kernel for guests" "$INTEROP/guest-prep"
vcf_setup
diskpat=$VCF_BUILD/tests/interop/diskpat
len=$((8 << 20))
luks1=(-o format.type=luks1 -o format.sector-size=512 -o key-service.reserve=0 -o key-service.linger=0)

secret_for() { "$VMCRYPTFS" libvirt-secret -c "$CONF" "$@"; }

vcf_mount -o key-service.reserve=0
pattern 1 8192 >"$MNT/luks2"
vcf_remount "${luks1[@]}"
truncate -s $len "$MNT/disk"
"$diskpat" write "$MNT/disk" 1 $len
truncate -s 1M "$MNT/sparse"
pattern 2 100001 >"$MNT/odd"
vcf_umount
must_fail_with "QEMU opens LUKS1 only" secret_for --print "$BACK/luks2"
must_fail_with "first 'vmcryptfs materialize'" secret_for --print "$BACK/sparse"
"$VMCRYPTFS" materialize -c "$CONF" "$BACK/disk" "$BACK/odd" >/dev/null
must_fail_with "no multiple of 512" secret_for --print "$BACK/odd"
must_fail_with "No such file" secret_for --print "$BACK/nothing"
secret_for --print "$BACK/disk" >"$W/xml"
uuid=$("$VMCRYPTFS" info --json "$BACK/disk" | python3 -c 'import json,sys; print(json.load(sys.stdin)["uuid"])')
grep -q "<uuid>$uuid</uuid>" "$W/xml" || fail "no uuid: $(cat "$W/xml")"
grep -q "<secret type='passphrase' uuid='$uuid'/>" "$W/xml" || fail "no disk"
py absent "$KEYS" "$W/xml"
must_fail_with "virsh" env PATH=/nonexistent "$VMCRYPTFS" libvirt-secret -c "$CONF" "$BACK/disk"
cp "$BACK/disk" "$BACK/a'b&<c>"
secret_for --print "$BACK/a'b&<c>" >"$W/xml"
python3 -c 'import sys,xml.dom.minidom as m; d = m.parseString("<x>" + open(sys.argv[1]).read() + "</x>")
assert d.getElementsByTagName("volume")[0].firstChild.data == sys.argv[2]
assert d.getElementsByTagName("source")[0].getAttribute("file") == sys.argv[2]' "$W/xml" "$BACK/a'b&<c>"
rm "$BACK/a'b&<c>"
ok "what is fit, what is not, and the XML"

mkdir -m 700 "$W/node"
at_exit "'$INTEROP/libvirt-down' '$W/node'"
"$INTEROP/libvirt-up" "$W/node" || skip "no libvirtd comes up"
uri=$(cat "$W/node/uri")
on() { timeout 60 virsh -q -c "$uri" "$@"; }
secret_for --connect "$uri" "$BACK/disk" >"$W/disk.xml"
on secret-dumpxml "$uuid" >"$W/secret.xml"
grep -q "ephemeral='yes' private='yes'" "$W/secret.xml" || fail "$(cat "$W/secret.xml")"
py absent "$KEYS" "$W/node/etc" "$W/node/lib" "$W/node/log"
secret_for --connect "$uri" "$BACK/disk" >/dev/null || fail "again"
must_fail_with "virsh refused it" secret_for --connect "qemu+unix:///system?socket=$W/none" "$BACK/disk"
ok "the secret is libvirt's, in memory alone"

base=$("$INTEROP/guest-prep")
mkdir -p "$W/kernel" "$W/console"
chmod 777 "$W/console"
cp "$base/vmlinuz" "$W/kernel/"

guest() { # JOB...   a guest of libvirt with the printed disk
	local job=$*

	rm -rf "$W/root" "$W/console/log"
	mkdir -p "$W/root/job"
	echo "$job" >"$W/root/job/run"
	(cd "$W/root" && find . | cpio -o -H newc --quiet -R 0:0) | gzip -1 >"$W/job.gz"
	cat "$base/initrd.gz" "$W/job.gz" >"$W/kernel/initrd"
	cat >"$W/domain.xml" <<-XML
		<domain type='qemu'><name>native</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
		<os><type arch='x86_64' machine='pc'>hvm</type><kernel>$W/kernel/vmlinuz</kernel>
		<initrd>$W/kernel/initrd</initrd>
		<cmdline>console=ttyS0 quiet panic=-1 mitigations=off</cmdline></os>
		<features><acpi/></features><on_reboot>destroy</on_reboot>
		<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
		$(cat "$W/disk.xml")
		<serial type='file'><source path='$W/console/log'/><target port='0'/></serial>
		<memballoon model='none'/></devices></domain>
	XML
	on create "$W/domain.xml" >/dev/null || fail "the guest does not start"
	wait_for 240 grep -q '@@ job ended with status' "$W/console/log" || fail "the guest: $(tail "$W/console/log")"
	grep -q '@@ job ended with status 0' "$W/console/log" || fail "its job: $(tail "$W/console/log")"
	off() { ! on list --name | grep -q native; }
	wait_for 60 off || fail "the guest does not end"
}

guest "diskpat verify /dev/vda 1 $len
[ \"\$(blockdev --getsize64 /dev/vda)\" = $len ]
diskpat write /dev/vda 2 $len"
ok "a guest reads by libvirt's secret what the mount wrote"
vcf_mount "${luks1[@]}"
"$diskpat" verify "$MNT/disk" 2 $len || fail "the mount reads other bytes"
"$diskpat" write "$MNT/disk" 3 $len
vcf_umount
"$VMCRYPTFS" verify -c "$CONF" "$BACK/disk" >/dev/null || fail "not sound"
guest "diskpat verify /dev/vda 3 $len"
ok "the mount reads what the guest wrote, and the guest what the mount wrote"
