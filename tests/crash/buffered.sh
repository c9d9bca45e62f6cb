#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The server is killed again and again while threads write to one image through the kernel's page
# cache, and read back what they wrote: the cache never has older bytes than that.
# usage: buffered.sh [SECONDS]
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
vcf_setup
expect_log 'was killed by signal 9 with'
vcf_mount -o key-service.linger=1
# It has its header before it is opened to be written: else its handles go without the cache.
echo header >"$MNT/image"
touch "$W/go"
write() {
	while [ -e "$W/go" ]; do
		"$VCF_BUILD/tests/func/stripes" -t 4 -w 1000 -k 2 -s 262144 "$MNT/image" >>"$W/out" 2>&1 || return 1
	done
}
write &
writer=$!
end=$((SECONDS + ${1:-15})) kills=0
while [ $SECONDS -lt $end ] && kill -0 $writer 2>/dev/null; do
	sleep "0.0$((RANDOM % 10))"
	kill -KILL "$(vcf_status_get 's["server_pid"]' 2>/dev/null)" 2>/dev/null || continue
	kills=$((kills + 1))
	sleep 0.2
done
rm "$W/go"
wait $writer || fail "$(tail -n 2 "$W/out")"
[ $kills -gt 5 ] || fail "only $kills kills"
ok "$kills kills: $(grep -c 'nothing lost' "$W/out") runs, nothing lost"
