#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 500 images open at once, all usable; afterwards their keys go.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount -o key-service.linger=1
n=500

for i in $(seq $n); do
	echo "image $i" >"$MNT/i$i"
done
vcf_remount -o key-service.linger=1
ulimit -n 4096
coproc HOLD { py open_hold "$MNT"/i*; }
pid=$HOLD_PID
read -r said <&"${HOLD[0]}" || fail "the opens failed"
equal "holder" open "$said"
equal "open images" $n "$(vcf_status_get 'len([i for i in s["images"] if i["opens"] > 0])')"
equal "content" "image 250" "$(cat "$MNT/i250")"
for i in 1 100 499 500; do
	echo "more" >>"$MNT/i$i"
	equal "content" "image $i more" "$(xargs <"$MNT/i$i")"
done
ok "$n images open"

eval "exec ${HOLD[1]}>&-"
wait "$pid"
gone() { [ "$(vcf_status_get 'len(s["images"])')" = 0 ]; }
wait_for 20 gone || fail "images are still listed: $(vcf_status_get 'len(s["images"])')"
equal "content" "image 7" "$(cat "$MNT/i7")"
ok "closed, keys gone, open again"
