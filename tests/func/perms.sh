#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Other users reach the mount, and permissions hold for them.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setpriv
vcf_setup
vcf_mount
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)

mkdir -m 755 "$MNT/theirs"
chown 65534:65534 "$MNT/theirs"
echo public >"$MNT/public"
echo secret >"$MNT/private"
chmod 600 "$MNT/private"
equal "public" public "$("${nobody[@]}" cat "$MNT/public")"
must_fail_with "Permission denied" "${nobody[@]}" cat "$MNT/private"
must_fail_with "Permission denied" "${nobody[@]}" touch "$MNT/new"
must_fail_with "Operation not permitted" "${nobody[@]}" chmod 777 "$MNT/public"
"${nobody[@]}" bash -c "echo mine >$MNT/theirs/f"
equal "owner" "65534:65534 65534:65534" \
	"$(stat -c %u:%g "$MNT/theirs/f") $(stat -c %u:%g "$BACK/theirs/f")"
"${nobody[@]}" mkdir "$MNT/theirs/d"
"${nobody[@]}" ln -s f "$MNT/theirs/s"
"${nobody[@]}" mkfifo "$MNT/theirs/p"
equal "owners" "65534 65534 65534" "$(stat -c %u "$MNT"/theirs/{d,s,p} | xargs)"
chown 0 "$MNT/theirs/f"
must_fail_with "Permission denied" "${nobody[@]}" bash -c "echo x >>$MNT/theirs/f"
ok "as the owner and the mode say"

grep -q " $MNT fuse.* .*nosuid" /proc/mounts || fail "not nosuid: $(grep "$MNT" /proc/mounts)"
grep -q " $MNT fuse.* .*nodev" /proc/mounts || fail "not nodev"
grep -q " $MNT fuse.* .*default_permissions" /proc/mounts || fail "not default_permissions"
ok "nosuid, nodev, default_permissions"

# A write takes set-id bits away, as on any file system.
cp /bin/true "$MNT/suid"
chmod 4777 "$MNT/suid"
"${nobody[@]}" bash -c "echo x >>$MNT/suid"
equal "mode" 777 "$(stat -c %a "$MNT/suid")"
ok "a write takes the set-user-id bit away"
