"""
Stripe's types and codes, by HTTP and as its own SDK raises them.

Expectations come from docs.stripe.com: "Errors" (types and statuses), "Error codes", "Declines" (decline codes), "Advanced error handling"
(what may be repeated, and with which key), "Rate limits", "API v2 overview"; the codes are also asked of the SDK, which is generated from
the API's specification.
"""

from __future__ import annotations

import functools
import json
import socket
import typing
from collections.abc import Mapping
from typing import Any

import httpx
import httpx2
import pytest
import stripe

from resilience import Action, Blame, Engine, IdempotencyKey, Phase, Retry, Verdict, current, read
from resilience.dialects import stripe as dialect
from resilience.events import RetryGaveUp
from resilience.testing import World

RETRY, FAIL, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

# What an error calls for: action, tries in all that may end in it, throttled, whom it blames.
Expected = tuple[Action, int | None, bool, Blame]

PASSES: Expected = (RETRY, None, False, PEER)
THROTTLED: Expected = (RETRY, None, True, PEER)
SAVED: Expected = (RETRY, 2, False, PEER)
EXPIRED: Expected = (REFRESH, None, False, CREDENTIAL)
DENIED: Expected = (FAIL, None, False, CREDENTIAL)
OURS: Expected = (FAIL, None, False, CALLER)
LOCKED: Expected = (RETRY, None, True, CALLER)
IN_USE: Expected = (RETRY, None, False, CALLER)
CONFLICT: Expected = (RETRY, 3, False, CALLER)
OUTSIDE: Expected = (FAIL, None, False, PEER)

# "HTTP status code summary", with the type that usually comes with each.
STATUSES: list[tuple[int, str | None, Expected]] = [
    (400, "invalid_request_error", OURS),
    (401, "invalid_request_error", EXPIRED),
    (402, "invalid_request_error", OURS),
    (402, "card_error", OURS),
    (403, "invalid_request_error", DENIED),
    (404, "invalid_request_error", OURS),
    (409, "invalid_request_error", CONFLICT),
    (424, "api_error", OUTSIDE),
    (429, "invalid_request_error", THROTTLED),
    (429, "rate_limit_error", THROTTLED),
    (500, "api_error", SAVED),
    (502, "api_error", PASSES),
    (503, "api_error", PASSES),
    (504, "api_error", PASSES),
    (503, None, PASSES),
]
# status, type, code: "Error codes", those that decide more than their type and status.
CODES: list[tuple[int, str, str, Expected]] = [
    (429, "invalid_request_error", "lock_timeout", LOCKED),
    (429, "invalid_request_error", "rate_limit", THROTTLED),
    (400, "invalid_request_error", "rate_limit", THROTTLED),  # before version 2015-09-08
    (409, "idempotency_error", "idempotency_key_in_use", IN_USE),
    (401, "invalid_request_error", "api_key_expired", EXPIRED),
    (401, "invalid_request_error", "platform_api_key_expired", EXPIRED),
    (401, "invalid_request_error", "secret_key_required", DENIED),
    (400, "invalid_request_error", "livemode_mismatch", DENIED),
    (400, "invalid_request_error", "testmode_charges_only", DENIED),
    (400, "invalid_request_error", "account_invalid", DENIED),
    (400, "invalid_request_error", "platform_account_required", DENIED),
    (402, "card_error", "authentication_required", OURS),
    (402, "card_error", "card_declined", OURS),
    (402, "card_error", "card_decline_rate_limit_exceeded", OURS),
    (429, "invalid_request_error", "payment_intent_rate_limit_exceeded", OURS),
]
# "Declines": what card_declined comes with, "try again" and "processing error" among them; under the same key the answer stays the same.
DECLINES = """
    approve_with_id authentication_not_handled authentication_required call_issuer card_not_supported card_velocity_exceeded
    currency_not_supported do_not_honor do_not_try_again duplicate_transaction expired_card fraudulent generic_decline incorrect_number
    incorrect_cvc incorrect_pin incorrect_zip insufficient_funds invalid_account invalid_amount invalid_cvc invalid_expiry_month
    invalid_expiry_year invalid_number invalid_pin issuer_not_available lost_card merchant_blacklist new_account_information_available
    no_action_taken not_permitted offline_pin_required online_or_offline_pin_required pickup_card pin_try_exceeded processing_error
    reenter_transaction restricted_card revocation_of_all_authorizations revocation_of_authorization security_violation
    service_not_allowed stolen_card stop_payment_order testmode_decline transaction_not_allowed try_again_later
    withdrawal_count_limit_exceeded
""".split()
# v2 keeps in the type what v1 has in the code: those that the SDK has a class for.
KINDS_OF_V2: list[tuple[int, str, Expected]] = [
    (429, "rate_limit", THROTTLED),
    (400, "idempotency_error", OURS),
    (409, "idempotency_error", OURS),
    (400, "quota_exceeded", OURS),
    (429, "quota_exceeded", OURS),
    (400, "temporary_session_expired", DENIED),
    *(
        (400, kind, OURS)
        for kind in """
            already_canceled blocked_by_stripe cannot_proceed capability_not_enabled controlled_by_alternate_resource feature_not_enabled
            financial_account_not_open fx_quote_needs_refresh insufficient_funds invalid_payment_method invalid_payout_method
            invalid_vaulted_credential not_cancelable recipient_not_notifiable verification_attempt_failed verification_expired
            verification_not_initiated
        """.split()
    ),
]
IN_PROGRESS = "There is currently another in-progress request using this Stripe Idempotent Key (that probably means you submitted twice)"
UNTRUSTED = "Could not verify Stripe's SSL certificate.  Please make sure that your network is not intercepting certificates."
# Connect's OAuth, in the form of RFC 6749.
OAUTH: list[tuple[int, str, Expected]] = [
    (400, "invalid_grant", DENIED),
    (401, "invalid_client", DENIED),
    (400, "invalid_request", OURS),
    (400, "invalid_scope", OURS),
    (400, "unsupported_grant_type", OURS),
]

