"""What the schemas and the parsers must judge alike: (name, value, whether it is valid)."""

from __future__ import annotations

from typing import Any

Case = tuple[str, Any, bool]

_ONE = {"identifiers": [{"type": "client_id", "value": "1.2"}]}


def _identified(**fields: Any) -> dict[str, Any]:
    return {**_ONE, **fields}


STITCH_REQUESTS: list[Case] = [
    ("a list of identifiers", _ONE, True),
    ("an object of identifiers", {"identifiers": {"client_id": "1.2", "user_id": 7}}, True),
    ("a bare id", {"id": "R1"}, True),
    ("a bare number", {"id": 17}, True),
    ("a bare id beside no identifiers", {"id": "R1", "identifiers": []}, True),
    ("nothing", {}, False),
    ("no identifiers", {"identifiers": []}, False),
    ("an empty object of identifiers", {"identifiers": {}}, False),
    ("nulls", {"id": None, "identifiers": None}, False),
    ("no object", [], False),
    ("a type that is not declared", {"identifiers": {"colour": "blue"}}, False),
    ("a value that is a flag", {"identifiers": {"user_id": True}}, False),
    ("a value that is null", {"identifiers": [{"type": "user_id", "value": None}]}, False),
    ("a value that is missing", {"identifiers": [{"type": "user_id"}]}, False),
    ("a type that is missing", {"identifiers": [{"value": "1.2"}]}, False),
    ("an identifier that is text", {"identifiers": ["1.2"]}, False),
    ("a control character", {"identifiers": {"user_id": "a\u0007b"}}, False),
    ("a long value", {"identifiers": {"user_id": "x" * 512}}, True),
    ("a value that is too long", {"identifiers": {"user_id": "x" * 513}}, False),
    (
        "too many identifiers",
        {"identifiers": [{"type": "user_id", "value": str(n)} for n in range(21)]},
        False,
    ),
    ("a blank bare id", {"id": "  "}, False),
    ("a bare id with a line break", {"id": "a\nb"}, False),
    ("a bare flag", {"id": True}, False),
    ("this version and type", _identified(v=1, type="stitch_request"), True),
    ("another version", _identified(v=2), False),
    ("no version", _identified(v=None), False),
    ("another type", _identified(type="erasure"), False),
    ("a request id", _identified(request_id="a_b:c@d=e+f~g-1"), True),
    ("a request id with a dot", _identified(request_id="a.b"), False),
    ("an empty request id", _identified(request_id=""), False),
    ("a request id that is null", _identified(request_id=None), True),
    ("a long request id", _identified(request_id="x" * 129), False),
    ("no hops", _identified(hops=0), True),
    ("hops that are null", _identified(hops=None), True),
    ("three hops", _identified(hops=3), True),
    ("three hops as a number with a point", _identified(hops=3.0), True),
    ("a fourth hop", _identified(hops=4), False),
    ("half a hop", _identified(hops=0.5), False),
    ("a hop back", _identified(hops=-1), False),
    ("a hop that is a flag", _identified(hops=True), False),
    ("a hop that is text", _identified(hops="1"), False),
    ("a caller", _identified(caller="web"), True),
    ("no caller", _identified(caller=None), True),
    ("an empty caller", _identified(caller=""), False),
    ("a caller that is a number", _identified(caller=7), False),
    ("not asserted", _identified(asserted=False), True),
    ("asserted by text", _identified(asserted="yes"), False),
    ("asserted by null", _identified(asserted=None), False),
    ("an event", _identified(event={"event_name": "login", "value": 1}), True),
    ("an event without a name", _identified(event={"value": 1}), False),
    ("an event with an empty name", _identified(event={"event_name": ""}), False),
    ("an event that is a list", _identified(event=[]), False),
    ("no event", _identified(event=None), True),
    ("an event of too many parameters", _identified(
        event={"event_name": "x", **{str(n): n for n in range(2_000)}}
    ), False),
    ("a view and a callback", _identified(view="v", callback="main", event_id="e"), True),
    ("an empty view", _identified(view=""), False),
    ("a callback that is an object", _identified(callback={"url": "x"}), False),
    ("a context", _identified(context={"order": [1]}), True),
    ("a context that is text", _identified(context="order"), False),
    ("a consent", _identified(consent={"analytics_storage": "denied"}), True),
    ("a consent that is a flag", _identified(consent=True), False),
    ("times", _identified(
        occurred_at="2026-11-21T20:00:00Z", expires_at="2026-11-21T21:00:00.5+01:00"
    ), True),
    ("a time without an offset", _identified(occurred_at="2026-11-21T20:00:00"), False),
    ("a time that is a number", _identified(occurred_at=1795000000), False),
    ("a time that is a word", _identified(expires_at="tomorrow"), False),
    ("a preview header", _identified(preview="ZW52LTF8a2V5"), True),
    ("a preview header with a line break", _identified(preview="a\r\nb: c"), False),
    ("a preview header that is too long", _identified(preview="x" * 2049), False),
    ("fields that nobody knows", _identified(colour="blue"), True),
]  # fmt: skip

_RECORD = {
    "record_id": "r-1",
    "record_type": "event_decision",
    "occurred_at": "2026-11-21T20:00:00Z",
    "outcome": "modified",
}


def _record(**fields: Any) -> dict[str, Any]:
    return {**_RECORD, **fields}


AUDIT_MESSAGES: list[Case] = [
    ("the least of a record", _RECORD, True),
    ("several records", {"v": 1, "records": [_RECORD, _RECORD], "pending": ["outbox/x"]}, True),
    ("no records", {"records": []}, True),
    ("a field that is no column", _record(colour="blue"), True),
    ("a full record", _record(
        rule_ids=["a"], modifications=[{"rule_id": "a"}], consent={}, degraded=["profile"],
        latency_ms=1.5, receipt="c2VhbGVk", extra={"x": 1}, subject=None,
    ), True),
    ("nothing", {}, False),
    ("no object", [_RECORD], False),
    ("a type that nobody writes", _record(record_type="page_view"), False),
    ("an id that is a number", _record(record_id=1), False),
    ("a latency that is text", _record(latency_ms="1"), False),
    ("rule ids that are null", _record(rule_ids=None), False),
    ("rule ids that are numbers", _record(rule_ids=[1]), False),
    ("modifications that are text", _record(modifications="all"), False),
    ("an extra that is a list", _record(extra=[]), False),
    ("records that are one record", {"records": _RECORD}, False),
    ("a record without an outcome", {"records": [{**_RECORD, "outcome": None}]}, False),
    ("pending that is text", {"records": [], "pending": "outbox/x"}, False),
]  # fmt: skip

