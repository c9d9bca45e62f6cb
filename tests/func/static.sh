#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The `static` helper: one secret in the configuration, one derived from it for each image.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
sed -i '/^helper = /s/.*/helper = static/; /^\[file\]/,$d' "$CONF"
vcf_config <<CONFIG
[static]
secret = 5a$(head -c 31 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
CONFIG
expect_log 'static|theft|protects'
vcf_mount
pattern static 100000 >"$W/data"
cp "$W/data" "$MNT/f"
cp "$W/data" "$MNT/g"
vcf_remount
same "$W/data" "$MNT/f"
same "$W/data" "$MNT/g"
grep -qE 'static.*configuration' "$LOG" || fail "the mount does not say what it is worth"
ok "written, remounted, read"

vcf_umount
sed -i 's/^secret = 5a/secret = a5/' "$CONF"
grep -q '^secret = a5' "$CONF" || fail "the secret was not changed"
vcf_mount
expect_log '[fg]: '
must_fail_with "Key was rejected" cat "$MNT/f"
ok "another secret does not open them"

sed 's/^secret = .*/secret = 1234/' "$CONF" >"$W/short.conf"
must_fail "$VMCRYPTFS" mount -f -o "mount.mountpoint=$W/run" "$W/short.conf"
ok "a malformed secret is refused"
