#!/usr/bin/python3
"""Measure random reads with indexed_gzip: indexed_gzip_random.py SPACING READS FILE RAW. Prints a line of JSON.

The offsets are those that inprocess draws. A spacing of 0 is the module's own. No more than is asked for is buffered,
since the module's default of several MiB a read would make it look slow.
"""
import json
import os
import sys
import tempfile
import time

import indexed_gzip

SIZE = 4096
MASK = 1 << 64


def offsets(seed, size):
    """SplitMix64, as in inprocess."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) % MASK
        x = seed
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB % MASK
        x ^= x >> 31
        yield x % ((size - SIZE) // 512 + 1) * 512


def index_size(f):
    """The size of the index as a file: windows as they are in memory, and little else."""
    with tempfile.NamedTemporaryFile() as t:
        f.export_index(t.name)
        return os.path.getsize(t.name)


def peak_rss():
    with open('/proc/self/status') as f:
        for line in f:
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024


def main():
    spacing, reads, name, raw = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    size = os.path.getsize(raw)
    options = {'spacing': spacing} if spacing else {}
    f = indexed_gzip.IndexedGzipFile(name, buffer_size=SIZE, drop_handles=False, **options)
    start = time.process_time()
    f.build_full_index()
    through = time.process_time() - start
    warm, timed = offsets(1, size), offsets(2, size)
    with open(raw, 'rb') as disk:
        for _ in range(50):
            off = next(warm)
            f.seek(off)
            disk.seek(off)
            if f.read(SIZE) != disk.read(SIZE):
                sys.exit(f'wrong bytes at {off}')
    start, processor = time.perf_counter(), time.process_time()
    for _ in range(reads):
        f.seek(next(timed))
        f.read(SIZE)
    seconds = (time.perf_counter() - start) / reads
    processor = (time.process_time() - processor) / reads
    peak = peak_rss()
    print(json.dumps({'seconds': seconds, 'processor': processor, 'through': through, 'checkpoints': index_size(f), 'peakRSS': peak}))


main()
