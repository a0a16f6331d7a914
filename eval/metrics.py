"""Metrics of one case, as pure functions; None means that a metric does not apply.

Retrieval metrics follow trec_eval (binary relevance, nDCG with linear gains), answer metrics
follow SQuAD (Rajpurkar et al. 2016), citation recall and precision follow ALCE (Gao et al. 2023).
"""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from eval.ranking import Ranking
from eval.types import CitedPlace
from rag.types import Answer, Citation, Sentence

Support = Callable[[str, Sequence[str]], bool]
"""Whether texts, taken together, support a claim: the seam for any verifier or judge."""

ReadPlace = Callable[[Citation], CitedPlace | None]
"""What the store holds at the cited place; None where there is no such document."""

_ARTICLES = {"a", "an", "the"}
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACED_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))
_IN_NUMBER = re.compile(r"(?<=\d)[.,](?=\d)")
_MARKER = re.compile(r"[ \t]*\[(\d+)\]")
# Scripts written without spaces: each character is a token, as MLQA's scoring does it.
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff])")


def recall_at(ranking: Ranking, k: int) -> float | None:
    """The share of gold found among the first k."""
    if not ranking.found:
        return None
    return sum(place is not None and place <= k for place in ranking.found) / len(ranking.found)


def hit_at(ranking: Ranking, k: int) -> float | None:
    """1 if any of the first k holds gold."""
    return float(any(ranking.relevant[:k])) if ranking.found else None


def precision_at(ranking: Ranking, k: int) -> float | None:
    """The share of the first k places that hold gold; places not filled count against it."""
    return sum(ranking.relevant[:k]) / k if ranking.found else None


def mrr_at(ranking: Ranking, k: int) -> float | None:
    """One over the place of the first gold among the first k, else 0."""
    if not ranking.found:
        return None
    return next((1 / place for place, hit in enumerate(ranking.relevant[:k], 1) if hit), 0.0)


def ndcg_at(ranking: Ranking, k: int) -> float | None:
    """Discounted gain over that of the best possible ranking (Järvelin and Kekäläinen 2002)."""
    ideal = _discounted(ranking.ideal[:k])
    return _discounted(ranking.gains[:k]) / ideal if ideal else None


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(place + 1) for place, gain in enumerate(gains, 1))


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces.

    ASCII punctuation vanishes, as there; that of other scripts becomes a space, and unspaced
    scripts are split into characters.
    """
    return _tokens(text.lower().translate(_NO_PUNCTUATION))


def _spaced(text: str) -> str:
    """The normal form with all punctuation, save that inside a number, as a space."""
    return _tokens(_IN_NUMBER.sub("", text.lower()).translate(_SPACED_PUNCTUATION))


def _tokens(text: str) -> str:
    kept = "".join(" " if unicodedata.category(c).startswith("P") else c for c in text)
    tokens = _UNSPACED.sub(r" \1 ", kept).split()
    return " ".join(token for token in tokens if token not in _ARTICLES) or " ".join(tokens)


def exact_match(text: str, answers: Sequence[str]) -> float | None:
    """1 if the text is one of the answers in SQuAD's normal form."""
    return float(normalise(text) in map(normalise, answers)) if answers else None


def contains(text: str, answers: Sequence[str]) -> float | None:
    """1 if the text holds one of the answers as whole words, punctuation and articles aside."""
    if not answers:
        return None
    # Both forms: SQuAD's makes "Tesla's" one word, the spaced one makes "U.S." two.
    for form in (normalise, _spaced):
        padded = f" {form(text)} "
        if any(f" {form(answer)} " in padded for answer in answers if form(answer)):
            return 1.0
    return 0.0


def right_and_cited(answer: Answer, answers: Sequence[str], read: ReadPlace) -> float | None:
    """1 if one of the answers stands in the text, and one in the document at a cited place."""
    if not answers:
        return None
    texts = [place.text for place in map(read, answer.citations) if place is not None]
    right = answer.status != "abstained" and contains(answer_text(answer), answers)
    return float(bool(right and any(contains(text, answers) for text in texts)))


