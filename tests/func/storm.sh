#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: storm.sh [IMAGES [SECONDS]]     default: 300 images, an outage of 10 s
# A host boots: all images are opened at the same moment. Each costs one request, no more than
# `children` of them at a time; and where the service is down at first, all open once it is back.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
sed -i 's|^helper = .*|&\nchildren = 16\nreserve = 0\nlinger = 0|' "$CONF"
n=${1:-300} outage=${2:-10}
ulimit -n 8192

mkdir -m 700 "$HELPER/secrets"
"$VCF_BUILD/tests/func/makeimages" "$BACK" "$HELPER/secrets" 1 $((n / 2)) &
half=$!
"$VCF_BUILD/tests/func/makeimages" "$BACK" "$HELPER/secrets" $((n / 2 + 1)) "$n"
wait "$half"
fault get delay=0.05
vcf_mount

gets() { helper_calls 'get '; }
images() { [ "$(vcf_status_get 'len(s["images"])')" = "$1" ]; }

read -r wall worst bad errors < <(py open_at_once "$MNT" "$n")
equal "opens that failed ($errors)" 0 "$bad"
equal "requests" "$n" "$(gets)"
equal "ids that were asked for" "$n" "$(grep '^get ' "$HELPER/calls" | sort -u | wc -l)"
[ "$(wc -l <"$HELPER/pids")" -le 16 ] || fail "more helpers than children"
ok "$n images in $wall ms, worst open $worst ms, $(gets) requests (at best $((n * 50 / 16)) ms)"

wait_for 30 images 0 || fail "keys stay"
require_log 'key service default: it does not answer, requests wait'
printf 'get unavailable\nping unavailable\n' >"$HELPER/faults"
rm "$HELPER/calls"
(
	sleep "$outage"
	cp "$HELPER/calls" "$HELPER/calls.down"
	fault get delay=0.05
) &
back=$!
read -r wall worst bad errors < <(py open_at_once "$MNT" "$n")
wait "$back"
equal "opens that failed ($errors)" 0 "$bad"
vain=$(wc -l <"$HELPER/calls.down")
# 16 helpers may have one each under way when it opens; a ping at most every 250 ms, soon 2.5 s.
[ "$vain" -le $((5 + 16 + 8 + outage / 2)) ] || fail "$vain requests to a service that is down"
[ "$(gets)" -le $((n + 5 + 16)) ] || fail "$(gets) gets"
[ "$wall" -ge $((outage * 1000)) ] || fail "opened during the outage"
[ "$wall" -le $((outage * 1000 + 30000)) ] || fail "$wall ms"
equal "parked" 0 "$(vcf_status_get "s['parked']")"
ok "down for the first $outage s: all open after $wall ms, worst $worst ms, $vain requests in vain"