_KEY = "user_id:" + "A" * 26

PROFILE_LINES: list[Case] = [
    ("identifiers", {"identifiers": {"user_id": ["u-1", 2]}}, True),
    ("one value of a type", {"identifiers": {"user_id": "u-1"}}, True),
    ("a profile id", {"profile_id": "loyalty-card-88"}, True),
    ("keys of an export", {"identifier_keys": [_KEY]}, True),
    ("attributes", {"profile_id": "p", "attributes": {"a": {"b": [1, {"c": None}]}}}, True),
    ("consent", {"profile_id": "p", "consent": {"email": "granted", "x": 1, "y": {}}}, True),
    (
        "consent with a time",
        {"profile_id": "p", "consent": {"x": {"granted": True, "at": "2026-11-21T20:00:00Z"}}},
        True,
    ),
    ("nulls", {"profile_id": "p", "identifiers": None, "attributes": None, "consent": None}, True),
    (
        "times of attributes",
        {
            "profile_id": "p",
            "attributes": {"tier": "Gold", "store": "Vienna"},
            "attributes_at": "2026-11-21T20:00:00+01:00",
            "attribute_times": {"tier": "2026-11-20T20:00:00Z", "store": None},
            "created_at": "2026-01-01T00:00:00Z",
        },
        True,
    ),
    (
        "times that are null",
        {"profile_id": "p", "attributes_at": None, "attribute_times": None, "created_at": None},
        True,
    ),
    (
        "a time of attributes without an offset",
        {"profile_id": "p", "attributes_at": "2026-11-21T20:00"},
        False,
    ),
    (
        "a time of attributes that is a number",
        {"profile_id": "p", "attributes_at": 1763755200},
        False,
    ),
    ("times of attributes that are a list", {"profile_id": "p", "attribute_times": []}, False),
    (
        "a time of an attribute that is none",
        {"profile_id": "p", "attributes": {"a": 1}, "attribute_times": {"a": "yesterday"}},
        False,
    ),
    ("a beginning that is none", {"profile_id": "p", "created_at": "soon"}, False),
    ("nothing", {}, False),
    ("nobody", {"attributes": {"a": 1}}, False),
    ("no values of a type", {"identifiers": {"user_id": []}}, False),
    ("no object", ["p"], False),
    ("a field that a line does not have", {"profile_id": "p", "attribute": {}}, False),
    ("a profile id that is a number", {"profile_id": 7}, False),
    ("a profile id with a slash", {"profile_id": "a/b"}, False),
    ("a profile id of the store", {"profile_id": "__p"}, False),
    ("a type that is not declared", {"identifiers": {"colour": "blue"}}, False),
    ("a value that is a flag", {"identifiers": {"user_id": [True]}}, False),
    ("a key that is none", {"profile_id": "p", "identifier_keys": ["user_id:x"]}, False),
    ("attributes that are a list", {"profile_id": "p", "attributes": [1]}, False),
    ("an attribute without a name", {"profile_id": "p", "attributes": {"": 1}}, False),
    ("a reserved attribute", {"profile_id": "p", "attributes": {"__a__": 1}}, False),
    ("a reserved attribute of three", {"profile_id": "p", "attributes": {"___": 1}}, False),
    ("an attribute with a prefix", {"profile_id": "p", "attributes": {"__a": 1, "_": 2}}, True),
    ("a purpose without a name", {"profile_id": "p", "consent": {"": True}}, False),
    ("a purpose like no other", {"profile_id": "p", "consent": {"__a__": True}}, False),
    ("consent that is a flag", {"profile_id": "p", "consent": True}, False),
    (
        "consent with a time without an offset",
        {"profile_id": "p", "consent": {"x": {"granted": True, "at": "2026-11-21T20:00"}}},
        False,
    ),
]

_RENAME = {"action_type": "rename_event", "action_details": {"new_event_name": "small"}}
_COOKIE = {
    "action_type": "set_client_cookie",
    "action_details": {"cookie_name": "c", "cookie_value": "v"},
}


def _event_rule(**fields: Any) -> dict[str, Any]:
    return {"target_event_name": "purchase", "conditions": {"value": 1}, **_RENAME, **fields}


def _event_action(**action: Any) -> dict[str, Any]:
    rule = {"target_event_name": "purchase", "match_all": True}
    return {**rule, "actions": [action]}


def _modify(**details: Any) -> dict[str, Any]:
    return _event_action(type="modify_parameter", **{"parameter": "value", **details})


def _filter(**details: Any) -> dict[str, Any]:
    return _event_action(type="filter_items", **details)


def _map(**details: Any) -> dict[str, Any]:
    return _event_action(type="map_items", **{"item_property": "price", **details})


def _sample(**details: Any) -> dict[str, Any]:
    return _event_action(type="sample", **{"percent": 10, **details})


def _value(comparison: Any) -> dict[str, Any]:
    return _event_rule(conditions={"value": comparison})


def _without(rule: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name not in fields}


def _email(**details: Any) -> dict[str, Any]:
    base = {"type": "send_email", "template_id": "welcome", "recipient": "profile.email"}
    return _action(**{**base, **details})


def _crm(**details: Any) -> dict[str, Any]:
    base = {"object": "Contact", "external_id": "profile.crm_id", "fields": {"Tier__c": "Gold"}}
    return _action(**{"type": "update_crm", **base, **details})


