"""Will the Trainer find all weights in its own checkpoints? Not where they are saved renamed.

transformers writes a model under the names of the file that it was loaded from (LayerNorm.gamma
of the first BERT checkpoints), `from_pretrained` reads them back, but the Trainer, when it resumes
or loads the best model, does not: it leaves those weights as they are, with a line in the log.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_utils import SaveStrategy

from hf_stabilizer.silent_mistakes.finding import Finding
from hf_stabilizer.silent_mistakes.plan import Plan


def renamed_weights(plan: Plan) -> Finding | None:
    """The best model, or the one that is resumed, would keep norms of another step."""
    args = plan.args
    if SaveStrategy(args.save_strategy) == SaveStrategy.NO:
        return None
    lost = lost_names(plan.model)
    if not lost:
        return None
    return Finding(
        "renamed-weights",
        "warning",
        f"checkpoints will hold {len(lost)} weights ({lost[0]}, ...) under older names, under "
        "which the Trainer does not find them when it resumes or loads the best model",
        "set model._weight_conversions = [] after from_pretrained",
    )


def lost_names(model: nn.Module) -> list[str]:
    """Names of the weights that `save_pretrained` writes under other names; costs no memory."""
    if not isinstance(model, PreTrainedModel) or not getattr(model, "_weight_conversions", None):
        return []
    from transformers.core_model_loading import revert_weight_conversion

    names = {name: torch.empty_like(t, device="meta") for name, t in model.state_dict().items()}
    written = revert_weight_conversion(model, dict(names))
    return [name for name in names if name not in written]


def keep_names(model: PreTrainedModel) -> None:
    """Has checkpoints hold every weight under the name that it has in the model."""
    if lost_names(model):
        vars(model)["_weight_conversions"] = []
