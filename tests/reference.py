"""The oracle: every formula of the package again, slow and obvious, in plain Python or numpy."""

from __future__ import annotations

import math

# --- learning rates over depth and time ---------------------------------------------------------


def layerwise_multiplier(depth: int, num_layers: int, decay: float) -> float:
    """One factor `decay` for each layer between this one and the top block."""
    multiplier = 1.0
    for _ in range(depth, num_layers):
        multiplier *= decay
    return multiplier


def grouped_multiplier(depth: int, num_layers: int, multipliers: list[float]) -> float:
    """Deals blocks out one by one: every set gets as many as fit, the last sets one more."""
    sizes = [0] * len(multipliers)
    for block in range(num_layers):
        sizes[-1 - block % len(multipliers)] += 1
    dealt = [m for m, size in zip(multipliers, sizes, strict=True) for _ in range(size)]
    return dealt[max(depth, 1) - 1]  # the embeddings share the first block's


def cosine_multiplier(depth: int, num_layers: int, lowest: float) -> float:
    """lowest + (1 - lowest) (1 - cos(pi k / N)) / 2, the half cosine as a squared sine."""
    return lowest + (1 - lowest) * math.sin(math.pi * depth / num_layers / 2) ** 2


def linear_schedule(step: int, warmup_steps: int, num_steps: int) -> float:
    """The factor in use at step 1, 2, ...: up from 0, then down towards 0 in straight lines."""
    done = step - 1
    if done < warmup_steps:
        return done / warmup_steps
    return (num_steps - done) / (num_steps - warmup_steps)


# ---- averaging and evaluation: averaging/, evaluation.py, steps.py


def step_meant(value, max_steps):
    """A share of the run below 1, a number of steps from 1 up."""
    return math.ceil(value * max_steps) if value < 1 else int(value)


def swa_mean(path, start, every, with_last):
    """Mean of path[start], path[start + every], ...; path[s] is an array after step s."""
    steps = list(range(max(start, 1), max(path) + 1, every))
    if with_last and steps and max(path) not in steps:
        steps.append(max(path))
    return sum(path[step].astype("float64") for step in steps) / len(steps)


def ema_mean(path, decay, start, every, warmup):
    """The first copies; update t = 1, 2, ... moves by 1 - d_t."""
    mean = None
    for t, step in enumerate(range(max(start, 1), max(path) + 1, every)):
        weights = path[step].astype("float64")
        if mean is None:
            mean = weights
        else:
            kept = min(decay, (1 + t) / (10 + t)) if warmup else decay
            mean = kept * mean + (1 - kept) * weights
    return mean


def swa_learning_rate(step, start, scheduled, target, anneal_steps, anneal):
    """The schedule's rate and the SWA rate, blended by how far annealing has come."""
    if step < start:
        return scheduled
    share = 1 if anneal_steps == 0 else min(1, (step - start) / anneal_steps)
    if anneal == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return (1 - share) * scheduled + share * target