EVENT_RULES: list[Case] = [
    ("the least of a rule", _event_rule(), True),
    ("both names of the event's field", _event_rule(event_name_trigger="purchase"), False),
    ("no event", _without(_event_rule(), "target_event_name"), False),
    ("several events", _event_rule(target_event_name=["a", "*"]), True),
    ("no event's name", _event_rule(target_event_name=[]), False),
    ("an event that is a number", _event_rule(target_event_name=7), False),
    ("descriptive fields", _event_rule(description="x", owner="y", tags=["z"]), True),
    ("a field of other people", _event_rule(created_by="somebody"), True),
    ("nulls where a default is", _event_rule(priority=None, is_active=None, match_all=None), True),
    ("a priority", _event_rule(priority=-3), True),
    ("a priority of a whole float", _event_rule(priority=5.0), True),
    ("a priority that is no whole number", _event_rule(priority=1.5), False),
    ("a priority that is a flag", _event_rule(priority=True), False),
    ("a switch that is text", _event_rule(is_active="yes"), False),
    ("no conditions", _without(_event_rule(), "conditions"), False),
    ("empty conditions", _event_rule(conditions={}), False),
    ("no conditions on purpose", _event_rule(conditions={}, match_all=True), True),
    ("conditions that are a list", _event_rule(conditions=[1]), False),
    ("a schedule", _event_rule(schedule={"from": "x"}), False),
    ("a schedule that is left empty", _event_rule(schedule=None, rollout=None), True),
    ("a schedule that is no object", _event_rule(schedule=False), False),
    ("a purpose", _event_rule(purposes=["email"]), True),
    ("no action", _without(_event_rule(), "action_type", "action_details"), False),
    ("details without a type", _without(_event_rule(), "action_type"), False),
    ("an unknown action", _event_rule(action_type="explode"), False),
    ("one action of two ways", _event_rule(actions=[{"type": "drop_event"}]), False),
    ("an empty list of actions", _event_action() | {"actions": []}, False),
    ("an action without a type", _event_action(new_event_name="x"), False),
    ("a drop", _event_rule(action_type="drop_event", action_details={}), True),
    ("a drop without details", _event_rule(action_type="drop_event", action_details=None), True),
    ("a drop with a word", _event_action(type="drop_event", why="x"), False),
    ("a rename", _event_action(type="rename_event", new_event_name="small"), True),
    ("a rename to nothing", _event_action(type="rename_event"), False),
    ("a rename to an empty name", _event_action(type="rename_event", new_event_name=""), False),
    ("a rename to every event", _event_action(type="rename_event", new_event_name="*"), False),
    ("a rename without details", _event_rule(action_details=None), False),
    ("a rename with a word", _event_action(type="rename_event", new_event_name="x", y=1), False),
    ("set", _modify(operator="set", operand={"a": [1]}), True),
    ("set by the other word", _modify(operator="set", value="x"), True),
    ("set by both words", _modify(operator="set", value="x", operand="x"), False),
    ("set to nothing", _modify(operator="set"), False),
    ("set to null", _modify(operator="set", operand=None), False),
    ("set_default", _modify(operator="set_default", operand=0), True),
    ("multiply", _modify(operator="multiply", operand=0.5, round=2), True),
    ("multiply by text", _modify(operator="multiply", operand="0.5"), False),
    ("multiply to many places", _modify(operator="multiply", operand=2, round=7), False),
    ("add", _modify(operator="add", operand=-1, round=None), True),
    ("round", _modify(operator="round", operand=0), True),
    ("round to whole numbers", _modify(operator="round"), True),
    ("round to a flag", _modify(operator="round", operand=True), False),
    ("copy", _modify(operator="copy", **{"from": "profile.tier"}), True),
    ("copy from nowhere", _modify(operator="copy"), False),
    ("delete", _modify(operator="delete"), True),
    ("delete with an operand", _modify(operator="delete", operand=1), False),
    ("lower", _modify(operator="lower"), True),
    ("map", _modify(operator="map", table={"a": 1, "": {"b": []}}, default="other"), True),
    ("map by the other word", _modify(operator="map", operand={"a": 1}, default=None), True),
    ("map by both words", _modify(operator="map", operand={"a": 1}, table={"a": 1}), False),
    ("map without a table", _modify(operator="map", default=1), False),
    ("map by an empty table", _modify(operator="map", table={}), False),
    ("map by a list", _modify(operator="map", table=[1]), False),
    ("map to null", _modify(operator="map", table={"a": None}), False),
    ("map of a long key", _modify(operator="map", table={"k" * 257: 1}), False),
    (
        "map of many keys",
        _modify(operator="map", table={str(n): 1 for n in range(1_001)}),
        False,
    ),
    ("hash", _modify(operator="hash"), True),
    ("hash of what is normal", _modify(operator="hash", normalize=True), True),
    ("hash with null", _modify(operator="hash", normalize=None), True),
    ("hash with a word", _modify(operator="hash", normalize="yes"), False),
    ("hash with an algorithm", _modify(operator="hash", algorithm="md5"), False),
    ("regex_replace", _modify(operator="regex_replace", pattern="a", replacement=""), True),
    ("regex_replace by nothing", _modify(operator="regex_replace", pattern="a"), False),
    ("regex_replace of nothing", _modify(operator="regex_replace", replacement="a"), False),
    (
        "regex_replace of an empty pattern",
        _modify(operator="regex_replace", pattern="", replacement=""),
        False,
    ),
    (
        "regex_replace by a long text",
        _modify(operator="regex_replace", pattern="a", replacement="x" * 257),
        False,
    ),
    (
        "regex_replace by a number",
        _modify(operator="regex_replace", pattern="a", replacement=1),
        False,
    ),
    ("template", _modify(operator="template", template="${a}-${event.b.c} $$"), True),
    ("template by the other word", _modify(operator="template", operand=""), True),
    ("template of a number", _modify(operator="template", template=1), False),
    ("template that is long", _modify(operator="template", template="x" * 2_049), False),
    ("no template", _modify(operator="template"), False),
    ("an action for a purpose", _modify(operator="delete", purposes=["my.purpose"]), True),
    ("an action by consent", _modify(operator="delete", consent={"purpose": "email"}), True),
    ("an action for no purpose", _modify(operator="delete", purposes=[]), False),
    ("an action by two words", _modify(operator="delete", purposes="a", consent={}), False),
    (
        "an action by a word and nothing",
        _modify(operator="delete", purposes=None, consent={"purposes": ["a", "b"]}),
        True,
    ),
    ("a drop for a purpose", _event_action(type="drop_event", purposes="ad_storage"), True),
    ("map_items", _map(operator="multiply", operand=0.9), True),
    ("map_items that match", _map(operator="delete", match={"item_brand": "A"}), True),
    ("map_items with null", _map(operator="delete", match=None), True),
    ("map_items that match nothing", _map(operator="delete", match={}), False),
    ("map_items that match a list", _map(operator="delete", match=[]), False),
    ("map_items without a property", _map(operator="delete", item_property=None), False),
    ("map_items without an operator", _map(), False),
    ("map_items with a parameter", _map(operator="delete", parameter="items"), False),
    ("map_items by a hash", _map(operator="hash", normalize=True), True),
    ("a sample", _sample(), True),
    ("a sample of all", _sample(percent=100, by="session_id", salt="s"), True),
    ("a sample with nulls", _sample(by=None, salt=None), True),
    ("a sample of nobody", _sample(percent=None), False),
    ("a sample of too many", _sample(percent=100.5), False),
    ("a sample of less than none", _sample(percent=-1), False),
    ("a sample by text", _sample(percent="10"), False),
    ("a sample with an empty salt", _sample(salt=""), False),
    ("a sample with a long salt", _sample(salt="x" * 65), False),
    ("a sample by a number", _sample(by=1), False),
    ("an unknown operator", _modify(operator="divide", operand=2), False),
    ("no operator", _modify(operand=2), False),
    ("no parameter", _event_action(type="modify_parameter", operator="trim"), False),
    (
        "filter_items",
        _filter(item_property="stock", operator="not_equals", operand="out_of_stock"),
        True,
    ),
    ("filter_items by null", _filter(item_property="stock", operator="equals"), True),
    ("filter_items without an operand", _filter(item_property="stock", operator="in"), False),
    ("filter_items by a list", _filter(item_property="s", operator="in", operand=["a"]), True),
    ("filter_items by text", _filter(item_property="s", operator="lessThan", operand="a"), False),
    ("filter_items without an operator", _filter(item_property="s", operand="a"), False),
    ("filter_items by conditions", _filter(match={"price": {"atLeast": 1}}), True),
    ("filter_items by no conditions", _filter(match={}), False),
    (
        "filter_items both ways",
        _filter(match={"a": 1}, item_property="s", operator="equals"),
        False,
    ),
    ("redact", _event_action(type="redact", parameters=["user_data", "a.b"]), True),
    ("redact one", _event_action(type="redact", parameter="user_data"), True),
    ("redact by both words", _event_action(type="redact", parameter="a", parameters="b"), False),
    ("redact nothing", _event_action(type="redact", parameters=[]), False),
    ("an action of the other kind", _event_action(type="set_state"), False),
    ("a plain text", _value("a"), True),
    ("null", _value(None), True),
    ("a plain list", _value(["a", 1, True]), True),
    ("an empty list", _value([]), False),
    ("a list within a list", _value([["a"]]), False),
    ("a comparison", _value({"lessThan": 10, "at_least": 2}), True),
    ("an unknown comparison", _value({"lessThn": 10}), False),
    ("no comparison", _value({}), False),
    ("a comparison with text", _value({"lessThan": "10"}), False),
    ("a comparison with a flag", _value({"lessThan": True}), False),
    ("a negated comparison", _value({"not_contains": "a"}), True),
    ("a comparison with null", _value({"contains": None}), False),
    ("equals null", _value({"equals": None}), True),
    ("contains an empty text", _value({"contains": ""}), False),
    ("between", _value({"between": [1, 2]}), True),
    ("between three", _value({"between": [1, 2, 3]}), False),
    ("exists", _value({"exists": False}), True),
    ("exists by text", _value({"exists": "no"}), False),
    ("size", _value({"size": 3}), True),
    ("size by operators", _value({"size": {"atLeast": 1}}), True),
    ("size by text", _value({"size": "3"}), False),
    ("type", _value({"type": "list"}), True),
    ("an unknown type", _value({"type": "date"}), False),
    ("ignoreCase", _value({"contains": "a", "ignoreCase": True}), True),
    ("ignoreCase alone", _value({"ignoreCase": True}), False),
    ("ignoreCase of a number", _value({"lessThan": 1, "ignoreCase": True}), False),
    ("ignoreCase that is off", _value({"lessThan": 1, "ignoreCase": False}), True),
    ("ignoreCase by text", _value({"contains": "a", "ignoreCase": "yes"}), False),
    ("a long regular expression", _value({"matches": "a" * 257}), False),
    ("before a date", _value({"before": "2026-11-21"}), True),
    ("after a time", _value({"after": "2026-11-21T20:00:00.5+01:00"}), True),
    ("a time relative to now", _value({"not_before": "now-1d12h"}), True),
    ("a time in months", _value({"after": "now-2M"}), False),
    ("an epoch", _value({"after": 1764000000}), True),
    ("an epoch in microseconds", _value({"after": 1764000000000000}), True),
    ("a date without dashes", _value({"after": 20261121}), False),
    ("a time without separators", _value({"after": 20261121200000}), False),
    ("a date of digits", _value({"after": "20261121"}), False),
    ("an epoch in quotes", _value({"after": "1764000000"}), False),
    ("an American date", _value({"after": "11/21/2026"}), False),
    ("between dates", _value({"between": ["2026-11-01", "now"]}), True),
    ("between a date and a number", _value({"between": ["2026-11-01", 5]}), False),
    ("between texts", _value({"between": ["a", "b"]}), False),
    ("a version", _value({"version_at_least": "v2.10"}), True),
    ("a version before a release", _value({"versionBelow": "2.0.0-rc.1+build.5"}), True),
    ("a version that is a number", _value({"versionAtLeast": 2.1}), False),
    ("a version of five numbers", _value({"versionAtLeast": "1.2.3.4.5"}), False),
    ("an address", _value({"cidr": "192.0.2.1"}), True),
    ("ranges", _value({"not_cidr": ["10.0.0.0/8", "2001:db8::/32"]}), True),
    ("no ranges", _value({"cidr": []}), False),
    ("a range of a name", _value({"cidr": "localhost"}), False),
    ("a share", _value({"percent": [0, 12.5], "salt": "s"}), True),
    ("a share without a salt", _value({"percent": [0, 10]}), False),
    ("a salt without a share", _value({"equals": 1, "salt": "s"}), False),
    ("a salt alone", _value({"salt": "s"}), False),
    ("an empty salt", _value({"percent": [0, 10], "salt": ""}), False),
    ("a share of more than everybody", _value({"percent": [0, 101], "salt": "s"}), False),
    ("a share that is a number", _value({"percent": 10, "salt": "s"}), False),
    ("changed", _value({"changed": True}), True),
    ("changed and another comparison", _value({"notChanged": False, "exists": True}), True),
    ("changed by text", _value({"changed": "yes"}), False),
    (
        "changed within an element",
        _event_rule(conditions={"items.$": {"match": {"a": {"changed": True}}}}),
        False,
    ),
    ("size of what changed", _value({"size": {"changed": True}}), False),
    ("a profile by itself", _event_rule(conditions={"profile": {"exists": True}}), False),
    (
        "an element's profile",
        _event_rule(conditions={"items.$": {"match": {"profile": {"exists": True}}}}),
        True,
    ),
    ("an audience by a number", _event_rule(conditions={"profile": {"inAudience": 5}}), False),
    ("an audience of no name", _event_rule(conditions={"profile": {"inAudience": []}}), False),
    ("an audience elsewhere", _value({"inAudience": "vip"}), False),
    ("a long list of equals", _value({"equals": list(range(1_001))}), False),
    (
        "filter_items by a share",
        _filter(item_property="s", operator="percent", operand=[0, 5]),
        False,
    ),
    ("filter_items by change", _filter(item_property="s", operator="changed", operand=True), False),
    (
        "filter_items by a version",
        _filter(item_property="s", operator="versionBelow", operand="2"),
        True,
    ),
    ("groups", _event_rule(conditions={"any": [{"a": 1}, {"none": [{"b": 2}]}]}), True),
    ("an empty group", _event_rule(conditions={"any": []}), False),
    ("a group of an empty condition", _event_rule(conditions={"all": [{}]}), False),
    ("a group that is a value", _event_rule(conditions={"all": 1}), False),
    (
        "match",
        _event_rule(conditions={"items.$": {"match": {"a": 1, "b": {"exists": True}}}}),
        True,
    ),
    ("match with a list", _event_rule(conditions={"items.$": {"match": [1]}}), False),
    ("match with nothing", _event_rule(conditions={"items.$": {"match": {}}}), False),
    ("an empty path", _event_rule(conditions={"": 1}), False),
    ("no object", "rename", False),
]


