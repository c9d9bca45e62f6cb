#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The server is killed again and again under a load that knows every answer (torture.c); no
# program may feel more than a pause.
# usage: torture.sh [OPTION]...
#   --kills N      SIGKILLs (default 60)
#   --ms RANGES    how long each server lives, e.g. '5-40 40-400*3' (default: kills.py)
#   --no-resend    the daemon does not ask the kernel to repeat requests (VCF_NO_RESEND=1)
#   --upgrade N    so many upgrades to the same program in between
#   --fio          fio beside it: verify=crc32c, O_DIRECT and buffered
#   --kinds K,...  these parts of the load alone
#   --seed N       of the load
#   -o S.K=V       more settings of the mount
#   --guest        instead: a guest that writes and verifies (tests/interop/guest.sh --kills)
# Prints kills, calls, errors, wrong results, wrong bytes, stalls, and what was left over after
# the load had ended: handles, nodes, descriptors, keys, secrets. All but the stalls must be 0.
# Then the mount ends, and the next one must show what the model says.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
CRASH=$VCF_SRC/tests/crash
kills=60 upgrades=0 fio=no seed=$RANDOM
kinds=() ranges=()
options=(-o key-service.destroy-delay=0 -o key-service.destroy-rate=60000 -o key-service.linger=1 -o 'rules.derived=**/*.part')

while [ $# -gt 0 ]; do
	case $1 in
	--kills) kills=$2; shift ;;
	--ms) read -ra ranges <<<"$2"; shift ;;
	--no-resend) export VCF_NO_RESEND=1 ;;
	--upgrade) upgrades=$2; shift ;;
	--fio) fio=yes ;;
	--kinds) kinds=(-k "$2"); shift ;;
	--seed) seed=$2; shift ;;
	-o) options+=(-o "$2"); shift ;;
	--guest) exec bash "$VCF_SRC/tests/interop/guest.sh" --kills "$kills" ;;
	*) echo "torture.sh: unknown option $1" >&2; exit 2 ;;
	esac
	shift
done

# --- what is there to count ---

# Descriptors of the table that keeper and server share, by what they lead to. Those of helpers
# (pipes, pidfds) come and go with the load.
files_open() { # FILE   gets what each leads to; prints how many
	find "/proc/$VCF_PID/fd" -type l -printf '%l\n' 2>/dev/null |
		grep -vE '^(pipe|socket):|pidfd|^$' | sort >"$1" || true
	wc -l <"$1"
}

