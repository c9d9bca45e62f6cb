#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A real kernel's dm-crypt reads what the mount wrote, and the mount reads what dm-crypt wrote.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_prog qemu-system-x86_64 cryptsetup gcc
need "a kernel for guests" "$VCF_SRC/tests/interop/guest-prep"
vcf_setup
diskpat=$VCF_BUILD/tests/interop/diskpat
len=$((8 << 20))
kinds=(luks2:4096 luks2:512 luks1:512)

mkdir "$W/job"
disks=()
n=0
for kind in "${kinds[@]}"; do
	args=(-o "format.type=${kind%:*}" -o "format.sector-size=${kind#*:}")
	vcf_mount "${args[@]}" -o key-service.reserve=0
	truncate -s $len "$MNT/disk$n"
	"$diskpat" write "$MNT/disk$n" $((n + 1)) $len
	cp "$KEYS/$(key_id_of "$BACK/disk$n")" "$W/job/key$n"
	vcf_umount
	disks+=("$BACK/disk$n,cache=none,aio=native")
	n=$((n + 1))
done

cat >"$W/job/run" <<JOB
i=0
for d in vda vdb vdc; do
	cryptsetup open --type luks --key-file key\$i /dev/\$d c\$i
	[ "\$(blockdev --getsize64 /dev/mapper/c\$i)" = $len ]
	diskpat verify /dev/mapper/c\$i \$((i + 1)) $len
	diskpat write /dev/mapper/c\$i \$((i + 11)) $len
	cryptsetup close c\$i
	i=\$((i + 1))
done
JOB
"$VCF_SRC/tests/interop/guest" -t 300 "$W/job" "${disks[@]}" || fail "the guest's dm-crypt disagrees"
rm -rf "$W/job"
ok "dm-crypt reads ours (${kinds[*]})"

vcf_mount
for i in 0 1 2; do
	"$diskpat" verify "$MNT/disk$i" $((i + 11)) $len || fail "disk$i"
done
ok "we read dm-crypt's"
