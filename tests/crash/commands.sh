#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A command that changes images is killed: at each crash point that it passes, each time it passes it,
# and at random moments. Then it is run again, as an operator would. In the end the image has its bytes,
# the command has done what it does, and at the service are exactly the secrets that belong there.
# Needs a build with -Dcrash-points=true.
# usage: commands.sh [-n KILLS] [TOOL...]
#   KILLS  at random moments, for each tool (10)
#
# A tool is four functions:
#   TOOL_prepare  makes $W/work (a backing folder with its keys and state) anew
#   TOOL_run      the command
#   TOOL_again    how an operator completes it (default: TOOL_run)
#   TOOL_check    fails if anything is not as it has to be
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_root
need_prog cryptsetup
grep -aq remove-intent "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
kills=10 tools=()
while [ $# -gt 0 ]; do
	case $1 in
	-n) kills=$2; shift 2 ;;
	*) tools+=("$1"); shift ;;
	esac
done
vcf_setup
expect_log .

work=$W/work
CONFIG=$W/commands.conf
cat >"$CONFIG" <<CONF
[mount]
backing = $work/back
mountpoint = $W/mnt
state-directory = $work/state
runtime-directory = $W/run
[rules]
bind = ^([a-z]{4})/
[key-service]
helper = file
reserve = 0
destroy-delay = 0
[file]
directory = $work/keys
CONF

vcf() { # COMMAND ARGUMENT...
	local command=$1

	shift
	"$VMCRYPTFS" "$command" -c "$CONFIG" "$@"
}
info() { "$VMCRYPTFS" info --json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
key_ids() { find "$work/keys" -type f -printf '%f\n' | sort; }
opens() { cryptsetup open --test-passphrase --key-file "$work/keys/$1" "$2" 2>/dev/null; }
data_of() { tail -c +$((2 * 1024 * 1024 + 1)) "$1" | sha256sum; } # ciphertext, D = 2 MiB
new_secret() { (umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$work/keys/$1"); }
fresh() {
	rm -rf "$work"
	mkdir -p "$work/back/aaaa" "$work/state"
	mkdir -m 700 "$work/keys"
}

# --- adopt --key-id ---

foreign() { # NAME LUKSFORMAT-ARGUMENT...: made once
	local file=$W/made-$1

	shift
	[ ! -e "$file" ] || return 0
	truncate -s 2M "$file"
	cryptsetup luksFormat -q --key-file "$W/made-key" --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
		--cipher aes-xts-plain64 --key-size 512 --hash sha256 "$@" "$file" 2>"$W/stderr" ||
		fail "$(cat "$W/stderr")"
	pattern 3 300000 >>"$file"
	truncate -s 3M "$file"
}
adopt_from() { # MADE
	fresh
	cp "$W/made-key" "$work/keys/theirs"
	cp --sparse=always "$W/made-$1" "$work/back/aaaa/disk"
	want=$(data_of "$work/back/aaaa/disk")
}
adopt_luks1_prepare() {
	(umask 077; [ -e "$W/made-key" ] || od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$W/made-key")
	foreign luks1 --type luks1
	adopt_from luks1
}
adopt_luks1_run() { vcf adopt --key-id theirs "$work/back/aaaa/disk"; }
adopt_luks1_again() {
	adopt_luks1_run 2>"$W/again" || grep -q 'container of vmcryptfs already' "$W/again" || fail "$(cat "$W/again")"
}
adopt_luks1_check() {
	local file=$work/back/aaaa/disk id

	equal "data" "$want" "$(data_of "$file")"
	id=$(info "$file" key_id)
	equal "secrets" "$(printf '%s\n' "$id" theirs | sort)" "$(key_ids)"
	opens "$id" "$file" || fail "its secret does not open it"
	! opens theirs "$file" || fail "the old passphrase opens it"
	equal "key slots" 1 "$(cryptsetup luksDump "$file" | grep -cE '^ +[0-9]+: luks2|Key Slot [0-9]: ENABLED')"
}
adopt_luks2_prepare() {
	(umask 077; [ -e "$W/made-key" ] || od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$W/made-key")
	foreign luks2 --type luks2 --luks2-metadata-size 16k --luks2-keyslots-size 2016k --offset 4096
	adopt_from luks2
}
adopt_luks2_run() { adopt_luks1_run; }
adopt_luks2_again() { adopt_luks1_again; }
adopt_luks2_check() { adopt_luks1_check; }

# --- what is done with each ---

again() { # TOOL
	if declare -F "$1_again" >/dev/null; then "$1_again"; else "$1_run"; fi
}
# What waits in the commands' journal is settled by the next command, whatever it is about.
settle() { vcf adopt --reclone "$work/none" >/dev/null 2>&1 || true; }
complete() { # TOOL
	"$1_prepare"
	"$1_run" >/dev/null 2>"$W/stderr" || fail "$1: $(cat "$W/stderr")"
	"$1_check"
}
after_death() { # TOOL WHERE
	again "$1" >/dev/null || fail "$1 again after $2"
	settle
	("$1_check") || fail "$1 after $2"
}
points_of() { # TOOL: NAME:K of each pass
	: >"$W/trace"
	"$1_prepare"
	VCF_CRASH_TRACE=$W/trace "$1_run" >/dev/null 2>&1 || fail "$1 with a trace"
	awk '{ print $2 ":" ++n[$2] }' "$W/trace"
}
at_points() { # TOOL
	local point cnt=0

	for point in $(points_of "$1"); do
		"$1_prepare"
		! VCF_CRASH=$point "$1_run" >/dev/null 2>&1 || fail "$1 did not die at $point"
		after_death "$1" "$point"
		cnt=$((cnt + 1))
	done
	[ $cnt -gt 0 ] || fail "$1 passes no crash point"
	ok "$1: killed at $cnt passes of crash points"
}
at_random() { # TOOL
	local i ms took died=0

	"$1_prepare"
	took=$(date +%s%3N)
	"$1_run" >/dev/null 2>&1
	took=$(($(date +%s%3N) - took + 1))
	for ((i = 0; i < kills; i++)); do
		"$1_prepare"
		ms=$((RANDOM * took / 32768))
		("$1_run" >/dev/null 2>&1) &
		sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
		pkill -9 -P $! 2>/dev/null && died=$((died + 1))
		wait $! 2>/dev/null || true
		after_death "$1" "$ms ms"
	done
	ok "$1: killed at $died of $kills random moments within $took ms"
}

[ ${#tools[@]} -gt 0 ] || mapfile -t tools < <(declare -F | sed -n "s/^declare -f \(.*\)_prepare\$/\\1/p")
for tool in "${tools[@]}"; do
	complete "$tool"
	at_points "$tool"
	at_random "$tool"
done
