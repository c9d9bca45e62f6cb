#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""luksread.py: read a vmcryptfs container without vmcryptfs, libcryptsetup or the kernel.

usage: luksread.py [--info] CONTAINER SECRET-FILE [OUTPUT]
  SECRET-FILE  the 64 hex digits that the key service keeps for the image
  OUTPUT       the plaintext goes there, sparse ("-" or nothing: only check)
  --info       print what the header says, as JSON

A second opinion on the on-disk form (contrib/doc/format.md), and the last resort when all else
is gone: needs python3-cryptography alone. Checks the header's checksum, the key's digest, the
token's MAC and the kcv before it decrypts anything.
"""
import base64
import hashlib
import hmac
import json
import os
import struct
import sys
import uuid as uuidlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

ZEROS = {s: bytes(s) for s in (512, 4096)}


class Refused(Exception):
    """The container is not one that we would read."""


def need(truth, why):
    if not truth:
        raise Refused(why)


def xts(key, data, tweak):
    cipher = Cipher(algorithms.AES(key), modes.XTS(tweak.to_bytes(16, "little")))
    return cipher.decryptor().update(data)


def hkdf(ikm, salt, info, length=32):
    """RFC 5869 with SHA-256."""
    prk, out, block, n = hmac.digest(salt, ikm, "sha256"), b"", b"", 0
    while len(out) < length:
        n += 1
        block = hmac.digest(prk, block + info + bytes([n]), "sha256")
        out += block
    return out[:length]


def diffuse(block, digest):
    """The diffuser of LUKS's anti-forensic splitter."""
    size = hashlib.new(digest).digest_size
    parts = [block[i:i + size] for i in range(0, len(block), size)]
    return b"".join(hashlib.new(digest, struct.pack(">I", n) + p).digest()[:len(p)]
                    for n, p in enumerate(parts))


def af_merge(material, key_len, stripes, digest):
    d = bytes(key_len)
    for i in range(stripes):
        s = material[i * key_len:(i + 1) * key_len]
        d = bytes(a ^ b for a, b in zip(d, s))
        if i < stripes - 1:
            d = diffuse(d, digest)
    return d


