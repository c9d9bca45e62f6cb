#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A block device as a file of the mount: made only where nothing is, of fixed size, nobody else's
# while it is open, and there again after a kill -9 of the server.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog losetup cryptsetup blkdiscard blockdev qemu-img
vcf_setup
. "$(dirname "${BASH_SOURCE[0]}")/devices.lib.sh"
new_device 34M DEV
new_device 10M BUSY
new_device 10M OTHER
vcf_config <<CONFIG
[device disk]
path = $DEV
[device busy]
path = $BUSY
owner = 0:6
mode = 0640
[device other]
path = $OTHER
[rules]
bind = ^(di)sk
CONFIG
D=2097152
P=$((34 * 1048576 - D))
"$VMCRYPTFS" check-config "$CONF" >/dev/null
pattern 9 65536 | dd of="$OTHER" bs=4k seek=100 status=none conv=fsync
vcf_mount -o key-service.linger=1

equal "listed" "busy disk other" "$(find "$MNT" -mindepth 1 -printf '%f\n' | sort | xargs)"
equal "as a file" "regular file $P 600 0 0 1" "$(stat -c '%F %s %a %u %g %h' "$MNT/disk")"
equal "blocks" $((P / 512)) "$(stat -c %b "$MNT/disk")"
equal "owner, mode" "640 0 6" "$(stat -c '%a %u %g' "$MNT/busy")"
equal "zeros before" 0 "$(head -c 100000 "$MNT/disk" | tr -d '\0' | wc -c)"
equal "nothing is made by reading" 0 "$(head -c $D "$DEV" | tr -d '\0' | wc -c)"
ok "shown as a regular file"

sum=$(sha256sum <"$OTHER")
require_log "other: its device holds something else than a container"
must_fail_with "Operation not permitted" dd if=/dev/zero of="$MNT/other" bs=4k count=1 conv=notrunc
must_fail_with "Operation not permitted" cat "$MNT/other"
equal "somebody's data" "$sum" "$(sha256sum <"$OTHER")"
blkdiscard --zeroout --length 2MiB "$OTHER"
echo hello | dd of="$MNT/other" conv=notrunc status=none
ok "what somebody else has there is refused, until its header's space is zeroed"

pattern 1 3000000 | dd of="$MNT/disk" bs=1M seek=1 conv=notrunc,fsync status=none iflag=fullblock
pattern 1 3000000 >"$W/want"
dd if="$MNT/disk" bs=1M skip=1 iflag=count_bytes count=3000000 status=none | same - "$W/want"
pattern 2 1000 | dd of="$MNT/disk" bs=1 seek=$((P - 1000)) conv=notrunc status=none
pattern 2 1000 >"$W/tail"
tail -c 1000 "$MNT/disk" | same - "$W/tail"
equal "size" $P "$(stat -c %s "$MNT/disk")"
expect_log 'disk: write of'
must_fail_with "No space left" dd if=/dev/zero of="$MNT/disk" bs=4096 seek=$((P / 4096)) count=1 conv=notrunc
must_fail_with "not supported" truncate -s $((P - 4096)) "$MNT/disk"
must_fail_with "not supported" truncate -s $((P + 4096)) "$MNT/disk"
must_fail_with "not supported" truncate -s 0 "$MNT/busy"
must_fail_with "not supported" fallocate -l $((P + 4096)) "$MNT/disk"
truncate -s $P "$MNT/disk"
fallocate -p -o 1048576 -l 1000000 "$MNT/disk"
equal "punched" 0 "$(dd if="$MNT/disk" bs=1M skip=1 iflag=count_bytes count=1000000 status=none | tr -d '\0' | wc -c)"
equal "all is data" "0 $P" "$(python3 -c "
import os; f = os.open('$MNT/disk', os.O_RDONLY)
print(os.lseek(f, 0, os.SEEK_DATA), os.lseek(f, 0, os.SEEK_HOLE))")"
ok "bytes, and a size that stays"

must_fail_with "Operation not permitted" rm -f "$MNT/disk"
must_fail_with "Operation not permitted" mv "$MNT/disk" "$MNT/x"
must_fail_with "Operation not permitted" ln "$MNT/disk" "$MNT/x"
: >"$MNT/x"
must_fail_with "Operation not permitted" mv -f "$MNT/x" "$MNT/disk"
rm "$MNT/x"
grep -q "disk: is a device of the configuration" "$LOG" || fail "no word in the log"
ok "the name stays"

