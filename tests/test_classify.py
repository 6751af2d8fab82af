"""From a signal to a verdict: the most specific entry wins, and says that it did."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import (
    Action,
    AttemptTimedOut,
    Blame,
    CircuitOpen,
    DeadlineExceeded,
    RefreshFailed,
    Rejected,
    ResilienceError,
    Rules,
    Signal,
    Verdict,
    fail_fast,
    refresh_token,
    retry,
)
from resilience.dialects import callmissed, http

EMPTY = Rules("empty")


class TestPrecedence:
    """D2: what says more is asked first."""

    LADDER = EMPTY.extend(
        "acme",
        by_code={(429, "busy"): retry(), "busy": fail_fast()},
        by_kind={"family": retry()},
        by_status={429: retry(), "4xx": fail_fast()},
        by_error={ConnectionError: retry()},
        default=fail_fast(),
    )

    @pytest.mark.parametrize(
        ("signal", "rule"),
        [
            (Signal(429, "busy", "family", should_retry=True, raised=ConnectionError), "acme: code 429 busy"),
            (Signal(503, "busy", "family", should_retry=True, raised=ConnectionError), "acme: code busy"),
            (Signal(429, "other", "family", should_retry=True, raised=ConnectionError), "acme: kind family"),
            (Signal(429, "other", "other", should_retry=True, raised=ConnectionError), "acme: the peer's own word"),
            (Signal(429, "other", "other", raised=ConnectionError), "acme: status 429"),
            (Signal(404, raised=ConnectionError), "acme: status 4xx"),
            (Signal(503, raised=ConnectionError), "acme: error ConnectionError"),
            (Signal(503, raised=ValueError), "acme: default"),
            (Signal(), "acme: default"),
        ],
    )
    def test_goes_from_code_by_way_of_status_to_default(self, signal: Signal, rule: str) -> None:
        assert rule == self.LADDER.classify(signal).rule

    @pytest.mark.parametrize(
        ("raised", "rule"),
        [
            (ConnectionRefusedError, "acme: error ConnectionRefusedError"),
            (ConnectionResetError, "acme: error ConnectionError"),
            (TimeoutError, "acme: error OSError"),
            (KeyError, "acme: error builtins.LookupError"),
            (ValueError, "default"),
        ],
    )
    def test_among_exception_classes_the_nearest_base_wins(self, raised: type[Exception], rule: str) -> None:
        rules = EMPTY.extend(
            "acme",
            by_error={OSError: fail_fast(), ConnectionError: retry(), ConnectionRefusedError: fail_fast(), "builtins.LookupError": retry()},
        )

        assert rule == rules.classify(Signal(raised=raised)).rule

    def test_ten_thousand_classes_made_on_the_fly_are_not_remembered_for_ever(self) -> None:
        rules = EMPTY.extend("acme", by_error={OSError: retry()})
        for number in range(3000):
            assert Action.RETRY is rules.classify(Signal(raised=type(f"E{number}", (OSError,), {}))).action

        assert len(rules._known) <= 1024

    def test_ten_thousand_codes_made_up_on_the_fly_are_not_remembered_for_ever(self) -> None:
        rules = EMPTY.extend("acme", by_code={"E2999": retry()})
        for number in range(3000):
            assert ("acme: code E2999" if number == 2999 else "default") == rules.classify(Signal(code=f"E{number}")).rule

        assert len(rules._known) <= 1024

    def test_a_class_without_a_hash_is_known_by_its_name_and_by_its_bases(self) -> None:
        """A metaclass that compares its classes in its own way takes their hash away."""

        class Unhashed(type):
            def __eq__(cls, other: object) -> bool:
                return cls is other

            __hash__ = None  # type: ignore[assignment]

        odd: Any = Unhashed("Odd", (ConnectionError,), {"__module__": "acme"})
        rules = EMPTY.extend("acme", by_error={ConnectionError: retry()})

        assert "acme: error ConnectionError" == rules.classify(Signal(raised=odd)).rule
        assert "acme: error acme.Odd" == rules.extend("acme", by_error={"acme.Odd": fail_fast()}).classify(Signal(raised=odd)).rule

    def test_equal_signals_meet_equal_verdicts(self) -> None:
        signal = Signal(503, raised=ConnectionError)

        assert http.RULES.classify(signal) == http.RULES.classify(Signal(503, raised=ConnectionError))


class TestPatterns:
    """PostgreSQL and AWS name their failures by families."""

    RULES = EMPTY.extend(
        "acme",
        by_code={"08*": retry(), "0800*": fail_fast(), "08006": refresh_token(), (503, "08*"): fail_fast(), "*Throttl*": retry()},
        by_status={503: retry()},
    )

    @pytest.mark.parametrize(
        ("signal", "rule"),
        [
            (Signal(code="08P01"), "acme: code 08*"),
            (Signal(code="08"), "acme: code 08*"),
            (Signal(code="08003"), "acme: code 0800*"),
            (Signal(code="08006"), "acme: code 08006"),
            (Signal(code="08003", status=503), "acme: code 503 08*"),
            (Signal(code="RequestThrottledException"), "acme: code *Throttl*"),
            (Signal(code="x08P01", status=503), "acme: status 503"),
        ],
    )
    def test_a_code_in_full_comes_first_then_the_longest_pattern(self, signal: Signal, rule: str) -> None:
        assert rule == self.RULES.classify(signal).rule

    def test_all_else_in_a_pattern_stands_for_itself(self) -> None:
        rules = EMPTY.extend("acme", by_code={"a.b[c]*": retry()})

        assert [Action.RETRY, Action.FAIL_FAST] == [rules.classify(Signal(code=code)).action for code in ("a.b[c]d", "aXbcd")]


class TestMessages:
    """GitHub tells a rate limit from a lack of permission by nothing else."""

    RULES = EMPTY.extend(
        "acme",
        by_code={"busy": refresh_token(), (403, "special"): retry()},
        by_message={"Rate limit": retry(), (403, "limit"): retry(throttled=True), "secondary rate limit": fail_fast()},
        by_kind={"family": refresh_token()},
        by_status={403: fail_fast()},
    )

    @pytest.mark.parametrize(
        ("signal", "rule"),
        [
            (Signal(status=429, message="API RATE LIMIT exceeded"), "acme: message Rate limit"),
            (Signal(status=403, message="a secondary rate limit"), "acme: message 403 limit"),
            (Signal(status=429, message="a Secondary Rate Limit"), "acme: message secondary rate limit"),
            (Signal(status=429, kind="family", message="rate limit"), "acme: message Rate limit"),
            (Signal(code="busy", message="rate limit"), "acme: code busy"),
            (Signal(status=403, code="busy", message="rate limit"), "acme: message 403 limit"),
            (Signal(status=403, code="special", message="rate limit"), "acme: code 403 special"),
            (Signal(status=403, message="no such luck"), "acme: status 403"),
        ],
    )
    def test_their_words_are_looked_for_where_the_code_says_nothing(self, signal: Signal, rule: str) -> None:
        assert rule == self.RULES.classify(signal).rule


class TestThePeersOwnWord:
    """``x-should-retry``: the action is the peer's, what else the table knows stays."""

    def test_true_repeats_what_the_table_would_not(self) -> None:
        verdict = http.RULES.classify(Signal(409, should_retry=True))

        assert Verdict(Action.RETRY, "http: the peer's own word", blames=Blame.CALLER) == verdict

    def test_false_ends_what_the_table_would_repeat(self) -> None:
        verdict = http.RULES.classify(Signal(429, should_retry=False))

        assert (Action.FAIL_FAST, True, Blame.PEER) == (verdict.action, verdict.throttled, verdict.blames)

    def test_true_keeps_the_cap_of_what_would_be_repeated_anyway(self) -> None:
        assert 2 == callmissed.RULES.classify(Signal(500, should_retry=True)).attempts

    @pytest.mark.parametrize("signal", [Signal(429, "rate_limit_exceeded"), Signal(503, kind="provider_error")])
    def test_false_ends_what_a_code_or_kind_would_repeat(self, signal: Signal) -> None:
        """It is about this one failure, the entry about all that share the code."""
        verdict = callmissed.RULES.classify(attrs.evolve(signal, should_retry=False))

        assert (Action.FAIL_FAST, "callmissed: the peer's own word") == (verdict.action, verdict.rule)

    def test_true_does_not_beat_a_code(self) -> None:
        assert Action.FAIL_FAST is callmissed.RULES.classify(Signal(402, "insufficient_credits", should_retry=True)).action

    RANKING = EMPTY.extend(
        "acme",
        by_code={"busy": retry(attempts=2, throttled=True), "stale": refresh_token(), "gone": fail_fast()},
        by_message={"no such thing": fail_fast()},
        by_kind={"family": retry(blames=Blame.CALLER)},
        word_first=True,
    )

    @pytest.mark.parametrize(
        "signal", [Signal(code="busy"), Signal(kind="family"), Signal(code="gone"), Signal(message="no such thing"), Signal()]
    )
    @pytest.mark.parametrize("word", [True, False])
    def test_beats_every_entry_where_a_protocol_puts_it_first(self, signal: Signal, word: bool) -> None:
        """gRFC A6: a server that pushes back is obeyed, whatever the status."""
        verdict = self.RANKING.classify(attrs.evolve(signal, should_retry=word))

        assert (Action.RETRY if word else Action.FAIL_FAST) is verdict.action
        assert "acme: the peer's own word" == verdict.rule

    @pytest.mark.parametrize(
        ("signal", "verdict"),
        [
            (Signal(code="busy", should_retry=False), fail_fast(blames=Blame.PEER)),
            (Signal(code="busy", should_retry=True), retry(attempts=2)),
            (Signal(kind="family", should_retry=False), fail_fast(blames=Blame.CALLER)),
        ],
    )
    def test_keeps_beside_it_what_the_whole_table_knows(self, signal: Signal, verdict: Verdict) -> None:
        told = self.RANKING.classify(signal)

        assert attrs.evolve(verdict, rule=told.rule, throttled=signal.code == "busy") == told

    def test_says_nothing_of_the_request_that_follows_a_refresh(self) -> None:
        assert "acme: code stale" == self.RANKING.classify(Signal(code="stale", should_retry=False)).rule

    def test_stays_first_in_what_is_built_on_such_a_table_unless_that_says_otherwise(self) -> None:
        signal = Signal(code="gone", should_retry=True)
        heir, other = self.RANKING.extend("heir"), self.RANKING.extend("other", word_first=False)

        assert [Action.RETRY, Action.FAIL_FAST] == [rules.classify(signal).action for rules in (heir, other)]

    def test_is_put_first_by_a_flag_and_by_nothing_else(self) -> None:
        with pytest.raises(ValueError, match="Rules.word_first: expected True or False, got 'yes'"):
            EMPTY.extend("acme", word_first="yes")  # type: ignore[arg-type]


