#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The secret goes with the last name and the last handle, never before, and only when the
# unlink succeeded.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0)
vcf_mount "${now[@]}"

secrets() { find "$HELPER/secrets" -type f | wc -l; }
secrets_are() { [ "$(secrets)" = "$1" ]; }
for f in a b c d; do
	echo "content $f" >"$MNT/$f"
done
equal "secrets" 4 "$(secrets)"

ln "$MNT/a" "$MNT/a2"
rm "$MNT/a"
sleep 2
equal "a second name keeps the secret" 4 "$(secrets)"
equal "content" "content a" "$(cat "$MNT/a2")"
rm "$MNT/a2"
wait_for 20 secrets_are 3 || fail "the secret of a removed image stays"
ok "the last name"

exec 9<>"$MNT/b"
rm "$MNT/b"
sleep 2
equal "an open handle keeps the secret" 3 "$(secrets)"
equal "content" "content b" "$(cat <&9)"
echo more >&9
exec 9>&-
wait_for 20 secrets_are 2 || fail "the secret stays after the last close"
ok "the last handle"

py unlink_early "$MNT/early"
wait_for 20 secrets_are 2 || fail "the secret stays of a file whose name went before its first byte"
ok "a name that goes before the first byte"

c_id=$(key_id_of "$BACK/c")
cp "$BACK/d" "$W/old-d"
mv "$MNT/c" "$MNT/d"
wait_for 20 secrets_are 1 || fail "the secret of a replaced image stays"
equal "content" "content c" "$(cat "$MNT/d")"
[ -e "$HELPER/secrets/$c_id" ] || fail "the wrong secret was destroyed"
ok "rename over an image"

# An unlink that fails touches nothing.
if chattr +a "$BACK" 2>/dev/null; then
	must_fail_with "not permitted" rm -f "$MNT/d"
	must_fail_with "not permitted" mv -f "$MNT/d" "$MNT/e"
	sleep 2
	chattr -a "$BACK"
	vcf_remount "${now[@]}"
	equal "content" "content c" "$(cat "$MNT/d")"
	equal "secrets" 1 "$(secrets)"
	ok "unlink refused by an append-only folder"
else
	echo "(no append-only folders here)"
fi

fault destroy unavailable
expect_log 'helper|destroy|key'
rm "$MNT/d" || fail "a dead service must not stop a delete"
sleep 1
equal "secrets" 1 "$(secrets)"
fault
vcf_remount "${now[@]}"
wait_for 60 secrets_are 0 || fail "not destroyed later"
ok "a dead service only delays it"

vcf_remount -o key-service.reserve=0 -o key-service.destroy-delay=7d
echo kept >"$MNT/f"
cp "$BACK/f" "$W/f"
rm "$MNT/f"
vcf_remount -o key-service.reserve=0 -o key-service.destroy-delay=7d
sleep 1
equal "secrets" 1 "$(secrets)"
cp "$W/f" "$BACK/restored" # from a backup, within the delay
equal "content" kept "$(cat "$MNT/restored")"
ok "within destroy-delay a backup still opens"

