#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A file that is unlinked before its first byte gets a secret all the same; it goes with the last
# handle.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount -o key-service.destroy-delay=0 -o key-service.reserve=0
keys() { find "$KEYS" -type f | wc -l; }

exec 9<>"$MNT/gone"
rm "$MNT/gone"
echo "written after the unlink" >&9
equal "secrets" 1 "$(keys)"
equal "content" "written after the unlink" "$(cat /proc/$$/fd/9)"
exec 9>&-
wait_for 20 bash -c "[ -z \"\$(ls '$KEYS')\" ]" || fail "the secret is still there"
ok "unlinked before the first byte"

echo kept >"$MNT/kept"
exec 9<>"$MNT/kept"
rm "$MNT/kept"
equal "content" kept "$(cat <&9)"
equal "secrets" 1 "$(keys)"
exec 9>&-
wait_for 20 bash -c "[ -z \"\$(ls '$KEYS')\" ]" || fail "the secret is still there"
ok "unlinked while open"

: >"$MNT/wiped"
echo content >"$MNT/half"
vcf_remount
for f in wiped:0 half:8; do
	must_fail_with "Stale file handle" py reopen_wiped "$MNT/${f%:*}" "$BACK/${f%:*}" "${f#*:}"
done
ok "what is left of a deleted image is neither plaintext that somebody should move nor damaged"