CHARGE: Any = {"amount": 100, "currency": "eur"}


def envelope(kind: str | None, code: str | None = None, **more: str) -> dict[str, Any]:
    fields = {"type": kind, "code": code, "message": "for people", **more}
    return {"error": {name: value for name, value in fields.items() if value is not None}}


def connection_error(message: str) -> stripe.APIConnectionError:
    kind: Any = stripe.APIConnectionError  # whose constructor has no types
    error: stripe.APIConnectionError = kind(message)
    return error


class Canned(stripe.HTTPClient):
    """The SDK's own seam for HTTP clients; what answers is a line of this file."""

    name = "canned"

    def __init__(self, status: int = 200, body: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.answer = json.dumps(body), status, dict(headers or {})
        self.keys: list[str | None] = []

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **_more: Any) -> Any:
        self.keys.append(headers.get("Idempotency-Key"))
        return self.answer

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None, **_more: Any) -> Any:
        return self.request(method, url, headers)

    def close(self) -> None:
        pass


class Broken(Canned):
    """Whose answer never comes, as the SDK's client for httpx would say it."""

    async def request_async(self, method: str, url: str, headers: Any, post_data: Any = None, **_more: Any) -> Any:
        self.request(method, url, headers)
        request = httpx.Request(method, url, headers=headers)
        raise connection_error("Unexpected error communicating with Stripe.") from httpx.ReadTimeout("", request=request)


