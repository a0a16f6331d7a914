"""How fast an API may be asked: a minute's limits, and what the headers of APIs tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.chat.pace import Pace

NOW = 1_800_000_000.0  # the wall clock; the other one stands at 0


def told(**headers: str) -> Pace:
    """A pace that has learnt from headers, given with underscores."""
    pace = Pace()
    pace.learn({name.replace("_", "-"): value for name, value in headers.items()}, 0.0, NOW)
    return pace


def test_without_limits_there_is_no_wait() -> None:
    """What no setting and no header limits goes at once."""
    pace = Pace()
    for _ in range(1000):
        pace.take(10_000, 0.0)

    assert pace.wait_s(10_000, 0.0) == 0.0


@given(
    st.integers(1, 5),
    st.integers(0, 500),
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 30)), min_size=1, max_size=40),
)
def test_no_minute_holds_more_than_the_limits(
    rpm: int, tpm: int, wishes: list[tuple[int, float]]
) -> None:
    """In every stretch of a minute at most rpm requests and tpm tokens go, or one alone."""
    pace, now, sent = Pace(rpm, tpm), 0.0, []
    for tokens, pause in wishes:
        now += pause
        now += pace.wait_s(tokens, now)
        assert pace.wait_s(tokens, now) == pytest.approx(0.0, abs=1e-6)
        pace.take(tokens, now)
        sent.append((now, tokens))

    for end, _ in sent:
        minute = [tokens for at, tokens in sent if end - 60 + 1e-6 < at <= end]
        assert len(minute) <= rpm
        assert not tpm or sum(minute) <= tpm or len(minute) == 1


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("1s", 1.0),
        ("120ms", 0.12),
        ("6m0s", 360.0),
        ("1m12.5s", 72.5),
        ("2h3m", 7380.0),
        ("1d", 86_400.0),
        ("59.5", 59.5),
        ("1800000030", 30.0),
        ("1800000030500", 30.5),
        ("2027-01-15T08:00:20Z", 20.0),
        ("2020-01-01T00:00:00Z", 0.0),
    ],
)
def test_a_spent_limit_is_waited_for(reset: str, seconds: float) -> None:
    """Durations, seconds, times since the epoch and dates say until when nothing is left."""
    pace = told(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests=reset)

    assert pace.wait_s(1, 0.0) == pytest.approx(seconds)
    assert pace.wait_s(1, seconds + 0.001) == 0.0


@pytest.mark.parametrize("reset", ["", "soon", "-", "1x", "nan", "inf"])
def test_headers_that_say_nothing_clear_limit_nothing(reset: str) -> None:
    """A reset that cannot be read never stops anybody."""
    pace = told(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests=reset)

    assert pace.wait_s(1, 0.0) == 0.0


def test_what_is_missing_grows_back_evenly() -> None:
    """Of 600 tokens a minute 100 are left: 300 more are there after 24 of 60 s to the full 600."""
    pace = told(
        x_ratelimit_limit_tokens="600",
        x_ratelimit_remaining_tokens="100",
        x_ratelimit_reset_tokens="1m0s",
    )

    assert pace.wait_s(100, 0.0) == 0.0
    assert pace.wait_s(300, 0.0) == pytest.approx(24.0)
    assert pace.wait_s(9999, 0.0) == pytest.approx(60.0)


def test_requests_under_way_count_against_what_was_left() -> None:
    """Between two replies the client counts for itself."""
    pace = told(x_ratelimit_remaining="2", x_ratelimit_reset="30")
    pace.take(1, 0.0)
    pace.take(1, 0.0)

    assert pace.wait_s(1, 0.0) > 0.0


def test_another_makers_names_are_known() -> None:
    """Anthropic's limits of tokens, with a date as reset."""
    pace = told(
        anthropic_ratelimit_tokens_limit="1000",
        anthropic_ratelimit_tokens_remaining="0",
        anthropic_ratelimit_tokens_reset="2027-01-15T08:00:10Z",
    )

    assert pace.wait_s(1000, 0.0) == pytest.approx(10.0)
