"""
Which rate limit's reset is worth waiting for.

Peers tell with every response how much of a quota is left and when it is whole again.  That is no request to wait: only where nothing is
left will the next attempt be refused, whatever the status of this one.  Where a peer does not say how much is left, the reset counts only
under a 429.  The other statuses that limits come with do not tell as much: most 403s are about permission, and GitHub, whose limits answer
403 too, always says what is left; a 503 or Anthropic's 529 speaks of the peer's own load, which no quota's window ends.  What is left and
cannot be read, or is negative (Azure: overspent; others: unlimited), is not said.

Of several quotas that are spent the longest counts, since each of them refuses.  Of several that do not say what is left one must be
spent, and nobody knows which; only the shortest is a floor then.  OpenAI's and Groq's resets tell when a bucket is *full* again, which is
later than needed; so all these come only after what asks for a wait in so many words (`resilience.reading.hints`).

``RateLimit`` is a structured field.  Its present form is a list of policies, ``"burst";r=0;t=5, "daily";r=90;t=3600``; until 2024 it was a
dictionary of one policy, ``limit=100, remaining=0, reset=5``.  ``RateLimit-Policy`` tells how long windows are, not when they end, and is
"informative and MAY be ignored"; so it is.

Reference:
    draft-ietf-httpapi-ratelimit-headers-11, 4 and 7; -07, 3 (the dictionary); RFC 9651 (structured fields).
    OpenAI, "Rate limits"; GitHub, "Rate limits for the REST API".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from resilience.reading.peek import is_mapping, plain_int

__all__ = ["LONGEST", "MOST_STARTS", "Window", "policies", "until_unspent"]

Window: TypeAlias = tuple[float | None, float]
"""What is left of a quota, >= 0, None where nobody says; and seconds until it is whole again."""

# http_sf takes up to 1.2 microseconds for each member, parameter or item, and up to 0.15 for each character of one: some 20 in all.
LONGEST: Final = 96
"""Characters of a ``RateLimit`` field that are parsed: three policies fit, or two with partition keys."""
MOST_STARTS: Final = 10
"""Members, parameters, items of inner lists and escaped bytes in them."""

_STARTS = ",;( %@"  # what each of those starts with
_TOO_MANY_REQUESTS = 429


def until_unspent(windows: Iterable[Window], status: int | None) -> float | None:
    """Seconds until none of the *windows* is known to be spent; where none is, but the *status* is 429, until one of the untold is not."""
    seen = list(windows)
    spent = [reset for left, reset in seen if left == 0]
    if spent or status != _TOO_MANY_REQUESTS:
        return max(spent, default=None)
    return min((reset for left, reset in seen if left is None), default=None)


def policies(field: str) -> list[tuple[str | None, str]]:
    """
    What a ``RateLimit`` field says of each policy, in its present form or the older one.

    Args:
        field: The field's value; those of repeats joined by commas, as lists may be.

    Returns:
        What is left, None where that is optional and missing, and the reset, as older peers send the two in fields of their own: in digits.
        Nothing for a field that is malformed, which "MUST be ignored", or beyond the bounds.
    """
    if len(field) > LONGEST or sum(map(field.count, _STARTS)) > MOST_STARTS or not field.isascii():
        return []
    if "=0" not in field and "reset=" not in field:
        return []  # nothing is spent
    import http_sf  # noqa: PLC0415 - few peers send such a field

    try:
        parsed = http_sf.parse(field.encode(), tltype="list" if field.lstrip().startswith('"') else "dictionary")
    except Exception:  # noqa: BLE001 - it says ValueError; older versions let others through
        return []
    return list(_rows(parsed))


def _rows(parsed: Any) -> Iterator[tuple[str | None, str]]:
    # Each member is a pair: an item or an inner list, and its parameters.
    if is_mapping(parsed) and "reset" in parsed:
        left, reset = (_digits(parsed.get(key, (None, {}))[0]) for key in ("remaining", "reset"))
        if reset is not None:
            yield left, reset
        return
    for _, parameters in parsed.values() if is_mapping(parsed) else parsed:
        left, reset = _digits(parameters.get("r")), _digits(parameters.get("t"))
        if left is not None and reset is not None:  # "r" is required
            yield left, reset


def _digits(value: object) -> str | None:
    whole = plain_int(value)
    return str(whole) if whole is not None and whole >= 0 else None
