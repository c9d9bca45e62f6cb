#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A key stays `linger` seconds after the last close, then it must be fetched again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
opts=(-o key-service.linger=3 -o key-service.reserve=0)
vcf_mount "${opts[@]}"
echo content >"$MNT/f"
vcf_remount "${opts[@]}"

images() { vcf_status_get 'len(s["images"])'; }
before=$(helper_calls get)
equal "content" content "$(cat "$MNT/f")"
equal "content" content "$(cat "$MNT/f")"
equal "one fetch for two opens" $((before + 1)) "$(helper_calls get)"
equal "images with a key" 1 "$(images)"
ok "the key lingers"

gone() { [ "$(images)" = 0 ]; }
wait_for 20 gone || fail "the key stayed"
fault get unavailable
expect_log 'f: '
expect_log 'key|helper|unavailable'
ok "then it goes"

# Not even from the page cache without the key.
must_fail timeout 15 cat "$MNT/f"
fault
equal "content" content "$(cat "$MNT/f")"
equal "fetched again" yes "$([ "$(helper_calls get)" -gt $((before + 1)) ] && echo yes)"
ok "and is fetched again"