AUDIENCES: list[Case] = [
    ("an attribute", {"conditions": {"tier": "Gold"}}, True),
    ("a description", {"description": "x", "conditions": {"profile.tier": "Gold"}}, True),
    ("state and groups", {"conditions": {"any": [{"user_state.seen": True}, {"tier": "Gold"}]}}, True),
    ("a field of other people", {"conditions": {"tier": "Gold"}, "created_by": "x"}, True),
    ("no conditions", {"description": "x"}, False),
    ("empty conditions", {"conditions": {}}, False),
    ("a parameter of the event", {"conditions": {"event.value": 1}}, False),
    ("a parameter in a group", {"conditions": {"all": [{"event.value": 1}]}}, False),
    ("an experiment", {"conditions": {"experiment.x": "a"}}, False),
    ("another audience", {"conditions": {"profile": {"inAudience": "vip"}}}, False),
    ("a change", {"conditions": {"tier": {"changed": True}}}, False),
    ("no object", "vip", False),
]  # fmt: skip


def _rule(**fields: Any) -> dict[str, Any]:
    return {"event_name_trigger": "view_item", "conditions": {"x": 1}, **_COOKIE, **fields}


def _action(**action: Any) -> dict[str, Any]:
    return {"event_name_trigger": "view_item", "match_all": True, "actions": [action]}


