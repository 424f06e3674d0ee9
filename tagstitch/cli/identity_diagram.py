"""Identity graphs as Mermaid flowcharts: people look before they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tagstitch.cli.output import printable
from tagstitch.cli.simulated_graph import SimulatedProfile


def mermaid(profiles: Sequence[SimulatedProfile], *, left_out: int) -> str:
    """Return the diagram: each profile with its identifiers, dotted lines to what stays apart."""
    lines = ["flowchart LR"]
    nodes: dict[tuple[str, str | None], str] = {}
    for number, profile in enumerate(profiles):
        merges = f"<br/>{profile.merges} merges" if profile.merges else ""
        lines.append(f'  p{number}(["{_text(profile.profile_id[:10])}…{merges}"])')
        lines += _edges(f"p{number} ---", profile.identifiers, nodes)
        lines += _edges(f"p{number} -. apart .-", profile.demoted, nodes)
    if left_out:
        lines.append(f'  rest["{left_out:,} more profiles"]')
    return "\n".join(lines) + "\n"


def _edges(
    start: str,
    identifiers: Iterable[Mapping[str, str | None]],
    nodes: dict[tuple[str, str | None], str],
) -> Iterator[str]:
    for identifier in identifiers:
        key = (str(identifier["type"]), identifier["value"])
        if key[1] is None:  # two without a value need not be the same one
            node = f"i{len(nodes)}"
            nodes[key[0], node] = node
        else:
            node = nodes.setdefault(key, f"i{len(nodes)}")
        yield f'  {start} {node}["{_text(key[0])}<br/>{_text(key[1] or "not in the file")}"]'


def _text(text: str) -> str:
    """Return text for a quoted label, where nothing of it is markup."""
    safe = printable(text).replace("\n", " ").replace("\t", " ")
    return "".join(c if c.isalnum() or c in " .-_:@+/=" else f"#{ord(c)};" for c in safe)
