"""How does a model learn the language of a task before it learns the task? Further pre-training.

    texts ──rows──> masked or causal language modelling, held-out perplexity ──> OUTPUT/model
                                                                                      │
    plain fine-tuning   <───── same seeds, a paired study ─────>   fine-tuning from there

Source: Gururangan, Marasović, Swayamdipta, Lo, Beltagy, Downey, Smith 2020, "Don't Stop
Pretraining" (arXiv:2004.10964): what is done here is their task-adaptive pre-training.
"""

from __future__ import annotations

from hf_stabilizer.pretraining.hand_over import HandOver, HandOverError, hand_over_body
from hf_stabilizer.pretraining.hand_over_plan import HandOverPlan, plan_hand_over
from hf_stabilizer.pretraining.language_model import choose_objective
from hf_stabilizer.pretraining.masking import LanguageModelingCollator
from hf_stabilizer.pretraining.plan import PretrainingPlan, plan_pretraining
from hf_stabilizer.pretraining.record import Pretraining, read_pretraining
from hf_stabilizer.pretraining.running import further_pretrain

__all__ = [
    "HandOver",
    "HandOverError",
    "HandOverPlan",
    "LanguageModelingCollator",
    "Pretraining",
    "PretrainingPlan",
    "choose_objective",
    "further_pretrain",
    "hand_over_body",
    "plan_hand_over",
    "plan_pretraining",
    "read_pretraining",
]
