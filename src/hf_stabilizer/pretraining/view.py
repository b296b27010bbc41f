"""How does a pre-training look to a person? Text, cost, perplexity and hand-over in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.filesize import decimal

from hf_stabilizer.pretraining.hand_over_plan import HandOverPlan
from hf_stabilizer.pretraining.plan import PretrainingPlan
from hf_stabilizer.pretraining.record import Pretraining
from hf_stabilizer.studies import formats

_OBJECTIVES = {
    "mlm": "masked language modelling",
    "clm": "causal language modelling",
    "mlm+nsp": "masked language modelling with next-sentence prediction",
}


def describe_plan(plan: PretrainingPlan) -> Iterator[str]:
    """Yields what would be done, a sentence each."""
    yield f"Objective: {_OBJECTIVES[plan.objective]}."
    yield f"Text: {_counted(plan.texts)}."
    kind = "packed" if plan.packing else "padded"
    yield (
        f"Rows: {plan.rows} {kind} rows of at most {plan.max_length} tokens, {plan.tokens} tokens "
        f"in all; {plan.held_out_rows} rows are held out."
    )
    yield (
        f"Steps: {plan.steps} of {plan.cost.seconds_per_step:.3g} s, {plan.steps_per_epoch} per "
        f"epoch, unless held-out perplexity ends it early: {formats.duration(plan.cost.seconds)} "
        "on this machine at the most."
    )
    if plan.runs:
        every = 2 * plan.runs * plan.seconds_per_run
        yield (
            f"Control: {plan.runs} runs from each checkpoint, about "
            f"{formats.duration(plan.seconds_per_run)} each, {formats.duration(every)} one after "
            "the other."
        )
    else:
        yield "Control: none."
    yield from plan.notes


def describe_hand_over(plan: HandOverPlan) -> Iterator[str]:
    """Yields what would be taken over, a sentence each."""
    yield f"Source: {plan.source}."
    yield (
        f"Hand-over: {len(plan.body)} tensors of the body arrive in the task's model bit for bit, "
        f"{decimal(plan.size)} on disk; nothing is trained."
    )
    yield f"New: {', '.join(plan.new)}."
    if plan.runs:
        every = plan.runs * (plan.seconds_plain + plan.seconds_handed)
        yield (
            f"Control: {plan.runs} runs from each checkpoint, {plan.steps} steps and about "
            f"{formats.duration(plan.seconds_plain)} each from the configuration's, "
            f"{formats.duration(plan.seconds_handed)} from the body that is taken over, "
            f"{formats.duration(every)} one after the other."
        )
    else:
        yield "Control: none."
    yield from plan.notes


def describe_record(record: Pretraining) -> Iterator[str]:
    """Yields what was done, a sentence each."""
    if record.perplexity_before is not None and record.perplexity_after is not None:
        yield f"Text: {_counted(record.texts)}."
        yield (
            f"Perplexity on held-out text: {record.perplexity_before:.4g} before, "
            f"{record.perplexity_after:.4g} after (step {record.best_step} of {record.steps})."
        )
    if record.next_sentence_accuracy is not None:
        before, after = record.next_sentence_accuracy
        yield f"Next sentences told right: {before:.1%} before, {after:.1%} after."
    carried = (
        f", {len(record.carried)} of them from the checkpoint before ({record.carried[0]}, ...)"
        if record.carried
        else ""
    )
    yield (
        f"Hand-over: {record.body} tensors of the body arrive in the task's model bit for "
        f"bit{carried}; {len(record.new)} weights of its head are new."
    )
    if record.shared:
        yield f"Its head begins with what the language model has of it: {record.shared[0]}, ..."
    yield from record.notes


def _counted(texts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in texts.items())