def sdk(client: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_123", http_client=client, max_network_retries=0)


def raised(status: int, body: object, headers: Mapping[str, str] | None = None, *, version: int = 1) -> stripe.StripeError:
    """The SDK's exception for this answer, by its own reading of it."""
    client = sdk(Canned(status, body, headers))
    ask = (
        functools.partial(client.v1.charges.create, CHARGE) if version == 1 else functools.partial(client.v2.core.events.retrieve, "evt_1")
    )
    with pytest.raises(stripe.StripeError) as caught:
        ask()
    return caught.value


def returned(status: int, body: object, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, content=json.dumps(body).encode(), headers=headers)


def judged(verdict: Verdict) -> Expected:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def met(outcome: object) -> Verdict:
    return dialect.RULES.classify(read(outcome, wall=0))


V1: list[tuple[int, object, Expected]] = [
    *((status, envelope(kind), expected) for status, kind, expected in STATUSES),
    *((status, envelope(kind, code), expected) for status, kind, code, expected in CODES),
    *((402, envelope("card_error", "card_declined", decline_code=code), OURS) for code in DECLINES),
    (409, envelope("idempotency_error", message=IN_PROGRESS), IN_USE),
    (400, envelope("idempotency_error"), OURS),
]
V2: list[tuple[int, object, Expected]] = [(status, envelope(kind), expected) for status, kind, expected in KINDS_OF_V2]
CONNECTION: list[tuple[Exception, Expected]] = [
    (connection_error("Unexpected error communicating with Stripe."), PASSES),
    (connection_error(UNTRUSTED), OUTSIDE),
]


def told(body: Any) -> str:
    return "-".join(str(body["error"].get(name)) for name in ("type", "code", "decline_code"))


@pytest.mark.parametrize(("status", "body", "expected"), [pytest.param(*row, id=f"{row[0]}-{told(row[1])}") for row in V1])
def test_each_error_means_what_the_documentation_says(status: int, body: object, expected: Expected) -> None:
    """D2, D18."""
    assert expected == judged(met(raised(status, body)))
    assert expected == judged(met(returned(status, body)))


@pytest.mark.parametrize(("status", "body", "expected"), [pytest.param(*row, id=f"{row[0]}-{told(row[1])}") for row in V2])
def test_v2_keeps_it_in_the_type(status: int, body: object, expected: Expected) -> None:
    assert expected == judged(met(raised(status, body, version=2)))
    assert expected == judged(met(returned(status, body)))


@pytest.mark.parametrize(("status", "code", "expected"), OAUTH)
def test_connect_s_oauth_speaks_as_the_rfc_has_it(status: int, code: str, expected: Expected) -> None:
    """RFC 6749, 5.2."""
    assert expected == judged(met(returned(status, {"error": code, "error_description": "for people"})))


@pytest.mark.parametrize(("error", "expected"), CONNECTION, ids=["lost", "untrusted"])
def test_the_sdk_s_trouble_with_the_connection_is_known_by_name(error: Exception, expected: Expected) -> None:
    assert expected == judged(met(error))


def test_every_entry_of_the_table_is_expected_by_a_line_of_this_file() -> None:
    reached = {met(returned(status, body)).rule for status, body, _ in (*V1, *V2)}
    reached |= {met(returned(status, {"error": code})).rule for status, code, _ in OAUTH}
    reached |= {met(error).rule for error, _ in CONNECTION}
    rules = dialect.RULES
    entries = [
        entry for table in (rules.by_code, rules.by_message, rules.by_kind, rules.by_status, rules.by_error) for entry in table.values()
    ]

    assert set() == {entry.rule for entry in entries if entry.rule.startswith("stripe: ")} - reached


def test_of_all_codes_that_the_sdk_knows_only_these_are_worth_another_try() -> None:
    """With 400 and 402, which is what the others come with."""
    optional = stripe.SetupIntent.LastSetupError.__annotations__["code"]
    codes = typing.get_args(typing.get_args(optional)[0])
    assert len(codes) > 150

    repeated = {code for code in codes for kind in ("card_error", "invalid_request_error") if met(coded(kind, code)).action is RETRY}

    assert {"lock_timeout", "rate_limit", "idempotency_key_in_use"} == repeated


def coded(kind: str, code: str) -> httpx2.Response:
    return returned(402 if kind == "card_error" else 400, envelope(kind, code))


# The peer's own word.


@pytest.mark.parametrize(
    ("status", "kind", "code", "word", "action"),
    [
        (409, "invalid_request_error", None, "false", FAIL),
        (500, "api_error", None, "false", FAIL),  # saved under the key: "retrying would be a no-op"
        (500, "api_error", None, "true", RETRY),
        (400, "invalid_request_error", None, "true", RETRY),
        (424, "api_error", None, "true", RETRY),
        (429, "invalid_request_error", "lock_timeout", "false", FAIL),
        # What is certain is not asked for again, whatever the header says.
        (402, "card_error", "card_declined", "true", FAIL),
        (400, "idempotency_error", None, "true", FAIL),
    ],
)
def test_stripe_s_own_word_decides_over_all_but_what_is_certain(
    status: int, kind: str, code: str | None, word: str, action: Action
) -> None:
    headers = {"Stripe-Should-Retry": word}

    assert action is met(returned(status, envelope(kind, code), headers)).action
    assert action is met(raised(status, envelope(kind, code), headers)).action


# Repeating payments.


@pytest.mark.anyio
async def test_a_server_error_is_repeated_with_the_same_key(world: World) -> None:
    """D4, D20: "retry with the same idempotency key"."""
    client = Canned(503, envelope("api_error"))
    charges = sdk(client).v1.charges
    engine = Engine([IdempotencyKey(), Retry(attempts=3)], rules=dialect.RULES, env=world.env).using(method="POST")

    async def pay() -> Any:
        return await charges.create_async(CHARGE, {"idempotency_key": current().take_key()})

    with pytest.raises(stripe.APIError):
        await engine.call(pay)
    assert (3, 1) == (len(client.keys), len(set(client.keys)))


@pytest.mark.anyio
async def test_a_server_error_without_a_key_of_ours_is_not_repeated(world: World) -> None:
    """D4: the SDK makes up a key for each call of a method; the next would be another."""
    client = Canned(503, envelope("api_error"))
    engine = Engine([IdempotencyKey(), Retry()], rules=dialect.RULES, env=world.env).using(method="POST")

    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await engine.call(sdk(client).v1.charges.create_async, CHARGE)

    assert (2, 2) == (len(client.keys), len(set(client.keys)))
    assert ["unsafe"] * 2 == [event.reason for event in world.told(RetryGaveUp)]


@pytest.mark.anyio
async def test_a_broken_connection_without_a_key_of_ours_is_not_repeated(world: World) -> None:
    """D4: each repeat would be another charge."""
    client = Broken()
    engine = Engine([IdempotencyKey(), Retry()], rules=dialect.RULES, env=world.env).using(method="POST")

    with pytest.raises(stripe.APIConnectionError):
        await engine.call(sdk(client).v1.charges.create_async, CHARGE)

    assert 1 == len(client.keys)


@pytest.mark.anyio
async def test_a_declined_card_is_asked_for_once(world: World) -> None:
    client = Canned(402, envelope("card_error", "card_declined", decline_code="try_again_later"))
    engine = Engine([Retry()], rules=dialect.RULES, env=world.env)

    with pytest.raises(stripe.CardError):
        await engine.call(sdk(client).v1.charges.create_async, CHARGE)

    assert 1 == len(client.keys)


@pytest.mark.anyio
async def test_a_lock_is_waited_for_by_the_slower_schedule(world: World) -> None:
    client = Canned(429, envelope("invalid_request_error", "lock_timeout"))
    engine = Engine([Retry(attempts=3)], rules=dialect.RULES, env=world.env).using(method="POST")

    with pytest.raises(stripe.RateLimitError):
        await engine.call(sdk(client).v1.charges.create_async, CHARGE)

    assert [0.5, 1.0] == world.slept
    assert 3 == len(client.keys)


def test_a_connection_that_was_never_made_sent_nothing() -> None:
    """D4: the SDK keeps what its client raised as the cause."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, but it does not listen
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        client = stripe.StripeClient("sk_test_123", base_addresses={"api": url}, max_network_retries=0)
        with pytest.raises(stripe.APIConnectionError) as caught:
            client.v1.charges.create(CHARGE)

    assert (PASSES, Phase.NOT_SENT) == (judged(met(caught.value)), read(caught.value).phase)
