#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# POSIX, open-file-description and flock locks hold between processes and go with their owner.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_mount

echo content >"$MNT/f"
for how in posix ofd flock; do
	for pair in "w w no" "w r no" "r w no" "r r yes"; do
		read -r held tried allowed <<<"$pair"
		coproc HOLD { py lock_hold "$MNT/f" $how "$held"; }
		pid=$HOLD_PID
		read -r said <&"${HOLD[0]}"
		equal "holder" locked "$said"
		if [ "$allowed" = yes ]; then
			py lock_try "$MNT/f" $how "$tried" || fail "$how $pair"
		else
			must_fail_with "temporarily unavailable" py lock_try "$MNT/f" $how "$tried"
		fi
		eval "exec ${HOLD[1]}>&-"
		wait "$pid"
		py lock_try "$MNT/f" $how w || fail "$how: not released"
	done
	ok "$how"
done

coproc HOLD { py lock_hold "$MNT/f" posix w; }
pid=$HOLD_PID
read -r said <&"${HOLD[0]}"
pkill -KILL -P "$pid" 2>/dev/null || kill -KILL "$pid"
wait "$pid" || true
wait_for 5 py lock_try "$MNT/f" posix w || fail "a killed process keeps its lock"
ok "a killed process keeps none"
