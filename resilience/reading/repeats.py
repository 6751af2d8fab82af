"""
How often a client further in repeated a request on its own before its failure arrived.

What is underneath an engine may retry too, and says so on what it leaves behind.  The engine counts those tries as its own, so that two
sets of attempts add up instead of multiplying.

    openai, anthropic (and other SDKs of the same make)   x-stainless-retry-count on the request
    botocore                                              ResponseMetadata.RetryAttempts in the response of the error
    urllib3, and requests on top of it                    retries.history on the response

Read in the clients as installed: openai 3.54 ``_base_client.py``, botocore 1.44 ``endpoint.py``, urllib3 2 ``util/retry.py``.
"""

from __future__ import annotations

from typing import Final

from resilience.reading.headers import header
from resilience.reading.kinds import stands_alone
from resilience.reading.peek import attribute, is_error, is_list, is_mapping, item, names, plain_int
from resilience.reading.request import request_of
from resilience.settings import Record

__all__ = ["COUNT_HEADER", "Repeated", "repeats_behind"]

COUNT_HEADER: Final = "x-stainless-retry-count"
"""How often the SDK has sent this request before, as it says itself."""

_MOST = 1000  # times; whoever claims more is not believed


class Repeated(Record):
    """
    What a client did on its own.

    Args:
        client: Its package, as far as it shows.
        times: How often it sent the request again; >= 1.
    """

    __slots__ = ("client", "times")

    def __init__(self, client: str, times: int) -> None:
        self.client = client
        self.times = times


def repeats_behind(outcome: object) -> Repeated | None:
    """What the client behind a failure says of its own repeats; None where it made none, or does not tell.  Never raises."""
    if stands_alone(outcome):
        return None
    times = _stainless(outcome) or _botocore(outcome) or _urllib3(outcome)
    if times is None or not 0 < times <= _MOST:
        return None
    return Repeated(next(iter(names(type(outcome))), "client").partition(".")[0], times)


def _stainless(outcome: object) -> int | None:
    request = request_of(outcome)
    said = None if request is None else header(request.headers, COUNT_HEADER)
    return int(said) if said is not None and said.isascii() and said.isdigit() and len(said) < 5 else None  # noqa: PLR2004 - up to thousands


def _botocore(outcome: object) -> int | None:
    response = attribute(outcome, "response") if is_error(outcome) else None
    metadata = item(response, "ResponseMetadata") if is_mapping(response) else None
    return plain_int(item(metadata, "RetryAttempts")) if is_mapping(metadata) else None


def _urllib3(outcome: object) -> int | None:
    # Redirects are in the same list.
    response = (attribute(outcome, "response") or outcome) if is_error(outcome) else outcome
    for holder in (attribute(response, "raw"), response):
        history = attribute(attribute(holder, "retries"), "history")
        if is_list(history):
            return sum(attribute(one, "redirect_location") is None for one in history[:_MOST])
    return None
