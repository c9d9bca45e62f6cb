#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Plaintext found below is never adopted and never read.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = locks/**
derived = *.part
CONFIG
mkdir "$BACK/locks"
echo "an old disk" >"$BACK/old"
echo "an old part" >"$BACK/old.part"
echo "a lock" >"$BACK/locks/l"
pattern p 3000000 >"$BACK/large"
cp "$BACK/old" "$W/old"

"$VMCRYPTFS" check-tree -c "$CONF" >"$W/tree" 2>&1 || true
grep -q old "$W/tree" || fail "check-tree does not name the file: $(cat "$W/tree")"
ok "check-tree names it"

expect_log 'plaintext|not mounted'
if vcf_try_mount; then
	fail "mounted over plaintext"
fi
grep -q 'old' "$LOG" || fail "the log does not name the file"
ok "the mount refuses and names it"

vcf_mount --with-plaintext
for f in old old.part large; do
	must_fail_with "Operation not permitted" cat "$MNT/$f"
	must_fail_with "Operation not permitted" py open_only "$MNT/$f" rw
	must_fail_with "Operation not permitted" py open_only "$MNT/$f" trunc
done
same "$W/old" "$BACK/old"
ok "open and O_TRUNC are EPERM; nothing changed"

equal "passthrough" "a lock" "$(cat "$MNT/locks/l")"
stat "$MNT/old" >/dev/null
mv "$MNT/old" "$MNT/renamed"
same "$W/old" "$BACK/renamed"
must_fail truncate -s 0 "$MNT/renamed"
same "$W/old" "$BACK/renamed"
rm "$MNT/renamed"
[ ! -e "$BACK/renamed" ] || fail "still there"
echo new >"$MNT/new"
equal "a new file beside it" new "$(cat "$MNT/new")"
ok "stat, rename and unlink work"
