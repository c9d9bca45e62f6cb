#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A node ends while an image that it removed is closed on another one, and its key service takes its
# time: nothing is wiped by what is gone already, and the next mount goes on with it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$FUNC/shared.lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
opts=(-o key-service.reserve=0 -o key-service.linger=1 -o key-service.destroy-delay=0)
shared_mount "${opts[@]}"
pattern 1 100000 >"$MNT/doomed"
pattern 2 100000 >"$MNT/other"
exec 7<"$MNT2/doomed"
rm "$MNT/doomed"
fault destroy delay=4
rm "$MNT/other"
destroying() { [ -n "$(helper_calls destroy)" ] && [ "$(helper_calls destroy)" -gt 0 ]; }
wait_for 20 destroying || fail "no secret is destroyed"
"$VMCRYPTFS" umount "$MNT" &
ends=$!
sleep 0.5
exec 7<&-
wait $ends || fail "umount"
vcf_wait
fault
ok "a node ends while another one closes what it removed"
vcf_mount -o mount.shared=yes "${opts[@]}"
none_left() { [ -z "$(find "$HELPER/secrets" -type f)" ]; }
wait_for 30 none_left || fail "secrets stay: $(ls "$HELPER/secrets")"
ok "the next mount destroys the secrets"
shared_umount
