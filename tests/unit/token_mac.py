#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A second opinion on MAC, kcv and derived secret: the vectors of test_token.c.

Written from DESIGN section 3 with Python's own HMAC; shares no code with crypto/.
"""
import hashlib
import hmac
import struct


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(ikm, salt, info):
    """RFC 5869 for one block of output."""
    return mac(mac(salt, ikm), info + b"\x01")


def fields(*values):
    return b"".join(struct.pack(">I", len(v)) + v for v in (str(x).encode() for x in values))


uuid = bytes.fromhex("0123456789abcdef0123456789abcdef")
secret = bytes(range(32))
message = fields(
    "vmcryptfs", 1, "01234567-89ab-cdef-0123-456789abcdef", "luks2", "aes-xts-plain64", 512,
    4096, 2097152, "zero", "default", "5cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0", "false",
    'a "quoted" \\ context', 7, "2026-01-31T12:00:00Z", "010203" + "00" * 13)
print("mac    ", mac(hkdf(secret, uuid, b"vmcryptfs header v1"), message).hex())
print("kcv    ", mac(hkdf(bytes(range(64)), uuid, b"vmcryptfs kcv v1"), uuid)[:16].hex())
print("derived", hkdf(secret, uuid, b"vmcryptfs derived v1").hex())