def _cookie(**details: Any) -> dict[str, Any]:
    return _action(type="set_client_cookie", **{"cookie_name": "c", "cookie_value": "v", **details})


_STATE_ONLY = {"event_name_trigger": "x", "match_all": True, "updates_user_state": {"seen": True}}

PERSONALIZATION_RULES: list[Case] = [
    ("the least of a rule", _rule(), True),
    ("the other name of the event's field", _without(_rule(), "event_name_trigger")
     | {"target_event_name": "view_item"}, True),
    ("state only", _STATE_ONLY, True),
    ("nothing to do", _without(_STATE_ONLY, "updates_user_state"), False),
    ("an empty state", {**_STATE_ONLY, "updates_user_state": {}}, False),
    ("a key of the store", {**_STATE_ONLY, "updates_user_state": {"__name__": 1}}, False),
    ("a state that is null", _rule(updates_user_state=None), True),
    ("an expiry", _cookie(expiry_minutes=60), True),
    ("an expiry of zero", _cookie(expiry_minutes=0), False),
    ("an expiry of a part", _cookie(expiry_minutes=1.5), False),
    ("an expiry of more than 400 days", _cookie(expiry_minutes=576_001), False),
    ("a cookie's value that is a flag", _cookie(cookie_value=True), True),
    ("a cookie's value that is a list", _cookie(cookie_value=[1]), False),
    ("a cookie's name with a blank", _cookie(cookie_name="a b"), False),
    ("a cookie without a name", _cookie(cookie_name=None), False),
    ("a cookie with a word", _cookie(path="/"), False),
    ("a value", _action(type="return_value", key="variant", value={"a": 1}), True),
    ("a value that is null", _action(type="return_value", key="variant", value=None), False),
    ("a value without a key", _action(type="return_value", value=1), False),
    ("a value with a long key", _action(type="return_value", key="k" * 65, value=1), False),
    ("set_state", _action(type="set_state", updates_user_state={"seen": 1}), True),
    ("set_state to nothing", _action(type="set_state"), False),
    ("an action of the other kind", _action(type="drop_event"), False),
    ("a cookie by its short name", _action(type="set_cookie", cookie_name="c", cookie_value=1), True),
    ("a cookie for a purpose", _cookie(purposes="offers"), True),
    ("a cookie for two words", _cookie(purposes="offers", consent={"purpose": "a"}), False),
    ("an e-mail", _email(), True),
    ("an e-mail by its long name", _email(type="send_marketing_email"), True),
    ("an e-mail with data", _email(data={"a": "${value}", "b": 1, "c": {"from": "items"}}), True),
    ("an e-mail with no data", _email(data=None), True),
    ("an e-mail with empty data", _email(data={}), False),
    ("an e-mail with deep data", _email(data={"a": {"b": 1}}), False),
    ("an e-mail with a list", _email(data={"a": [1]}), False),
    ("an e-mail with null", _email(data={"a": None}), False),
    ("an e-mail with an odd name", _email(data={"a b": 1}), False),
    ("an e-mail with a reserved name", _email(data={"__a__": 1}), False),
    ("an e-mail with much data", _email(data={f"a{n}": 1 for n in range(101)}), False),
    ("an e-mail from two places", _email(data={"a": {"from": "b", "or": "c"}}), False),
    ("an e-mail once a day", _email(once_per="day"), True),
    ("an e-mail with null windows", _email(once_per=None), True),
    ("an e-mail once a blue moon", _email(once_per="moon"), False),
    ("an e-mail to an event's address", _email(recipient="event.user_data.email"), False),
    ("an e-mail to a bare name", _email(recipient="email"), False),
    ("an e-mail to nobody", _email(recipient=None), False),
    ("an e-mail to a list", _email(recipient=["profile.email"]), False),
    ("an e-mail to a bracket", _email(recipient='profile["e.mail"]'), True),
    ("an e-mail without a template", _email(template_id=None), False),
    ("an e-mail with a template of lines", _email(template_id="a\nBcc: x"), False),
    ("an e-mail with a template of a path", _email(template_id="../a"), False),
    ("an e-mail with a word", _email(subject="hello"), False),
    ("an e-mail for a purpose", _email(purposes=["newsletter"]), True),
    ("a CRM record", _crm(), True),
    ("a CRM record of nothing", _crm(fields=None), False),
    ("a CRM record without fields", _crm(fields={}), False),
    ("a CRM record of an event's id", _crm(external_id="user_id"), False),
    ("a CRM record without an object", _crm(object=None), False),
    ("a webhook", _action(type="webhook", endpoint="main"), True),
    ("a webhook with a body", _action(type="webhook", endpoint="main", body={"a": "b"}), True),
    ("a webhook to a URL", _action(type="webhook", endpoint="https://example.com"), False),
    ("a message", _action(type="push_message", channel="offers", payload={"a": True}), True),
    ("a message of nothing", _action(type="push_message", channel="offers"), False),
    ("purposes", _rule(purposes=["ad_personalization", "my.purpose"]), True),
    ("one purpose", _rule(purposes="email"), True),
    ("no purpose", _rule(purposes=[]), False),
    ("a purpose with a blank", _rule(purposes="my purpose"), False),
    ("consent", _rule(consent={"purpose": "email"}), True),
    ("consent to nothing", _rule(consent={}), False),
    ("consent by a word", _rule(consent={"goal": "email"}), False),
    ("consent and purposes", _rule(consent={"purpose": "email"}, purposes="email"), False),
]  # fmt: skip

