"""Personal data and secrets are found by their form; what only resembles them is left alone."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.credentials import credential_kinds, find_credentials
from ingest.errors import UsageError
from rag.safety.personal import KINDS, finder

ALL = finder(["all"])


def found(text: str) -> list[tuple[str, str]]:
    """Each finding's kind and words."""
    return [(one.kind, text[one.start : one.end]) for one in ALL(text)]


def secrets(text: str) -> list[tuple[str, str]]:
    return [(one.kind, text[one.start : one.end]) for one in find_credentials(text)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "anna.berg+x@mail.example.org"),
        ("phone", "+49 421 555 01 23"),
        ("phone", "+14155552671"),
        ("phone", "+1 (415) 555-2671"),
        ("phone", "(415) 555-2671"),
        ("phone", "415-555-2671"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "378282246310005"),
        ("card", "3056 930902 5904"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("iban", "ES91 2100 0418 4502 0005 1332"),
        ("id", "123-45-6789"),
        ("id", "12345678Z"),
        ("id", "X1234567L"),
        ("id", "RSSMRA85T10A562S"),
        ("id", "131052-308T"),
        ("id", "2 55 08 14 168 025 38"),
        ("ip", "203.0.113.27"),
        ("ip", "2001:db8::8a2e:370:7334"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "It is {}.", "({}), or so", "| {} | 12 |\n", "{} BANK"])
def test_personal_data_is_found_whole(kind: str, value: str, around: str) -> None:
    """The value is found, and nothing around it."""
    assert found(around.format(value)) == [(kind, value)]


@pytest.mark.parametrize("label", ["tel. ", "Phone: ", "fax ", "Mobile "])
def test_a_national_number_is_a_phone_where_it_is_called_one(label: str) -> None:
    """Digits alone may be anything."""
    assert found(f"{label}0421 / 555 0123") == [("phone", "0421 / 555 0123")]
    assert found("room 0421 / 555 0123") == []


@pytest.mark.parametrize(
    "text",
    [
        "Error E-1042 and part PT-2-0815 of order 4500123456",
        "from 2024-05-12 to 12.05.2024, 12/05/2024 at 12:30:45",
        "version 10.0.2.15, v10.20.30.40, 1.2.3.4 and 3.11.4",
        "ISBN 978-3-16-148410-0, EAN 4006381333931, DOI 10.1000/182",
        "std::vector, fe::ad, 127.0.0.1, 255.255.255.0, ::1",
        "git@github.com:encode/httpx.git, icon@2x.png, @app.get('/')",
        "1 234 567 890 euros, 12,500.00 and 1e+12345678x",
        "4111 1111 1111 1112, DE88 3704 0044 0532 0130 00, 12345678A, 000-12-3456",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    ],
)
def test_ordinary_figures_survive(text: str) -> None:
    """A version, a date, an order number or a number with a wrong check digit is no one's."""
    assert found(text) == []


@given(
    st.tuples(*[st.integers(0, 999)] * 3),
    st.dates(),
    st.integers(0, 10**7),
    st.text("ABE-", max_size=3),
)
def test_versions_dates_and_numbers_survive(
    version: tuple[int, int, int], date: object, number: int, prefix: str
) -> None:
    """Whatever their digits are."""
    text = f"v{'.'.join(map(str, version))} of {date}: order {prefix}{number}, {number / 100:.2f}"

    assert found(text) == []


@given(st.text(string.digits, min_size=15, max_size=15).map(lambda digits: "4" + digits))
def test_a_card_is_taken_by_its_check_digit(digits: str) -> None:
    """Of ten numbers that differ in the last digit alone, exactly one is a card."""
    assert sum(bool(found(f"{digits[:-1]}{last}")) for last in range(10)) == 1


@given(st.text(max_size=300))
def test_findings_are_slices_in_order(text: str) -> None:
    """Nothing overlaps, whatever the text; none is empty."""
    findings = finder(["all"], ["a"], secrets=True)(text)

    ends = [0, *(one.end for one in findings)]
    assert all(end <= one.start < one.end for end, one in zip(ends, findings))


