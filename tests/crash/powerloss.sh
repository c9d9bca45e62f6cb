#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The power fails at any moment: everything that fsync has promised is there afterwards, and
# the next mount finds things in order.
# usage: powerloss.sh [-n REPLAYS] [-p OPERATIONS] [-s SEED] [-m EVERY] [FORMAT...]
#        powerloss.sh [-n REPLAYS] -s SEED [-m EVERY] [-o NUMBER] -r RECORD FORMAT
#
# A run for each FORMAT (4096, 512, luks1): a workload of OPERATIONS on a mount whose daemon
# writes down all that it changes (record.c), then REPLAYS outcomes of a power loss, every
# EVERYth of them mounted (powercheck.c; what a disk may lose stands in powerdisk.h). When
# something is wrong the record is kept: -r looks at it again, -o NUMBER at one outcome alone,
# which is mounted in any case.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_root

replays=600 ops=400 seed=${RANDOM} every=25 only='' old=''
while getopts n:p:s:m:o:r: opt; do
	case $opt in
	n) replays=$OPTARG ;;
	p) ops=$OPTARG ;;
	s) seed=$OPTARG ;;
	m) every=$OPTARG ;;
	o) only=$OPTARG ;;
	r) old=$OPTARG ;;
	*) fail "usage: see the head of $0" ;;
	esac
done
shift $((OPTIND - 1))
formats=("$@")
[ $# != 0 ] || formats=(4096 512 luks1)

CRASH=$VCF_BUILD/tests/crash
[ -x "$CRASH/powercheck" ] || skip "needs $CRASH/powercheck (not built)"
if ldd "$VMCRYPTFS" | grep -qE 'lib[at]san'; then
	skip "a sanitizer wants to be the first preloaded library"
fi

options=(-o key-service.reserve=1 -o key-service.destroy-delay=0 -o key-service.linger=1
	-o 'rules.passthrough=pass/**' -o 'rules.derived=**/*.part')

format_options() { # FORMAT
	case $1 in
	luks1) echo -o format.type=luks1 -o format.sector-size=512 ;;
	*) echo -o format.sector-size="$1" ;;
	esac
}

# Where the outcomes are built and mounted: in memory, for their daemon's syncs are real.
replay_folder() {
	R=$(dirname "$KEYS")/$(basename "$W")-replay
	at_exit "rm -rf '$R'"
	mkdir -m 700 "$R" "$R"/{back,state,keys,mnt,run}
	sed "s|$W/|$R/|; s|^directory = .*|directory = $R/keys|" "$CONF" >"$R/conf"
	chmod 600 "$R/conf"
}

record() { # FORMAT
	REC=$R/record
	rm -rf "$BACK" "$W/state" "${KEYS:?}"/*
	mkdir -m 755 "$BACK"
	mkdir -m 700 "$W/state"
	rm -f "$REC"
	truncate -s 2G "$REC"
	VCF_WRAP=(env LD_PRELOAD="$CRASH/record.so" VCF_RECORD="$REC"
		VCF_RECORD_BACK="$BACK" VCF_RECORD_STATE="$W/state")
	# shellcheck disable=SC2046  # none, or several words
	vcf_mount "${options[@]}" $(format_options "$1")
	"$CRASH/powerwork" "$MNT" "$REC" "$seed" "$ops" || fail "the workload"
	echo "asynchronous: $(vcf_status_get 's["asynchronous"]') transfers"
	vcf_umount
}

check() { # FORMAT ARGUMENT...
	local format=$1
	shift
	# shellcheck disable=SC2046  # as above
	"$CRASH/powercheck" -n "$replays" -s "$seed" -m "$every" ${only:+-o "$only"} "$@" \
		"$REC" "$R" "$VMCRYPTFS" mount -f "${SWITCHES[@]}" "${options[@]}" $(format_options "$format") \
		"$R/conf"
}

keep_record() { # FORMAT
	local kept=${VCF_TMPDIR:-/var/tmp}/powerloss-$1-$seed.record

	cp --sparse=always "$REC" "$kept"
	fail "look again: $0 -n $replays -s $seed -m $every -o NUMBER -r $kept $1"
}

vcf_setup
replay_folder
for format in "${formats[@]}"; do
	echo "format $format, $ops operations, seed $seed"
	if [ -n "$old" ]; then
		REC=$old
		check "$format" || fail "there are violations"
		continue
	fi
	record "$format"
	check "$format" -f "$BACK" -t "$W/state" || keep_record "$format"
done
ok "no promise was broken"
