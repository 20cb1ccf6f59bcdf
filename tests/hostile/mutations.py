"""Damage to files: one seeded mutation of the bytes that some program wrote."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from hostile.structured import structured

_TEXT_SUFFIXES = {".star", ".txt", ".csv", ".json", ".pdb"}
_WORDS = (
    *("nan", "inf", "-inf", "1e400", "-1e308", "1e-320", "-1", "0", "2.5", "9" * 25, "9" * 5000),
    *("", "'", '"', '""', "#", "_", "_rlnX", "loop_", "data_", "data_optics", "<NA>", "None"),
    *("\x00", "\r", "\x0b", "\x85", "é", "\u2028", "٣", "\ufeff", "x" * 70_000),
    *("../../etc/passwd", "/dev/zero", "~", "000001@", "@", "1@1@1", "0@a", "1e5@stack.mrcs"),
    *("a" * 300, "1;2", "true", "0x10", "1_000", ">" * 9, "0000000000001@" + "d/" * 3000),
)
_NUMBERS = (0, 1, -1, 2, 127, 255, 2**15, 2**16, 2**31 - 1, -(2**31), 2**32 - 1)
_LONG_NUMBERS = (2**62, 2**63 - 1, -(2**63), 2**40)
# Bytes that mean something to pickle: protocols, memo, lengths, reduce, build, global, duplicate.
_OPCODES = (b"\x80\x05", b"\x96", b"\x8e", b"r", b"j", b"R", b"b", b"c", b"i", b"o", b"\x93", b"2")

Mutation = Callable[[bytes, np.random.Generator], bytes]


def mutated(content: bytes, suffix: str, rng: np.random.Generator) -> bytes:
    """`content` after one change that keeps the format, or one to four that do not care.

    `suffix` is that of the file, and tells its format.
    """
    changed = structured(content, suffix, rng) if rng.random() < 0.5 else None
    if changed is not None:
        return changed
    is_text = suffix in _TEXT_SUFFIXES
    for _ in range(int(rng.choice((1, 1, 1, 2, 3, 4)))):
        known = _TEXT if is_text and rng.random() < 0.8 else _BINARY
        content = known[rng.integers(len(known))](content, rng)
    return content


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if damaged:
            damaged[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _splice(content: bytes, rng: np.random.Generator) -> bytes:
    """A part of the file once more, at another place."""
    start, place = _place(content, rng), _place(content, rng)
    part = content[start : start + int(rng.integers(1, 400))]
    over = len(part) if rng.random() < 0.5 else 0
    return content[:place] + part + content[place + over :]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 400)) :]


def _number(content: bytes, rng: np.random.Generator) -> bytes:
    """A length or count in binary becomes an extreme one."""
    place = _place(content, rng)
    if rng.random() < 0.5:
        value = struct.pack("<q", int(rng.choice(_LONG_NUMBERS)))
    else:
        order = "<" if rng.random() < 0.8 else ">"
        value = struct.pack(order + "q", int(rng.choice(_NUMBERS)))
        value = value[:4] if order == "<" else value[4:]
    return content[:place] + value + content[place + len(value) :]


def _opcode(content: bytes, rng: np.random.Generator) -> bytes:
    place = _place(content, rng)
    return content[:place] + _OPCODES[rng.integers(len(_OPCODES))] + content[place:]


def _word(content: bytes, rng: np.random.Generator) -> bytes:
    """A word of a line becomes one that a parser may stumble over."""
    lines = content.split(b"\n")
    row = int(rng.integers(len(lines)))
    words = lines[row].split(b" " if b"," not in lines[row] else b",")
    words[rng.integers(len(words))] = _WORDS[rng.integers(len(_WORDS))].encode()
    lines[row] = (b"," if b"," in lines[row] else b" ").join(words)
    return b"\n".join(lines)


def _lines(content: bytes, rng: np.random.Generator) -> bytes:
    """A line doubled, removed, or moved."""
    lines = content.split(b"\n")
    row, other = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    kind = rng.integers(3)
    if kind == 0:
        lines.insert(other, lines[row])
    elif kind == 1:
        del lines[row]
    else:
        lines[row], lines[other] = lines[other], lines[row]
    return b"\n".join(lines)


def _numbers_swapped(content: bytes, rng: np.random.Generator) -> bytes:
    words = content.split(b" ")
    one, other = int(rng.integers(len(words))), int(rng.integers(len(words)))
    words[one], words[other] = words[other], words[one]
    return b" ".join(words)


def _place(content: bytes, rng: np.random.Generator) -> int:
    """Mostly near the beginning, where headers are."""
    end = len(content) if rng.random() < 0.3 else min(len(content), 1200)
    return int(rng.integers(end + 1)) if end == 0 else int(rng.integers(end))


_BINARY: tuple[Mutation, ...] = (_flip, _truncate, _splice, _remove, _number, _opcode)
_TEXT: tuple[Mutation, ...] = (_word, _word, _word, _lines, _lines, _numbers_swapped)