class TestGroups:
    """D39."""

    def test_the_gravest_leaf_decides(self) -> None:
        signals = {Action.RETRY: Signal(503), Action.REFRESH_TOKEN: Signal(401), Action.FAIL_FAST: Signal(404)}
        gravity = [Action.FAIL_FAST, Action.REFRESH_TOKEN, Action.RETRY]
        for count in (1, 2, 3):
            for actions in itertools.permutations(gravity, count):
                group = Signal(leaves=tuple(signals[action] for action in actions))

                assert min(actions, key=gravity.index) is http.RULES.classify(group).action


class TestOurOwnErrors:
    """They say what they are; that some of them also are a `TimeoutError`, or a client's error, is for other people's ``except``."""

    @pytest.mark.parametrize("kind", [Rejected, CircuitOpen, DeadlineExceeded, RefreshFailed, ResilienceError])
    def test_are_final(self, kind: type[ResilienceError]) -> None:
        verdict = http.RULES.classify(Signal(raised=kind))

        assert (Action.FAIL_FAST, Blame.CALLER) == (verdict.action, verdict.blames)

    def test_but_an_attempt_that_timed_out_may_be_repeated(self) -> None:
        assert Action.RETRY is http.RULES.classify(Signal(raised=AttemptTimedOut)).action

    @pytest.mark.parametrize("status", [429, 503])
    def test_are_not_judged_by_the_status_of_the_failure_before_them(self, status: int) -> None:
        assert Action.FAIL_FAST is http.RULES.classify(Signal(status, raised=DeadlineExceeded)).action

    def test_are_not_judged_by_a_clients_family_that_they_joined(self) -> None:
        transport_error = type("TransportError", (Exception,), {"__module__": "httpx._exceptions"})
        twin = type("HttpxCircuitOpen", (CircuitOpen, transport_error), {"__module__": "resilience.adapters.httpx"})

        assert Action.RETRY is http.RULES.classify(Signal(raised=transport_error)).action
        assert Action.FAIL_FAST is http.RULES.classify(Signal(raised=twin)).action

    @pytest.mark.parametrize("key", [CircuitOpen, Rejected, ResilienceError, "resilience.Rejected"])
    def test_are_judged_by_a_rule_of_the_users_that_names_them(self, key: Any) -> None:
        rules = http.RULES.extend("mine", by_error={key: retry()})

        assert Action.RETRY is rules.classify(Signal(raised=CircuitOpen)).action
        assert Action.RETRY is rules.classify(Signal(raised=AttemptTimedOut)).action


