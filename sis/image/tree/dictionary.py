"""A zstd dictionary for small chunks, trained from some of a tree's own small files where it pays."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import zstandard

from sis.image.store.packs import LEVEL

SMALL_BYTES = 16 << 10
"""Chunks up to this length are compressed with the dictionary; longer ones have enough to go by in themselves."""

DICTIONARY_BYTES = 112 << 10
TREE_BYTES_MIN = 8 << 20
"""With less small content than this a dictionary saves less than it takes."""

_SAMPLES_MAX = 2500
_SAMPLE_BYTES_MIN = 64
_TRIED_IN = 4
_SAVING_MIN = 0.06

_T = TypeVar("_T")


def chosen(small: Sequence[_T]) -> list[_T]:
    """Some of many, the same at every call, to be read as samples."""
    if len(small) <= _SAMPLES_MAX:
        return list(small)
    return random.Random(len(small)).sample(list(small), _SAMPLES_MAX)


def train(samples: Sequence[bytes]) -> bytes:
    """A dictionary, or b"" if it saves next to nothing on samples it was not trained from."""
    useful = [sample for sample in samples if len(sample) >= _SAMPLE_BYTES_MIN]
    tried = useful[::_TRIED_IN]
    learnt: list[bytes | bytearray | memoryview] = [each for at, each in enumerate(useful) if at % _TRIED_IN]
    try:
        dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, learnt, level=LEVEL)
    except zstandard.ZstdError:
        return b""
    without = _compressed(zstandard.ZstdCompressor(level=LEVEL), tried)
    with_it = _compressed(zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_dict_id=False), tried)
    return dictionary.as_bytes() if with_it <= without * (1 - _SAVING_MIN) else b""


def _compressed(compressor: zstandard.ZstdCompressor, samples: Sequence[bytes]) -> int:
    return sum(min(len(compressor.compress(sample)), len(sample)) for sample in samples)
