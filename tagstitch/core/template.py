"""Templates: text in which `${path}` stands for a value and `$$` for a dollar sign; no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tagstitch.core.action_path import Item, Look, PathScope, parse_origin
from tagstitch.core.arithmetic import ResultOutOfRange
from tagstitch.core.limits import (
    CHANGED_TEXT_CHARS_MAX,
    TEMPLATE_CHARS_MAX,
    TEMPLATE_PATHS_MAX,
)
from tagstitch.core.paths import Facts, Path
from tagstitch.core.problems import Problems
from tagstitch.core.scalar_text import scalar_text

_DOLLAR: Final = re.compile(r"\$\$|\$\{([^{}]*)\}|\$")
_HINT: Final = "write ${path} for a value, $$ for a dollar sign"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with gaps."""

    parts: tuple[str | Look, ...]
    reads: tuple[Path, ...] = ()

    def render(self, facts: Facts, item: Item) -> str:
        """Return the text; what is absent, a list or an object is empty. Raises ResultOutOfRange."""
        texts = [
            part if isinstance(part, str) else scalar_text(part(facts, item)) or ""
            for part in self.parts
        ]
        if sum(map(len, texts)) > CHANGED_TEXT_CHARS_MAX:
            raise ResultOutOfRange
        return "".join(texts)


def parse_template(
    raw: object, where: str, problems: Problems, scope: PathScope
) -> Template | None:
    """Return the template, or None after noting what is wrong with it."""
    if not isinstance(raw, str) or len(raw) > TEMPLATE_CHARS_MAX:
        problems.add(where, f"must be text of at most {TEMPLATE_CHARS_MAX} characters")
        return None
    parts: list[str | Look] = []
    reads: dict[Path, None] = {}
    position = found = 0
    for dollar in _DOLLAR.finditer(raw):
        parts.append(raw[position : dollar.start()])
        position = dollar.end()
        if dollar[0] == "$$":
            parts.append("$")
        elif dollar[1] is None:
            problems.add(where, "a $ that begins nothing", _HINT)
        elif (origin := parse_origin(dollar[1], where, problems, scope)) is not None:
            found += 1
            parts.append(origin.look)
            reads.update(dict.fromkeys(origin.reads))
    parts.append(raw[position:])
    if found > TEMPLATE_PATHS_MAX:
        problems.add(where, f"more than {TEMPLATE_PATHS_MAX} values in one template")
    return Template(tuple(part for part in parts if part), tuple(reads))
