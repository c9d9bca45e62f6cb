#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# LUKS1 containers: QEMU and nbdkit's luks filter read what the mount wrote, and the mount reads
# what they wrote into the container.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog qemu-img nbdkit nbdcopy cryptsetup
vcf_setup
luks1=(-o format.type=luks1 -o format.sector-size=512)
vcf_mount "${luks1[@]}"
pattern "one" 2097152 >"$W/one"
pattern "two" 2097152 >"$W/two"
pattern "three" 2097152 >"$W/three"
cp "$W/one" "$MNT/disk"
id=$(key_id_of "$BACK/disk")
vcf_umount
c=$BACK/disk
secret=secret,id=s,file=$KEYS/$id
luks=driver=luks,key-secret=s,file.driver=file,file.filename=$c

qemu-img convert --object "$secret" --image-opts "$luks" -O raw "$W/out"
same "$W/one" "$W/out"
ok "qemu-img reads ours"
qemu-img convert -n -f raw --object "$secret" --target-image-opts "$W/two" "$luks"
vcf_mount "${luks1[@]}"
same "$W/two" "$MNT/disk"
vcf_umount
ok "we read qemu-img's"

nbd() { nbdkit --exit-with-parent -U - --filter=luks file "$c" "passphrase=+$KEYS/$id" --run "$1"; }
# shellcheck disable=SC2016  # nbdkit sets $uri
nbd 'nbdcopy "$uri" '"$W/out"
same "$W/two" "$W/out"
ok "nbdkit reads ours"
# shellcheck disable=SC2016
nbd 'nbdcopy '"$W/three"' "$uri"'
vcf_mount "${luks1[@]}"
same "$W/three" "$MNT/disk"
ok "we read nbdkit's"

# And QEMU's own formats through the mount, as Nova makes them.
for fmt in qcow2 raw; do
	qemu-img convert -f raw -O $fmt -t none "$W/one" "$MNT/disk.$fmt"
	qemu-img compare -q -f $fmt -F raw "$MNT/disk.$fmt" "$W/one" || fail "$fmt"
done
qemu-img create -q -f qcow2 -F raw -b "$MNT/disk.raw" "$MNT/overlay"
qemu-io -f qcow2 -c "write -P 0x5a 65536 65536" -c "read -P 0x5a 65536 65536" "$MNT/overlay" \
	>/dev/null || fail "qemu-io"
qemu-img resize -q -f qcow2 "$MNT/overlay" 1G
qemu-img check -q -f qcow2 "$MNT/overlay" || fail "check"
vcf_remount "${luks1[@]}"
qemu-io -f qcow2 -r -c "read -P 0x5a 65536 65536" "$MNT/overlay" >/dev/null || fail "after remount"
ok "raw, qcow2 and overlays through the mount"
