"""What a question would send to the chat API and what it would cost, without sending it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from rag.answer import packed_prompt
from rag.choice import chosen_model
from rag.context import Question, Resources, prepare
from rag.explain import trace
from rag.prompt import Prompt
from rag.types import ModelFacts


@dataclass(frozen=True, slots=True)
class Preview:
    """A prompt that was not sent; `action` is what would have become of it.

    It would be sent ("ask"), or the answer would be taken from the documents ("extract"), or
    refused ("abstain") without it. `cost_usd` is that of a prompt sent and an answer of the
    length kept for it, None where the model's prices are unknown.
    """

    question: str
    action: Literal["ask", "extract", "abstain"]
    confidence: float
    model: str
    facts: ModelFacts
    prompt: Prompt
    trace: Mapping[str, Any]

    @property
    def cost_usd(self) -> float | None:
        """US dollars at most."""
        return self.facts.cost(self.prompt.tokens, self.prompt.limits.reserve)


def preview(question: Question, resources: Resources) -> Preview:
    """Retrieve and pack; raises UsageError for a question that cannot be asked."""
    context = prepare(question, replace(resources, chat=None))
    prompt, facts = packed_prompt(context), chosen_model(context)
    extracts = question.extractive or not resources.settings.chat_configured
    return Preview(
        question=question.text,
        action="abstain" if context.judgement.abstains else "extract" if extracts else "ask",
        confidence=context.judgement.confidence,
        model=facts.name,
        facts=facts,
        prompt=prompt,
        trace=trace(context, prompt),
    )
