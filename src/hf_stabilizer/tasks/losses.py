"""Which loss, where a label is a probability per class? Soft cross-entropy, for the Trainer.

    loss = - 1/rows * sum over rows, classes of  p[row, class] * log softmax(logits)[row, class]

One probability of 1 gives the ordinary cross-entropy. Source: Hinton, Vinyals, Dean 2015,
"Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2, at temperature 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Any in this module: what a model gives, and the count that the Trainer hands on.


def soft_cross_entropy(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Returns the cross-entropy for `Trainer(compute_loss_func=...)`, of either kind of labels.

    Args:
        outputs: What the model gave: a mapping with "logits", or a tuple that begins with them;
            of shape (rows, classes).
        labels: Probabilities of shape (rows, classes), or class ids of shape (rows,).
        num_items_in_batch: Number of labels in all batches whose gradients are added up, on all
            devices that share them, by which the Trainer wants the sum divided. It counts each
            probability as one. None: the rows of this batch.

    Example:
        >>> import torch
        >>> logits, half = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.5, 0.5]])
        >>> round(float(soft_cross_entropy({"logits": logits}, half)), 4)
        0.6931
        >>> round(float(soft_cross_entropy((logits,), torch.tensor([1]), 2)), 4)  # of two rows
        0.3466
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    total = cross_entropy(logits, labels.to(logits.device), reduction="sum")
    if num_items_in_batch is None:
        return total / len(labels)
    # Under DataParallel the count comes in equal shares, one per device.
    items = torch.as_tensor(num_items_in_batch, device=total.device).sum()
    return total * (labels[0].numel() / items)
