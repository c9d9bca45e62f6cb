#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What `status` counts of each image and of the mount: it is exact, a death of the server takes none of
# it, and the summary for people stays short.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3
expect_log 'was killed by signal 9'
vcf_setup
vcf_mount

image() { # PATH EXPRESSION over the image `i`
	vcf_status_get "[$2 for i in s['images'] if i['path'] == '$1'][0]"
}
kill_server() {
	local gen
	gen=$(vcf_status_get "s['generation']")
	kill -KILL "$(vcf_status_get "s['server_pid']")"
	wait_for 30 eval "[ \"\$(vcf_status_get 's[\"generation\"]')\" -gt $gen ]" || fail "no successor"
}

exec 7<>"$MNT/idle" # the handle of a file that stays empty: it has no key
dd if=/dev/zero of="$MNT/disk" bs=4096 count=100 conv=fsync status=none
exec 8<>"$MNT/disk"
dd if="$MNT/disk" of=/dev/null bs=4096 count=50 iflag=direct status=none
dd if=/dev/zero of="$MNT/disk" bs=4096 count=25 oflag=direct conv=notrunc status=none

equal "bytes read" 204800 "$(image disk "i['bytes_read']")"
equal "reads" 50 "$(image disk "i['reads']")"
equal "bytes written" $((125 * 4096)) "$(image disk "i['bytes_written']")"
equal "opens" 1 "$(image disk "i['opens']")"
equal "the histogram has each read" 50 "$(image disk "sum(i['read_latency']['counts'])")"
equal "and each write" "$(image disk "i['writes']")" "$(image disk "sum(i['write_latency']['counts'])")"
equal "took some time" True "$(image disk "i['read_latency']['sum_us'] > 0")"
equal "the mount's are the same" "50 204800 512000" \
	"$(vcf_status_get "s['io']['reads'], s['io']['bytes_read'], s['io']['bytes_written']" | tr -d '(),')"
ok "reads, writes, bytes and times are counted once each"

for _ in 1 2; do
	kill_server
done
equal "reads after two deaths" "50 50" "$(image disk "i['reads']") $(vcf_status_get "s['io']['reads']")"
dd if="$MNT/disk" of=/dev/null bs=4096 count=10 iflag=direct status=none
equal "go on" "60 60" "$(image disk "i['reads']") $(vcf_status_get "s['io']['reads']")"
equal "stalls" "2 True" "$(vcf_status_get "s['stall_ms']['count'], s['stall_ms']['last'] <= s['stall_ms']['max']" | tr -d '(),')"
ok "they go on in the next server"

exec 8>&-
for i in $(seq 20); do
	echo "$i" >"$MNT/$(printf 'many\033[31m%d' "$i")"
done
"$VMCRYPTFS" status "$MNT" >"$W/text"
[ "$(wc -l <"$W/text")" -le 12 ] || fail "the summary is long: $(cat "$W/text")"
grep -q 'images 21 with a key in memory, 0 of them open' "$W/text" || fail "the summary: $(cat "$W/text")"
grep -q 'servers  *deaths 2 .*last death by signal 9' "$W/text" || fail "deaths: $(cat "$W/text")"
stall=$(vcf_status_get "'%.0f ms (longest %.0f ms)' % (s['stall_ms']['last'], s['stall_ms']['max'])")
grep -qF "nobody served for $stall" "$W/text" || fail "not $stall: $(cat "$W/text")"
grep -q 'requests [1-9][0-9]*, failures 0, answers mean .* last good one 20' "$W/text" || fail "service: $(cat "$W/text")"
"$VMCRYPTFS" status --images "$MNT" >"$W/text"
equal "images listed" 21 "$(grep -c '^    uuid ' "$W/text")"
grep -q 'many\\x1b\[31m20$' "$W/text" || fail "a name is not made visible"
! grep -q $'\033' "$W/text" || fail "a name reaches the terminal as it is"
ok "a summary, and a list that no name can forge"
equal "the key service's answers" True "$(vcf_status_get "sum(s['key_service']['latency']['counts']) > 0")"
exec 7>&-