class TestExtending:
    def test_replaces_what_is_named_and_keeps_all_else(self) -> None:
        """B57: a derived copy loses no field."""

        def by_result(value: object) -> None:
            return None

        def creates_nothing(method: str, path: str) -> bool:
            return True

        base = EMPTY.extend(
            "base",
            by_code={"a": retry(), "b": retry()},
            by_kind={"k": retry()},
            by_status={500: retry(attempts=2, throttled=True), "5xx": retry()},
            by_error={OSError: retry()},
            default=refresh_token(),
            by_result=by_result,
            creates_nothing=creates_nothing,
        )

        rules = base.extend("mine", by_code={"b": fail_fast()})

        assert "mine" == rules.name
        assert {"a": "base: code a", "b": "mine: code b"} == {code: verdict.rule for code, verdict in rules.by_code.items()}
        assert (base.by_kind, base.by_status, base.by_error) == (rules.by_kind, rules.by_status, rules.by_error)
        assert (base.default, by_result, creates_nothing) == (rules.default, rules.by_result, rules.creates_nothing)
        assert Action.RETRY is base.by_code["b"].action

    @pytest.mark.parametrize("entry", [Action.RETRY, "retry", retry(), Verdict(Action.RETRY, "somebody else's")])
    def test_takes_an_action_or_its_name_for_an_entry(self, entry: Any) -> None:
        assert Verdict(Action.RETRY, "acme: code busy") == EMPTY.extend("acme", by_code={"busy": entry}).by_code["busy"]

    def test_a_class_of_statuses_may_be_written_in_capitals(self) -> None:
        assert "acme: status 5XX" == EMPTY.extend("acme", by_status={"5XX": retry()}).classify(Signal(503)).rule

    def test_building_one_by_hand_means_the_same_as_extending_nothing(self) -> None:
        entries: dict[str, Any] = {
            "by_code": {"busy": retry(), (429, "busy"): "fail_fast"},
            "by_kind": {"family": Action.RETRY},
            "by_status": {503: retry(attempts=2), "4XX": fail_fast()},
            "by_error": {OSError: retry(), "httpx.ReadTimeout": retry()},
            "default": retry(),
        }
        built, extended = Rules("acme", **entries), EMPTY.extend("acme", **entries)

        for signal in (Signal(503), Signal(404), Signal(429, "busy"), Signal(code="busy"), Signal(kind="family"), Signal(raised=OSError)):
            assert extended.classify(signal) == built.classify(signal)
        assert extended.default == built.default

    def test_knows_its_size_in_words(self) -> None:
        assert "<Rules acme: 1 codes, 2 statuses, 0 errors>" == repr(
            EMPTY.extend("acme", by_code={"a": retry()}, by_status={500: retry(), "4xx": fail_fast()})
        )
        everything = EMPTY.extend(
            "acme",
            by_message={"a": retry()},
            by_kind={"a": retry(), "b": retry()},
            by_result=lambda value: None,
            by_item=lambda item: None,
            creates_nothing=lambda method, path: True,
            word_first=True,
        )
        assert "<Rules acme: 0 codes, 1 messages, 2 kinds, 0 statuses, 0 errors, by_result, by_item, creates_nothing, word_first>" == repr(
            everything
        )


