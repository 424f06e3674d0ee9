"""The published rule engines, each used as its documentation advises for many rules.

All get their rules grouped by event name and compiled once, and an event whose JSON was read and
checked as our own decision does; those that convert it get only the parameters that the
conditions look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import cel
import datalogic_py
import zen
from growthbook.core import evalCondition

from bench.rule_engines.candidate import Answer, Match, NamedRules, load_by_name
from bench.rule_engines.rule_set import Definition, Predicate, predicates


def load_zen(rules: Mapping[str, Definition]) -> Answer:
    """Make one decision table for each event name, with the policy `collect`."""
    engine = zen.ZenEngine()

    def compile_rules(named: NamedRules) -> Match:
        content = zen.ZenDecisionContent(json.dumps(_zen_graph(named)))
        evaluate = engine.create_decision(content).evaluate
        return lambda event: [row["rule"] for row in evaluate(named.facts(event))["result"]]

    return load_by_name(rules, compile_rules)


def _zen_graph(named: NamedRules) -> dict[str, Any]:
    fields = sorted(named.parameters)
    rows = []
    for position, (rule_id, rule) in enumerate(named.rules):
        cells = {p.parameter: _zen_cell(p) for p in predicates(rule)}
        rows.append({"_id": rule_id, **dict.fromkeys(fields, ""), **cells, "rule": str(position)})
    place = {"x": 0, "y": 0}
    table = {
        "hitPolicy": "collect",
        "inputs": [{"id": field, "name": field, "field": field} for field in fields],
        "outputs": [{"id": "rule", "name": "rule", "field": "rule"}],
        "rules": rows,
    }
    return {
        "contentType": "application/vnd.gorules.decision",
        "nodes": [
            {"id": "in", "name": "in", "type": "inputNode", "position": place},
            {"id": "table", "name": "table", "type": "decisionTableNode", "position": place,
             "content": table},
            {"id": "out", "name": "out", "type": "outputNode", "position": place},
        ],
        "edges": [
            {"id": "first", "type": "edge", "sourceId": "in", "targetId": "table"},
            {"id": "second", "type": "edge", "sourceId": "table", "targetId": "out"},
        ],
    }  # fmt: skip


def _zen_cell(predicate: Predicate) -> str:
    operand = json.dumps(predicate.operand)
    if predicate.item_property is not None:
        return f"some($, #.{predicate.item_property} == {operand})"
    if predicate.operator == "in":
        return ", ".join(map(json.dumps, predicate.operand))
    if predicate.operator == "startsWith":
        return f"startsWith($, {operand})"
    return {"equals": "", "lessThan": "< ", "atLeast": ">= "}[predicate.operator] + operand


def load_json_logic(rules: Mapping[str, Definition]) -> Answer:
    """Hold all rules of an event name against one data handle in one call."""
    engine = datalogic_py.Engine()
    session = engine.session()

    def compile_rules(named: NamedRules) -> Match:
        compiled = [engine.compile(_json_logic(rule)) for _, rule in named.rules]

        def match(event: Mapping[str, Any]) -> Iterable[int]:
            results = session.evaluate_many(compiled, datalogic_py.DataHandle(named.facts(event)))
            return [position for position, result in enumerate(results) if result == "true"]

        return match

    return load_by_name(rules, compile_rules)


_JSON_LOGIC_WORDS: Final = {
    "equals": "===", "in": "in", "lessThan": "<", "atLeast": ">=", "startsWith": "starts_with",
}  # fmt: skip


def _json_logic(rule: Definition) -> dict[str, Any]:
    return {"and": [_json_logic_of(predicate) for predicate in predicates(rule)]}


def _json_logic_of(predicate: Predicate) -> dict[str, Any]:
    if predicate.item_property is not None:
        test = {"===": [{"var": predicate.item_property}, predicate.operand]}
        return {"some": [{"var": predicate.parameter}, test]}
    word = _JSON_LOGIC_WORDS[predicate.operator]
    return {word: [{"var": predicate.parameter}, predicate.operand]}


def load_growthbook(rules: Mapping[str, Definition]) -> Answer:
    """Evaluate the condition of each rule of an event name in turn."""

    def compile_rules(named: NamedRules) -> Match:
        conditions = [_growthbook(rule) for _, rule in named.rules]
        return lambda event: [
            position
            for position, condition in enumerate(conditions)
            if evalCondition(event, condition)
        ]

    return load_by_name(rules, compile_rules)


def _growthbook(rule: Definition) -> dict[str, Any]:
    return {predicate.parameter: _growthbook_of(predicate) for predicate in predicates(rule)}


def _growthbook_of(predicate: Predicate) -> Any:
    operand = predicate.operand
    if predicate.item_property is not None:
        return {"$elemMatch": {predicate.item_property: operand}}
    write: Mapping[str, Callable[[Any], Any]] = {
        "equals": lambda value: value,
        "in": lambda values: {"$in": values},
        "lessThan": lambda bound: {"$lt": bound},
        "atLeast": lambda bound: {"$gte": bound},
        "startsWith": lambda start: {"$regex": "^" + re.escape(start)},
    }
    return write[predicate.operator](operand)


def load_cel(rules: Mapping[str, Definition]) -> Answer:
    """Execute the compiled program of each rule of an event name in one context."""

    def compile_rules(named: NamedRules) -> Match:
        programs = [cel.compile(_cel(rule)).execute for _, rule in named.rules]

        def match(event: Mapping[str, Any]) -> Iterable[int]:
            context = cel.Context({"event": named.facts(event)})
            return [position for position, execute in enumerate(programs) if execute(context)]

        return match

    return load_by_name(rules, compile_rules)


def _cel(rule: Definition) -> str:
    return " && ".join(_cel_of(predicate) for predicate in predicates(rule))


def _cel_of(predicate: Predicate) -> str:
    value, operand = f"event.{predicate.parameter}", json.dumps(predicate.operand)
    if predicate.item_property is not None:
        return f"{value}.exists(item, item.{predicate.item_property} == {operand})"
    if predicate.operator == "startsWith":
        return f"{value}.startsWith({operand})"
    word = {"equals": "==", "in": "in", "lessThan": "<", "atLeast": ">="}[predicate.operator]
    test = f"{value} {word} {operand}"
    return f"has({value}) && {test}" if predicate.parameter == "coupon" else test
