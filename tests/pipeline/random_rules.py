"""Random rules, profiles and events from a seed: every operator, quantifier, root and action."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tagstitch.core.operators import OPERATORS
from tagstitch.core.text_computation import OPERATORS as COMPUTATIONS

EVENT_NAMES: Final = ("purchase", "view_item", "add_to_cart", "page_view")
TIERS: Final = ("Gold", "Silver", "Churn Risk", "")

OPERANDS: Final[dict[str, list[Any]]] = {
    "equals": ["Gold", 5, True, None, {"b": 1}], "in": [["Gold", 5, True], ["A", "B"]],
    "lessThan": [10, 50.5], "atMost": [5], "greaterThan": [5], "atLeast": [0, 20],
    "between": [[0, 10], ["now-30d", "now"]], "before": ["now-5d", 1_800_000_000], "after": ["2026-01-01"],
    "exists": [True, False], "isEmpty": [True, False], "contains": ["o", "A"], "startsWith": ["G", "1"],
    "endsWith": ["d", "0"], "matches": ["^G", "[0-9]+"], "anyOf": [["A", 1]], "allOf": [["A"]],
    "size": [2, {"atLeast": 1}], "versionAtLeast": ["1.2"], "versionBelow": ["2.0"],
    "cidr": ["10.0.0.0/8"], "percent": [[0, 50]], "type": ["string", "number", "boolean", "list", "object"],
}  # fmt: skip
assert set(OPERANDS) == set(OPERATORS)

PATHS: Final = (
    "value", "tier", "event.tier", "profile.tier", "user_state.seen", "user_state.stage", "gtm.start",
    "user.plan.name", "profile.visits", "profile.since", "items[0].price", "items.1.price", "tags",
    '["lit.eral"]', "address", "version", "event_name", "profile.tags",
)  # fmt: skip
LISTS: Final = ("items.{}.price", "items.{}.brand", "tags.{}", "profile.tags.{}", "user.lists.{}.a")
TARGETS: Final = ("value", "tax", "coupon", "user.plan.name", "items[0].price", "gtm.start", "tier")

COMPUTATION_DETAILS: Final[dict[str, dict[str, Any]]] = {
    "set": {"operand": "x"}, "set_default": {"operand": 1}, "multiply": {"operand": 0.5},
    "add": {"operand": 2.25}, "round": {"operand": 1}, "copy": {"from": "profile.tier"}, "delete": {},
    "lower": {}, "upper": {}, "trim": {}, "map": {"table": {"Gold": "G", "5": "five"}, "default": "?"},
    "hash": {}, "regex_replace": {"pattern": "o+", "replacement": "0"},
    "template": {"template": "${tier}/${profile.visits}/${user_state.seen}/${event_name}"},
}  # fmt: skip
assert set(COMPUTATION_DETAILS) == set(COMPUTATIONS)


class RandomRules:
    """Draws definitions; what it drew is counted by whoever looks at the result."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def comparison(self, *, positive: bool = False) -> dict[str, Any]:
        word = self.random.choice(sorted(OPERANDS))
        negation = "" if positive or self.random.random() < 0.6 else "not_"
        operands = OPERANDS[word]
        if positive:  # behind a bare $ nothing may want absence
            operands = [o for o in operands if o is not None and o is not (word == "isEmpty")]
            operands = [o for o in operands if not (word == "exists" and o is False)] or ["A"]
            word = word if word not in ("exists", "isEmpty") else "contains"
            operands = operands if word != "contains" else ["A"]
        found = {negation + word: self.random.choice(operands)}
        return found | {"salt": "s"} if word == "percent" else found

    def predicate(self) -> dict[str, Any]:
        kind = self.random.randrange(12)
        if kind < 6:
            return {self.random.choice(PATHS): self.comparison()}
        if kind < 9:
            mark = self.random.choice(["$", "$any", "$all", "$none"])
            return {self.random.choice(LISTS).format(mark): self.comparison(positive=mark == "$")}
        return self.random.choice([
            {"items.$count": {"atLeast": 2}},
            {"items.$": {"match": {"brand": "A", "price": {"lessThan": 20}}}},
            {"tier": {"changed": self.random.random() < 0.5}},
            {"experiment.banner": self.random.choice(["A", "B"])},
            {"profile": {"inAudience": "loyal"}},
        ])  # fmt: skip

    def conditions(self) -> dict[str, Any]:
        kind = self.random.randrange(6)
        if kind == 0:
            return {}
        if kind == 1:
            group = self.random.choice(["any", "all", "none"])
            return {group: [self.predicate(), self.predicate()]}
        return self.predicate()

    def event_action(self) -> dict[str, Any]:
        kind = self.random.randrange(10)
        if kind < 4:
            word = self.random.choice(sorted(COMPUTATION_DETAILS))
            target = self.random.choice(TARGETS)
            details = {"parameter": target, "operator": word, **COMPUTATION_DETAILS[word]}
            return {"type": "modify_parameter", **details}
        if kind == 4:
            word = self.random.choice(sorted(COMPUTATION_DETAILS))
            details = {"item_property": "price", "operator": word, **COMPUTATION_DETAILS[word]}
            return {"type": "map_items", **details, "match": {"brand": "A"}}
        return self.random.choice([
            {"type": "rename_event", "new_event_name": "renamed"},
            {"type": "filter_items", "match": {"price": {"atLeast": 10}}},
            {"type": "redact", "parameters": ["user.mail", "note"]},
            {"type": "sample", "percent": 95},
            {"type": "modify_parameter", "parameter": "copy", "operator": "copy", "from": "user.plan"},
            {"type": "redact", "parameters": ["user"]},
            {"type": "drop_event"},
        ])  # fmt: skip

    def personal_action(self) -> dict[str, Any]:
        return self.random.choice([
            {"type": "set_client_cookie", "cookie_name": "c", "cookie_value": "1"},
            {"type": "return_value", "key": "k", "value": {"a": [1]}},
            {"type": "set_state", "updates_user_state": {"stage": self.random.randrange(3)}},
            {"type": "webhook", "endpoint": "e", "once_per": "day", "body": {"t": "${profile.tier} ${coupon}"}},
            {"type": "send_email", "template_id": "t", "recipient": "profile.email", "once_per": "visitor"},
        ])  # fmt: skip

    def gates(self) -> dict[str, Any]:
        return self.random.choice([{}, {}, {}, {}, {},
            {"frequency_cap": {"max": 2, "per": "day"}}, {"frequency_cap": {"max": 3, "group": "offers"}},
            {"rollout": 60}, {"rollout": {"percent": 40, "by": "coupon"}}, {"shadow": True},
            {"consent": {"purpose": "analytics_storage"}}, {"stop_on_match": True},
            {"schedule": {"hours": "08:00-23:00"}},
        ])  # fmt: skip

    def rule(self, action: dict[str, Any]) -> dict[str, Any]:
        names = self.random.choice(["*", "purchase", ["purchase", "view_item"], "add_to_cart"])
        return {
            "target_event_name": names,
            "conditions": self.conditions(),
            "match_all": True,
            "actions": [action],
            "priority": self.random.randrange(50),
        } | self.gates()

    def event_rules(self, number: int) -> dict[str, Any]:
        rules = {f"e{n}": self.rule(self.event_action()) for n in range(number)}
        for rule in rules.values():
            if self.random.random() < 0.15:
                rule["chain"] = True
            if rule["actions"][0]["type"] == "drop_event":  # or nothing else would be left
                rule["conditions"] = {"value": {"between": [90, 92]}}
        return rules

    def personalization_rules(self, number: int) -> dict[str, Any]:
        return {f"p{n}": self.rule(self.personal_action()) for n in range(number)}

    def attributes(self, canary: str) -> dict[str, Any]:
        choice = self.random.choice
        return {
            "tier": choice(TIERS), "visits": self.random.randrange(30), "email": f"{canary}@example.com",
            "tags": choice([["A", 1], [], "A", None]), "since": choice(["2026-11-20", "2025-01-01"]),
            "unused": canary,
        }  # fmt: skip

    def event(self, client_id: str, canary: str) -> dict[str, Any]:
        choice, event = self.random.choice, {"event_name": self.random.choice(EVENT_NAMES)}
        items = [
            {"price": choice([5, 12.5, "19.90", None]), "brand": choice(["A", "B"]), "item_id": canary}
            for _ in range(self.random.randrange(4))
        ]  # fmt: skip
        optional = {
            "value": choice([5, 91, 10.25, "7.50", "x", True]), "tier": choice(TIERS), "items": items,
            "tags": choice([["A", "B"], "A", [1]]), "gtm.start": 1_795_000_000, "gtm": {"start": 1},
            "user": {"mail": canary, "plan": {"name": choice(["Gold", "pro"]), "z": canary}, "lists": [{"a": 1}]},
            "lit.eral": 5, "coupon": canary, "note": canary, "address": choice(["10.0.0.1", "1.1.1.1"]),
            "version": choice(["1.1", "1.10", "3"]), "z": {"z": [canary]},
        }  # fmt: skip
        kept = {name: value for name, value in optional.items() if self.random.random() < 0.7}
        return {**event, **kept, "client_id": client_id}
