"""Which word of the index a question means that has it misspelt.

Edits are counted as Damerau did (1964): a letter put in, left out, changed, or swapped with its
neighbour.
"""

from collections.abc import Mapping

# The shortest terms in which one edit, and in which two, still leave no doubt what is meant.
_ONE_EDIT = 5
_TWO_EDITS = 9


def edits(term: str) -> int:
    """How many edits a misspelling of this term may have; 0 where it is too short, or a number."""
    if not term.isalpha():
        return 0
    return (len(term) >= _ONE_EDIT) + (len(term) >= _TWO_EDITS)


def nearest(term: str, vocabulary: Mapping[str, int]) -> str:
    """The nearest term of a vocabulary, which counts how often each is used; "" if none is near.

    Of those as near, the one with the same first letter, then the most frequent one.
    """
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import extract_iter

    near = extract_iter(term, vocabulary.keys(), scorer=OSA.distance, score_cutoff=edits(term))
    return min(
        ((distance, found[0] != term[0], -vocabulary[found], found) for found, distance, _ in near),
        default=(0, False, 0, ""),
    )[-1]