_EXPERIMENT = {"target_event_name": "view_item", "variants": {"a": 0.5, "b": 0.5}}


def _experiment(**fields: Any) -> dict[str, Any]:
    return {**_EXPERIMENT, **fields}


def _forced(**fields: Any) -> dict[str, Any]:
    return _experiment(forced=[{"variant": "a", "conditions": {"debug_mode": True}, **fields}])


EXPERIMENTS: list[Case] = [
    ("the least of an experiment", _EXPERIMENT, True),
    ("the other name of the event's field", _without(_experiment(event_name_trigger="*"),
                                                     "target_event_name"), True),
    ("both names of the event's field", _experiment(event_name_trigger="*"), False),
    ("no event", _without(_EXPERIMENT, "target_event_name"), False),
    ("no event's name", _experiment(target_event_name=[]), False),
    ("no object", [_EXPERIMENT], False),
    ("a field of other people", _experiment(created_by="somebody", tags=["x"]), True),
    ("nulls where a default is", _experiment(
        conditions=None, coverage=None, version=None, hash_version=None, seed=None, namespace=None,
        holdout=None, forced=None, sticky=None, is_active=None, purposes=None, consent=None,
        match_all=None,
    ), True),
    ("no variants", _without(_EXPERIMENT, "variants"), False),
    ("variants that are null", _experiment(variants=None), False),
    ("a list of variants", _experiment(variants=[{"name": "a"}, {"name": "b", "value": [1]}]), True),
    ("variants with weights", _experiment(
        variants=[{"name": "a", "weight": 0.1}, {"name": "b", "weight": 0.9, "value": None}]), True),
    ("names without weights", _experiment(variants={"a": None, "b": None}), True),
    ("one variant", _experiment(variants=[{"name": "a"}]), False),
    ("one name", _experiment(variants={"a": 1}), False),
    ("too many variants", _experiment(variants=[{"name": str(n)} for n in range(21)]), False),
    ("a weight for one of two", _experiment(variants=[{"name": "a"}, {"name": "b", "weight": 1}]),
     False),
    ("a weight for one of two names", _experiment(variants={"a": None, "b": 1}), False),
    ("a weight in percent", _experiment(variants={"a": 50, "b": 50}), False),
    ("a weight that is text", _experiment(variants={"a": "0.5", "b": 0.5}), False),
    ("a weight that is a flag", _experiment(variants={"a": True, "b": 0}), False),
    ("a variant without a name", _experiment(variants=[{"name": "a"}, {"value": 1}]), False),
    ("a variant with an empty name", _experiment(variants={"": 0.5, "b": 0.5}), False),
    ("a variant with a long name", _experiment(variants={"a" * 129: 0.5, "b": 0.5}), False),
    ("a variant with a word", _experiment(variants=[{"name": "a"}, {"name": "b", "share": 1}]),
     False),
    ("variants that are texts", _experiment(variants=["a", "b"]), False),
    ("weights beside the variants", _experiment(weights=[0.5, 0.5]), False),
    ("conditions", _experiment(conditions={"profile.tier": "Gold"}), True),
    ("no conditions", _experiment(conditions={}), True),
    ("conditions with a word", _experiment(conditions={"a": {"lessThn": 1}}), False),
    ("a coverage", _experiment(coverage=0), True),
    ("a coverage in percent", _experiment(coverage=50), False),
    ("a version", _experiment(version=2.0), True),
    ("a version of zero", _experiment(version=0), False),
    ("a part of a version", _experiment(version=1.5), False),
    ("hash version 1", _experiment(hash_version=1), True),
    ("hash version 3", _experiment(hash_version=3), False),
    ("a hash version that is a flag", _experiment(hash_version=True), False),
    ("a seed", _experiment(seed="s"), True),
    ("an empty seed", _experiment(seed=""), False),
    ("a namespace", _experiment(namespace={"id": "n", "range": [0, 0.5]}), True),
    ("a namespace without a range", _experiment(namespace={"id": "n"}), False),
    ("a namespace in percent", _experiment(namespace={"id": "n", "range": [0, 50]}), False),
    ("a namespace as a list", _experiment(namespace=["n", 0, 1]), False),
    ("a namespace with a word", _experiment(namespace={"id": "n", "range": [0, 1], "x": 1}), False),
    ("a holdout", _experiment(holdout={"id": "h", "percent": 5}), True),
    ("a holdout of a share of more than all", _experiment(holdout={"id": "h", "percent": 101}),
     False),
    ("a holdout without an id", _experiment(holdout={"percent": 5}), False),
    ("a forced variant", _forced(), True),
    ("a forced variant for everybody", _forced(conditions={}), False),
    ("a forced variant that is a number", _forced(variant=1), False),
    ("a forced variant with a word", _forced(when="x"), False),
    ("no forced variant", _experiment(forced=[]), False),
    ("a switch that is text", _experiment(sticky="yes"), False),
    ("purposes", _experiment(purposes=["ad_personalization", "tests"]), True),
    ("consent", _experiment(consent={"purpose": "tests"}), True),
    ("consent and purposes", _experiment(consent={"purpose": "a"}, purposes="a"), False),
    ("a schedule", _experiment(schedule={"days": ["mon"]}), True),
    ("a schedule that is no object", _experiment(schedule=False), False),
    ("a rollout", _experiment(rollout=10), False),
    ("an action", _experiment(action_type="drop_event"), False),
]  # fmt: skip

