#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What a service manager is told: ready, reloading, stopping, signs of life, also across upgrades; and
# no child of the daemon inherits the socket's name.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup

played() { # SOCKET   plays systemd there; what it is told is in $W/told
	rm -f "$W/told"
	python3 "$FUNC/notify.py" "$1" "$W/told" &
	at_exit "kill $! 2>/dev/null"
	wait_for 10 test -e "$W/told" || fail "no socket"
}
told() { grep -qE -- "$1" "$W/told"; } # EXPRESSION
is_told() { wait_for 30 told "$1" || fail "not told '$1': $(cat "$W/told")"; }
count() { grep -cE -- "$1" "$W/told" || true; }
more() { [ "$(count "$1")" -gt "$2" ]; } # EXPRESSION THAN

played "$W/notify"
export NOTIFY_SOCKET=$W/notify WATCHDOG_USEC=4000000
vcf_mount -o mount.heartbeat=3
is_told "READY=1.*MAINPID=$VCF_PID.*STATUS=generation 1"
is_told "WATCHDOG=1"
echo x >"$MNT/f"
is_told "STATUS=generation 1 serves, 1 image with a key"
ok "ready, with signs of life"

child=$(pgrep -P "$VCF_PID" -f vmcryptfs-key-file | head -1)
[ -n "$child" ] || fail "no helper"
! tr '\0' '\n' <"/proc/$child/environ" | grep -E "NOTIFY|WATCHDOG" || fail "a helper has the variables"
ok "helpers know nothing of it"

kill -HUP "$VCF_PID"
is_told "RELOADING=1.MONOTONIC_USEC=[0-9]+"
wait_for 30 more "READY=1" 1 || fail "no end of the reload: $(cat "$W/told")"
ok "a reload"
cp "$CONF" "$W/conf"
vcf_config <<<$'[audit]\nnonsense = 1'
expect_log "nonsense|reload"
kill -HUP "$VCF_PID"
is_told "READY=1.STATUS=the reload was refused"
cp "$W/conf" "$CONF"
ok "a reload that is refused"

# A server that hangs is the keeper's to replace: systemd hears of it by STATUS=, and no pause of the
# signs of life is as long as what it allows.
require_log "hangs: no sign of life"
expect_log "was killed by signal 9|hang|thread|/proc"
no_pause() {
	awk -v max=$((WATCHDOG_USEC / 1000)) '
		/WATCHDOG=1/ { if (last && ($1 - last) * 1000 > worst) worst = ($1 - last) * 1000; last = $1 }
		END { print "longest pause: " worst " ms of " max; exit worst > max }' "$W/told"
}
server=$(vcf_status_get 's["server_pid"]')
kill -STOP "$server"
cat "$MNT/f" >/dev/null &
is_told "STATUS=generation [2-9] serves"
wait %%
n=$(count WATCHDOG=1)
wait_for 30 more WATCHDOG=1 "$n" || fail "no signs of life of generation 2"
no_pause || fail "systemd would have ended it"
for _ in 1 2 3; do
	kill -KILL "$(vcf_status_get 's["server_pid"]')"
	sleep 0.7
done
no_pause || fail "systemd would have ended it"
ok "servers that hang and die: $(no_pause)"

# READY=1 of itself: a reload that the program before has begun is over.
n=$(count READY=1)
"$VMCRYPTFS" upgrade "$MNT" >/dev/null || fail "upgrade"
generation=$(vcf_status_get 's["generation"]')
is_told "STATUS=generation $generation serves"
wait_for 10 more READY=1 "$n" || fail "a reload across an upgrade would never end: $(cat "$W/told")"
n=$(count WATCHDOG=1)
wait_for 30 more WATCHDOG=1 "$n" || fail "no signs of life after the upgrade"
n=$(count RELOADING=1)
kill -HUP "$VCF_PID"
wait_for 30 more RELOADING=1 "$n" || fail "not told of a reload after the upgrade"
server=$(vcf_status_get 's["server_pid"]')
for p in $(pgrep -P "$VCF_PID" -f vmcryptfs-key-file); do
	! tr '\0' '\n' <"/proc/$p/environ" | grep -E "NOTIFY|WATCHDOG" || fail "a helper has the variables"
done
ok "the same after an upgrade"

kill -TERM "$VCF_PID"
is_told "STOPPING=1"
vcf_wait
ok "stopping"

played "@vcf-notify-$$"
export NOTIFY_SOCKET=@vcf-notify-$$
unset WATCHDOG_USEC
vcf_mount
is_told "READY=1"
umount "$MNT"
is_told "STOPPING=1"
! told WATCHDOG || fail "a watchdog that nobody asked for"
vcf_wait
ok "an abstract socket, and an unmount by somebody else"
