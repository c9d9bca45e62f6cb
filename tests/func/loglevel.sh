#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The log level at run time: at once, for keeper and server, over deaths, reloads and an upgrade.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3
expect_log 'was killed by signal 9'
vcf_setup
vcf_mount
level() { "$VMCRYPTFS" log-level "$MNT" "$@"; }
lines() { grep -ac "\] $1: " "$LOG" || true; } # LEVEL
served() { [ "$(vcf_status_get "s['generation']")" -gt "$1" ]; }
kill_server() {
	local gen
	gen=$(vcf_status_get "s['generation']")
	kill -KILL "$(vcf_status_get "s['server_pid']")"
	wait_for 30 served "$gen" || fail "no successor"
}

equal "at first" configured "$(level)"
must_fail "$VMCRYPTFS" log-level "$MNT" loud
must_fail "$VMCRYPTFS" log-level
must_fail "$VMCRYPTFS" log-level "$W" dbg
equal "no debug lines" 0 "$(lines dbg)"

level err >/dev/null
equal "asked for" err "$(level)"
before=$(lines info)
kill_server
"$VMCRYPTFS" upgrade "$MNT" >/dev/null
kill -HUP "$VCF_PID"
sleep 0.5
equal "info lines" "$before" "$(lines info)"
equal "asked for, after an upgrade" err "$(level)"
"$VMCRYPTFS" status "$MNT" | grep -q 'log level  *err, asked' || fail "status does not say it"
level dbg >/dev/null
grep -q 'the log level is dbg until the mount ends: a command asked for it' "$LOG" || fail "the log does not say it"
kill_server
debugs() { [ "$(lines dbg)" -gt 0 ]; }
wait_for 10 debugs || fail "no debug lines"
ok "deaths, a reload and an upgrade change nothing about it"

level configured >/dev/null
equal "given up" configured "$(level)"
before=$(lines info)
"$VMCRYPTFS" upgrade "$MNT" >/dev/null
[ "$(lines info)" -gt "$before" ] || fail "info lines do not come back"
ok "the configuration counts again"
