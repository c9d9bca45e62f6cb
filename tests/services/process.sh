# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# process.sh: sourced by scripts that start a server and end exactly that one later. A file holds
# its pid and the time when it was started, so that another process with its number is let alone.

process_begun() { # PID...   its start time in ticks; fails if it is gone or a zombie
	local stat fields

	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	read -ra fields <<<"${stat##*) }"
	[ "${fields[0]}" != Z ] || return 1
	echo "${fields[19]}"
}

process_note() { echo "$2 $(process_begun "$2")" >"$1"; } # FILE PID

process_alive() { # FILE
	local pid begun

	[ -f "$1" ] || return 1
	read -r pid begun <"$1" || return 1
	[ "$(process_begun "$pid")" = "$begun" ]
}

process_pid() { cut -d ' ' -f 1 "$1"; } # FILE

process_signal() { # FILE SIGNAL
	process_alive "$1" && kill "-$2" "$(process_pid "$1")"
}

process_end() { # FILE SIGNAL SECONDS   KILL after that; it may be stopped
	local i

	process_signal "$1" CONT || true
	process_signal "$1" "$2" || true
	for ((i = 0; i < 10 * $3; i++)); do
		process_alive "$1" || break
		sleep 0.1
	done
	process_signal "$1" KILL || true
	rm -f "$1"
}
