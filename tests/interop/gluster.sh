#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two daemons over two clients of one GlusterFS volume, as on two nodes: the model test of two mounts
# (func/sharedmodel.sh) through it.
# usage: gluster.sh [OPERATIONS [MOUNT-OPTION...]]; FSX_SEED repeats a run.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
# shellcheck source=tests/func/shared.lib.sh
. "$FUNC/shared.lib.sh"
# shellcheck source=tests/interop/gluster.lib.sh
. "$VCF_SRC/tests/interop/gluster.lib.sh"
need_fuse
gluster_namespace "$@"
ops=${1:-1000}
shift || true
vcf_setup
gluster_up "$W/gluster" || skip "needs a GlusterFS that runs here: $(tail -n 3 "$GLUSTER_OUT")"
at_exit "gluster_down $W/gluster"
mkdir "$CLIENT1/back"
BACK=$CLIENT1/back
sed -i "s|^backing = .*|backing = $BACK|" "$CONF"
shared_second() { sed -i "s|^backing = .*|backing = $CLIENT2/back|" "$1"; }
shared_mount "$@"
shared_model "$ops"
shared_umount
