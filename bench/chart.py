"""The picture of RESULTS.md."""

from __future__ import annotations

from pathlib import Path

from bench.http_throughput import Measurement, median


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
