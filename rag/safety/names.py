"""Names of persons, which have no form by which they could be found: an installed spaCy model finds
them, and presidio knows by which label the models of many makers call a person.

A name is hidden word by word, and each of its words wherever it stands in the request. So "Keller"
does not leave where only "Maria Keller" was taken for a name, and the model sees that it is one of
the two words.
"""

import re
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from ingest.errors import UsageError

_WORD = re.compile(r"[^\W\d_]{2,}")
_LONGEST_PARTICLE = 3  # "de", "van", "von": in lower case they are no name by themselves
_PERSON = "PERSON"
_TURN = Lock()  # a spaCy model is not made for several threads


def names_in(request: str, model: str) -> re.Pattern[str] | None:
    """What matches the words of the persons' names in a request, None where it has none.

    `model` is the name of an installed package or a path to a folder; it is loaded when first
    asked. Raises UsageError where it or presidio is missing: nothing is ever fetched.
    """
    with _TURN:
        engine = _engine(model)
        (language,) = engine.get_supported_languages()
        read = engine.process_batch(request.split("\n\n"), language)
        found = (one for _, artifacts in read for one in artifacts.entities)
        names = [one.text for one in found if one.label_ == _PERSON]
        words = {word for name in names for word in _WORD.findall(name)}
        patterns = [
            _pattern(word, is_common=engine.is_stopword(word, language))
            for word in sorted(words)
            if len(word) > _LONGEST_PARTICLE or not word.islower()
        ]
    return re.compile("|".join(patterns)) if patterns else None


def _pattern(word: str, *, is_common: bool) -> str:
    """In any case, save that of "Will Smith" no other "will" is hidden; a script without capitals
    may have no spaces either."""
    if word.lower() == word.upper():
        return word
    return rf"(?<!\w){word if is_common else f'(?i:{word})'}(?!\w)"


@lru_cache(maxsize=1)
def _engine(model: str) -> Any:
    """Presidio around a model that is here: left to itself, it would download one."""
    try:
        import spacy
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        message = 'privacy.redact has "name", and presidio is not installed'
        raise UsageError(message, "`pip install 'ragcite[pii]'`") from error
    is_folder = Path(model).name != model
    if not is_folder and not spacy.util.is_package(model):
        raise _no_model(f"the spaCy model {model!r} is not installed")
    try:
        pipeline = spacy.load(Path(model).expanduser() if is_folder else model)
    except Exception as error:  # a model is files and code of others
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise _no_model(f"{model!r} cannot be loaded: {reason}") from error
    engine = SpacyNlpEngine()
    engine.nlp = {pipeline.lang: pipeline}
    labels = engine.ner_model_configuration.model_to_presidio_entity_mapping
    if _PERSON not in {labels.get(label) for own in pipeline.pipe_labels.values() for label in own}:
        raise _no_model(f"{model!r} finds no persons")
    return engine


def _no_model(message: str) -> UsageError:
    hint = '`python -m spacy download en_core_web_sm`, or name a package or "./FOLDER" that is here'
    return UsageError(f"privacy.name_model: {message}", hint)