def evaluated_steps(steps_per_epoch, times, max_steps):
    """Steps ceil(j S / times) of each epoch, over the run, and its last step."""
    # -(-a // b) is the ceiling of a / b in whole numbers
    in_epoch = {-(-j * steps_per_epoch // times) for j in range(1, times + 1)}
    epochs = range(0, max_steps, steps_per_epoch)
    steps = {first + step for first in epochs for step in in_epoch if first + step <= max_steps}
    return sorted(steps | {max_steps}) if times else []


# --- statistics of studies ----------------------------------------------------------------------


def sample_std(scores):
    """sqrt(sum (x - mean)^2 / (n - 1))."""
    mean = sum(scores) / len(scores)
    return math.sqrt(sum((x - mean) ** 2 for x in scores) / (len(scores) - 1))


def wilson_interval(count, total, z=1.959963984540054):
    """The shares that lie no more than z of their own standard errors from the one seen."""
    seen = count / total

    def rejected(share):
        return abs(seen - share) > z * math.sqrt(share * (1 - share) / total)

    def edge(inside, outside):
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        return inside

    return edge(seen, 0.0), edge(seen, 1.0)


def expected_best(scores, draws, greater_is_better=True):
    """The mean of the best over every possible sequence of draws with replacement."""
    import itertools

    choose = max if greater_is_better else min
    sequences = list(itertools.product(scores, repeat=draws))
    return sum(choose(sequence) for sequence in sequences) / len(sequences)


def sign_flip_p_value(differences, mean=0.0):
    """Counts, over all choices of signs, the sums at least as far from zero as the one seen."""
    import itertools

    centred = [d - mean for d in differences]
    seen = abs(sum(centred))
    signs = list(itertools.product((1, -1), repeat=len(centred)))
    sums = [abs(sum(s * d for s, d in zip(choice, centred, strict=True))) for choice in signs]
    return sum(total >= seen - 1e-12 for total in sums) / len(sums)


def spread_p_value(first, second):
    """The same test on the distances of the scores from the median of their recipe."""
    import statistics

    centres = statistics.median(first), statistics.median(second)
    return sign_flip_p_value(
        [abs(b - centres[1]) - abs(a - centres[0]) for a, b in zip(first, second, strict=True)]
    )


def holm(p_values):
    """Steps down: each p times the number of those not smaller, never below an earlier one."""
    corrected = []
    for p in p_values:
        up_to_here = [q for q in p_values if q <= p]
        corrected.append(min(1.0, max(q * sum(r >= q for r in p_values) for q in up_to_here)))
    return corrected


def bca_interval(scores, resamples, confidence=0.95):
    """Efron's bias-corrected and accelerated interval of the mean, from given resampled means."""
    from statistics import NormalDist

    import numpy

    normal, n = NormalDist(), len(scores)
    mean = sum(scores) / n
    below = sum(m < mean for m in resamples) + sum(m == mean for m in resamples) / 2
    bias = normal.inv_cdf(below / len(resamples))
    left_out = [(sum(scores) - x) / (n - 1) for x in scores]
    centre = sum(left_out) / n
    cubes = sum((centre - m) ** 3 for m in left_out)
    acceleration = cubes / (6 * sum((centre - m) ** 2 for m in left_out) ** 1.5)
    ends = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + normal.inv_cdf(share)
        ends.append(normal.cdf(bias + z / (1 - acceleration * z)))
    return tuple(numpy.quantile(resamples, ends))


def expected_best_without_replacement(scores, draws, greater_is_better=True):
    """The mean of the best over every possible set of runs."""
    import itertools

    choose = max if greater_is_better else min
    sets = list(itertools.combinations(scores, draws))
    return sum(choose(chosen) for chosen in sets) / len(sets)


def chosen_by_validation(validation, test, draws, greater_is_better=True):
    """Mean validation and test score of the run that validation prefers, over every set of runs."""
    import itertools

    choose = max if greater_is_better else min
    seen, new = 0.0, 0.0
    sets = list(itertools.combinations(range(len(validation)), draws))
    for chosen in sets:
        top = choose(validation[i] for i in chosen)
        tied = [i for i in chosen if validation[i] == top]
        seen += top
        new += sum(test[i] for i in tied) / len(tied)
    return seen / len(sets), new / len(sets)


def max_t_p_values(rows):
    """Westfall and Young's step-down, with every choice of signs for all rows together."""
    import itertools

    def t(row, signs):
        norm = math.sqrt(sum(d * d for d in row))
        return abs(sum(s * d for s, d in zip(signs, row, strict=True))) / norm if norm else 0.0

    choices = list(itertools.product((1, -1), repeat=len(rows[0])))
    seen = [t(row, [1] * len(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda k: -seen[k])
    corrected, largest = [0.0] * len(rows), 0.0
    for place, k in enumerate(order):
        rest = [rows[j] for j in order[place:]]
        reached = sum(max(t(row, c) for row in rest) >= seen[k] - 1e-9 for c in choices)
        largest = max(largest, reached / len(choices))
        corrected[k] = largest
    return corrected


def fleiss_kappa(predictions):
    """(mean agreement of two raters on a row - chance) / (1 - chance)."""
    runs, rows = len(predictions), len(predictions[0])
    agreement = 0.0
    for row in range(rows):
        answers = [run[row] for run in predictions]
        same = sum(answers[i] == answers[j] for i in range(runs) for j in range(runs) if i != j)
        agreement += same / (runs * (runs - 1)) / rows
    everything = [answer for run in predictions for answer in run]
    chance = sum((everything.count(c) / len(everything)) ** 2 for c in set(everything))
    return agreement, (agreement - chance) / (1 - chance)


def two_way(scores, heads, data):
    """Sums of squares by fitting each model with and without a factor, variances by projections.

    Returns (name -> (sum of squares, degrees, variance)); interaction apart where cells repeat.
    """
    import numpy

    def columns(*keys):
        levels = sorted(set(zip(*keys, strict=True)))
        return numpy.array(
            [[float(k == level) for level in levels] for k in zip(*keys, strict=True)]
        )

    def projection(*blocks):
        x = numpy.hstack([numpy.ones((len(scores), 1)), *blocks])
        return x @ numpy.linalg.pinv(x), numpy.linalg.matrix_rank(x)

    y = numpy.array(scores)
    z = {"head": columns(heads), "data": columns(data), "both": columns(heads, data)}
    (p_h, r_h), (p_d, r_d) = projection(z["head"]), projection(z["data"])
    (p_a, r_a), (p_c, r_c) = projection(z["head"], z["data"]), projection(z["both"])
    lines = {"head": (p_a - p_d, r_a - r_d), "data": (p_a - p_h, r_a - r_h)}
    rest = (numpy.eye(len(y)) - p_c, len(y) - r_c)
    if rest[1] and r_c > r_a:
        lines["both"] = (p_c - p_a, r_c - r_a)
    else:
        rest = (numpy.eye(len(y)) - p_a, len(y) - r_a)
    sigma = y @ rest[0] @ y / rest[1]
    # E[y' M y] = sum over factors of tr(Z' M Z) variance + tr(M) rest, solved for the variances.
    names = list(lines)
    weights = [[numpy.trace(z[k].T @ lines[n][0] @ z[k]) for k in names] for n in names]
    sums = [y @ lines[n][0] @ y for n in names]
    known = [s - lines[n][1] * sigma for n, s in zip(names, sums, strict=True)]
    found = numpy.linalg.solve(numpy.array(weights), numpy.array(known))
    table = {n: (s, lines[n][1], v) for n, s, v in zip(names, sums, found, strict=True)}
    return {**table, "rest": (y @ rest[0] @ y, rest[1], sigma)}


def head_effect(scores, heads, data, head):
    """Mean over a head's runs of its score minus the mean of other heads' under that data seed."""
    distances = []
    for score, h, d in zip(scores, heads, data, strict=True):
        others = [s for s, g, e in zip(scores, heads, data, strict=True) if e == d and g != head]
        if h == head and others:
            distances.append(score - sum(others) / len(others))
    return sum(distances) / len(distances)


def study_that_stops_early(early, final, result, t, p, rng):
    """One simulated study: t runs drawn, the best p by the early score go on, the best is taken."""
    drawn = [int(rng.integers(len(final))) for _ in range(t)]
    kept = sorted(drawn, key=lambda i: (early[i], rng.random()))[-p:]
    return result[max(kept, key=lambda i: (final[i], rng.random()))]


# --- metrics ---------------------------------------------------------------------------------


def f1_macro(predictions: list[int], labels: list[int]) -> float:
    """Mean over the classes that occur of 2 tp / (2 tp + fp + fn)."""
    pairs = [(int(p), int(t)) for p, t in zip(predictions, labels, strict=True)]
    scores = []
    for c in {value for pair in pairs for value in pair}:
        tp = sum(p == c and t == c for p, t in pairs)
        wrong = sum((p == c) != (t == c) for p, t in pairs)
        scores.append(2 * tp / (2 * tp + wrong))
    return sum(scores) / len(scores)


def map_at_k(scores: list[list[float]], labels: list[int], k: int) -> float:
    """Mean of 1 / rank where the rank is at most k; all that score as well come first."""
    total = 0.0
    for row, label in zip(scores, labels, strict=True):
        rank = 1 + sum(score >= row[label] for choice, score in enumerate(row) if choice != label)
        total += 1 / rank if rank <= k else 0
    return total / len(labels)


def pearson(x: list[float], y: list[float]) -> float:
    """Covariance over the product of the standard deviations."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
    return covariance / spread**0.5


def linear_optimum(problem, inputs, targets, l2, outputs, has_bias):
    """argmin of mean loss + l2/2 |W|^2 over W and b, by torch's full-batch L-BFGS in float64.

    Starts at zero, so that where the optimum is not unique (the bias of a softmax) nothing moves
    it. The squared error is halved; means are over rows and outputs, as torch takes them.
    """
    import torch
    from torch.nn import functional

    loss = {
        "single_label_classification": lambda z, y: functional.cross_entropy(z, y),
        "multiple_choice": lambda z, y: functional.cross_entropy(z[..., 0], y),
        "multi_label_classification": functional.binary_cross_entropy_with_logits,
        "regression": lambda z, y: functional.mse_loss(z, y) / 2,
    }[problem]
    inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
    weight = torch.zeros(outputs, inputs.shape[-1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias] if has_bias else [weight],
        max_iter=2000,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss(inputs @ weight.T + bias, targets) + l2 / 2 * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(closure)
    return weight.detach().numpy(), bias.detach().numpy()


# ---- freezing: freezing/


def unfreezing_stages(num_layers, blocks_per_stage):
    """Depths in the order in which they are freed: sets of blocks from the top, then embeddings."""
    waiting, stages = list(range(1, num_layers + 1)), []
    while waiting:
        stages.append([waiting.pop() for _ in range(min(blocks_per_stage, len(waiting)))])
    return [*stages, [0]]


def learns(depth, step, num_layers, duration, blocks_per_stage=1):
    """Whether a depth learns in step 1, 2, ... of gradual unfreezing over `duration` steps."""
    if depth == num_layers + 1:
        return True
    stages = unfreezing_stages(num_layers, blocks_per_stage)
    number = 1 + next(i for i, depths in enumerate(stages) if depth in depths)
    return step >= 1 + number * duration // len(stages)


def stage_warmup(step, first_step, warmup_steps):
    """The share of its scheduled rate that a freed layer uses: counted up, step by step."""
    if step < first_step:
        return 0.0
    if first_step == 1 or warmup_steps == 0:
        return 1.0
    used = 0
    for _ in range(first_step, step + 1):
        used = min(used + 1, warmup_steps)
    return used / warmup_steps


# ---- guarding and looking: collapse.py, layer_statistics.py


def looks_collapsed(predictions, labels):
    """The same for all rows, or no more of them right than have the commonest label."""
    rows = [(p, t) for p, t in zip(predictions, labels, strict=True) if t >= 0]
    truths = [t for _, t in rows]
    if len(set(truths)) < 2:
        return False
    right = sum(p == t for p, t in rows)
    return len({p for p, _ in rows}) == 1 or right <= max(truths.count(t) for t in truths)


def collapsed_evaluation(looks, warmup_steps, last_is_over):
    """The step of the evaluation that settles it; `looks` are (step, whether it looks so)."""
    for place in range(1, len(looks)):
        (before, first), (step, second) = looks[place - 1], looks[place]
        if first and second and before > warmup_steps:
            return step
    return looks[-1][0] if looks and looks[-1][1] and last_is_over else 0


def layer_statistics(before, after, clipped, rates, logged_norm):
    """Rates, gradient norms and steps of layers, from arrays (of `rates` one number) of each layer.

    `clipped` are the gradients that the optimizer saw, `logged_norm` that of all before clipping.
    """
    import numpy as np

    def norm(arrays):
        return math.sqrt(sum(float((np.asarray(a, dtype="float64") ** 2).sum()) for a in arrays))

    total = norm([a for arrays in clipped.values() for a in arrays])
    found = {f"lr/{layer}": rate for layer, rate in rates.items()}
    for layer, arrays in clipped.items():
        found[f"grad_norm/{layer}"] = norm(arrays) * logged_norm / total
        change = [b - a for a, b in zip(before[layer], after[layer], strict=True)]
        found[f"update_ratio/{layer}"] = norm(change) / norm(before[layer])
    return found


def slanted_triangular(step, num_steps, cut_fraction=0.1, ratio=32):
    """Howard and Ruder 2018, equation 3, as a share of the peak; step 1, 2, ... is t = 0, 1, ..."""
    t, cut = step - 1, math.floor(num_steps * cut_fraction)
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_fraction - 1))
    return (1 + p * (ratio - 1)) / ratio


# --- runs that cannot be paired -----------------------------------------------------------------


def permutation_p_value(first, second):
    """Deals the scores out in every way; twice the smaller tail of the differences of means."""
    from itertools import combinations

    everything, n, m = [*first, *second], len(first), len(second)
    seen = math.fsum(second) / m - math.fsum(first) / n
    below = above = total = 0
    for places in combinations(range(n + m), m):
        theirs = [everything[i] for i in places]
        ours = [everything[i] for i in range(n + m) if i not in places]
        difference = math.fsum(theirs) / m - math.fsum(ours) / n
        below += difference <= seen + 1e-12
        above += difference >= seen - 1e-12
        total += 1
    return min(1.0, 2 * min(below, above) / total)


# --- pairs on a grid of seeds -------------------------------------------------------------------


def independent_units(cells):
    """{(head, data): difference} of a full square grid: row mean + column mean - mean of all."""
    heads, data = sorted({h for h, _ in cells}), sorted({d for _, d in cells})
    rows = [math.fsum(cells[h, d] for d in data) / len(data) for h in heads]
    columns = [math.fsum(cells[h, d] for h in heads) / len(heads) for d in data]
    mean = math.fsum(cells.values()) / len(cells)
    return [row + column - mean for row, column in zip(rows, columns, strict=True)]


def near_duplicates_reference(texts, others, threshold):
    """Every pair of texts, their shingles as Python sets."""
    from hf_stabilizer.data.near_duplicates import normalized

    def shingles(text):
        text = normalized(text)
        return {text[at : at + 5] for at in range(len(text) - 4)} or {text}

    pairs = []
    for i, text in enumerate(texts):
        for j, other in enumerate(texts if others is None else others):
            if others is None and i >= j:
                continue
            mine, its = shingles(text), shingles(other)
            similarity = len(mine & its) / len(mine | its)
            if similarity >= threshold:
                pairs.append((i, j, similarity))
    return pairs


def pseudo_labels(outputs, kind, *, threshold=0, top_k=None, agreement=False, max_spread=None):
    """{row: label} of the rows that are kept; outputs[teacher][row][class], labels by their ids."""
    judged = []
    for row in range(len(outputs[0])):
        label, sureness, alike = _vote([teacher[row] for teacher in outputs], kind)
        passes = sureness <= max_spread if kind == "number" else sureness >= threshold
        if passes and (alike or not agreement):
            judged.append((row, label, sureness))
    kept = judged
    if top_k is not None:
        ranked = sorted(judged, key=lambda its: -its[2])
        kept = [its for its in ranked if [r for r in ranked if r[1] == its[1]].index(its) < top_k]
    return {row: label for row, label, _ in sorted(kept)}


def _vote(votes, kind):
    """(label, sureness, whether all predict the same) of one row; votes[teacher][class]."""
    if kind == "number":
        values = [vote[0] for vote in votes]
        mean = sum(values) / len(values)
        return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)), True
    if kind == "labels":
        each = [[1 / (1 + math.exp(-x)) for x in vote] for vote in votes]
        mean = [sum(p) / len(p) for p in zip(*each, strict=True)]
        sets = [[place for place, p in enumerate(one) if p > 0.5] for one in [mean, *each]]
        return sets[0], min(max(p, 1 - p) for p in mean), all(s == sets[1] for s in sets[1:])
    each = [[math.exp(x) / sum(math.exp(y) for y in vote) for x in vote] for vote in votes]
    mean = [sum(p) / len(p) for p in zip(*each, strict=True)]
    return mean.index(max(mean)), max(mean), len({vote.index(max(vote)) for vote in votes}) == 1


def soft_threshold(weights: list[float], threshold: float) -> list[float]:
    """sign(w) max(|w| - threshold, 0), one weight at a time."""
    return [(1 if w > 0 else -1) * max(abs(w) - threshold, 0.0) for w in weights]


def calibration_error(probabilities: list[list[float]], labels: list[int], bins: int) -> float:
    """Guo et al. 2017, equation 3: one bin after the other, ((m - 1)/M, m/M]."""
    total = 0.0
    for m in range(1, bins + 1):
        rows = [
            (max(p), p.index(max(p)) == label)
            for p, label in zip(probabilities, labels, strict=True)
            if (m - 1) / bins < max(p) <= m / bins
        ]
        if rows:
            confidence = sum(c for c, _ in rows) / len(rows)
            right = sum(r for _, r in rows) / len(rows)
            total += len(rows) / len(labels) * abs(right - confidence)
    return total


def entropy(probabilities: list[float]) -> float:
    """-sum p ln p, in nats."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def token_cross_entropies(logits, labels, shift):
    """-ln softmax of the label at each position, token by token; -100 where there is no label."""
    rows = []
    for row, ids in zip(logits, labels, strict=True):
        pairs = list(zip(row[:-1], ids[1:], strict=True)) if shift else zip(row, ids, strict=True)
        rows.append(
            [
                -100.0
                if label == -100
                else math.log(sum(math.exp(x) for x in words)) - words[label]
                for words, label in pairs
            ]
        )
    return rows


def lowest_names(names: list[str], blocks: list[str], head: list[str], num_layers: int) -> set[str]:
    """What `transfer_layers` brings: all but the head and the blocks from `num_layers` on.

    `blocks` are the paths of the blocks from the input upwards, `head` how the names begin that
    stand above them.
    """
    brought = set()
    for name in names:
        is_above = any(name.startswith(f"{path}.") for path in blocks[num_layers:])
        if not is_above and not any(name.startswith(path) for path in head):
            brought.add(name)
    return brought


def mean_rank(outputs: list[list[list[float]]]) -> list[list[float]]:
    """Mean over members of the scaled rank of each class's probability over the rows, by counting.

    The rank of a value is the number of smaller ones plus half of the other equal ones.
    """
    members, rows, classes = len(outputs), len(outputs[0]), len(outputs[0][0])
    means = [[0.0] * classes for _ in range(rows)]
    for member in outputs:
        chances = []
        for row in member:
            total = sum(math.exp(z) for z in row)
            chances.append([math.exp(z) / total for z in row])
        for r in range(rows):
            for c in range(classes):
                smaller = sum(chances[s][c] < chances[r][c] for s in range(rows))
                equal = sum(chances[s][c] == chances[r][c] for s in range(rows)) - 1
                means[r][c] += (smaller + equal / 2) / (rows - 1) / members
    return means


def best_weight_of_two(first: list[float], second: list[float], steps: int = 10_000) -> float:
    """Share of the first of two members with the smallest log loss, by trying a fine grid.

    `first` and `second` hold the probability that each gives to the right answer of each row.
    """

    def loss(share: float) -> float:
        mixed = [share * p + (1 - share) * q for p, q in zip(first, second, strict=True)]
        return -sum(math.log(p) for p in mixed)

    return min((step / steps for step in range(steps + 1)), key=loss)


def first_of_each_text(texts):
    """The places of rows whose text stands in no row before them."""
    return [place for place, text in enumerate(texts) if text not in texts[:place]]


def best_weights_of_numbers(errors, steps=200):
    """Weights of three members with the smallest squared error, by trying a grid.

    `errors` holds what each member's number lies off from the right one, row by row.
    """

    def loss(weights):
        rows = zip(*errors, strict=True)
        return sum(sum(w * e for w, e in zip(weights, row, strict=True)) ** 2 for row in rows)

    whole = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    near = [one for one in whole if one[2] <= steps // 20]  # The third member is far off.
    return [count / steps for count in min(near, key=loss)]


def first_of_alike(texts, labels, threshold):
    """The places of rows that no kept row before them, with the same label, is like.

    Rows are alike from this share of common shingles on, at 1 if they read the same; texts without
    anything to read are like none.
    """
    from hf_stabilizer.data.near_duplicates import normalized

    kept = []
    for place, text in enumerate(texts):
        for before in kept:
            if not text.strip() or not texts[before].strip() or labels[place] != labels[before]:
                continue
            near = threshold < 1 and near_duplicates_reference([text], [texts[before]], threshold)
            if near or normalized(text) == normalized(texts[before]):
                break
        else:
            kept.append(place)
    return kept
