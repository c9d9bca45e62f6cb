# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# svc.sh: sourced by the scripts that bring a service up or down. Whatever they start is noted
# in DIR/pids as "PID START-TIME", and nothing else is ever signalled: a number that came to be
# another process's has another start time.

start_time() { # PID
	local stat

	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	read -ra stat <<<"${stat##*) }"
	[ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

svc_pid() { # DIR NAME   prints the pid if it lives
	local pid when

	read -r pid when 2>/dev/null <"$1/pids/$2" || return 1
	[ "$(start_time "$pid")" = "$when" ] && echo "$pid"
}

svc_start() { # DIR NAME COMMAND...   in a session of its own; its output in DIR/log/NAME.out
	local dir=$1 name=$2

	shift 2
	mkdir -p "$dir/pids" "$dir/log"
	setsid "$@" </dev/null >>"$dir/log/$name.out" 2>&1 &
	echo "$! $(start_time $!)" >"$dir/pids/$name"
}

svc_of_session() { # PID   all that live in its session
	ps -e -o pid=,sess=,stat= | awk -v s="$1" '$2 == s && $3 !~ /^Z/ { print $1 }'
}

svc_stop() { # DIR NAME
	local pid i

	pid=$(svc_pid "$1" "$2") || return 0
	kill "$pid" 2>/dev/null
	for ((i = 0; i < 100; i++)); do
		[ -n "$(svc_of_session "$pid")" ] || break
		[ $i -lt 80 ] || svc_of_session "$pid" | xargs -r kill -KILL
		sleep 0.1
	done
	rm -f "$1/pids/$2"
}

svc_wait() { # DIR NAME SECONDS COMMAND...   until the command succeeds
	local dir=$1 name=$2 end=$((SECONDS + $3))

	shift 3
	until "$@" >/dev/null 2>&1; do
		if ! svc_pid "$dir" "$name" >/dev/null || [ $SECONDS -ge $end ]; then
			echo "$name does not come up:" >&2
			tail -n 20 "$dir/log/$name"* >&2
			return 1
		fi
		sleep 0.1
	done
}

free_ports() { # COUNT
	/usr/bin/python3 - "$1" <<'PY'
import socket
import sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in held])
PY
}