_TRAIT = {"event": "purchase", "operation": "count"}
_SUM = {"event": "purchase", "operation": "sum", "field": "value"}


def _trait(**fields: Any) -> dict[str, Any]:
    return {**_TRAIT, **fields}


def _trait_of(operation: str, **fields: Any) -> dict[str, Any]:
    return {"event": "*", "operation": operation, **fields}


def _rolling(**period: Any) -> dict[str, Any]:
    return _trait(window={"rolling": period})


TRAITS: list[Case] = [
    ("the least of a trait", _TRAIT, True),
    ("an event's name as rules write it", {"target_event_name": "a", "operation": "count"}, True),
    ("the other name of the event's field", {"event_name_trigger": ["a", "b"], "operation": "count"},
     True),
    ("two names of the event's field", _trait(target_event_name="a"), False),
    ("no event", {"operation": "count"}, False),
    ("no event's name", _trait(event=[]), False),
    ("no object", [_TRAIT], False),
    ("no operation", {"event": "a"}, False),
    ("an unknown operation", _trait(operation="average"), False),
    ("an operation that is a list", _trait(operation=["count"]), False),
    ("a field of other people", _trait(created_by="somebody", tags=["x"]), True),
    ("nulls where a default is", _trait(
        when=None, field=None, by=None, value=None, window=None, limit=None, unit=None,
        time_zone=None, expires=None, version=None, is_active=None, purposes=None, fill=None,
    ), True),
    ("conditions", _trait(when={"value": {"atLeast": 10}}), True),
    ("conditions by the rules' word", _trait(conditions={"any": [{"a": 1}, {"event.b": 2}]}), True),
    ("both words of conditions", _trait(when={"a": 1}, conditions={"a": 1}), False),
    ("no conditions", _trait(when={}), True),
    ("conditions on the profile", _trait(when={"profile.tier": "Gold"}), False),
    ("conditions on the state", _trait(when={"none": [{"user_state.a": 1}]}), False),
    ("conditions on an experiment", _trait(when={"experiment.e": "b"}), False),
    ("conditions on an audience", _trait(when={"profile": {"inAudience": "vip"}}), False),
    ("conditions on a change", _trait(when={"country": {"changed": True}}), False),
    ("conditions with a word", _trait(when={"a": {"lessThn": 1}}), False),
    ("a sum", _SUM, True),
    ("a sum over items", {**_SUM, "field": "items.$.price"}, True),
    ("a sum of nothing", _without(_SUM, "field"), False),
    ("a sum of null", {**_SUM, "field": None}, False),
    ("a sum by", {**_without(_SUM, "field"), "by": "value"}, False),
    ("a sum of a number", {**_SUM, "field": 1}, False),
    ("a count of a field", _trait(field="value"), False),
    ("a tally", _trait_of("tally", field="items.$.item_category", limit=50), True),
    ("a tally by", _trait_of("tally", by="source"), True),
    ("a tally by a field", _trait_of("tally", by="source", field="source"), False),
    ("a tally of nothing", _trait_of("tally"), False),
    ("a tally of too many", _trait_of("tally", by="source", limit=51), False),
    ("a tally of none", _trait_of("tally", by="source", limit=0), False),
    ("a list of many", _trait_of("unique_list", field="page", limit=100), True),
    ("a list of a part", _trait_of("unique_list", field="page", limit=1.5), False),
    ("a limit of a count", _trait(limit=3), False),
    ("a constant", _trait_of("set", value="trial"), True),
    ("a constant that is false", _trait_of("set_once", value=False), True),
    ("a constant that is a list", _trait_of("set", value=["trial"]), False),
    ("a field that is set", _trait_of("set", field="plan", value=None), True),
    ("a field and a constant", _trait_of("set", field="plan", value="trial"), False),
    ("neither field nor constant", _trait_of("set_once"), False),
    ("a constant of a count", _trait(value=1), False),
    ("a lifetime", _trait(window="lifetime"), True),
    ("a session", _trait(window="session"), True),
    ("a window of a word", _trait(window="month"), False),
    ("a rolling window", _rolling(days=30), True),
    ("a rolling window of a minute", _rolling(minutes=1), True),
    ("a rolling window of a whole float", _rolling(hours=2.0), True),
    ("a rolling window of nothing", _rolling(days=0), False),
    ("a rolling window of more than a leap year", _rolling(hours=8_785), False),
    ("a rolling window of weeks", _rolling(weeks=1), False),
    ("a rolling window of two units", _rolling(days=1, hours=1), False),
    ("a rolling window of text", _rolling(days="30"), False),
    ("a rolling window of a flag", _rolling(days=True), False),
    ("a window without its kind", _trait(window={"days": 30}), False),
    ("a window with a word", _trait(window={"rolling": {"days": 1}, "from": 1}), False),
    ("a rolling badge", _trait_of("badge", window={"rolling": {"days": 1}}), False),
    ("a session of sessions", _trait_of("sessions", window="session"), False),
    ("a badge that expires", _trait_of("badge", expires={"days": 90}), True),
    ("a number that expires", _trait(expires=90), False),
    ("a time since", _trait_of("time_since_last", unit="hours"), True),
    ("a time since in weeks", _trait_of("time_since_first", unit="weeks"), False),
    ("a unit of a count", _trait(unit="days"), False),
    ("an hour of the day", _trait_of("hour_of_day", time_zone="Europe/Berlin"), True),
    ("a day of the week in no place", _trait_of("day_of_week", time_zone="berlin"), False),
    ("a time zone of a count", _trait(time_zone="UTC"), False),
    ("a version", _trait(version=2.0), True),
    ("a version of zero", _trait(version=0), False),
    ("switched off", _trait(is_active=False), True),
    ("a switch that is text", _trait(is_active="no"), False),
    ("purposes", _trait(purposes=["ad_personalization", "loyalty"]), True),
    ("consent", _trait(consent={"purpose": "loyalty"}), True),
    ("consent and purposes", _trait(consent={"purpose": "a"}, purposes="a"), False),
    ("a prediction", _trait(fill={"model": "ltv"}), False),
    ("a schedule", _trait(schedule={"days": ["mon"]}), False),
    ("a frequency cap", _trait(frequency_cap={"max": 1}), False),
]  # fmt: skip

