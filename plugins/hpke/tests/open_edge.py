"""Opens values sealed at the edge as ENVELOPE.md specifies them; shares no code with the implementation.

Reads a document like vectors.json from the standard input, checks the public key and the refusals, and prints the content of each
envelope in hexadecimal, one a line.
"""

import base64
import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEM, SUITE = b"KEM" + bytes([0, 0x20]), b"HPKE" + bytes([0, 0x20, 0, 1, 0, 3])


def expand(key, info, length=32):
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def labeled_extract(suite, salt, label, material):
    mac = hmac.HMAC(salt or bytes(32), hashes.SHA256())
    mac.update(b"HPKE-v1" + suite + label + material)
    return mac.finalize()


def labeled_expand(suite, prk, label, info, length):
    return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


def field(text):
    return struct.pack(">H", len(text.encode())) + text.encode()


def raw(public):
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def secret_key(tenant_key):
    prk = labeled_extract(KEM, b"", b"dkp_prk", expand(tenant_key, b"portcullis edge v1 x25519"))
    return X25519PrivateKey.from_private_bytes(labeled_expand(KEM, prk, b"sk", b"", 32))


def text(b64):
    return base64.urlsafe_b64decode(b64 + "=" * (-len(b64) % 4))


def unseal(secret, version, item):
    if not item["envelope"].startswith("pcse1."):
        raise ValueError("mark")
    envelope = text(item["envelope"][6:])
    n = envelope[2]
    tenant, (found,) = envelope[3 : 3 + n].decode("ascii"), struct.unpack(">I", envelope[3 + n : 7 + n])
    if envelope[:2] != bytes([1, 3]) or found != version or tenant != item["tenant"]:
        raise ValueError("shape, version or tenant")
    enc, number = envelope[7 + n : 39 + n], envelope[39 + n : 43 + n]
    dh = secret.exchange(X25519PublicKey.from_public_bytes(enc))
    shared = labeled_expand(KEM, labeled_extract(KEM, b"", b"eae_prk", dh), b"shared_secret", enc + raw(secret.public_key()), 32)
    info = b"portcullis edge v1" + field(tenant) + struct.pack(">I", version)
    bound = b"\0" + labeled_extract(SUITE, b"", b"psk_id_hash", b"") + labeled_extract(SUITE, b"", b"info_hash", info)
    schedule = labeled_extract(SUITE, shared, b"secret", b"")
    base = labeled_expand(SUITE, schedule, b"base_nonce", bound, 12)
    nonce = bytes(a ^ b for a, b in zip(base, bytes(8) + number))
    aad = envelope[: 43 + n] + field(item["tenant"]) + field(item["field"]) + field(item["purpose"])
    return ChaCha20Poly1305(labeled_expand(SUITE, schedule, b"key", bound, 32)).decrypt(nonce, envelope[43 + n :], aad)


def main():
    document = json.load(sys.stdin)
    mark, version, public = document["public_key"].split(".")
    secret = secret_key(bytes.fromhex(document["tenant_key"]))
    if mark != "pcpk1" or raw(secret.public_key()) != text(public):
        sys.exit("another public key")
    for item in document["sealed"]:
        print(unseal(secret, int(version), item).hex())
    for item in document["refused"]:
        try:
            unseal(secret, int(version), item)
        except (InvalidTag, ValueError):
            continue
        sys.exit(f"opened, and must not be: {item}")


main()
