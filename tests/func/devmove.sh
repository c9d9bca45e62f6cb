#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A container goes from a file to a device by dd and gets its own secret there; the source may go.
# What programs do to a disk, on a device; discards; reloads.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog losetup cryptsetup qemu-img mkfs.ext4 e2fsck
vcf_setup
. "$(dirname "${BASH_SOURCE[0]}")/devices.lib.sh"
new_device 66M DEV
new_device 66M THIN
new_device 34M DISK
vcf_faulty_helper
vcf_config <<CONFIG
[device moved]
path = $DEV
[device thin]
path = $THIN
discard = yes
CONFIG
opts=(-o key-service.reserve=0 -o key-service.linger=1 -o key-service.destroy-delay=0)
vcf_mount "${opts[@]}"
D=2097152
P=$((64 * 1048576))

truncate -s $P "$MNT/raw"
mkfs.ext4 -q -F "$MNT/raw"
pattern 5 2000000 | dd of="$MNT/raw" bs=1M seek=20 conv=notrunc,fsync status=none iflag=fullblock
sum=$(sha256sum <"$MNT/raw")
equal "container" $((P + D)) "$(stat -c %s "$BACK/raw")"
dd if="$BACK/raw" of="$DEV" bs=1M conv=fsync status=none
equal "the copy" "$sum" "$(sha256sum <"$MNT/moved")"
sleep 2.5 # linger: a command wants it closed
field() { "$VMCRYPTFS" info --json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
exec 9<"$MNT/moved"
must_fail_with "a daemon has it open" "$VMCRYPTFS" adopt --reclone -c "$CONF" "$DEV"
exec 9<&-
closed() { [ "$(vcf_status_get "len(s['images'])")" = 0 ]; }
wait_for 10 closed || fail "still open"
"$VMCRYPTFS" adopt --reclone -c "$CONF" "$DEV"
[ "$(field "$DEV" key_id)" != "$(field "$BACK/raw" key_id)" ] || fail "the source's secret"
id=$(field "$BACK/raw" key_id)
rm "$MNT/raw"
gone() { [ ! -e "$HELPER/secrets/$id" ]; }
wait_for 30 gone || fail "the source's secret stays: $(vcf_status)"
vcf_remount "${opts[@]}"
equal "the copy without its source" "$sum" "$(sha256sum <"$MNT/moved")"
e2fsck -fn "$MNT/moved" >/dev/null 2>&1 || fail "e2fsck"
dd if="$DEV" of="$BACK/back" bs=1M status=none
equal "and back as a file" "$sum" "$(sha256sum <"$MNT/back")"
rm "$BACK/back"
ok "raw file, device by dd, a secret of its own, and back"

"$VMCRYPTFS" keys inventory -c "$CONF" >"$W/inventory"
grep -q "$(field "$DEV" key_id)" "$W/inventory" || fail "in no inventory: $(cat "$W/inventory")"
ok "in the inventory"

# A thin volume: the whole of it is zeroed, holes read as zeros and discards reach it.
pattern 6 8192 | dd of="$THIN" bs=4k seek=4000 conv=notrunc,fsync status=none
echo x | dd of="$MNT/thin" conv=notrunc status=none
equal "holes" zero "$(field "$THIN" holes)"
equal "old data" 0 "$(tail -c +2 "$MNT/thin" | tr -d '\0\n' | wc -c)"
mkfs.ext4 -q -F "$MNT/thin"
pattern 7 20000000 | dd of="$MNT/thin" bs=1M seek=30 conv=notrunc,fsync status=none iflag=fullblock
before=$(stat -c %b "$W/THIN.img")
fallocate -p -o $((30 * 1048576 + 100)) -l 19000000 "$MNT/thin"
equal "punched" 0 "$(dd if="$MNT/thin" bs=1M skip=$((30 * 1048576 + 100)) count=19000000 \
	iflag=skip_bytes,count_bytes status=none | tr -d '\0' | wc -c)"
[ "$(stat -c %b "$W/THIN.img")" -lt $((before - 30000)) ] || fail "the discard did not reach it"
e2fsck -fn "$MNT/thin" >/dev/null 2>&1 || fail "e2fsck"
ok "a thin volume"

# A server that dies in the middle of many writes.
if command -v fio >/dev/null; then
	fio --name=verify --filename="$MNT/moved" --rw=randwrite --bsrange=512-64k --size=32m \
		--direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c --verify_state_save=0 --output="$W/fio" &
	fio=$!
	sleep 0.7
	kill -KILL "$(vcf_status_get "s['server_pid']")"
	require_log 'was killed by signal 9'
	wait $fio || fail "fio: $(cat "$W/fio")"
	ok "fio verify over a server's death"
fi
qemu-img create -q -f raw "$W/src.raw" 10M
pattern 8 5000000 | dd of="$W/src.raw" bs=1M seek=2 conv=notrunc status=none iflag=fullblock
qemu-img convert -n -t none -f raw -O raw "$W/src.raw" "$MNT/moved"
cmp -n 10485760 "$W/src.raw" "$MNT/moved" || fail "qemu-img convert"
ok "qemu-img convert -n"

# Reloads: one more device; an open one stays.
cat >>"$CONF" <<CONFIG
[device disk]
path = $DISK
CONFIG
kill -HUP "$VCF_PID"
there() { [ -f "$MNT/disk" ]; }
wait_for 10 there || fail "not there after the reload"
echo x | dd of="$MNT/disk" conv=notrunc status=none
exec 9<"$MNT/disk"
cp "$CONF" "$W/with"
sed -i '/^\[device disk\]/,$d' "$CONF"
require_log '\[device disk\]: is open, and cannot go'
expect_log 'configuration is not reloaded'
kill -HUP "$VCF_PID"
refused() { grep -q "not reloaded" "$LOG"; }
wait_for 10 refused || fail "the reload was not refused"
head -c 1 "$MNT/disk" | grep -q x || fail "not there any more"
exec 9<&-
: >"$W/closed"
sleep 2.5
kill -HUP "$VCF_PID"
went() { [ ! -e "$MNT/disk" ]; }
wait_for 10 went || fail "still there"
: >"$MNT/disk"
cp "$W/with" "$CONF"
require_log '\[device disk\]: the backing folder has a file of that name'
kill -HUP "$VCF_PID"
refused2() { [ "$(grep -c "not reloaded" "$LOG")" = 2 ]; }
wait_for 10 refused2 || fail "a device over a file"
rm "$MNT/disk"
ok "reloads"
