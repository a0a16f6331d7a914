"""What the ledger's rows amount to: hand-computed cases, and what counts as worse than before."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.instruments.ledger import DAY_S, EVALUATION, Entry
from rag.instruments.stats import Latency, Regression, first_moment, regressions, statistics, wilson

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
CHAT = Entry(
    time=NOW - 60,
    origin="ask",
    status="answered",
    answerer="chat",
    model="m-1",
    prompt_tokens=100,
    completion_tokens=10,
    cost_usd=0.01,
    retrieve_ms=10.0,
    first_token_ms=200.0,
    chat_ms=500.0,
    total_ms=520.0,
    grounding=1.0,
)
QUOTED = Entry(
    time=NOW - 60,
    origin="chat",
    status="abstained",
    answerer="extractive",
    cost_usd=0.0,
    retrieve_ms=20.0,
    total_ms=20.0,
)
THIS_WEEK, LAST_WEEK = NOW - DAY_S, NOW - 8 * DAY_S


def test_a_hand_computed_case() -> None:
    """Four questions of two days, one of them failed, one without a price."""
    entries = [
        replace(CHAT, time=NOW - DAY_S, status="failed", error="chat_unavailable", retries=2),
        replace(CHAT, grounding=0.5, cached=True, cost_usd=0.0),
        replace(CHAT, model="m-2", cost_usd=None, total_ms=620.0),
        QUOTED,
    ]

    stats = statistics(entries, NOW, days=30)

    total = stats.total
    assert (total.questions, total.cached, total.retries, total.unpriced) == (4, 1, 2, 1)
    assert (total.prompt_tokens, total.completion_tokens, total.cost_usd) == (300, 30, 0.01)
    assert total.statuses == {"answered": 2, "failed": 1, "abstained": 1}
    assert total.errors == {"chat_unavailable": 1}
    assert total.grounding == pytest.approx(2.5 / 3)
    assert total.latency_ms["retrieve"] == Latency(4, 10.0, pytest.approx(18.5))
    assert total.latency_ms["total"] == Latency(4, 520.0, pytest.approx(605.0))
    assert "verify" not in total.latency_ms
    assert stats.origins == {"ask": 3, "chat": 1}
    assert {name: group.questions for name, group in stats.models.items()} == {
        "m-1": 2,
        "m-2": 1,
        "extractive": 1,
    }
    assert {day: group.questions for day, group in stats.by_day.items()} == {
        "2027-01-14": 1,
        "2027-01-15": 3,
    }


def test_only_the_days_asked_for_are_counted() -> None:
    """A question of the day before yesterday is not one of the last day's."""
    entries = [replace(CHAT, time=NOW - 2 * DAY_S), CHAT]

    assert [statistics(entries, NOW, days).total.questions for days in (1, 3)] == [1, 2]
    assert [(NOW - first_moment(NOW, days)) / DAY_S for days in (1, 30)] == [14, 30]


def test_evaluations_are_left_out_unless_asked_for() -> None:
    """A run of `rag eval` does not spoil the figures."""
    entries = [CHAT, replace(CHAT, origin=EVALUATION)]

    counts = [
        statistics(entries, NOW, 30, evaluations=with_them).total.questions
        for with_them in (False, True)
    ]

    assert counts == [1, 2]


ENTRIES = st.lists(
    st.builds(
        replace,
        st.sampled_from([CHAT, QUOTED]),
        time=st.floats(NOW - 29 * DAY_S, NOW),
        status=st.sampled_from(["answered", "abstained", "failed", "incomplete", "interrupted"]),
        model=st.sampled_from([None, "m-1", "m-2"]),
        cost_usd=st.none() | st.integers(0, 100).map(float),
        total_ms=st.floats(0, 1e6),
        grounding=st.none() | st.floats(0, 1),
    ),
    max_size=30,
)


@given(ENTRIES)
def test_the_parts_add_up_to_the_whole(entries: list[Entry]) -> None:
    """Days and models each hold every question and every dollar once; quantiles are in order."""
    stats = statistics(entries, NOW, days=30)

    for groups in (stats.by_day, stats.models):
        assert sum(group.questions for group in groups.values()) == len(entries)
        assert sum(group.cost_usd for group in groups.values()) == stats.total.cost_usd
    assert sum(stats.total.statuses.values()) == sum(stats.origins.values()) == len(entries)
    times = sorted(entry.total_ms for entry in entries)
    if times:
        found = stats.total.latency_ms["total"]
        assert times[0] <= found.p50 <= found.p95 <= times[-1]