# All containers' ids, and the site's.
secrets_needed() {
	local f

	find "$BACK" -type f -size +32k -print | while read -r f; do
		[ "$(head -c 4 "$f" | tr -d '\0')" != LUKS ] ||
			head -c 32768 "$f" | tr -d '\0' | grep -ao '"key_id":"[^"]*"' | head -n 1 |
			cut -d'"' -f4
	done
	cat "$W"/state/*/site 2>/dev/null | cut -d' ' -f2
}

# Derived containers name the site's secret or one of their own: only files that exist count.
secrets_in_order() {
	local id missing=0 needed

	needed=$(secrets_needed | sort -u)
	for id in $needed; do
		[ -f "$KEYS/$id" ] || missing=$((missing + 1))
	done
	secrets_missing=$missing
	secrets_over=$(($(find "$KEYS" -type f -not -name '.*' | wc -l) - $(wc -w <<<"$needed") -
		$(vcf_status_get "s['key_service']['reserve']")))
	[ $secrets_missing = 0 ] && [ $secrets_over = 0 ]
}

# What the log says of secrets that nobody seems to need (those of the reserve among them).
explain_secrets() {
	find "$KEYS" -type f -not -name '.*' -printf '%f\n' | sort >"$W/secrets"
	secrets_needed | sort -u | comm -13 - "$W/secrets" | while read -r id; do
		grep -aF "$id" "$LOG" || echo "  $id: never mentioned"
	done
}

idle() { # the counters of a mount that nobody uses
	echo 2 >/proc/sys/vm/drop_caches
	read -r handles nodes keys queue suspects parked < <(vcf_status_get \
		"s['handles'], s['nodes'], s['keys'], s['destroy_queue']['waiting'], s['suspects'], s['parked']" |
		tr -d '(),')
	[ "$handles" = 0 ] && [ "$nodes" -le $((nodes_before + 4)) ] && [ "$keys" = 0 ] &&
		[ "$queue" = 0 ] && [ "$parked" = 0 ]
}

# --- the load ---

load_pid='' fio_pid=''

# Whoever waits for a server that will never come can only be freed by the end of the connection.
free_all() {
	kill -KILL $load_pid $fio_pid 2>/dev/null || true
	umount -f "$MNT" 2>/dev/null || true
}

lost() { # WHY
	free_all
	cat "$W/load.err" >&2
	fail "$*"
}

load_ended() { ! kill -0 "$load_pid" 2>/dev/null; }

load_runs() { load_ended || grep -q running "$W/load.err"; }

start_load() {
	mkdir "$MNT/load"
	"$VCF_BUILD/tests/crash/torture" run -s "$seed" "${kinds[@]}" -m "$W/manifest" \
		-g "$W/gaps" "$MNT/load" >"$W/load.json" 2>"$W/load.err" &
	load_pid=$!
	wait_for 120 load_runs || lost "the load does not start"
}

stop_load() {
	kill -TERM $load_pid
	wait_for 120 load_ended || lost "the load does not end"
	load_rc=0
	wait $load_pid || load_rc=$?
	load_pid=''
}

load_get() { python3 -c "import json,sys; s=json.load(open(sys.argv[1])); print($1)" "$W/load.json"; }

fio_job() { # NAME OPTION...
	fio --name="$1" --directory="$MNT/fio" --size=24m --rw=randrw --bsrange=4k-64k \
		--bs_unaligned=0 --verify=crc32c --verify_fatal=1 --verify_backlog=256 \
		--do_verify=1 --verify_state_save=0 --randrepeat=0 "${@:2}" >>"$W/fio.log" 2>&1
}

fio_loop() {
	trap - EXIT
	fio_rounds=0
	while [ ! -e "$W/fio.stop" ]; do
		fio_job direct --direct=1 --ioengine=libaio --iodepth=8 || return
		fio_job buffered --ioengine=psync --fsync=64 || return
		fio_rounds=$((fio_rounds + 1))
		echo $fio_rounds >"$W/fio.rounds"
	done
}

start_fio() {
	[ $fio = yes ] || return 0
	need_prog fio
	mkdir "$MNT/fio"
	fio_loop &
	fio_pid=$!
}

stop_fio() {
	[ -n "$fio_pid" ] || return 0
	touch "$W/fio.stop"
	wait $fio_pid || lost "fio: $(tail -n 20 "$W/fio.log")"
	fio_pid=''
	rm -r "$MNT/fio"
	ok "fio: $(cat "$W/fio.rounds") rounds, direct and buffered"
}

kill_some() { # N
	python3 "$CRASH/kills.py" kill "$VCF_PID" "$MNT" "$1" "$W/kills" "${ranges[@]}" ||
		lost "no server comes after one was killed"
}

try_upgrade() { timeout 60 "$VMCRYPTFS" upgrade "$MNT" >>"$W/upgrade.log" 2>&1; }

# Refused while no server is at work, as right after a death.
upgrade() { wait_for 20 try_upgrade || lost "upgrade: $(cat "$W/upgrade.log")"; }

kill_all() {
	local i share=$((kills / (upgrades + 1)))

	: >"$W/kills"
	for ((i = 0; i < upgrades; i++)); do
		kill_some $share
		upgrade
	done
	kill_some $((kills - upgrades * share))
}

# --- the verdict ---

bad=0

check() { # WHAT WANTED GOT
	[ "$2" = "$3" ] || {
		echo "FAILED: $1: wanted $2, got $3" >&2
		bad=1
	}
}

report_load() {
	local said

	said=$(load_get "'%d calls in %.0f s; errors: %d, wrong results: %d, wrong bytes: %d' % (
		s['ops'], s['seconds'], s['errors'], s['wrong_meta'], s['wrong_bytes'])") ||
		lost "the load's result: $(cat "$W/load.json")"
	echo "load: $said"
	echo "calls: $(load_get "s['kinds']")"
	echo "latency: $(load_get "'median {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms'.format(**s['op_ms'])") ($(load_get "s['slowest']"))"
	python3 "$CRASH/kills.py" stalls "$W/kills" "$W/gaps" | python3 -c "import json,sys
s = json.load(sys.stdin)
print('stalls: median {median_ms} ms, p99 {p99_ms} ms, max {max_ms} ms'
      ' ({kills} kills; longest before the first: {without_ms} ms)'.format(**s))"
	[ $load_rc = 0 ] || sed 's/^/  /' "$W/load.err" >&2
	check "the load's status" 0 $load_rc
}

report_left_over() {
	local files

	wait_for 40 idle || true
	wait_for 20 secrets_in_order || true
	files=$(($(files_open "$W/files.after") - $(wc -l <"$W/files.before")))
	echo "left over: handles $handles, nodes $((nodes - nodes_before)), keys $keys," \
		"parked $parked, descriptors $files, destroy queue $queue, suspects $suspects," \
		"unsettled secrets $secrets_over, missing secrets $secrets_missing"
	idle || check "the counters of an idle mount" "all 0" "see above"
	check "suspects" 0 "$suspects"
	check "missing secrets" 0 "$secrets_missing"
	[ $files -le 0 ] || {
		check "leaked descriptors" 0 $files
		diff "$W/files.before" "$W/files.after" | head -n 20 >&2 || true
	}
}

report_generations() {
	local said

	said=$(vcf_status_get "'generation %d, deaths %d' % (s['generation'], s['deaths'])")
	echo "status: $said"
	check "deaths in status" $((kills + 1)) "$(vcf_status_get "s['deaths']")"
	check "the generation" $((kills + upgrades + 2)) "$(vcf_status_get "s['generation']")"
}

# One that was being made when the server died may come late: it is noted, and asked for after
# minutes. The next mount asks at once.
report_secrets() {
	wait_for 20 secrets_in_order || explain_secrets >&2
	echo "secrets at the next mount: leaked $secrets_over, missing $secrets_missing"
	check "leaked secrets" 0 "$secrets_over"
	check "missing secrets" 0 "$secrets_missing"
}

check_tree() { # WHEN
	"$VCF_BUILD/tests/crash/torture" check "$W/manifest" "$MNT/load" >"$W/check" ||
		check "the tree $1" "as in the model" "$(cat "$W/check")"
	echo "tree $1: $(cat "$W/check")"
}

need_fuse
need_root
[ -z "${VCF_NO_RESEND:-}" ] || grep -aq VCF_NO_RESEND "$VMCRYPTFS" ||
	skip "--no-resend needs a build with -Dcrash-points=true"
vcf_setup
expect_log 'server \(pid .* (was )?(killed by|ended by) signal 9'
expect_log 'generation [0-9]+ takes over'
# Renamed, and forgotten by the kernel, before the note of its new header was closed: the walk of
# the tree finds it, and it keeps its secret.
expect_log 'is not destroyed: a container in the backing directory uses it'
vcf_mount "${options[@]}"
# Whatever a server or a successor opens once is open now.
echo warm >"$MNT/warm.part"
: >"$W/kills"
kill_some 1
rm "$MNT/warm.part"
nodes_before=0
wait_for 10 idle || true
nodes_before=$nodes
files_open "$W/files.before" >/dev/null
start_load
start_fio
kill_all
sleep 1
stop_load
stop_fio
report_load
report_generations
report_left_over
check_tree "before the mount ends"
vcf_umount
vcf_mount "${options[@]}"
check_tree "at the next mount"
report_secrets
vcf_umount
[ $bad = 0 ] || fail "$kills kills (seed $seed)"
ok "$kills kills, $(load_get "s['ops']") calls, nothing wrong (seed $seed)"
