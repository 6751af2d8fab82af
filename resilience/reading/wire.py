"""
The wire format of Protocol Buffers, as far as it can be read without knowing a message's type.

A message is read as its fields, flat: what stands in a field may be a message again, and whoever knows that reads it again.  So there is
no recursion for a peer to drive, and the work is bounded by the length of what came.  The groups of proto1 are not read.

Reference:
    protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["LONGEST", "Field", "fields", "messages", "number", "text"]

LONGEST: Final = 65_536
"""The longest message that is read, in bytes; what may come as gRPC's metadata is a quarter of that."""

Field = tuple[int, int | bytes]
"""The number of a field, and what stands there: a whole number >= 0, or bytes."""

_MOST = 512  # fields of one message
_VARINT, _BYTES = 0, 2
_WIDTHS = {1: 8, 5: 4}  # bytes of what is of fixed width
_LONGEST_VARINT = 10  # bytes of 7 bits each, for 64 bits
_SIGN, _ALL = 1 << 63, 1 << 64


def fields(message: object) -> list[Field]:
    """
    The fields of *message*, in the order sent.

    Args:
        message: Bytes, or anything else: what is no message has no fields.

    Returns:
        None of them if the message is broken anywhere, or longer than `LONGEST`; the first 512 if there are more.  A number is as sent: 64
        bits without a sign, see `number`.  Never raises.
    """
    data = message if isinstance(message, bytes) and len(message) <= LONGEST else b""
    found: list[Field] = []
    at = 0
    try:
        while at < len(data) and len(found) < _MOST:
            tag, at = _varint(data, at)
            place, kind = divmod(tag, 8)
            if kind == _VARINT:
                value, at = _varint(data, at)
                found.append((place, value))
                continue
            width, at = _varint(data, at) if kind == _BYTES else (_WIDTHS[kind], at)
            piece, at = data[at : at + width], at + width
            found.append((place, piece if kind == _BYTES else int.from_bytes(piece, "little")))
    except (IndexError, KeyError):  # cut short; or of a kind that is no more
        return []
    # The field of number 0 is in no message.
    return [] if at > len(data) or any(place == 0 for place, _ in found) else found


def number(found: Sequence[Field], wanted: int) -> int:
    """The last number in the field *wanted*, as a signed one of 64 bits; 0 where there is none, which is never sent."""
    value = next((value for at, value in reversed(found) if at == wanted and isinstance(value, int)), 0)
    return value - _ALL if value & _SIGN else value


def text(found: Sequence[Field], wanted: int) -> str | None:
    """The last text in the field *wanted*; None where there is none."""
    return next((value.decode("utf-8", "replace") for at, value in reversed(found) if at == wanted and isinstance(value, bytes)), None)


def messages(found: Sequence[Field], wanted: int) -> list[list[Field]]:
    """The messages in the field *wanted*, each as its own fields."""
    return [fields(value) for at, value in found if at == wanted and isinstance(value, bytes)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """
    The number that begins at *at*, and where it ends.

    Raises:
        IndexError: The data end before it does.
        KeyError: It does not end.
    """
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            return value % _ALL, at + place + 1
    raise KeyError(at)
