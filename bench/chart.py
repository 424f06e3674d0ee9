"""The pictures of RESULTS.md."""

from __future__ import annotations

from pathlib import Path

from bench.http_throughput import Measurement, median
from bench.rule_engines.figures import Comparison

_LINE_COLOURS = ("#9aa5b1", "#d9822b", "#8f6ed5", "#2f9e5b", "#c23030", "#79b8ff", "#1f6feb")
"""One for each candidate among the rule engines; ours are blue."""


def draw_throughput(measurement: Measurement, target: Path) -> None:
    """Draw each server's requests a second and CPU time a request, beside its baseline."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    groups = measurement.groups
    figure, axes = plt.subplots(1, len(groups), figsize=(4 * len(groups), 3.6))
    for axis, group in zip(axes, groups, strict=True):
        names = list(group.loads)
        rates = [median(group.loads[name], "rate") for name in names]
        colours = ["#9aa5b1" if name == group.baseline else "#1f6feb" for name in names]
        bars = axis.bar(names, rates, color=colours)
        for bar, name in zip(bars, names, strict=True):
            cpu_us = median(group.loads[name], "cpu_us")
            label = f"{bar.get_height():,.0f}/s\n{cpu_us:,.0f} µs CPU"
            axis.annotate(
                label,
                (bar.get_x() + bar.get_width() / 2, bar.get_height()),
                ha="center",
                va="bottom",
            )
        axis.set_title(group.title, fontsize=10)
        axis.set_ylim(0, max(rates) * 1.3)
        axis.set_ylabel("requests a second")
        axis.tick_params(axis="x", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)


def draw_rule_engines(measured: Comparison, target: Path) -> None:
    """Draw each candidate's time per event against the number of rules, both mixes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mixes = list(dict.fromkeys(group.mix for group in measured.groups))
    figure, axes = plt.subplots(1, len(mixes), figsize=(6 * len(mixes), 4.2), sharey=True)
    for axis, mix in zip(axes, mixes, strict=True):
        groups = [group for group in measured.groups if group.mix == mix]
        for candidate, colour in zip(measured.candidates, _LINE_COLOURS, strict=True):
            found = [(group.rules, group.of(candidate.name)) for group in groups]
            points = [(rules, figures.median_us) for rules, figures in found if figures]
            axis.plot(
                *zip(*points, strict=True),
                label=candidate.name,
                color=colour,
                linewidth=2.4 if candidate.is_ours else 1.4,
                marker="o",
                markersize=4,
            )
        axis.set(xscale="log", yscale="log", title=f"{mix} rules", xlabel="rules")
        axis.title.set_fontsize(10)
        axis.grid(visible=True, color="#e4e7eb", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("microseconds an event")
    axes[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)