@pytest.mark.parametrize(
    ("hits", "total", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (81, 263, (0.2553, 0.3662))],
)
def test_wilson_intervals_are_those_of_the_books(hits: int, total: int, expected) -> None:
    """Newcombe (1998) gives 81 of 263 as .2553 to .3662."""
    assert wilson(hits, total) == pytest.approx(expected, abs=1e-4)


# Worse than the week before


def week(start: float, count: int, worse: int = 0, **how: object) -> list[Entry]:
    """A week's questions, of which so many have the figures in `how`."""
    return [replace(CHAT, time=start)] * (count - worse) + [
        replace(CHAT, time=start, **how)
    ] * worse


@pytest.mark.parametrize(
    ("name", "how", "shares"),
    [
        ("failed", {"status": "failed"}, (0.02, 0.12)),
        ("failed", {"status": "incomplete"}, (0.02, 0.12)),
        ("abstained", {"status": "abstained"}, (0.02, 0.12)),
        ("unsupported", {"grounding": 0.5}, (0.02, 0.12)),
        ("retried", {"retries": 1}, (0.02, 0.12)),
    ],
)
def test_a_share_that_has_grown_is_flagged(name: str, how: dict[str, object], shares) -> None:
    """From 4 of 200 to 24 of 200 is worse; from 4 to 8 may be chance, and less is no harm."""
    before, worse = week(LAST_WEEK, 200, 4, **how), week(THIS_WEEK, 200, 24, **how)
    chance = week(THIS_WEEK, 200, 8, **how)
    better = week(THIS_WEEK, 200, 0, **how)

    assert regressions(before + worse, NOW) == (Regression(name, *shares, 200, 200),)
    assert regressions(before + chance, NOW) == regressions(before + better, NOW) == ()


@pytest.mark.parametrize("name", ["retrieve_ms", "first_token_ms", "chat_ms", "cost_usd"])
def test_a_median_that_has_grown_by_half_is_flagged(name: str) -> None:
    """Half as much again is worse; a little less is not, nor is anything of 29 questions."""

    def times(factor: float, count: int = 30) -> list[Entry]:
        value = getattr(CHAT, name) * factor
        return week(THIS_WEEK, count, count, **{name: value})

    before = week(LAST_WEEK, 30)

    assert [r.name for r in regressions(before + times(1.5), NOW)] == [name]
    assert regressions(before + times(1.49), NOW) == ()
    assert regressions(before + times(9, count=29), NOW) == ()


def test_questions_are_compared_with_their_own_kind() -> None:
    """Cached answers are fast, and extractive ones free: neither makes the others look worse."""
    before = week(LAST_WEEK, 50, 40, cached=True, first_token_ms=1.0, chat_ms=1.0, cost_usd=0.0)
    before += [replace(QUOTED, time=LAST_WEEK, status="answered", retrieve_ms=10.0)] * 50
    before += week(LAST_WEEK, 30)

    assert regressions(before + week(THIS_WEEK, 100), NOW) == ()


def test_two_weeks_alike_are_seldom_flagged() -> None:
    """Of 300 pairs of weeks with the same habits fewer than 3 % show anything."""
    chance = random.Random(3)

    def habits(start: float) -> Iterator[Entry]:
        for _ in range(chance.choice([40, 200])):
            yield replace(
                CHAT,
                time=start,
                status=chance.choices(["answered", "abstained", "failed"], [80, 15, 5])[0],
                grounding=chance.choices([1.0, 0.5], [85, 15])[0],
                retries=chance.random() < 0.05,
                retrieve_ms=chance.lognormvariate(2.3, 0.4),
                first_token_ms=chance.lognormvariate(5.7, 0.6),
                chat_ms=chance.lognormvariate(6.7, 0.5),
            )

    flagged = [bool(regressions([*habits(LAST_WEEK), *habits(THIS_WEEK)], NOW)) for _ in range(300)]

    assert sum(flagged) < 9
