#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Classes by rule, and what may not be renamed into what.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = locks/**
derived = **/*.part
bind = ^([0-9a-f-]{36})(?:_resize|_del)?/
CONFIG
vcf_mount -o key-service.reserve=0
a=11111111-1111-1111-1111-111111111111
b=22222222-2222-2222-2222-222222222222
mkdir "$MNT/locks" "$MNT/_base" "$MNT/$a" "$MNT/$b"

echo lock >"$MNT/locks/l"
equal "passthrough lies below as it is" lock "$(cat "$BACK/locks/l")"
echo image >"$MNT/$a/disk"
echo image >"$MNT/_base/x.part"
keys=$(find "$KEYS" -type f | wc -l)
equal "context" $a "$(cryptsetup token export --token-id 0 "$BACK/$a/disk" |
	sed 's/.*"context": *"\([^"]*\)".*/\1/')"
cryptsetup token export --token-id 0 "$BACK/_base/x.part" | grep -qE '"derived": *true' ||
	fail "not derived"
cryptsetup token export --token-id 0 "$BACK/$a/disk" | grep -qE '"derived": *false' ||
	fail "derived"
for i in 1 2 3; do echo more >"$MNT/_base/y$i.part"; done
equal "derived images make no secrets" "$keys" "$(find "$KEYS" -type f | wc -l)"
ok "three classes"

exdev() { must_fail_with "cross-device" py rename2 none "$1" "$2"; }
exdev "$MNT/locks/l" "$MNT/l"
exdev "$MNT/$a/disk" "$MNT/locks/disk"
exdev "$MNT/_base/x.part" "$MNT/locks/x"
must_fail_with "cross-device" ln "$MNT/locks/l" "$MNT/l"
must_fail_with "cross-device" ln "$MNT/$a/disk" "$MNT/locks/disk"
ok "passthrough and images do not mix"

exdev "$MNT/$a/disk" "$MNT/$b/disk"
exdev "$MNT/$a/disk" "$MNT/disk"
exdev "$MNT/$a" "$MNT/$b"
exdev "$MNT/$a" "$MNT/_other"
must_fail_with "cross-device" ln "$MNT/$a/disk" "$MNT/$b/disk"
echo other >"$MNT/$b/disk"
must_fail_with "cross-device" py rename2 exchange "$MNT/$a/disk" "$MNT/$b/disk"
ok "instances do not mix"

mv "$MNT/$a" "$MNT/${a}_resize"
equal "content" image "$(cat "$MNT/${a}_resize/disk")"
mv "$MNT/${a}_resize" "$MNT/$a"
mv "$MNT/_base/x.part" "$MNT/_base/x"
equal "content" image "$(cat "$MNT/_base/x")"
mv "$MNT/$a/disk" "$MNT/$a/disk2"
ok "an instance's own names, and derived to encrypt"

mv "$MNT/locks/l" "$MNT/copied" # mv falls back to copying
equal "copied by mv" lock "$(cat "$MNT/copied")"
! grep -qa lock "$BACK/copied" || fail "plaintext below"
vcf_remount
equal "after remount" image "$(cat "$MNT/$a/disk2")"
equal "after remount" image "$(cat "$MNT/_base/x")"
