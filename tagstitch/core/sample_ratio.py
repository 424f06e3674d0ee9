"""Sample ratio mismatch: whether the visitors counted per variant fit the weights.

A mismatch says that the counting is wrong (bots, redirects, consent that differs by variant,
degraded answers taken for control), so that no other figure of the experiment can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from tagstitch.core.limits import SAMPLE_RATIO_ALERT_P, SAMPLE_RATIO_WARN_P

SampleRatioVerdict = Literal["OK", "WARN", "ALERT"]


def sample_ratio_mismatch(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Return the probability of counts at least this far from the weights, by chance alone.

    The chi-square test of Pearson. `counts` are distinct visitors by variant. A visitor in a
    variant without a weight cannot be chance: then it is 0.
    """
    weighed = {name: weight for name, weight in weights.items() if weight > 0}
    total, sum_of_weights = sum(counts.values()), sum(weighed.values())
    if any(count > 0 and name not in weighed for name, count in counts.items()):
        return 0.0
    if total == 0 or len(weighed) < 2:
        return 1.0
    expected = {name: total * weight / sum_of_weights for name, weight in weighed.items()}
    statistic = sum((counts.get(name, 0) - e) ** 2 / e for name, e in expected.items())
    return chi_square_survival(statistic, degrees=len(weighed) - 1)


def judge_sample_ratio(p: float) -> SampleRatioVerdict:
    """Return what to do about such a probability."""
    if p < SAMPLE_RATIO_ALERT_P:
        return "ALERT"
    return "WARN" if p < SAMPLE_RATIO_WARN_P else "OK"


def chi_square_survival(statistic: float, *, degrees: int) -> float:
    """Return the probability that a chi-square variable exceeds the statistic.

    The finite sums for whole degrees of freedom (Abramowitz and Stegun, 26.4.4 and 26.4.5), in
    logarithms, so that large statistics neither overflow nor raise.
    """
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    is_odd = degrees % 2 == 1
    powers = [i + (0.5 if is_odd else 0.0) for i in range(degrees // 2)]
    terms = (math.exp(s * math.log(half) - half - math.lgamma(s + 1)) for s in powers)
    return min(1.0, (math.erfc(math.sqrt(half)) if is_odd else 0.0) + math.fsum(terms))