exec 9<>"$MNT/disk"
# shellcheck disable=SC2016
must_fail_with "busy" python3 -c 'import os,sys; os.open(sys.argv[1], os.O_RDWR|os.O_EXCL)' "$DEV"
chown 64055:64055 "$MNT/disk"
chmod 660 "$MNT/disk"
equal "the device node's owner" "$(stat -c %u "$OTHER")" "$(stat -c %u "$DEV")"
equal "context, holes" "di none" "$("$VMCRYPTFS" info --json "$DEV" | python3 -c "
import json,sys; i=json.load(sys.stdin); print(i['context'], i['holes'])")"
"$VMCRYPTFS" info "$MNT/disk" | grep -q "size  *$P bytes" || fail "info: $("$VMCRYPTFS" info "$MNT/disk")"
equal "status" "$DEV container" "$(vcf_status_get "[d['device'] + ' ' + d['kind'] for d in s['devices'] if d['name'] == 'disk'][0]")"
equal "open" 1 "$(vcf_status_get "[i['opens'] for i in s['images'] if i['path'] == 'disk'][0]")"
kill -KILL "$(vcf_status_get "s['server_pid']")"
require_log 'was killed by signal 9'
dd if="$MNT/disk" bs=1M skip=2 iflag=count_bytes count=1000000 status=none >"$W/got"
dd if="$W/want" bs=1M skip=1 iflag=count_bytes count=1000000 status=none | same - "$W/got"
equal "owner after the take-over" "660 64055 64055" "$(stat -c '%a %u %g' "$MNT/disk")"
must_fail_with "busy" python3 -c 'import os,sys; os.open(sys.argv[1], os.O_RDWR|os.O_EXCL)' "$DEV"
pattern 3 5000 | dd bs=1M status=none conv=notrunc >&9
exec 9>&-
pattern 3 5000 >"$W/p3"
head -c 5000 "$MNT/disk" | same - "$W/p3"
ok "claimed while it is open; a server's death costs nothing"

exec 8<>"$OTHER" 9<>"$BUSY"
python3 - "$BUSY" "$MNT/busy" <<'PY'
import errno, os, sys
held = os.open(sys.argv[1], os.O_RDWR | os.O_EXCL)
f = os.open(sys.argv[2], os.O_RDWR)
try:
    os.write(f, b"x" * 4096)
    sys.exit("written to a device that is in use")
except OSError as e:
    assert e.errno == errno.EBUSY, e
os.close(held)
os.write(f, b"x" * 4096)
PY
exec 8>&- 9>&-
require_log 'busy: its device is in use by somebody else'
expect_log 'busy: cannot open: Device or resource busy'
ok "one that somebody else has"

# It grows below.
exec 9<>"$MNT/disk"
truncate -s 44M "$W/DEV.img"
losetup -c "$DEV"
sleep 1.2
P=$((P + 10 * 1048576))
equal "grown" $P "$(stat -c %s "$MNT/disk")"
truncate -s $P "$MNT/disk"
pattern 4 1000 | dd of=/dev/fd/9 bs=1 seek=$((P - 1000)) conv=notrunc status=none
exec 9>&-
tail -c 1000 "$MNT/disk" >"$W/got"
pattern 4 1000 | same - "$W/got"
ok "what grows below is larger at the next look"

cat "$MNT/disk" >"$W/plain"
vcf_umount
id=$(key_id_of "$DEV")
cryptsetup open --test-passphrase --key-file "$KEYS/$id" "$DEV" || fail "cryptsetup does not open it"
if /usr/bin/python3 -c 'import cryptography' 2>/dev/null; then
	blockdev --flushbufs "$DEV"
	/usr/bin/python3 "$VCF_SRC/contrib/luksread.py" "$W/DEV.img" "$KEYS/$id" "$W/decrypted"
	same "$W/plain" "$W/decrypted"
	ok "an independent reader sees the same bytes"
fi
: >"$BACK/disk"
require_log '\[device disk\]: the backing folder has a file of that name'
expect_log 'not mounted: File exists'
vcf_try_mount && fail "mounted over a file of the same name"
rm "$BACK/disk"
vcf_mount
same "$W/plain" "$MNT/disk"
equal "owner of a new mount" "600 0 0" "$(stat -c '%a %u %g' "$MNT/disk")"
ok "a new mount"
