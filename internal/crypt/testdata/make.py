#!/usr/bin/env python3
"""Writes the encrypted images of this directory.

It shares no code with the project: AES, Triple DES, PBKDF2 and RSA are those of
python3-cryptography (OpenSSL). The plaintext is a keystream that the tests make
again: SHA-256 of "0", of "1", and so on, one after the other. Nothing is random,
so a second run writes the same bytes, except for the certificate's images: PKCS #1
padding is random.

	make.py                writes everything into this directory
"""
import hashlib, hmac, os, struct

from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import padding as rsapad, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
try:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES

here = os.path.dirname(os.path.abspath(__file__))


def stream(n, label=""):
    out = b""
    i = 0
    while len(out) < n:
        out += hashlib.sha256((label + str(i)).encode()).digest()
        i += 1
    return out[:n]


def derive(password, salt, iterations, length):
    return PBKDF2HMAC(hashes.SHA1(), length, salt, iterations).derive(password.encode())


def cbc(algorithm, iv, data):
    e = Cipher(algorithm, modes.CBC(iv)).encryptor()
    return e.update(data) + e.finalize()


def pad(data, block):
    p = padding.PKCS7(block * 8).padder()
    return p.update(data) + p.finalize()


def encrypt(data, aeskey, hmackey, block):
    """The data area: the last block is filled up with zeros."""
    data += bytes(-len(data) % block)
    out = b""
    for n in range(len(data) // block):
        iv = hmac.new(hmackey, struct.pack(">I", n), hashlib.sha1).digest()[:16]
        out += cbc(algorithms.AES(aeskey), iv, data[n * block:(n + 1) * block])
    return out


def passphrase(password, keys, iterations, wrap, label):
    """A key record of type 1: wrap is "3des" or the bits of an AES key."""
    salt, iv = stream(20, label + "salt"), stream(8, label + "iv")
    blob = keys + b"CKIE\0"
    if wrap == "3des":
        bits, alg = 192, 17
        blob = cbc(TripleDES(derive(password, salt, iterations, 24)), iv, pad(blob, 8))
    else:
        bits, alg = wrap, 0x80000001
        blob = cbc(algorithms.AES(derive(password, salt, iterations, bits // 8)), iv + bytes(8), pad(blob, 16))
    rec = struct.pack(">IIII32sI32sIIIII", 103, 0, iterations, len(salt), salt, len(iv), iv, bits, alg, 7, 6, len(blob)) + blob
    return 1, rec + bytes(616 - len(rec))


def certificate(public, keys):
    """A key record of type 2."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    blob = public.encrypt(keys + b"CKIE\0", rsapad.PKCS1v15())
    return 2, struct.pack(">I32sIIII", 20, hashlib.sha1(der).digest(), 42, 10, 0, len(blob)) + blob


def version2(name, size, bits, block, records):
    """records is a function of the keys, so that each record can wrap them."""
    aeskey, hmackey = stream(bits // 8, name + "aes"), stream(20, name + "hmac")
    recs = records(aeskey + hmackey)
    table, bodies, at = b"", b"", 0x4C + 20 * len(recs)
    for kind, body in recs:
        table += struct.pack(">IQQ", kind, at + len(bodies), len(body))
        bodies += body
    offset = (at + len(bodies) + 511) // 512 * 512
    head = b"encrcdsa" + struct.pack(">IIIIIII", 2, 16, 5, 0x80000001, bits, 91, 160) + stream(16, name + "uuid")
    head += struct.pack(">IQQI", block, size, offset, len(recs)) + table + bodies
    write(name, head + bytes(offset - len(head)) + encrypt(stream(size), aeskey, hmackey, block))


def wrap1(kek, iv, key):
    """RFC 3217's wrapping: encrypt, put the IV in front, reverse, encrypt."""
    inner = iv + cbc(TripleDES(kek), iv, pad(bytes(4) + key, 8))
    return cbc(TripleDES(kek), bytes.fromhex("4adda22c79e82105"), pad(inner[::-1], 8))


def version1(name, size, bits, block, password, iterations):
    aeskey, hmackey = stream(bits // 8, name + "aes"), stream(20, name + "hmac")
    salt = stream(20, name + "salt")
    kek = derive(password, salt, iterations, 24)
    tail = stream(16, name + "uuid") + struct.pack(">IIIIII", block, 17, 7, 6, 192, 8)
    tail += struct.pack(">IIII32sII", 103, 0, iterations, len(salt), salt, 16, 5)
    for alg, key in ((0x80000001, aeskey), (91, hmackey), (91, stream(20, name + "integrity"))):
        iv = stream(8, name + str(len(tail)))
        blob = wrap1(kek, iv, key)
        tail += struct.pack(">II32sI256s", alg, len(key) * 8, iv, len(blob), blob)
    tail += struct.pack(">I256sQI", 0, b"", size, 1) + b"cdsaencr"
    assert len(tail) == 1276
    write(name, encrypt(stream(size), aeskey, hmackey, block) + tail)


def private(name):
    path = os.path.join(here, name)
    if not os.path.exists(path):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        with open(path, "wb") as f:
            f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    with open(path, "rb") as f:
        return serialization.load_pem_private_key(f.read(), None)


def write(name, data):
    with open(os.path.join(here, name), "wb") as f:
        f.write(data)


version2("v2-aes128-512.img", 5000, 128, 512, lambda k: [passphrase("secret", k, 1000, "3des", "a")])
version2("v2-aes256-4096.img", 12288, 256, 4096, lambda k: [passphrase("Gr\u00fc\u00dfe \U0001f511", k, 2000, "3des", "b")])
for wrap in 128, 192, 256:
    version2("v2-wrap-aes%d.img" % wrap, 1025, 256, 512, lambda k: [passphrase("secret", k, 1500, wrap, "c")])
version2("v2-three-keys.img", 1536, 128, 512, lambda k: [
    passphrase("first", k, 1000, "3des", "d"), passphrase("second", k, 1001, 256, "e"), passphrase("third", k, 1002, "3des", "f")])
public = private("certificate-key.pem").public_key()
version2("v2-certificate.img", 2000, 128, 512, lambda k: [certificate(public, k)])
version2("v2-both.img", 2000, 256, 512, lambda k: [(3, bytes(128)), certificate(public, k), passphrase("secret", k, 1000, "3des", "g")])
version1("v1-aes128-512.img", 5120, 128, 512, "secret", 1000)
version1("v1-aes256-4096.img", 5000, 256, 4096, "secret", 1234)