def token_f1(text: str, answers: Sequence[str]) -> float | None:
    """The best F1 of the text's tokens against any answer's, in SQuAD's normal form."""
    return max((_f1(text, answer) for answer in answers), default=None)


def _f1(text: str, answer: str) -> float:
    given, wanted = normalise(text).split(), normalise(answer).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


def without_markers(text: str, numbers: Sequence[int]) -> str:
    """The text without the markers of these citations; other bracketed numbers are its own."""
    known = set(numbers)
    return _MARKER.sub(lambda m: "" if int(m[1]) in known else m[0], text).strip()


def answer_text(answer: Answer) -> str:
    """The words of an answer, its citation markers taken out."""
    return without_markers(answer.answer, [citation.number for citation in answer.citations])


def faithfulness(answer: Answer) -> float | None:
    """The share of checked sentences that are supported; None for a refusal."""
    checked = _checked(answer)
    if not checked:
        return None
    return sum(sentence.support == "supported" for sentence in checked) / len(checked)


def citation_recall(answer: Answer, read: ReadPlace, support: Support) -> float | None:
    """The share of checked sentences that their citations together support; ALCE.

    A sentence that cites nothing counts as 0. Judged is what the store holds at the cited place,
    its title and section in front as in ALCE, not what the answer says stands there.
    """
    checked = _checked(answer)
    if not checked:
        return None
    texts = _cited_texts(answer, read)
    return sum(_supported(sentence, texts, support) for sentence in checked) / len(checked)


def citation_precision(answer: Answer, read: ReadPlace, support: Support) -> float | None:
    """The share of citations of checked sentences that carry their sentence; ALCE.

    A citation counts if the sentence is supported by all it cites, and either this citation
    supports it alone or the others without it do not. As in ALCE, no citation at all gives 0.
    """
    checked = _checked(answer)
    if not checked:
        return None
    texts = _cited_texts(answer, read)
    cited = sum(len(sentence.citations) for sentence in checked)
    carrying = sum(_carrying(sentence, texts, support) for sentence in checked)
    return carrying / cited if cited else 0.0


def citation_validity(answer: Answer, read: ReadPlace) -> float | None:
    """The share of citations whose quote is the document's own text at the cited place.

    A number that a sentence cites without there being such a citation counts as an invalid one.
    """
    numbers = {citation.number for citation in answer.citations}
    dangling = {n for sentence in answer.sentences for n in sentence.citations} - numbers
    total = len(answer.citations) + len(dangling)
    if not total or answer.status == "abstained":
        return None
    places = ((citation, read(citation)) for citation in answer.citations)
    return sum(place is not None and place.text == c.quote for c, place in places) / total


def _checked(answer: Answer) -> list[Sentence]:
    """The sentences that claim something; a refusal claims nothing."""
    if answer.status == "abstained":
        return []
    return [sentence for sentence in answer.sentences if sentence.support != "not_checked"]


def _cited_texts(answer: Answer, read: ReadPlace) -> dict[int, str]:
    """What each citation offers a verifier; nothing where it points nowhere."""
    texts = {}
    for citation in answer.citations:
        place = read(citation)
        if place is not None and place.text:
            # One line, so that the heading is not a sentence of its own.
            texts[citation.number] = ": ".join(filter(None, (place.heading, place.text)))
    return texts


def _supported(sentence: Sentence, texts: dict[int, str], support: Support) -> bool:
    cited = [texts[number] for number in sentence.citations if number in texts]
    return bool(cited) and support(without_markers(sentence.text, sentence.citations), cited)


def _carrying(sentence: Sentence, texts: dict[int, str], support: Support) -> int:
    """How many of a sentence's citations count for precision."""
    if not _supported(sentence, texts, support):
        return 0
    claim = without_markers(sentence.text, sentence.citations)
    count = 0
    for number in sentence.citations:
        own = texts.get(number)
        others = [texts[n] for n in sentence.citations if n != number and n in texts]
        if own and (support(claim, [own]) or not others or not support(claim, others)):
            count += 1
    return count
