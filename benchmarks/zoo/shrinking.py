"""What is the same architecture with tiny sizes? One factor divides every width of a configuration.

Widths are tied to one another in ways that only the source of a model tells: a connector's output
is the language model's hidden size, heads times head size are the hidden size. Dividing all of
them by the same number F keeps every such tie that is linear. Within one (sub-)configuration
F = a * b: the number of heads is divided by a, the size of a head by b.

Layers are cut to a few, different for encoder, decoder and towers, so that a mix-up shows; lists
with one entry per layer are cut at the same layers, so that every kind of layer stays; lists of
layer numbers are moved along. Vocabularies are cut, and token ids moved into them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 160
FIRST_MOVED_ID = 100
IMAGE = 64

LAYERS = re.compile(
    r"^(num_|n_)?(\w+_)?(hidden_)?(layers?|blocks?|depth)$|^n_layers?$|^num_hidden_layers$|^depth$"
    r"|^num_\w+_layers$|^\w+_num_(hidden_)?layers$|^\w+_num_blocks$|^layers_\w+$"
)
NOT_LAYERS = re.compile(
    r"dense|shared|dropout|drop|norm|rope|interval|conv_layers|feat_extract|random|local|global"
    r"|residual|lstm|first_k|nextn|adapter|^up|downsampl|num_res|per_|mtp|skip|layer_type"
)
HEADS = re.compile(r"heads?$|heads_per_stage$|^n_head|num_head|_heads_")
HEAD_SIZE = re.compile(
    r"head_dim|dim_head|d_head|d_kv$|head_size|rotary_dim|^kv_channels|^key_dim|rope_dim"
)
WIDTH = re.compile(
    r"hidden_size|dim$|dims$|_dim_|^dim_|_size$|width|channels?$|inner|intermediate|ffn|d_model"
    r"|d_ff|embed|_rank$|_channel|filters|features$|hidden_dim|n_embd|n_inner|bottleneck"
    r"|hidden_channels|channel_list|in_features|residual_channels|num_pos_feats|_channels_|d_ssm|d_latents"
    r"|upsample_groups"
)
NOT_WIDTH = re.compile(
    r"vocab|image_size|image_seq|patch_size|kernel|window|batch|block_size|chunk|stride|max_|position|buckets|label"
    r"|token|num_channels|grid|merge|scale$|scale_factor|context|stack|crop|tile|frame|sampling|samples|groups$|pool_size"
    r"|codebook_size|n_positions|sequence|multiple|queue|out_features|text_len|out_indices"
    r"|embeddings$|_ratio|mult|bias|^in_channels|audio_channels|num_embed|_factor|feature_size|fft"
    r"|hop|mel_bins|beam|top_k|num_query|cache|memory_size|pad|spatial|temporal|embed_out|^input_size|spectrogram"
    r"|input_channels|expand|conv_size|segment|relative|^channels$|neighb|layers$"
)
EXPERTS = re.compile(r"experts?$|expert_num$|experts_\w+$|num_experts|n_routed|local_experts")
PER_TOKEN = re.compile(r"per_tok|^top_?k$|moe_top_?k|experts_per|moe_k$|num_selected")
TOKEN = re.compile(r"token_ids?$|token_index$|_id$|_ids$|token_indices|_token$|special_token")
NOT_TOKEN = re.compile(r"layer|block|position_id|label|uid|head")
VOCAB = re.compile(
    r"vocab_size|vocab_sizes|vocabulary_size|_vocab$|num_tokens$|(bpe|piece|acter)_labels"
)
POSITIONS = re.compile(
    r"^(max_)?\w*position_embeddings$|n_positions|max_\w*positions|max_seq\w*|context_length"
    r"|max_length$|max_sequence|block_size$"
)
BOOKS = re.compile(r"codebook_size|num_codevectors|num_embeds$|num_codebook_vectors")
COUNTS = re.compile(r"num_queries|num_query|num_denoising|num_latents|num_points$|num_image_tokens")
DEPTHS = re.compile(
    r"depths?$|num_blocks$|layers$|repeats$|blocks_per_stage|layer_depths|stage_num_blocks|layers_"
)
GONE = (
    "dim_bbox_sinusoid_emb_2d", "dim_bbox_sinusoid_emb_1d", "dim_bbox_projection",  # made of others
    "out_indices", "_out_indices", "_out_features", "stage_names",
)  # fmt: skip
KEPT = ("model_type", "id2label", "label2id", "transformers_version", "architectures", "dtype")


@dataclass
class Shrinker:
    """Divides the sizes of one configuration by `factor`."""

    factor: int
    """F; 1 leaves the widths alone."""
    strict: bool = True
    """Whether the lists of per-layer and backbone settings are cut too."""
    ids: dict[int, int] = field(default_factory=dict)
    """Old token id -> new one, the same for all sub-configurations."""

    def shrink(self, values: Mapping[str, Any], role: str = "") -> dict[str, Any]:
        """Returns a smaller configuration; `role` is the key of a sub-configuration."""
        kept = _layers_kept(values, role)
        heads, head = self._split(values)
        one = _One(self, kept, heads, head, role, isinstance(values.get("depths"), list | tuple))
        return {key: one.value(key, value) for key, value in values.items() if key not in GONE}

    def token(self, value: int) -> int:
        """Returns the id inside the small vocabulary for an id of the large one."""
        if value < FIRST_MOVED_ID:
            return value
        return self.ids.setdefault(value, FIRST_MOVED_ID + len(self.ids) % 50)

    def width(self, value: int) -> int:
        """Returns a width divided by F, at least 4 and even."""
        if value <= 4:
            return value
        exact, rest = divmod(value, self.factor)
        if rest == 0 and exact >= 2:
            return exact
        return max(4, 2 * round(value / self.factor / 2))

    def _split(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """Returns a and b of F = a * b for one configuration."""
        counts = [
            v
            for k, v in values.items()
            if HEADS.search(k) and _is_int(v) and v > 1 and "dim" not in k
        ]
        counts += [
            n
            for k, v in values.items()
            if HEADS.search(k) and isinstance(v, list | tuple)
            for n in v
            if _is_int(n) and n > 1
        ]
        common = math.gcd(*counts) if counts else 1
        size = values.get("head_dim") or values.get("d_kv")
        widths = [values.get(key) for key in ("embed_dim", "hidden_size", "d_model")]
        width = next((w for w in widths if _is_int(w)), None)
        if not _is_int(size) and counts and _is_int(width):
            size = width // max(counts)
        powers = [2**k for k in range(self.factor.bit_length())]
        fair = [a for a in powers if common % a == 0] or [1]
        a = max(fair, key=lambda a: _quality(size, self.factor // a)) if _is_int(size) else 1
        return a, self.factor // a


def _quality(size: int, divisor: int) -> tuple[bool, bool, bool, bool, int]:
    """How good is a head of this size, divided? Whole, then a multiple of 8 or 4, then small."""
    smaller, rest = divmod(size, divisor)
    whole = rest == 0 and smaller > 0
    return whole, smaller % 2 == 0, smaller % 8 == 0, smaller % 4 == 0, divisor


def _layers_kept(values: Mapping[str, Any], role: str) -> tuple[int, list[int]]:
    """Returns the number of layers that was, and the numbers of those that stay.

    Each kind of layer, as the lists with one entry per layer tell kinds, stays at least once.
    """
    if isinstance(values.get("depths"), list | tuple):  # what it calls layers are stages
        return 0, []
    count = next(
        (
            values[k]
            for k in ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth", "layers")
            if _is_int(values.get(k)) and values[k] > 0
        ),
        0,
    )
    if count == 0:
        return 0, []
    lists = [v for v in values.values() if isinstance(v, list | tuple) and len(v) == count]
    per_layer = values.get("per_layer_config") or {}
    kinds = [
        (*(repr(v[i]) for v in lists if not _ascends(v)), repr(_at(per_layer, i)))
        for i in range(count)
    ]
    first = [i for i in range(count) if kinds.index(kinds[i]) == i][:6]
    indices = [v for k, v in values.items() if _are_numbers_of_layers(k, v, count)]
    stages = values.get("out_features") or []
    wanted = max([_few(role, "layers"), len(first), len(stages), *(len(v) for v in indices)])
    rest = [i for i in range(count) if i not in first]
    return count, sorted((first + rest)[: min(wanted, count)])


def _few(role: str, key: str) -> int:
    text = f"{role} {key}"
    if re.search(r"vision|visual|image|audio|speech|qformer", text):
        return 2
    if "encoder" in text:
        return 2
    return 4 if "text" in text else 3


def _ascends(value: Sequence[Any]) -> bool:
    return all(_is_int(v) for v in value) and list(value) == sorted(set(value))


def _are_numbers_of_layers(key: str, value: Any, count: int) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) < count
        and _ascends(value)
        and value[-1] <= count
        and bool(re.search(r"ind|layer|hooks|block|idx|ids", key))
        and not re.search(r"token|mrope|dims|channels|sizes|size", key)
    )


def _at(per_layer: Any, index: int) -> Any:
    if not isinstance(per_layer, dict):
        return None
    found = [v for k, v in per_layer.items() if str(k).isdigit() and int(k) == index]
    return found[0] if found else None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass
class _One:
    """One (sub-)configuration on its way to being smaller."""

    all: Shrinker
    kept: tuple[int, list[int]]
    heads: int
    head: int
    role: str
    staged: bool
    """Whether it is made of stages (Swin), whose last ones see few patches."""

    def value(self, key: str, value: Any) -> Any:
        if key in KEPT or value is None or isinstance(value, bool | str | float):
            return value
        if isinstance(value, dict):
            return self._mapping(key, value)
        if isinstance(value, list | tuple):
            return self._list(key, value)
        return self._number(key, value) if _is_int(value) else value

    def _mapping(self, key: str, value: dict[Any, Any]) -> Any:
        if key == "per_layer_config":
            count, kept = self.kept
            if not count:
                return value
            inner = {i: _at(value, old) for i, old in enumerate(kept)}
            return {
                str(i): {k: self.value(k, v) for k, v in x.items()} for i, x in inner.items() if x
            }
        if "rope" in key:
            return {k: self._rope(k, v) for k, v in value.items()}
        if "model_type" in value or key.endswith("config"):
            return self.all.shrink(value, key)
        return value

    def _rope(self, key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: self._rope(k, v) for k, v in value.items()}
        if isinstance(value, list | tuple) and "section" in key:
            return _proportional(value, sum(value) // self.head)
        if isinstance(value, list | tuple) and "factor" in key:
            return list(value)[: max(1, len(value) // self.head)]
        return value

    def _list(self, key: str, value: Sequence[Any]) -> Any:
        count, kept = self.kept
        numbers = all(_is_int(v) for v in value)
        special: dict[str, Callable[[], Any]] = {
            "out_features": lambda: self._features(value),
            "image_grid_pinpoints": lambda: [[IMAGE, IMAGE]],
            "in_channels": lambda: [self.all.width(v) for v in value],
        }
        if key in special:
            return special[key]()
        if _are_numbers_of_layers(key, value, count):
            few = len(kept)
            new = sorted({min(few - 1, v * few // count) for v in value})
            while len(new) < len(value):  # as many as there were, if there is room
                new = sorted({*new, next(i for i in range(few) if i not in new)})
            return [v + 1 for v in new] if value[-1] == count else new
        if count and len(value) == count and not _is_table(key):
            return [self.value(key, value[i]) for i in kept]
        if "section" in key and numbers:
            return _proportional(value, sum(value) // self.head)
        if numbers and DEPTHS.search(key) and not NOT_LAYERS.search(key):
            return [min(v, 2) for v in value]
        return [self.value(key, v) for v in value]

    def _features(self, value: Sequence[str]) -> list[str]:
        count, kept = self.kept
        numbers = [int(name.removeprefix("stage")) for name in value if name[-1].isdigit()]
        if len(numbers) < len(value) or not count or not numbers or max(numbers) < count:
            return list(value)
        few = len(kept)
        return [f"stage{max(1, few - len(numbers) + 1 + i)}" for i in range(len(numbers))]

    def _number(self, key: str, value: int) -> int:
        rules: list[tuple[bool, Callable[[], int]]] = [
            (value <= 1, lambda: value),
            (bool(VOCAB.search(key)), lambda: min(value, VOCABULARY)),
            (bool(PER_TOKEN.search(key)), lambda: min(value, 2)),
            (bool(BOOKS.search(key)), lambda: min(value, 32)),
            (bool(TOKEN.search(key)) and not NOT_TOKEN.search(key), lambda: self.all.token(value)),
            (bool(EXPERTS.search(key)) and "shared" not in key, lambda: min(value, 4)),
            (
                bool(re.search(r"^(n|num|topk)_(expert_)?groups?$|topk_group", key)),
                lambda: min(value, 2),
            ),
            (key == "base_channels", lambda: 32),
            (bool(re.search("layer_period$", key)), lambda: 2),
            (bool(re.search("layer_offset$", key)), lambda: 1),
            (key == "window_size" and self.staged, lambda: 2),
            (key == "index_topk", lambda: min(value, 64)),
            (key in ("first_k_dense_replace", "num_dense_layers"), lambda: 1),
            (key == "num_kv_shared_layers", lambda: 1),
            (bool(HEAD_SIZE.search(key)), lambda: max(2, value // self.head)),
            (bool(HEADS.search(key)), lambda: self._heads(value)),
            (_is_layer_count(key), lambda: self._layers(key, value)),
            (
                bool(re.search(r"image_size|img_size|image_height|image_width", key)),
                lambda: min(value, IMAGE),
            ),
            (bool(POSITIONS.search(key)), lambda: min(value, 512)),
            (bool(COUNTS.search(key)), lambda: min(value, 16)),
            (bool(WIDTH.search(key)) and not NOT_WIDTH.search(key), lambda: self.all.width(value)),
        ]
        return next((rule() for holds, rule in rules if holds), value)

    def _heads(self, value: int) -> int:
        return value // self.heads if value % self.heads == 0 else value

    def _layers(self, key: str, value: int) -> int:
        count, kept = self.kept
        if value == count and "encoder" not in key and "decoder" not in key:
            return len(kept)
        return min(value, _few(self.role, key))


def _is_table(key: str) -> bool:
    return key in ("channel_multiplier", "attention_types")


def _is_layer_count(key: str) -> bool:
    return bool(LAYERS.search(key)) and not NOT_LAYERS.search(key)


def _proportional(parts: Sequence[int], total: int) -> list[int]:
    """Returns whole numbers in the proportion of `parts` whose sum is `total`."""
    exact = [part * total / (sum(parts) or 1) for part in parts]
    new = [int(x) for x in exact]
    order = sorted(range(len(parts)), key=lambda i: new[i] - exact[i])
    for i in order[: total - sum(new)]:
        new[i] += 1
    return new
