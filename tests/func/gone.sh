#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Files without a name: a first byte after the unlink leaves no secret behind, and an open that
# waits for its key while the file is removed or replaced never sees a wiped image.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
now=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0)
vcf_mount "${now[@]}"

secrets() { find "$HELPER/secrets" -type f | wc -l; }
secrets_are() { [ "$(secrets)" = "$1" ]; }

echo kept >"$MNT/kept"
exec 9<>"$MNT/temp"
rm "$MNT/temp"
echo "first byte" >&9
equal "secrets" 2 "$(secrets)"
equal "content" "first byte" "$(cat "/proc/$$/fd/9")"
exec 9>&-
wait_for 20 secrets_are 1 || fail "the secret of a file that never had a name stays"
vcf_remount "${now[@]}"
sleep 2
equal "content" kept "$(cat "$MNT/kept")"
ok "a first byte after the unlink"

#   reader                       here
#   OPEN parks for its key
#                                unlink, or rename over: nobody has it open, it is wiped
#   key arrives: ESTALE, the kernel looks the name up again
echo old >"$MNT/a"
echo old >"$MNT/b"
echo new >"$MNT/new"
vcf_remount "${now[@]}"
cat "$MNT/new" >"$W/out" # its key is here
fault get delay=3
cat "$MNT/a" >"$W/a.out" 2>"$W/a.err" &
a=$!
cat "$MNT/b" >"$W/b.out" 2>"$W/b.err" &
b=$!
sleep 1
rm "$MNT/a"
mv "$MNT/new" "$MNT/b"
! wait $a || fail "an image was opened after it had gone: '$(cat "$W/a.out")'"
grep -q "No such file" "$W/a.err" || fail "wanted 'No such file', got: $(cat "$W/a.err")"
ok "an open that waits while its image is removed"
wait $b || fail "the name was there all the time: $(cat "$W/b.err")"
equal "content" new "$(cat "$W/b.out")"
ok "an open that waits while its image is replaced"
fault
