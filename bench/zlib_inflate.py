#!/usr/bin/python3
"""Measure zlib in C: zlib_inflate.py [--check] call|pieces FILE. Prints a line of JSON, as inprocess does.

call: one call with a buffer of the right size from the start. The C library's own speed, but for the pages of a large
new buffer, which the system has to make.
pieces: 64 KiB of input at a time, whose output is thrown away as it comes, which is how our decoder is measured.
"""
import hashlib
import json
import sys
import time
import zlib

ENOUGH = 0.3  # seconds that passes over small data are repeated for


def pieces(data, each):
    d = zlib.decompressobj()
    n = 0
    for at in range(0, len(data), 65536):
        out = d.decompress(data[at:at + 65536])
        each(out)
        n += len(out)
    assert d.eof
    return n


def main():
    check = sys.argv[1] == '--check'
    how, name = sys.argv[-2:]
    with open(name, 'rb') as f:
        data = f.read()
    hashed = hashlib.sha256()
    size = pieces(data, hashed.update)
    if check:
        if how == 'call':
            hashed = hashlib.sha256(zlib.decompress(data, bufsize=size))
        print(json.dumps({'sha256': hashed.hexdigest()}))
        return
    passes = 0
    start, processor = time.perf_counter(), time.process_time()
    while passes == 0 or time.perf_counter() - start < ENOUGH:
        if how == 'call':
            n = len(zlib.decompress(data, bufsize=size))
        else:
            n = pieces(data, lambda out: None)
        assert n == size
        passes += 1
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    print(json.dumps({'seconds': seconds / passes, 'processor': processor / passes, 'bytes': size}))


main()
