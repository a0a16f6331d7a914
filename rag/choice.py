"""Which questions a small model may answer, and what is known of the model that a question gets."""

from dataclasses import dataclass

from rag.chat.models import model_facts
from rag.context import Context
from rag.types import ModelFacts


@dataclass(frozen=True, slots=True)
class EasyRule:
    """What makes a question easy: it is short and stands alone, its answer is surely there, and
    one passage holds so large a share of its words, by weight.
    """

    most_words: int = 20
    confidence: float = 0.8
    in_one_passage: float = 0.8


EASY = EasyRule()


def is_easy(context: Context, rule: EasyRule = EASY) -> bool:
    """Whether a small model will do; never where documents disagree or earlier turns count."""
    question = context.question
    return (
        len(question.text.split()) <= rule.most_words
        and not question.history
        and context.conflict is None
        and context.judgement.confidence >= rule.confidence
        and bool(context.ranked)
        and context.ranked[0].marks.whole >= rule.in_one_passage
    )


def chosen_model(context: Context, seconds: float = 0.0) -> ModelFacts:
    """What is known of the model that will be asked; `seconds` is what finding out may take."""
    resources = context.resources
    if resources.model is None:
        return model_facts(resources.settings.chat)
    return resources.model(seconds, is_easy(context))
