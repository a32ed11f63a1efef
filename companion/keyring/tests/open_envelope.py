"""Opens envelopes as ENVELOPE.md specifies them; shares no code with the implementation.

Reads a document like vectors.json from the standard input, checks what it says of keys, indexes and refusals, and prints the
content of each sealed value in hexadecimal, one a line.
"""

import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand


def expand(key, info, length=32):
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def root(secret, info, length):
    return HKDF(hashes.SHA256(), length, b"portcullis root key v1", info).derive(secret)


def field(text):
    return struct.pack(">H", len(text.encode())) + text.encode()


def decrypt(key, use, head, rest, place=b""):
    salt, commitment, ciphertext = rest[:32], rest[32:64], rest[64:]
    label = b"portcullis " + use + b" v1 "
    if not constant_time.bytes_eq(expand(key, label + b"com" + salt), commitment):
        raise ValueError("commitment")
    return AESGCM(expand(key, label + b"key" + salt)).decrypt(bytes(12), ciphertext, head + place)


def split(envelope, algorithm, start):
    """The tenant, the key version, the first fields, and what is behind them."""
    end = start + 1 + envelope[start] + 4
    if envelope[:2] != bytes([1, algorithm]) or len(envelope) < end + 80:
        raise ValueError("shape")
    return envelope[start + 1 : end - 4].decode("ascii"), *struct.unpack(">I", envelope[end - 4 : end]), envelope[:end], envelope[end:]


def unwrap(secret, wrapped):
    if wrapped[2:10] != root(secret, b"id", 8):
        raise ValueError("another root key")
    tenant, version, head, rest = split(wrapped, 2, 10)
    return (tenant, version), decrypt(root(secret, b"key", 32), b"wrap", head, rest)


def unseal(keys, item):
    tenant, version, head, rest = split(bytes.fromhex(item["envelope"]), 1, 2)
    if tenant != item["tenant"] or version == 0:
        raise ValueError("another tenant, or no version")
    place = b"".join(field(item[name]) for name in ("tenant", "table", "column", "row", "purpose"))
    return decrypt(keys[tenant, version], b"seal", head, rest, place)


def main():
    document = json.load(sys.stdin)
    keys = dict(unwrap(bytes.fromhex(document["root_secret"]), bytes.fromhex(wrapped)) for wrapped in document["wrapped_keys"])
    for item in document["sealed"]:
        print(unseal(keys, item).hex())
    for item in document["refused"]:
        try:
            unseal(keys, item)
        except (InvalidTag, ValueError, KeyError):
            continue
        sys.exit(f"opened, and must not be: {item}")
    for item in document["blind_indexes"]:
        mac = hmac.HMAC(expand(keys[item["tenant"], 0], b"portcullis index v1" + field(item["table"]) + field(item["column"])), hashes.SHA256())
        mac.update(bytes.fromhex(item["value"]))
        mac.verify(bytes.fromhex(item["index"]))


main()
