"""What is known of chat models, and that no more is claimed than is known."""

import pytest

from rag.chat.models import model_facts
from rag.settings.config import ChatSection
from rag.types import ModelFacts


def facts(model: str, base_url: str = "", **settings: float) -> ModelFacts:
    return model_facts(ChatSection(model=model, base_url=base_url, **settings))


def test_a_listed_model_has_a_window_and_dated_prices() -> None:
    """A cost is tokens times list prices, and says of which month these are."""
    known = facts("gpt-4o-mini")

    assert known.window == 128_000
    assert known.cost(1_000_000, 0) == 0.15
    assert known.cost(0, 1_000_000) == 0.6
    assert known.as_of


@pytest.mark.parametrize("stamp", ["2024-07-18", "20240718", "0718", "latest"])
def test_a_dated_name_is_the_same_model(stamp: str) -> None:
    """Makers add a date to a name without changing window or price."""
    assert facts(f"gpt-4o-mini-{stamp}") == facts("gpt-4o-mini")


def test_a_dated_name_of_its_own_price_is_known_as_such() -> None:
    """Where a version cost more, the longer name wins."""
    assert facts("gpt-4o-2024-05-13").price_in > facts("gpt-4o").price_in


@pytest.mark.parametrize("name", ["gpt-4o-mini-audio-preview", "gpt-4o-min", "qwen2.5", ""])
def test_a_name_that_only_begins_alike_is_unknown(name: str) -> None:
    """Nothing is guessed from a part of a name."""
    assert facts(name) == ModelFacts()
    assert facts(name).cost(1000, 1000) is None


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080/v1", "https://proxy.example/v1"])
def test_another_server_has_its_own_prices(base_url: str) -> None:
    """A local server may call any model gpt-4o-mini; what it costs there is not known."""
    assert facts("gpt-4o-mini", base_url) == ModelFacts()
    assert facts("gpt-4o-mini", "https://api.openai.com/v1/") == facts("gpt-4o-mini")


def test_settings_win_over_the_list() -> None:
    """A person's own figures hold for every model and server, and carry no date."""
    own = facts("own", "http://localhost/v1", window=4096, price_in=1.0, price_out=2.0)

    assert own == ModelFacts(4096, 1.0, 2.0)
    assert own.cost(500_000, 250_000) == 1.0
    assert facts("gpt-4o-mini", price_in=9.0, price_out=9.0).as_of == ""
