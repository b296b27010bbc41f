"""Which depths does the user set by hand?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from hf_stabilizer.errors import LayerDiscoveryError, did_you_mean

Target = int | str


@dataclass(frozen=True)
class Overrides:
    """The user's word on single parameters."""

    targets: Mapping[str, Target]
    """Parameter, by its first name -> depth, "embeddings" or "head"."""
    patterns: Mapping[str, Target]
    """The overrides as they were given."""

    @classmethod
    def parse(cls, model: nn.Module, patterns: Mapping[str, Target]) -> Overrides:
        """Resolves globs against the parameters of `model`.

        Raises:
            LayerDiscoveryError: A pattern matches nothing, a depth is none, or two patterns give
                one parameter different depths.
        """
        first = {id(p): name for name, p in model.named_parameters()}
        names = {n: first[id(p)] for n, p in model.named_parameters(remove_duplicate=False)}
        found: dict[str, tuple[str, Target]] = {}
        for pattern, target in patterns.items():
            _check_target(pattern, target)
            matched = {canonical for name, canonical in names.items() if fnmatchcase(name, pattern)}
            if not matched:
                raise LayerDiscoveryError(
                    f"the override {pattern!r} matches no parameter"
                    f"{did_you_mean(pattern, names)}; it is a glob on the names of "
                    "named_parameters(), e.g. 'classifier.*'"
                )
            for name in matched:
                earlier, depth = found.setdefault(name, (pattern, target))
                if depth != target:
                    raise LayerDiscoveryError(
                        f"the overrides {earlier!r} and {pattern!r} give {name!r} two depths, "
                        f"{depth!r} and {target!r}; make the globs disjoint"
                    )
        return cls({name: target for name, (_, target) in found.items()}, dict(patterns))

    def depths(self, num_layers: int) -> dict[str, int]:
        """Returns parameter -> depth for a model of `num_layers` blocks.

        Raises:
            LayerDiscoveryError: A depth lies above the head.
        """
        for pattern, target in self.patterns.items():
            if isinstance(target, int) and target > num_layers + 1:
                raise LayerDiscoveryError(
                    f"the override {pattern!r} asks for depth {target}; this model has depths "
                    f"0 (embeddings) to {num_layers + 1} (head)"
                )
        words = {"embeddings": 0, "head": num_layers + 1}
        return {n: t if isinstance(t, int) else words[t] for n, t in self.targets.items()}

    @property
    def deepest(self) -> int:
        """The largest depth given as a number; 0 if there is none."""
        return max((t for t in self.patterns.values() if isinstance(t, int)), default=0)


def _check_target(pattern: str, target: object) -> None:
    number = isinstance(target, int) and not isinstance(target, bool) and target >= 0
    if not number and target not in ("embeddings", "head"):
        raise LayerDiscoveryError(
            f"the override {pattern!r} must give a depth 0, 1, 2 .., 'embeddings' or 'head', "
            f"got {target!r}"
        )
