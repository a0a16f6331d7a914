"""A follow-up made to stand by itself without a model, from the words of the turns before it.

"How is it configured?" leaves open what "it" is. A question is open by as much as its words weigh
less than those of a question that names its topic; that much is filled up with the rarest words of
the earlier turns, the latest first. So a question of few common words gets what it lacks, and one
that names a topic of its own stays as it is, whatever was spoken of before. What was filled up
stands only if a passage bears it out: the best one holds words of both. "And in Portugal?" is no
question at all: it is put into the one before it. The constants were chosen on half of MTRAG's
questions (eval/benchmarks/followups.py).
"""

import re
from collections.abc import Iterator, Sequence

from ingest.words import terms, words
from rag.extractive.asked import MEASURED, codes, shape
from rag.grounding.verify import Idf
from rag.types import Message

_COMPLETE = 4.5
"""A question is complete that weighs as much as so many words that stand in one chunk each."""
_MOST_CARRIED = 3
_FADES = 0.5
"""A turn's words weigh so much of what those of the next one weigh; an answer's, of its question's.
"""
_MOST_MESSAGES = 8
_READ_MESSAGES = 4
_ANSWER_CHARACTERS = 200

_ASKS = (
    r"(?:who|whom|whose|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|will"
    r"|would|should|may|must|has|have|had|if|wer|wen|wem|wann|wo|wie|warum|welche\w*|ist|sind|kann"
    r"|darf|muss|gibt|hat|wird)\b"
)
_ABOUT = r"(?:(?:what|how) about|was ist mit|wie (?:ist|sieht) es (?:aus )?(?:mit|bei))\b"
_ELLIPSIS = re.compile(
    rf"\W*(?:(?:and|or|but|und|oder|aber)\b[\s,]*(?:{_ABOUT}\s*)?|{_ABOUT}\s*)"
    rf"(?!{_ASKS})(?P<rest>[^\s,.?!][^.?!]*)[.?!\s]*",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?:the\s+)?((?P<first>[A-Z]\w*)(?:\s+[A-Z]\w*)+)")
_NAMED_PLACE = re.compile(r"(?P<preposition>[^\W\d_]+)\s+(?:the\s+)?[A-Z]\w*(?:\s+[A-Z]\w*)*")


def standalone(question: str, history: Sequence[Message], idf: Idf, rarest: float) -> str:
    """The question with what it leaves open; itself where it leaves nothing open.

    `history` holds the earlier turns, oldest first. `idf` weighs an index term; `rarest` is the
    weight of one that stands in a single chunk.
    """
    earlier = list(history)[-_MOST_MESSAGES:]
    ellipsis = _ELLIPSIS.fullmatch(question)
    while ellipsis and earlier:
        last = earlier.pop()
        if last.role == "user":
            before = standalone(last.content, earlier, idf, rarest)
            return _replaced(before, ellipsis["rest"].strip()) or f"{before} {question.strip()}"
    carried = _carried(question, earlier[-_READ_MESSAGES:], idf, rarest)
    return f"{question.strip()} ({' '.join(carried)})" if carried else question


def belongs(question: str, completed: str, found: frozenset[str]) -> bool:
    """Whether the best passage, which holds these terms, speaks of the question and of what it was
    completed with; if not, the topic has changed.

    An ellipsis of one word says nothing alone.
    """
    own = frozenset(terms(question))
    added = frozenset(terms(completed)) - own
    is_own = not own or not own.isdisjoint(found)
    if _ELLIPSIS.fullmatch(question):
        return is_own or sum(bool(terms(word.text)) for word in words(question)) == 1
    return is_own and not added.isdisjoint(found)


def _replaced(before: str, rest: str) -> str | None:
    """The earlier question with the one thing in it that the ellipsis names another of."""
    new = codes(rest)
    rivals = [old for old in codes(before) - new if shape(old) in map(shape, new)]
    if len(new) == len(rivals) == 1:
        start = rest.lower().index(code := new.pop())
        written = rest[start : start + len(code)]
        return re.sub(re.escape(rivals[0]), written, before, flags=re.IGNORECASE)
    if name := _NAME.fullmatch(rest):  # another MV Hesta is MV Corvane
        alike = [n for n in _NAME.finditer(before) if n["first"] == name["first"]]
        return before.replace(alike[0][1], name[1]) if len(alike) == 1 else None
    named = _NAMED_PLACE.fullmatch(rest)
    for place in _NAMED_PLACE.finditer(before) if named else ():
        if named and place["preposition"].lower() == named["preposition"].lower():
            return before[: place.start()] + rest + before[place.end() :]
    return None


def _carried(question: str, history: Sequence[Message], idf: Idf, rarest: float) -> tuple[str, ...]:
    """What is carried over, as it is written there, in the order of the conversation."""
    asked = set(terms(question))
    shapes = set(map(shape, codes(question)))
    room = _COMPLETE * rarest - sum(map(idf, asked))
    if room <= 0:
        return ()
    weights: dict[str, float] = {}
    written: dict[str, str] = {}
    for word, share in _faded(history):
        own = terms(word)
        # What no chunk holds would only be missed; KL-40 is not meant where KL-60 is asked for.
        if own and asked.isdisjoint(own) and shape(word.lower()) not in shapes:
            rarity = min(map(idf, own))
            if rarity <= rarest:
                weights[own[0]] = max(weights.get(own[0], 0.0), share * rarity)
                written.setdefault(own[0], word)
    chosen = set()
    for term in sorted(weights, key=lambda term: -weights[term])[:_MOST_CARRIED]:
        room -= weights[term]
        if room < 0:
            break
        chosen.add(term)
    return tuple(word for term, word in written.items() if term in chosen)


def _faded(history: Sequence[Message]) -> Iterator[tuple[str, float]]:
    """The words of the turns, oldest first, each with the share of its weight that is left."""
    later = sum(message.role == "user" for message in history)
    for message in history:
        asked = message.role == "user"
        later -= asked
        text = MEASURED.sub(" ", message.content) if asked else message.content[:_ANSWER_CHARACTERS]
        for word in words(text):
            if asked or not word.text[0].isdigit():  # an answer's figures are no topic
                yield text[word.start : word.end], _FADES ** (later + (not asked))
