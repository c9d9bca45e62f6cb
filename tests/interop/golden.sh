#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The golden containers of every released format, read by the independent reader.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need "python3-cryptography" /usr/bin/python3 -c 'import cryptography'
vcf_setup
/usr/bin/python3 "$VCF_SRC/tests/interop/golden.py" "$VCF_SRC" "$W"
ok "golden containers"