def open_slot(area, passphrase, kdf, key_len, stripes, digest):
    """The key that a keyslot's area holds for this passphrase."""
    k = hashlib.pbkdf2_hmac(kdf["hash"], passphrase, kdf["salt"], kdf["iterations"], key_len)
    plain = b"".join(xts(k, area[i:i + 512], i // 512) for i in range(0, len(area), 512))
    return af_merge(plain[:key_len * stripes], key_len, stripes, digest)


def check_digest(key, digest):
    got = hashlib.pbkdf2_hmac(digest["hash"], key, digest["salt"], digest["iterations"],
                              len(digest["value"]))
    need(hmac.compare_digest(got, digest["value"]), "the secret does not open the key slot")


def read_luks2(f, passphrase):
    f.seek(0)
    head = bytearray(f.read(4096))
    size, seqid = struct.unpack_from(">QQ", head, 8)
    checksum = bytes(head[448:512])
    head[448:512] = bytes(64)
    text = f.read(size - 4096)
    need(head[72:104].rstrip(b"\0") == b"sha256", "checksum algorithm")
    need(hashlib.sha256(head + text).digest() == checksum[:32], "header checksum")
    meta = json.loads(text.rstrip(b"\0"))
    need(not meta["config"].get("requirements"), "requirements")
    segment, = meta["segments"].values()
    tokens = [t for t in meta["tokens"].values() if t["type"] == "vmcryptfs"]
    need(len(tokens) == 1 and segment["encryption"] == "aes-xts-plain64", "token or cipher")
    need(segment["iv_tweak"] == "0" and segment["size"] == "dynamic", "segment")
    slot = meta["keyslots"][tokens[0]["keyslots"][0]]
    area, kdf, digest = slot["area"], slot["kdf"], meta["digests"]["0"]
    need(area["encryption"] == "aes-xts-plain64" and kdf["type"] == "pbkdf2", "key slot")
    f.seek(int(area["offset"]))
    stripes = slot["af"]["stripes"]
    material = f.read((slot["key_size"] * stripes + 511) // 512 * 512)
    key = open_slot(material, passphrase,
                    {"hash": kdf["hash"], "iterations": kdf["iterations"],
                     "salt": base64.b64decode(kdf["salt"])},
                    slot["key_size"], stripes, slot["af"]["hash"])
    check_digest(key, {"hash": digest["hash"], "iterations": digest["iterations"],
                       "salt": base64.b64decode(digest["salt"]),
                       "value": base64.b64decode(digest["digest"])})
    return {"format": "luks2", "uuid": head[168:208].rstrip(b"\0").decode(), "seqid": seqid,
            "S": segment["sector_size"], "D": int(segment["offset"]), "token": tokens[0]}, key


def read_luks1(f, passphrase):
    f.seek(0)
    head = f.read(4096)
    cipher, mode, digest = (head[a:b].rstrip(b"\0").decode() for a, b in ((8, 40), (40, 72),
                                                                         (72, 104)))
    payload, key_len, value, salt, iterations = struct.unpack_from(">II20s32sI", head, 104)
    need(cipher == "aes" and mode == "xts-plain64" and key_len == 64, "cipher")
    token_at = head.find(b"VMCRYPTF", 1024)
    need(token_at == 1024, "no token")
    length, = struct.unpack_from("<I", head, token_at + 8)
    token = json.loads(head[token_at + 12:token_at + 12 + length])
    slot = int(token["keyslots"][0])
    active, slot_iter, slot_salt, slot_at, stripes = struct.unpack_from(
        ">II32sII", head, 208 + 48 * slot)
    need(active == 0x00AC71F3, "the token's key slot is not active")
    f.seek(slot_at * 512)
    material = f.read((key_len * stripes + 511) // 512 * 512)
    key = open_slot(material, passphrase,
                    {"hash": digest, "iterations": slot_iter, "salt": slot_salt},
                    key_len, stripes, digest)
    check_digest(key, {"hash": digest, "iterations": iterations, "salt": salt, "value": value})
    return {"format": "luks1", "uuid": head[168:208].rstrip(b"\0").decode(), "S": 512,
            "D": payload * 512, "token": token}, key


def check_token(info, key, secret):
    """The MAC over all that the header says of itself, and the volume key's check value."""
    t, salt = info["token"], uuidlib.UUID(info["uuid"]).bytes
    kcv = hmac.digest(hkdf(key, salt, b"vmcryptfs kcv v1"), salt, "sha256")[:16].hex()
    need(hmac.compare_digest(kcv, t["kcv"]), "kcv")
    fields = ["vmcryptfs", t["version"], info["uuid"], info["format"], "aes-xts-plain64", 512,
              info["S"], info["D"], t["holes"], t["service"], t["key_id"],
              "true" if t["derived"] else "false", t["context"], t["generation"], t["created"],
              t["kcv"]]
    message = b"".join(struct.pack(">I", len(x)) + x for x in (str(v).encode() for v in fields))
    mac = hmac.digest(hkdf(secret, salt, b"vmcryptfs header v1"), message, "sha256")
    need(hmac.compare_digest(mac, base64.b64decode(t["mac"])), "MAC")


def plain_size(size, s, d):
    """The exact plaintext size out of the container's."""
    e = size - d
    need(e == 0 or e >= s, "torn size")
    r = e % s
    return e if r == 0 else (e // s - 1) * s + r


def decrypt(f, out, info, key, size):
    s, d = info["S"], info["D"]
    holes = info["token"]["holes"] == "zero"
    out.truncate(size)
    for n in range((size + s - 1) // s):
        f.seek(d + n * s)
        sector = f.read(s)
        if holes and sector == ZEROS[s]:
            continue
        out.seek(n * s)
        out.write(xts(key, sector, n * (s // 512))[:size - n * s])


def main(args):
    show = "--info" in args
    args = [a for a in args if a != "--info"]
    if len(args) not in (2, 3):
        sys.exit(__doc__)
    with open(args[1], encoding="ascii") as f:
        passphrase = f.read().strip()
    with open(args[0], "rb") as f:
        magic, version = struct.unpack(">6sH", f.read(8))
        need(magic == b"LUKS\xba\xbe" and version in (1, 2), "not a LUKS header")
        info, key = (read_luks1, read_luks2)[version - 1](f, passphrase.encode())
        check_token(info, key, bytes.fromhex(passphrase))
        info["P"] = plain_size(os.fstat(f.fileno()).st_size, info["S"], info["D"])
        if show:
            json.dump(info, sys.stdout, indent=1)
            print()
        if len(args) == 3 and args[2] != "-":
            with open(args[2], "wb") as out:
                decrypt(f, out, info, key, info["P"])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as e:
        sys.exit(f"luksread: refused: {e}")
