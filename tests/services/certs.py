#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""certs.py DIR: a private CA and certificates for tests, all good for two days.

ca.crt ca.key             the CA
server.crt server.key     localhost (and not 127.0.0.1: another name for the wrong host)
expired.crt expired.key   the same, but of last year
elsewhere.crt .key        a server of another name
client.crt client.key     a client
client-b.crt client-b.key another one
other-ca.crt              a CA that signed nothing
other.crt other.key       a client of that CA
"""
import datetime
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.utcnow()
HOUR = datetime.timedelta(hours=1)
SERVER_NAMES = [x509.DNSName("localhost")]


def save(folder, name, cert, key):
    pem = serialization.Encoding.PEM
    with open(os.path.join(folder, name + ".crt"), "wb") as f:
        f.write(cert.public_bytes(pem))
    path = os.path.join(folder, name + ".key")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8,
                                  serialization.NoEncryption()))


def make(folder, name, issuer, names=None, usage=None, begin=NOW - HOUR):
    """issuer: (certificate, key), or None for a CA of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer[0].subject if issuer else subject)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + 48 * HOUR)
    builder = builder.add_extension(x509.BasicConstraints(not issuer, None), True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    cert = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    save(folder, name, cert, key)
    return cert, key


def make_all(folder):
    os.makedirs(folder, mode=0o700, exist_ok=True)
    ca = make(folder, "ca", None)
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    make(folder, "server", ca, SERVER_NAMES, server)
    make(folder, "expired", ca, SERVER_NAMES, server, NOW - 365 * 24 * HOUR)
    make(folder, "elsewhere", ca, [x509.DNSName("elsewhere.example")], server)
    make(folder, "client", ca, usage=client)
    make(folder, "client-b", ca, usage=client)
    make(folder, "other", make(folder, "other-ca", None), usage=client)


if __name__ == "__main__":
    make_all(sys.argv[1])