def test_only_the_kinds_that_are_wanted_are_found() -> None:
    """A kind that does not exist is refused with the list of those that do."""
    assert finder(["email"])("a@b.example +49 421 555 0123")[0].kind == "email"
    assert len(finder(["email"])("a@b.example +49 421 555 0123")) == 1
    with pytest.raises(UsageError, match="'mail'") as caught:
        finder(["mail"])
    assert all(kind in caught.value.hint for kind in KINDS)


def test_own_terms_are_found_as_words() -> None:
    """In any case, the longer first, and never inside another word."""
    text = "Anna Berg met ANNA at the Bergwerk."

    findings = finder([], ["anna", "Anna Berg"])(text)

    assert [text[one.start : one.end] for one in findings] == ["Anna Berg", "ANNA"]


RANDOM = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("API key", f"sk-proj-{RANDOM}"),
        ("API key", f"sk-ant-api03-{RANDOM}"),
        ("GitHub token", f"ghp_{RANDOM}"),
        ("GitLab token", f"glpat-{RANDOM[:20]}"),
        ("AWS key", "AKIAQ3EGRZXN5TLKB7HC"),
        ("Slack token", "xoxb-123456789012-abcdefABCDEF"),
        ("Google key", "AIza" + RANDOM[:35]),
        ("JSON web token", f"eyJhbGciOiJI.eyJzdWIiOiIx.{RANDOM}"),
        (
            "private key",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE+/=\n"
            "-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_keys_are_found_by_their_prefix(kind: str, value: str) -> None:
    """Wherever they stand."""
    assert secrets(f"Use {value} here.") == [(kind, value)]
    assert secrets(f'export TOKEN="{value}"\n')[0] == (kind, value)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("DB_PASSWORD=hunter2x", "password", "hunter2x"),
        ('password: "S3cr3t!pass"', "password", "S3cr3t!pass"),
        ("İ password = admin2024", "password", "admin2024"),
        (f"api_key = {RANDOM}", "key or token", RANDOM),
        (
            "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "key or token",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        ('"client_secret": "9f86d081884c7d65"', "key or token", "9f86d081884c7d65"),
        ("postgres://app:pa55w0rd@db/x", "password in a URL", "pa55w0rd"),
    ],
)
def test_values_are_found_by_their_name(text: str, kind: str, value: str) -> None:
    """Only the value is the secret, not the name in front of it."""
    assert secrets(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "password: string",
        "password = your_password_1",
        "api_key: ${API_KEY_2}",
        "token = access_token_value_2",
        "secret = get_secret(name1)",
        "secret: /run/secrets/key2024file and token=my/path/to/token2file",
        "postgres://user:password@host/db and https://host:8080/a@b1",
        "the sk-learn-contrib-metric-learning page, task-based-scheduling-2-phases-long",
        "tokens: 128000, max_tokens=4096, token_count: 1234567890123456",
        "-----BEGIN PUBLIC KEY-----",
        "The password must have 8 characters: letters and digits.",
    ],
)
def test_documentation_of_secrets_is_none(text: str) -> None:
    """Placeholders, types, calls and counts are not reported."""
    assert secrets(text) == []


def test_a_part_of_a_private_key_is_not_reported_but_kept_back() -> None:
    """A passage may hold its middle alone; of a whole text that says nothing."""
    middle = "\n".join(["aB3/" * 16] * 3)

    assert secrets(middle)[0][1].startswith("aB3/")
    assert credential_kinds(middle) == ()


def test_searching_takes_time_in_proportion() -> None:
    """Text made to be slow is not."""
    from time import perf_counter

    hostile = ["-----BEGIN PRIVATE KEY-----" * 4000, "+1" * 50_000, "a@" * 50_000, "://" * 50_000]
    hostile += [
        "password=" * 20_000,
        "1.1." * 40_000,
        "DE89 " * 20_000,
        "sk-ab-" * 30_000,
        "1:" * 50_000,
    ]
    begun = perf_counter()

    for text in hostile:
        finder(["all"], secrets=True)(text)

    assert perf_counter() - begun < 10
