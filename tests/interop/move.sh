#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest's disk moves by copying its container: from a file to a block device, as a logical volume
# is one, from there to a GlusterFS volume. It shows the same bytes everywhere; each copy gets a
# secret of its own, and then its source may go, secret and all.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
# shellcheck source=tests/interop/gluster.lib.sh
. "$VCF_SRC/tests/interop/gluster.lib.sh"
# shellcheck source=tests/func/shared.lib.sh
. "$FUNC/shared.lib.sh"
need_fuse
need_prog losetup blkdiscard mkfs.ext4 e2fsck cryptsetup
has_gluster=
if ! gluster_missing >/dev/null; then
	gluster_namespace "$@"
	has_gluster=1
fi
vcf_setup
# shellcheck source=tests/func/devices.lib.sh
. "$FUNC/devices.lib.sh"
new_device 66M VOLUME
vcf_faulty_helper
vcf_config <<CONFIG
[device volume]
path = $VOLUME
CONFIG
opts=(-o key-service.reserve=0 -o key-service.linger=1 -o key-service.destroy-delay=0)

field() { "$VMCRYPTFS" info --json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
sum_of() { sha256sum <"$1"; }
no_images2() {
	[ "$(VMCRYPTFS_RUNTIME_DIRECTORY=$W/run2 "$VMCRYPTFS" status --json "$MNT2" |
		python3 -c 'import json,sys; print(len(json.load(sys.stdin)["images"]))')" = 0 ]
}
no_images() { [ "$(vcf_status_get "len(s['images'])")" = 0 ]; }
destroyed() { [ ! -e "$HELPER/secrets/$1" ]; }
opens_with_its_secret() { # CONTAINER
	cut -d' ' -f1 "$HELPER/secrets/$(field "$1" key_id)" | tr -d '\n' |
		cryptsetup open --test-passphrase --key-file - "$1"
}

# The copy of a container becomes an image of its own.
own_secret() { # SOURCE COPY
	wait_for 30 no_images || fail "still in use"
	equal "a copy has its source's secret" "$(field "$1" key_id)" "$(field "$2" key_id)"
	"$VMCRYPTFS" adopt --reclone -c "$CONF" "$2"
	[ "$(field "$1" key_id)" != "$(field "$2" key_id)" ] || fail "$2: the source's secret"
	opens_with_its_secret "$2"
}

vcf_mount "${opts[@]}"
truncate -s 64M "$MNT/disk"
mkdir "$W/tree"
pattern 1 3000000 >"$W/tree/a"
pattern 2 70001 >"$W/tree/b"
mkfs.ext4 -q -F -d "$W/tree" "$MNT/disk"
want=$(sum_of "$MNT/disk")

dd if="$BACK/disk" of="$VOLUME" bs=1M conv=fsync status=none
equal "on the volume" "$want" "$(sum_of "$MNT/volume")"
own_secret "$BACK/disk" "$VOLUME"
id=$(field "$BACK/disk" key_id)
rm "$MNT/disk"
wait_for 30 destroyed "$id" || fail "the file's secret stays"
vcf_remount "${opts[@]}"
equal "on the volume, its source is gone" "$want" "$(sum_of "$MNT/volume")"
e2fsck -fn "$MNT/volume" >"$W/e2fsck" 2>&1 || fail "e2fsck: $(cat "$W/e2fsck")"
ok "from a file to a volume"

[ -n "$has_gluster" ] || {
	echo "without GlusterFS: $(gluster_missing)"
	exit 0
}
gluster_up "$W/gluster" || fail "GlusterFS does not run: $(tail -n 3 "$GLUSTER_OUT")"
at_exit "gluster_down $W/gluster"
vcf_umount
mkdir "$CLIENT1/back"
BACK=$CLIENT1/back
dd if="$VOLUME" of="$BACK/disk" bs=1M conv=fsync status=none
sed -i "s|^backing = .*|backing = $BACK\nshared = yes|" "$CONF"
shared_second() { # the volume is the first node's
	sed -i "s|^backing = .*|backing = $CLIENT2/back|; /^\[device/,/^path/d" "$1"
}
shared_mount "${opts[@]}"
equal "on GlusterFS" "$want" "$(sum_of "$MNT/disk")"
equal "on the other node" "$want" "$(sum_of "$MNT2/disk")"
wait_for 30 no_images2 || fail "still in use on the second node"
own_secret "$VOLUME" "$BACK/disk"
id=$(field "$VOLUME" key_id)
blkdiscard -f --zeroout --length 2MiB "$VOLUME"
rm "$HELPER/secrets/$id" # as an operator does with one that was on a device
for n in 1 2; do
	equal "on GlusterFS, its source is gone" "$want" "$(sum_of "$MNT/disk")"
	equal "on the other node, its source is gone" "$want" "$(sum_of "$MNT2/disk")"
	[ $n = 2 ] || { shared_umount; vcf_umount; rm -r "$MNT2" "$W"/{state2,run2}; shared_mount "${opts[@]}"; }
done
e2fsck -fn "$MNT2/disk" >"$W/e2fsck" 2>&1 || fail "e2fsck: $(cat "$W/e2fsck")"
ok "from a volume to GlusterFS"
shared_umount