IDENTITY_SETTINGS: list[Case] = [
    ("nothing", {}, True),
    (
        "everything",
        {
            "types": ["user_id", "loyalty_id"],
            "limits": {"client_id": {"values": 20, "days": 30}, "user_id": None},
            "default_limit": {"values": 3},
            "blocked_values": ["test", "info@shop.example"],
            "blocked_patterns": ["^bot-", "(?i)internal"],
            "merge_strategies": {"lifetime_value": "sum"},
            "quarantine": {"profiles": 10, "within_hours": 24},
        },
        True,
    ),
    ("no object", [], False),
    ("a word that nobody knows", {"blocked": []}, False),
    ("nulls", dict.fromkeys(("types", "limits", "blocked_values", "merge_strategies")), True),
    ("no default limit and no quarantine", {"default_limit": None, "quarantine": None}, True),
    ("a type in capitals", {"types": ["UserId"]}, False),
    ("a type that a lookup's query has", {"types": ["view"]}, False),
    ("a type twice", {"types": ["user_id", "user_id"]}, False),
    ("a type that is a number", {"types": [7]}, False),
    ("types that are an object", {"types": {"user_id": 1}}, False),
    ("too many types", {"types": [f"t{n}" for n in range(31)]}, False),
    ("a limit that is a number", {"limits": {"client_id": 5}}, False),
    ("a limit of nothing", {"limits": {"client_id": {}}}, False),
    ("a limit of none", {"limits": {"client_id": {"values": 0}}}, False),
    ("a limit of more than a profile has", {"limits": {"client_id": {"values": 51}}}, False),
    ("a limit that is a flag", {"limits": {"client_id": {"values": True}}}, False),
    ("a limit of half a day", {"limits": {"client_id": {"values": 5, "days": 0.5}}}, False),
    ("a limit for ever", {"limits": {"client_id": {"values": 5, "days": None}}}, True),
    ("a limit of hours", {"limits": {"client_id": {"values": 5, "hours": 1}}}, False),
    ("a blocked number", {"blocked_values": [0]}, False),
    ("an empty blocked value", {"blocked_values": [""]}, False),
    ("a long blocked value", {"blocked_values": ["x" * 513]}, False),
    ("a long expression", {"blocked_patterns": ["x" * 257]}, False),
    ("too many expressions", {"blocked_patterns": [f"^x{n}$" for n in range(101)]}, False),
    ("an expression alone", {"blocked_patterns": "^bot"}, False),
    ("a strategy that nobody knows", {"merge_strategies": {"name": "random"}}, False),
    ("a strategy that is a list", {"merge_strategies": {"name": ["sum"]}}, False),
    ("strategies in a list", {"merge_strategies": ["sum"]}, False),
    ("an attribute without a name", {"merge_strategies": {"": "sum"}}, False),
    ("a quarantine of one", {"quarantine": {"profiles": 1, "within_hours": 1}}, False),
    ("a quarantine of many", {"quarantine": {"profiles": 21, "within_hours": 1}}, False),
    ("a quarantine without a window", {"quarantine": {"profiles": 5}}, False),
    ("a quarantine of days", {"quarantine": {"profiles": 5, "days": 1}}, False),
    ("a quarantine of no time", {"quarantine": {"profiles": 5, "within_hours": 0}}, False),
    ("a quarantine that is a flag", {"quarantine": True}, False),
]

RULE_FILES: list[Case] = [
    ("experiments and audiences", {
        "experiments": {"e": _EXPERIMENT},
        "audiences": {"gold": {"description": "x", "conditions": {"tier": "Gold"}}},
    }, True),
    ("a list of experiments", {"experiments": [{**_EXPERIMENT, "experiment_id": "e"}]}, True),
    ("no experiments", {"experiments": None, "audiences": None}, True),
    ("an experiment's id with a slash", {
        "experiments": [{**_EXPERIMENT, "experiment_id": "a/b"}]
    }, False),
    ("a broken experiment", {"experiments": {"e": {**_EXPERIMENT, "coverage": 2}}}, False),
    ("both kinds", {"event_rules": {"a": _event_rule()},
                    "personalization_rules": {"b": _rule()}}, True),
    ("a list of a kind", {"event_rules": [_event_rule(rule_id="a")]}, True),
    ("no rules of a kind", {"event_rules": None}, True),
    ("an audience", {"audiences": {"vip": {"conditions": {"tier": "Gold"}}}}, True),
    ("a broken audience", {"audiences": {"vip": {"conditions": {}}}}, False),
    ("one rule", _event_rule(rule_id="a"), True),
    ("a list of rules", [_event_rule(rule_id="a"), _event_rule(rule_id="b")], True),
    ("a broken rule", {"event_rules": {"a": _event_rule(priority="high")}}, False),
    ("a rule of the other kind", {"event_rules": {"a": _without(_rule(), "nothing")}}, False),
    ("another top key", {"event_rules": {}, "segments": {}}, False),
    ("traits", {"traits": {"orders": _trait()}, "event_rules": None}, True),
    ("a list of traits", {"traits": [_trait(trait_id="orders")]}, True),
    ("a broken trait", {"traits": {"orders": _trait(operation="median")}}, False),
    ("a trait whose name is no attribute's", {"traits": {"my-orders": _trait()}}, False),
    ("a rule that is text", {"event_rules": {"a": "drop"}}, False),
    ("an id with a slash", _event_rule(rule_id="a/b"), False),
    ("text", "drop", False),
]  # fmt: skip
