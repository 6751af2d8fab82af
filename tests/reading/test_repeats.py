"""D9: what clients say of their own retries, read from real errors of theirs where they can be made without a network."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import httpx2
import openai
import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util.retry import RequestHistory

from resilience.reading.repeats import Repeated, repeats_behind


def openai_error(count: str | None) -> openai.APIConnectionError:
    headers = {} if count is None else {"x-stainless-retry-count": count}
    return openai.APIConnectionError(request=httpx2.Request("POST", "https://api.example/v1", headers=headers))


def botocore_error(metadata: Any) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": metadata}, "PutObject")


def urllib3_error(*redirects: str | None) -> Exception:
    history = tuple(RequestHistory("GET", "/", None, 503, location) for location in redirects)
    error = urllib3.exceptions.HTTPError()
    error.response = urllib3.HTTPResponse(status=503, retries=urllib3.Retry(history=history))  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("outcome", "repeated"),
    [
        (openai_error("2"), Repeated("openai", 2)),
        (botocore_error({"RetryAttempts": 4}), Repeated("botocore", 4)),
        (urllib3_error(None, None), Repeated("urllib3", 2)),
        (urllib3_error(None, "/elsewhere"), Repeated("urllib3", 1)),
    ],
    ids=["openai", "botocore", "urllib3", "urllib3, after a redirect"],
)
def test_a_client_that_counts_is_believed(outcome: object, repeated: Repeated) -> None:
    assert repeated == repeats_behind(outcome)


def _with(**attributes: object) -> Exception:
    error = Exception()
    error.__dict__.update(attributes)
    return error


class FromRequests(Exception):
    """requests keeps what urllib3 answered with in ``raw``."""

    class response:  # noqa: N801
        raw = urllib3.HTTPResponse(status=503, retries=urllib3.Retry(history=(RequestHistory("GET", "/", None, 503, None),)))


def test_what_is_kept_under_another_client_s_response_is_found() -> None:
    found = repeats_behind(FromRequests())

    assert found is not None
    assert 1 == found.times


@pytest.mark.parametrize(
    "outcome",
    [
        openai_error(None),
        openai_error("0"),
        openai_error("-1"),
        openai_error("two"),
        openai_error("99999"),
        openai_error("1001"),
        botocore_error({"RetryAttempts": 0}),
        botocore_error({"RetryAttempts": "2"}),
        botocore_error({}),
        _with(response={"ResponseMetadata": None}),
        urllib3_error(),
        urllib3_error("/elsewhere"),
        ValueError("x"),
        {"ResponseMetadata": {"RetryAttempts": 2}},
        "text",
        None,
    ],
)
def test_one_that_did_not_or_does_not_tell_made_no_repeats(outcome: object) -> None:
    assert repeats_behind(outcome) is None


@given(st.from_type(type).flatmap(st.from_type) | st.text())
def test_anything_at_all_may_be_asked(outcome: object) -> None:
    repeats_behind(outcome)
