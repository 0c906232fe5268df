"""FlashVID, FastVID, facility location and downsampling written out slowly: plain loops in float64 over lists.

They share nothing with the library except the rules that it adds to the papers: numbers are compared as whole multiples
of RESOLUTION (distances of ADTS: of 1e-10), and ties go to the lower index. Tokens are lists of numbers, a slot is a
list of tokens, a video a list of slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from tests.support.references.st_simdiff import RESOLUTION, cosine

Vector = Sequence[float]
Slot = list[list[float]]
#: Position in the video and feature of each kept token.
Kept = dict[int, list[float]]


def whole(value: float, unit: float = RESOLUTION) -> int:
    return round(value / unit)


def mean(vectors: Sequence[Vector]) -> list[float]:
    return [math.fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def dot(x: Vector, y: Vector) -> float:
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def spread(total: int, sizes: Sequence[int]) -> list[int]:
    """A total in proportion to sizes: the first k shares add up to floor(total x their sizes / all sizes)."""
    upto = [total * sum(sizes[:k]) // sum(sizes) for k in range(len(sizes) + 1)]
    return [upto[k + 1] - upto[k] for k in range(len(sizes))]


def cut(video: Sequence[Slot], threshold: float, least: int) -> list[list[int]]:
    """The slots of every segment."""
    means = [mean(slot) for slot in video]
    alike = {t: whole(cosine(means[t - 1], means[t])) for t in range(1, len(video))}
    cuts = {t for t in alike if alike[t] < whole(threshold)}
    for t in sorted(alike, key=lambda t: (alike[t], t)):
        if len(cuts) + 1 < least:
            cuts.add(t)
    segments: list[list[int]] = []
    for t in range(len(video)):
        if t == 0 or t in cuts:
            segments.append([])
        segments[-1].append(t)
    return segments


def mean_square(video: Sequence[Slot]) -> float:
    numbers = [value * value for slot in video for token in slot for value in token]
    return math.fsum(numbers) / len(numbers) or 1.0


def apart(x: Vector, y: Vector, square: float) -> float:
    """Squared distance per channel, in units of the mean square."""
    return math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x) / square


def peaks(x: Sequence[Vector], neighbors: int, count: int, square: float) -> list[int]:
    """Density peaks, ascending: logarithms of density x distance to the nearest denser one."""
    size = len(x)
    squares = [[apart(x[i], x[j], square) for j in range(size)] for i in range(size)]
    density = []
    for i in range(size):
        nearest = sorted(squares[i])[:neighbors]
        density.append(-math.fsum(nearest) / len(nearest))
    order = sorted(range(size), key=lambda i: (-whole(density[i]), i))
    largest = max(max(row) for row in squares)
    score = {}
    for place, i in enumerate(order):
        distance = min((squares[i][j] for j in order[:place]), default=largest)
        score[i] = whole(math.log(distance) / 2 + density[i]) if distance > 0 else -math.inf
    return sorted(sorted(range(size), key=lambda i: (-score[i], i))[:count])


def most_distant(slot: Slot, weight: Vector, count: int) -> list[int]:
    """ADTS in a slot."""
    size = len(slot)
    distance = [[whole(max(0.0, 1 - cosine(a, b)), 1e-10) if a is not b else 0 for b in slot] for a in slot]
    chosen: list[int] = []
    while len(chosen) < count:
        best, best_score = -1, -math.inf
        for j in range(size):
            others = chosen or [i for i in range(size) if i != j]
            score = min((distance[i][j] * weight[j] for i in others), default=math.inf)
            if j not in chosen and score > best_score:
                best, best_score = j, score
        chosen.append(best)
    return sorted(chosen)


def flashvid(
    video: Sequence[Slot],
    saliency: Sequence[Vector],
    budget: Sequence[int],
    *,
    alpha: str = "0.7",
    threshold: float = 0.8,
    relevance: bool = True,
    published: bool = False,
    least: int = 8,
) -> Kept:
    """FlashVID before the LLM, with a budget for every slot."""
    square, area, kept = mean_square(video), len(video[0]), {}
    for span in cut(video, 0.9, least):
        context = mean([mean(video[t]) for t in span])
        product = {(t, i): dot(video[t][i], context) for t in span for i in range(area)}
        largest = max(abs(value) for value in product.values()) or 1.0
        free: dict[int, list[int]] = {}
        left = 0
        for t in span:
            count = math.ceil(budget[t] * Fraction(alpha))
            left += budget[t] - count
            weight = [
                s * (whole(product[t, i] / largest, 1e-10) if relevance else 1) for i, s in enumerate(saliency[t])
            ]
            chosen = most_distant(video[t], weight, count)
            kept.update({t * area + i: list(video[t][i]) for i in chosen})
            free[t] = [i for i in range(area) if i not in chosen]
        if left:
            roots = _trees(video, free, threshold, left, published)
            shares = spread(left, [len(roots[t]) for t in span])
            for t, count in zip(span, shares, strict=True):
                kept.update({t * area + i: x for i, x in _clusters(roots[t], count, square).items()})
    return kept


def _trees(
    video: Sequence[Slot], free: dict[int, list[int]], threshold: float, least: int, published: bool
) -> dict[int, dict[int, list[float]]]:
    """For every slot of a segment, the roots and what their trees become."""
    links = []
    for t in list(free)[1:]:
        for i in free[t]:
            near = max(free[t - 1], key=lambda j: (whole(cosine(video[t][i], video[t - 1][j])), -j), default=None)
            if near is not None and whole(cosine(video[t][i], video[t - 1][near])) > whole(threshold):
                links.append((-whole(cosine(video[t][i], video[t - 1][near])), t, i, near))
    parent = {(t, i): (t - 1, j) for _, t, i, j in sorted(links)[: sum(map(len, free.values())) - least]}
    members: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for t in free:
        for i in free[t]:
            root = (t, i)
            while root in parent:
                root = parent[root]
            members.setdefault(root, []).append((t, i))
    out: dict[int, dict[int, list[float]]] = {t: {} for t in free}
    for (t, i), tree in members.items():
        number = 1 + sum(parent.get(token) == (t, i) for token in tree) if published else len(tree)
        total = [math.fsum(column) for column in zip(*(video[a][b] for a, b in tree), strict=True)]
        out[t][i] = [value / number for value in total]
    return out


def _clusters(trees: dict[int, list[float]], count: int, square: float) -> Kept:
    place = sorted(trees)
    if count == len(place):
        return trees
    if count == 0:
        return {}
    x = [trees[i] for i in place]
    centers = peaks(x, min(count, 7), count, square)
    groups: dict[int, list[Vector]] = {c: [] for c in centers}
    for i, token in enumerate(x):
        near = min(centers, key=lambda c: (whole(math.sqrt(apart(token, x[c], square))), c))
        groups[i if i in groups else near].append(token)
    return {place[c]: mean(group) for c, group in groups.items()}


def fastvid(
    video: Sequence[Slot],
    saliency: Sequence[Vector],
    budget: Sequence[int],
    *,
    context: str = "0.4",
    every: int = 4,
    beta: float = 0.6,
    least: int = 8,
) -> Kept:
    """FastVID, with a budget for every slot."""
    square, area, kept = mean_square(video), len(video[0]), {}
    for span in cut(video, 0.9, least):
        free, total = {}, 0
        for t in span:
            anchors = math.floor(budget[t] * Fraction(context))
            total += anchors
            order = sorted(range(area), key=lambda i: (-saliency[t][i], i))
            chosen = order[: budget[t] - anchors]
            kept.update({t * area + i: list(video[t][i]) for i in chosen})
            free[t] = sorted(set(range(area)) - set(chosen))
        step = every
        while sum(len(free[t]) for t in span if (span[-1] - t) % step == 0) < total:
            step -= 1
        shares = spread(total, [len(free[t]) if (span[-1] - t) % step == 0 else 0 for t in span]) if total else []
        for t, count in zip(span, shares, strict=False):
            if not count:
                continue
            target = [free[t][i] for i in peaks([video[t][i] for i in free[t]], 4, count, square)]
            joined: dict[int, list[Vector]] = {i: [] for i in target}
            for u in span:
                for i in free[u]:
                    near = max(target, key=lambda j: (whole(cosine(video[u][i], video[t][j])), -j))
                    joined[near].append(video[u][i])
            for i, group in joined.items():
                w = max(1 / (len(group) + 1), beta) if group else 1.0
                other = mean(group) if group else video[t][i]
                kept[t * area + i] = [w * a + (1 - w) * b for a, b in zip(video[t][i], other, strict=True)]
    return kept


def facility_location(x: Sequence[Vector], count: int) -> list[int]:
    """The greedy algorithm, computing every gain of every token in every round."""
    similarity = [[whole(cosine(a, b)) for b in x] for a in x]
    chosen: list[int] = []
    while len(chosen) < count:
        best = [max((similarity[v][u] for u in chosen), default=0) for v in range(len(x))]
        gain = {}
        for u in range(len(x)):
            if u not in chosen:
                rows = [similarity[v][u] - best[v] for v in range(len(x))]
                gain[u] = sum(max(0, row) for row in rows) if chosen else sum(rows)
        chosen.append(max(gain, key=lambda u: (gain[u], -u)))
    return sorted(chosen)
