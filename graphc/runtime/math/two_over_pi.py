"""The digits of 2/pi that remainders of huge angles need, for every finite double."""

from __future__ import annotations

DIGITS = int(  # the first 1280 bits behind the point
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e0"
    "06492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
    "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d"
    "7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
WORDS = 21
TWO_OVER_PI = tuple(  # the highest first: a word of zeros, for the smallest angles
    (DIGITS >> 64 * (WORDS - 1 - i)) & (2**64 - 1) for i in range(WORDS)
)
