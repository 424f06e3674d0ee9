"""One list of log lines and metrics: code, registry, deployment and document say the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagstitch.pipeline import log_events
from tagstitch.pipeline.log_events import LogEvent
from tagstitch.pipeline.log_metrics import LOG_METRICS, PLATFORM_METRICS

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"
DOCUMENT = ROOT / "docs" / "observability.md"
CODE = [
    *sorted((ROOT / "tagstitch").rglob("*.py")),
    *sorted((ROOT / "functions").rglob("*.py")),
    *sorted((ROOT / "push_service").rglob("*.py")),
]
WRITERS = {ROOT / "tagstitch/pipeline/log_events.py", ROOT / "tagstitch/adapters/log.py"}
"""The files that hand a record to `logging`; everything else hands them a LogEvent."""

EVENTS: list[type[LogEvent]] = sorted(
    (
        value
        for value in vars(log_events).values()
        if isinstance(value, type) and issubclass(value, LogEvent) and value is not LogEvent
    ),
    key=lambda event: event.message.lower(),
)

FIELDS_OF_EVERY_LINE = {
    "severity", "message", "time", "exception", "frames", "function", "caller", "request_id",
    "message_id",
}  # fmt: skip

LABELS = {
    "metric.label.response_class", "metric.label.response_code_class",
    "metric.labels.response_class", "metric.labels.response_code_class",
    "resource.label.database_id", "resource.label.service_name", "resource.label.subscription_id",
    "resource.label.topic_id",
}  # fmt: skip
"""Labels of the platform's own metrics that we group by: each has a handful of values."""


def calls(path: Path) -> Iterator[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(path: Path, function: str) -> Iterator[ast.Call]:
    return (
        call
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == function and call.args
    )


def terraform(name: str) -> str:
    return (INFRA / name).read_text(encoding="utf-8")


def deployed_filters() -> dict[str, str]:
    """Return metric -> filter as infra/logging.tf writes it."""
    block = terraform("logging.tf").partition("log_metrics = {")[2].partition("\n  }")[0]
    rows = re.findall(r'^ +(\w+) += "(.*)"$', block, re.MULTILINE)
    return {name: text.replace('\\"', '"') for name, text in rows}


def row(event: type[LogEvent]) -> str:
    """Return the event's row in the document."""
    fields = ", ".join(f"`{name}`" for name in event.__struct_fields__)
    counted = ", ".join(f"`{name}`" for name, m in LOG_METRICS.items() if event in m.counts)
    says = " ".join((event.__doc__ or "").split())
    return f"| `{event.message}` | {event.severity} | {fields} | {says} | {counted} |"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_line_of_the_log_is_a_member_of_the_registry(path: Path) -> None:
    levels = {"debug", "info", "warning", "warn", "error", "exception", "critical", "log", "handle"}
    past_the_registry = [
        ast.unparse(call)
        for call in calls(path)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in levels
        and re.search(r"logg(er|ing)", ast.unparse(call.func.value), re.IGNORECASE)
    ]

    assert past_the_registry == [] or path in WRITERS


def test_every_member_of_the_registry_is_written_somewhere() -> None:
    made = {
        call.func.id for path in CODE for call in calls(path) if isinstance(call.func, ast.Name)
    }

    assert {event.__name__ for event in EVENTS} - made == set()


def test_a_name_belongs_to_one_line_and_a_field_to_itself() -> None:
    names = [event.message for event in EVENTS]

    assert len(names) == len(set(names)) > 30
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*|AUDIT_FALLBACK", name)] == []  # fmt: skip
    assert {event: fields for event in EVENTS if (fields := FIELDS_OF_EVERY_LINE & set(event.__struct_fields__))} == {}  # fmt: skip


def test_the_document_lists_every_line_and_no_other() -> None:
    table = DOCUMENT.read_text(encoding="utf-8").partition("\n## Lines\n")[2]
    rows = re.findall(r"^\| `.*$", table.partition("\n## ")[0], re.MULTILINE)

    assert rows == [row(event) for event in EVENTS]


def test_the_deployment_counts_what_the_registry_says() -> None:
    deployed = deployed_filters()
    ours = {name: text for name, text in deployed.items() if name not in PLATFORM_METRICS}

    assert deployed.keys() == LOG_METRICS.keys() | PLATFORM_METRICS
    assert ours == {
        name: "${local.our_lines} AND " + metric.filter() for name, metric in LOG_METRICS.items()
    }


def test_what_a_metric_asks_of_a_field_is_there_to_be_asked() -> None:
    for metric in LOG_METRICS.values():
        for event in metric.counts:
            assert metric.where.keys() <= set(event.__struct_fields__)


def test_an_alert_names_a_metric_that_is_counted_and_the_dashboard_draws_each() -> None:
    named = set(re.findall(r'log_metric\["(\w+)"\]', terraform("monitoring.tf")))

    assert len(named) > 5
    assert named <= LOG_METRICS.keys() | PLATFORM_METRICS
    assert "for name in sort(keys(local.log_metrics))" in terraform("dashboard.tf")


def test_every_bug_that_is_caught_raises_an_alert() -> None:
    caught = {
        word
        for path in CODE
        for call in called(path, "log_crash")
        for word in re.findall(r"[A-Z]\w+", ast.unparse(call.args[0]))
    } | {"RequestFailed"}
    crashes = LOG_METRICS["crashes"].counts

    assert {event.__name__ for event in crashes} == caught
    assert 'log_metric["crashes"]' in terraform("monitoring.tf")


def test_no_metric_has_a_label_of_ours() -> None:
    block = terraform("logging.tf").partition('resource "google_logging_metric"')[2]

    assert "metric_descriptor" in block
    assert re.findall(r"\blabel\w*", block) == []


def test_a_chart_or_alert_groups_by_labels_of_few_values_only() -> None:
    text = terraform("monitoring.tf") + terraform("dashboard.tf")
    grouped = set(re.findall(r'by = "([\w.]+)"', text))
    filtered = set(re.findall(r"\bmetric\.labels?\.\w+", text))

    assert grouped
    assert grouped | filtered <= LABELS