async def never() -> None: ...


def a_function() -> None: ...


class TestRefused:
    """A table that could not mean anything is refused when it is written, by field, key and value."""

    @pytest.mark.parametrize("make", [lambda **table: EMPTY.extend("acme", **table), lambda **table: Rules("acme", **table)])
    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"by_code": {"busy": "again"}}, r"by_code\['busy'\]: unknown action 'again'; known are 'retry', 'fail_fast', 'refresh_token'"),
            ({"by_code": {"busy": None}}, r"by_code\['busy'\]: expected retry\(\).*got None"),
            ({"by_code": {"busy": retry}}, r"by_code\['busy'\]: expected .*got <function retry"),
            ({"by_code": {"": retry()}}, r"by_code\[''\]: expected a code"),
            ({"by_code": {429: retry()}}, r"by_code\[429\]: expected a code"),
            ({"by_code": {(999, "busy"): retry()}}, r"by_code\[999\]: no status"),
            ({"by_code": {("5xx", "busy"): retry()}}, r"by_code\['5xx'\]: no status"),
            ({"by_code": {(429, ""): retry()}}, r"by_code\[\(429, ''\)\]: expected a code"),
            ({"by_code": {"*": retry()}}, r"by_code\['\*'\]: expected a code"),
            ({"by_message": {" ": retry()}}, r"by_message\[' '\]: expected words of the message"),
            ({"by_message": {(5, "limit"): retry()}}, r"by_message\[5\]: no status"),
            ({"by_kind": {5: retry()}}, r"by_kind\[5\]: expected the name"),
            ({"by_kind": {"": retry()}}, r"by_kind\[''\]: expected the name"),
            ({"by_status": {99: retry()}}, r"by_status\[99\]: no status"),
            ({"by_status": {600: retry()}}, r"by_status\[600\]: no status"),
            ({"by_status": {-400: retry()}}, r"by_status\[-400\]: no status"),
            ({"by_status": {True: retry()}}, r"by_status\[True\]: no status"),
            ({"by_status": {503.0: retry()}}, r"by_status\[503.0\]: no status"),
            ({"by_status": {"503": retry()}}, r"by_status\['503'\]: no status"),
            ({"by_status": {"6xx": retry()}}, r"by_status\['6xx'\]: no status"),
            ({"by_error": {BaseException: retry()}}, r"by_error\[<class 'BaseException'>\]: cancellation and its kin"),
            ({"by_error": {KeyboardInterrupt: retry()}}, r"by_error\[<class 'KeyboardInterrupt'>\]: cancellation and its kin"),
            ({"by_error": {int: retry()}}, r"by_error\[<class 'int'>\]: expected an exception class"),
            ({"by_error": {"ReadTimeout": retry()}}, r"by_error\['ReadTimeout'\]: expected .*package\.ClassName"),
            ({"by_error": {"": retry()}}, r"by_error\[''\]: expected an exception class"),
            ({"default": "again"}, r"default\['default'\]: unknown action 'again'"),
            ({"by_status": [500]}, r"by_status: expected a mapping"),
            ({"by_result": never}, r"by_result: expected a plain function"),
            ({"by_result": 5}, r"by_result: expected a plain function"),
            ({"creates_nothing": never}, r"creates_nothing: expected a plain function"),
        ],
    )
    def test_in_a_table(self, make: Any, table: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(**table)

    @pytest.mark.parametrize("name", ["", None, 5])
    def test_a_name_that_is_none(self, name: Any) -> None:
        with pytest.raises(ValueError, match=r"^name: expected the dialect's name"):
            EMPTY.extend(name)
        with pytest.raises(ValueError, match=r"^name: expected the dialect's name"):
            Rules(name)

    @pytest.mark.parametrize("attempts", [0, -1, 1.5, True, "2"])
    def test_a_cap_that_is_no_number_of_attempts(self, attempts: Any) -> None:
        """D36."""
        with pytest.raises(ValueError, match=rf"^Verdict\.attempts: .*got {attempts!r}$"):
            retry(attempts=attempts)

    @pytest.mark.parametrize("action", ["retry", None, 1])
    def test_a_verdict_without_an_action(self, action: Any) -> None:
        with pytest.raises(TypeError, match=r"'action' must be <enum 'Action'>"):
            Verdict(action)


signals = st.builds(
    Signal,
    status=st.one_of(st.none(), st.integers(100, 599)),
    code=st.one_of(st.none(), st.sampled_from(["invalid_api_key", "token_expired", "rate_limit_exceeded", "something else"])),
    kind=st.one_of(st.none(), st.sampled_from(["billing_error", "something_else"])),
    should_retry=st.one_of(st.none(), st.booleans()),
    raised=st.one_of(st.none(), st.sampled_from([ValueError, ConnectionError, TimeoutError, DeadlineExceeded, KeyError])),
)


class TestAnySignal:
    @given(
        st.sampled_from([EMPTY, http.RULES, callmissed.RULES]), st.one_of(signals, st.builds(Signal, leaves=st.lists(signals).map(tuple)))
    )
    def test_meets_a_verdict_that_names_its_rule(self, rules: Rules, signal: Signal) -> None:
        verdict = rules.classify(signal)

        assert verdict.action in Action
        assert verdict.rule not in {"", "unnamed"}
        assert verdict == rules.classify(signal)

    @given(signals)
    def test_an_entry_for_its_code_decides_alone(self, signal: Signal) -> None:
        rules = http.RULES.extend("acme", by_code={} if signal.code is None else {signal.code: retry(attempts=7)})
        verdict = rules.classify(signal)

        ours = signal.raised is not None and issubclass(signal.raised, ResilienceError)
        told = signal.should_retry is False  # by the peer itself, and about this one failure
        assert (signal.code is not None and not ours and not told) == (verdict.attempts == 7)


def test_classes_that_cannot_be_compared_are_judged_all_the_same() -> None:
    class Odd(type):
        def __hash__(cls) -> int:
            return 5

        def __eq__(cls, other: object) -> bool:
            raise ValueError("not to be compared")

    class First(Exception, metaclass=Odd):
        pass

    class Second(Exception, metaclass=Odd):
        pass

    verdicts = [http.RULES.classify(Signal(status=429, raised=kind)) for kind in (First, Second)]

    assert [Action.RETRY, Action.RETRY] == [verdict.action for verdict in verdicts]
