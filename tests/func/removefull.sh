#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Containers and journal on one disk that is full to the last block: it can be mounted, images
# can be removed and replaced, their secrets go, the others stay.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
vcf_setup
truncate -s 96M "$W/disk"
mkdir "$W/small"
mkfs.ext4 -q -m 0 "$W/disk" 2>/dev/null && mount -o loop "$W/disk" "$W/small" 2>/dev/null ||
	mount -t tmpfs -o size=80m none "$W/small" 2>/dev/null || skip "needs a small disk"
at_exit "umount -l $W/small"
mkdir "$W/small/back" "$W/small/state"
BACK=$W/small/back
sed -i "s|^backing = .*|backing = $BACK|; s|^state-directory = .*|state-directory = $W/small/state|" \
	"$CONF"
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0)
expect_log 'No space|KiB are left'

# Not counting one that a refused creation gave back for the next.
secrets_are() {
	[ "$(find "$KEYS" -type f | wc -l)" = \
		$(($1 + $(vcf_status_get "s['key_service']['reserve']"))) ]
}

fill() { # to the last block; what removals free goes, too
	cat /dev/zero >>"$W/small/filler" 2>/dev/null || true
	sync -f "$W/small"
	cat /dev/zero >>"$W/small/filler" 2>/dev/null || true
}

vcf_mount "${now[@]}"
for i in $(seq 12); do
	pattern "$i" 200000 >"$W/content.$i"
	cp "$W/content.$i" "$MNT/$i"
done
fill
must_fail_with "No space left" cp "$W/content.1" "$MNT/new"
rm -f "$MNT/new"
secrets_are 12 || fail "secrets before: $(find "$KEYS" -type f | wc -l)"

rm "$MNT/1" "$MNT/2"
wait_for 10 secrets_are 10 || fail "unlink on a full disk leaves the secret"
fill
ok "unlink"

mv -f "$MNT/3" "$MNT/4"
py rename_over_open "$MNT/5" "$MNT/6"
wait_for 10 secrets_are 8 || fail "rename over on a full disk leaves the secret"
same "$W/content.3" "$MNT/4"
same "$W/content.5" "$MNT/6"
fill
ok "rename over"

vcf_remount "${now[@]}"
secrets_are 8 || fail "a remount on a full disk lost or made secrets"
for pair in 3:4 5:6 7:7 8:8 9:9 10:10 11:11 12:12; do
	same "$W/content.${pair%:*}" "$MNT/${pair#*:}"
done
ok "mounted on a full disk, nothing lost"

py unlink_open "$MNT/7"
rm "$MNT"/[0-9]*
wait_for 10 secrets_are 0 || fail "secrets stay"
cp "$W/content.1" "$MNT/new" 2>/dev/null || rm "$W/small/filler"
cp "$W/content.1" "$MNT/new"
same "$W/content.1" "$MNT/new"
ok "all removed, and there is room again"
