"""Which questions a small model may answer, and what is known of the model that a question gets."""

from rag.chat.models import model_facts
from rag.context import Context
from rag.types import ModelFacts

# An easy question is short and stands alone, its answer is surely there, and one passage holds so
# large a share of its words, by weight.
_MOST_WORDS = 20
_LEAST_CONFIDENCE = 0.8
_LEAST_IN_ONE_PASSAGE = 0.8


def is_easy(context: Context) -> bool:
    """Whether a small model will do; never where documents disagree or earlier turns count."""
    question = context.question
    return (
        len(question.text.split()) <= _MOST_WORDS
        and not question.history
        and context.conflict is None
        and context.judgement.confidence >= _LEAST_CONFIDENCE
        and bool(context.ranked)
        and context.ranked[0].marks.whole >= _LEAST_IN_ONE_PASSAGE
    )


def chosen_model(context: Context, seconds: float = 0.0) -> ModelFacts:
    """What is known of the model that will be asked; `seconds` is what finding out may take."""
    resources = context.resources
    if resources.model is None:
        return model_facts(resources.settings.chat)
    return resources.model(seconds, is_easy(context))
