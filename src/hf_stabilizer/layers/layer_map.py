"""Which depth has each parameter of this model? The record, and the table that shows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from torch import nn

from hf_stabilizer.errors import ConfigurationError, check_whole, did_you_mean
from hf_stabilizer.layers.discovery import discover
from hf_stabilizer.layers.head import find_head
from hf_stabilizer.layers.overrides import Overrides
from hf_stabilizer.layers.refusal import settle
from hf_stabilizer.layers.table import label, table


@dataclass(frozen=True)
class LayerMap:
    """The depth of every parameter of one model; a frozen record.

    Depth 0 is the embeddings, 1..N the blocks from the input upwards, N + 1 the head (final norm,
    pooler, classifier). In an encoder-decoder the decoder continues above the encoder. A tied
    weight has one depth, that of the embedding, under each of its names.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=3,
        ...                     num_attention_heads=2, intermediate_size=24)
        >>> layers = LayerMap.from_model(BertForSequenceClassification(config))
        >>> layers.depth_of("bert.encoder.layer.2.output.dense.weight")
        3
        >>> layers.label(0), layers.label(3), layers.label(4)
        ('embeddings', 'layer_03', 'head')
        >>> layers.pooler, layers.classifier
        (('bert.pooler',), 'classifier')
        >>> [*layers.lowest(2)], [*layers.highest(2)]
        ([1, 2], [2, 3])
        >>> print(layers)
        depth  layer       parameters  tensors  modules
            0  embeddings       9,280        5
            1  layer_01         1,960       16  bert.encoder.layer.0
            2  layer_02         1,960       16  bert.encoder.layer.1
            3  layer_03         1,960       16  bert.encoder.layer.2
            4  head               306        4
    """

    num_layers: int
    """N, the number of blocks on top of one another."""
    blocks: Mapping[int, tuple[str, ...]]
    """Depth 1..N -> paths of the modules that form the block there."""
    pooler: tuple[str, ...]
    """Paths of the modules with weights between body and classifier (BERT's pooler, the dense
    layer of RoBERTa's classifier, the transform of a masked-language-model head); the final norm
    of the body is not among them. Empty for a model without one."""
    classifier: str | None
    """Path of the last linear layer, the one that makes the logits; None for a bare body."""
    notes: tuple[str, ...]
    """What the numbers alone do not say, e.g. that one block is run twelve times."""
    _depths: Mapping[str, int]
    """Parameter name -> depth, a tied weight under every one of its names."""
    _sizes: Mapping[str, int]
    """Parameter name -> number of elements; a tied weight once, in the order of registration."""

    def __post_init__(self) -> None:
        for name in ("blocks", "_depths", "_sizes"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:  # Any: what pickle asks for
        values = [getattr(self, field.name) for field in fields(self)]
        plain = (dict(v) if isinstance(v, MappingProxyType) else v for v in values)
        return type(self), tuple(plain)

    @classmethod
    def from_model(
        cls, model: nn.Module, *, overrides: Mapping[str, int | str] | None = None
    ) -> LayerMap:
        """Finds the depth of every parameter of `model`, which is not changed.

        Sees through PEFT, `torch.compile` and data-parallel wrappers and through a module of
        one's own around a pre-trained body. Costs a forward pass on the meta device, or a few,
        whatever the size of the model.

        Args:
            model: A `transformers` model or any module that holds one. Names in the map are those
                of its `named_parameters()`.
            overrides: Glob on parameter names (as `fnmatch`, case-sensitive) -> depth in
                0..N + 1, "embeddings" or "head"; comes before everything that is found.

        Raises:
            LayerDiscoveryError: The depth of a parameter cannot be told (the message holds the
                table so far and the overrides that would settle it), an override matches nothing
                or is out of range, or two give one parameter different depths.
        """
        chosen = Overrides.parse(model, overrides or {})
        draft = settle(discover(model), chosen)
        structure = draft.structure
        blocks = draft.ladder.blocks
        head = [name for name, depth in draft.depths.items() if depth > draft.num_layers]
        top = blocks.get(draft.num_layers, ())
        pooler, classifier = find_head(structure, draft.flow, top, head)
        depths = {id(p): draft.depths[name] for name, p in structure.parameters.items()}
        everywhere = model.named_parameters(remove_duplicate=False)
        return cls(
            num_layers=draft.num_layers,
            blocks=blocks,
            pooler=pooler,
            classifier=classifier,
            notes=draft.notes,
            _depths={name: depths[id(p)] for name, p in everywhere},
            _sizes={name: p.numel() for name, p in structure.parameters.items()},
        )

    def depth_of(self, name: str) -> int:
        """Returns the depth, 0..N + 1, of a parameter; a tied weight answers to all its names.

        Raises:
            ConfigurationError: No parameter of the model has this name.
        """
        if name not in self._depths:
            hint = did_you_mean(name, self._depths)
            raise ConfigurationError(
                f"{name!r} is no parameter of this model{hint}; "
                "names are those of named_parameters() of the module that was mapped"
            )
        return self._depths[name]

    def names(self, depth: int) -> tuple[str, ...]:
        """Returns the parameters at a depth in the order of registration, a tied weight once."""
        self.label(depth)
        return tuple(name for name in self._sizes if self._depths[name] == depth)

    def names_in(self, paths: Collection[str]) -> tuple[str, ...]:
        """Returns the parameters in these modules in the order of registration."""
        inside = tuple(f"{path}." for path in paths)
        return tuple(name for name in self._sizes if name.startswith(inside))

    def label(self, depth: int) -> str:
        """Returns "embeddings", "layer_01".. or "head".

        Raises:
            ConfigurationError: The depth is not in 0..N + 1.
        """
        if not 0 <= depth <= self.num_layers + 1:
            raise ConfigurationError(
                f"depth must be in 0..{self.num_layers + 1} (the head), got {depth!r}"
            )
        return label(depth, self.num_layers)

    def lowest(self, num_layers: int) -> range:
        """Returns the depths of the lowest blocks, 1..num_layers; none for 0.

        Raises:
            ConfigurationError: `num_layers` is not a whole number in [0, N].
        """
        self._check_blocks(num_layers)
        return range(1, num_layers + 1)

    def highest(self, num_layers: int) -> range:
        """Returns the depths of the top blocks, N - num_layers + 1..N; none for 0.

        Raises:
            ConfigurationError: `num_layers` is not a whole number in [0, N].
        """
        self._check_blocks(num_layers)
        return range(self.num_layers - num_layers + 1, self.num_layers + 1)

    def _check_blocks(self, num_layers: int) -> None:
        allowed = f"in [0, {self.num_layers}], the blocks of this model"
        check_whole(num_layers, allowed, name="num_layers", most=self.num_layers)

    def __str__(self) -> str:
        depths = {name: self._depths[name] for name in self._sizes}
        return "\n".join([table(depths, self._sizes, self.num_layers, self.blocks), *self.notes])
