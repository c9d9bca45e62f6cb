# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later

# Processes that were started for the test's folder $W, but for its shell and the shell's own.
of_this_test() {
	local p pid

	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		[ "$pid" != $$ ] && [ "$pid" != $BASHPID ] || continue
		if grep -qaF "$W/" "$p/cmdline" 2>/dev/null ||
			{ [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" != $$ ] &&
				grep -qaF "=$W/" "$p/environ" 2>/dev/null; }
		then
			echo "$pid: $(tr '\0' ' ' 2>/dev/null <"$p/cmdline")"
		fi
	done
}

none_of_this_test() { [ -z "$(of_this_test)" ]; }

# After the last unmount: nothing outlives the test. Processes keep mounts and namespaces.
nothing_left() {
	wait_for 30 none_of_this_test || fail "still running: $(of_this_test)"
	! grep -F " $W/" /proc/self/mountinfo | grep -F ' - fuse' || fail "still mounted"
}
