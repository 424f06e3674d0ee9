"""The picture of a burst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.scale.report import BURST_S, CALM_S, Scenario

_COLOURS = ("#c23030", "#d9822b", "#1f6feb")
_POINTS = 400


def draw(scenarios: Sequence[Scenario], rate: int, target: Path) -> None:
    """Draw, for one rate, how long answers took by their share, and how the instances grew."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "tagstitch"  # the same figures make the same file
    from matplotlib import pyplot as plt

    drawn = [scenario for scenario in scenarios if scenario.rate == rate]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for scenario, colour in zip(drawn, _COLOURS, strict=False):
        answers = sorted(scenario.outcome.answers_s)
        places = [len(answers) * point // _POINTS for point in range(_POINTS)]
        left.plot(
            [answers[place] * 1000 for place in places],
            [100 * place / scenario.requests for place in places],
            color=colour,
            label=scenario.setting,
        )
        times, counts = zip(*scenario.outcome.growth, strict=True)
        right.step(
            [*times, 2 * CALM_S + BURST_S],
            [count * scenario.parts for count in [*counts, counts[-1]]],
            where="post",
            color=colour,
        )
    left.set(xscale="log", xlabel="milliseconds", ylabel="% of the requests answered by then")
    left.axvline(250, color="#9aa5b1", linewidth=0.8, linestyle="--")
    left.legend(fontsize=8, frameon=False, loc="lower right")
    right.axvspan(CALM_S, CALM_S + BURST_S, color="#e4e7eb", linewidth=0)
    right.set(xlabel="seconds; the burst is grey", ylabel="instances of decide", ylim=(0, None))
    for axis in (left, right):
        axis.grid(visible=True, color="#e4e7eb", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{rate:,} events a second, and a burst of five times as many", fontsize=10)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)
