"""Wiring: settings to backend to pipelines; each part is imported and made on its first use.

A function that links profiles never compiles a rule, and one that decides never loads BigQuery:
what a process does not use costs it neither start-up time nor memory (bench/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Final

from tagstitch.adapters.settings import Settings

if TYPE_CHECKING:
    from tagstitch.adapters.cloud import LazyPort
    from tagstitch.core.profile_traits import TraitDefinitions
    from tagstitch.core.rule_book import RuleBook
    from tagstitch.core.view import Views
    from tagstitch.pipeline.activate import FeatureActivation
    from tagstitch.pipeline.backend import Backend
    from tagstitch.pipeline.claims import ClaimPublisher
    from tagstitch.pipeline.deadline import AnswersUnderWay
    from tagstitch.pipeline.decide import Decider
    from tagstitch.pipeline.deliver import CallbackDelivery
    from tagstitch.pipeline.endpoint_health import EndpointHealth
    from tagstitch.pipeline.keyring import Keyring
    from tagstitch.pipeline.load_graph import GraphLoader
    from tagstitch.pipeline.look_up import ProfileLookup
    from tagstitch.pipeline.publish_audit import AuditPublisher
    from tagstitch.pipeline.push_inbox import PushListener
    from tagstitch.pipeline.push_token import PushTokens
    from tagstitch.pipeline.refreshed import Refreshed
    from tagstitch.pipeline.resume_outbox import OutboxDelivery
    from tagstitch.pipeline.stitch import Stitcher
    from tagstitch.pipeline.sweep import SweepResult
    from tagstitch.pipeline.tracing import Tracer
    from tagstitch.pipeline.visitor import VisitorFinder

_PIPELINES: Final = {
    "stitch_sync": ("pipeline.look_up", "pipeline.activate"),
    "decide": ("pipeline.decide", "pipeline.load_rules"),
    "stitch_async": (
        "pipeline.stitch",
        "pipeline.load_traits",
        "pipeline.resume_outbox",
    ),  # a sweep, which compiles rules, imports its own
    "audit_sink": ("pipeline.record_audit", "pipeline.record_dead_letter"),
}
_PORTS: Final[Mapping[str, tuple[LazyPort, ...]]] = {
    "stitch_sync": ("documents", "publisher"),
    "decide": ("documents", "publisher"),
    "stitch_async": ("documents", "publisher", "callbacks"),
    "audit_sink": ("documents", "publisher", "audit_table"),
}


def import_parts(function: str, settings: Settings) -> None:
    """Import what the function's first request will need; may run in any thread."""
    for name in _PIPELINES[function]:
        import_module(f"tagstitch.{name}")
    if settings.backend == "cloud":
        from tagstitch.adapters.cloud import import_libraries

        import_libraries(_PORTS[function])


class Wiring:
    """The object graph of one function in one process; must be used in one event loop."""

    def __init__(self, settings: Settings, recorded_by: Tracer | None = None) -> None:
        self.settings = settings
        self._recorded_by = recorded_by
        self.identity = settings.identity
        self._consent_default_granted = settings.consent_default == "granted"

    def start(self, function: str) -> None:
        """Begin to load the definitions that the function's first request will need."""
        if function == "decide":
            self.rule_book.start()
            self.traits.start()
        if function == "stitch_sync":
            self.views.start()
        if function == "stitch_async":
            self.traits.start()

    @cached_property
    def backend(self) -> Backend:
        """The stores and topics."""
        from tagstitch.adapters.backend_factory import open_backend
        from tagstitch.adapters.traced_ports import carrying_traces, recording_spans

        backend = carrying_traces(open_backend(self.settings))
        if self._recorded_by is not None:
            backend = recording_spans(backend, self._recorded_by)
        return backend

    @cached_property
    def keyring(self) -> Keyring:
        """The operator's keys."""
        return make_keyring(self.settings)

    @cached_property
    def finder(self) -> VisitorFinder:
        """Finds visitors; its memory is this process's."""
        from tagstitch.pipeline.read_breaker import ReadBreaker
        from tagstitch.pipeline.visitor import VisitorFinder

        documents = ReadBreaker(self.backend.documents, self.backend.clock)
        return VisitorFinder(documents, self.keyring, self.identity)

    @cached_property
    def graphs(self) -> GraphLoader:
        """Loads what stitching changes."""
        from tagstitch.pipeline.load_graph import GraphLoader

        return GraphLoader(self.backend.documents, self.keyring)

    @cached_property
    def audit(self) -> AuditPublisher:
        """Publishes audit records."""
        from tagstitch.pipeline.publish_audit import AuditPublisher

        return AuditPublisher(self.backend.publisher)

    @cached_property
    def claims(self) -> ClaimPublisher:
        """Publishes the stitch requests that reads give rise to."""
        from tagstitch.pipeline.claims import ClaimPublisher

        return ClaimPublisher(self.backend, self.keyring)

    @cached_property
    def delivery(self) -> CallbackDelivery:
        """Posts callbacks."""
        from tagstitch.pipeline.deliver import CallbackDelivery
        from tagstitch.pipeline.present_callback import PresentCallback

        endpoints = {endpoint.id: endpoint for endpoint in self.settings.callbacks}
        present = PresentCallback(
            self.backend, self.views, consent_default_granted=self._consent_default_granted
        )
        return CallbackDelivery(
            self.backend,
            endpoints,
            audit=self.audit,
            present=present,
            retry_scale=self.settings.retry_scale,
            health=self.health,
        )

    @cached_property
    def health(self) -> EndpointHealth:
        """What this process has seen of callbacks and destinations."""
        from tagstitch.pipeline.disabled_endpoints import DisabledEndpoints
        from tagstitch.pipeline.endpoint_health import EndpointHealth

        clock = self.backend.clock
        disabled = DisabledEndpoints(self.backend.documents, clock)
        return EndpointHealth(clock, disabled, scale=self.settings.retry_scale)

    @cached_property
    def outbox_delivery(self) -> OutboxDelivery:
        """Takes the messages of topic `actions`."""
        from tagstitch.pipeline.act import ActionDelivery
        from tagstitch.pipeline.outbox import Outbox
        from tagstitch.pipeline.resume_outbox import OutboxDelivery

        actions = ActionDelivery(
            self.backend,
            self.keyring,
            self.settings.destinations,
            outbox=Outbox(self.backend, self.audit, retry_scale=self.settings.retry_scale),
            health=self.health,
            consent_default_granted=self._consent_default_granted,
        )
        return OutboxDelivery(self.backend, self.delivery, actions)

    @cached_property
    def push_tokens(self) -> PushTokens:
        """Reads the tokens by which browsers listen."""
        from tagstitch.pipeline.push_token import PushTokens

        return PushTokens(self.keyring, self.backend.clock)

    @cached_property
    def push_listener(self) -> PushListener:
        """Follows the messages that wait for a browser."""
        from tagstitch.pipeline.push_inbox import PushListener

        return PushListener(self.backend.documents, self.keyring, self.backend.clock)

    @cached_property
    def rule_book(self) -> Refreshed[RuleBook]:
        """The rules in memory."""
        from tagstitch.pipeline.load_rules import load_rule_book
        from tagstitch.pipeline.refreshed import Refreshed

        return Refreshed(
            load_rule_book(self.backend.documents),
            name="rules",
            interval_s=self.settings.rules_refresh_s,
            clock=self.backend.clock,
        )

    @cached_property
    def traits(self) -> Refreshed[TraitDefinitions]:
        """The definitions of computed traits in memory."""
        from tagstitch.pipeline.load_traits import load_traits
        from tagstitch.pipeline.refreshed import Refreshed

        return Refreshed(
            load_traits(self.backend.documents, time_zone=self.settings.time_zone),
            name="traits",
            interval_s=self.settings.rules_refresh_s,
            clock=self.backend.clock,
        )

    @cached_property
    def views(self) -> Refreshed[Views]:
        """The views in memory."""
        from tagstitch.pipeline.load_views import load_views
        from tagstitch.pipeline.refreshed import Refreshed

        return Refreshed(
            load_views(self.backend.documents),
            name="views",
            interval_s=self.settings.rules_refresh_s,
            clock=self.backend.clock,
        )

    @cached_property
    def under_way(self) -> AnswersUnderWay:
        """What stitch_sync is at work on: lookups and activations share a core."""
        from tagstitch.pipeline.deadline import AnswersUnderWay

        return AnswersUnderWay()

    @cached_property
    def lookup(self) -> ProfileLookup:
        """stitch_sync's pipeline."""
        from tagstitch.pipeline.look_up import ProfileLookup

        return ProfileLookup(
            self.backend,
            self.identity,
            finder=self.finder,
            views=self.views,
            claims=self.claims,
            callback_ids=frozenset(endpoint.id for endpoint in self.settings.callbacks),
            consent_default_granted=self._consent_default_granted,
            under_way=self.under_way,
        )

    @cached_property
    def activation(self) -> FeatureActivation:
        """stitch_sync's pipeline for front ends."""
        from tagstitch.pipeline.activate import FeatureActivation

        return FeatureActivation(
            self.lookup, self.identity, views=self.views, under_way=self.under_way
        )

    @cached_property
    def stitcher(self) -> Stitcher:
        """stitch_async's pipeline."""
        from tagstitch.pipeline.stitch import Stitcher
        from tagstitch.pipeline.stitch_plan import StitchPlanner

        return Stitcher(
            self.backend,
            self.keyring,
            self.identity,
            graphs=self.graphs,
            audit=self.audit,
            delivery=self.delivery,
            planner=StitchPlanner(
                self.backend.documents,
                self.keyring,
                self.identity,
                finder=self.finder,
                graphs=self.graphs,
                views=self.views,
                traits=self.traits,
                consent_default_granted=self._consent_default_granted,
            ),
        )

    @cached_property
    def sweep(self) -> Callable[..., Awaitable[SweepResult]]:
        """stitch_async's schedule: publishes again what was forgotten, and repeats erasures."""
        from tagstitch.pipeline.erase_person import PersonEraser
        from tagstitch.pipeline.sweep import sweep

        eraser = PersonEraser(self.backend, self.keyring, self.audit)
        return partial(sweep, self.backend, self.audit, eraser)

    @cached_property
    def record_audit(self) -> Callable[..., Awaitable[None]]:
        """audit_sink's pipeline for topic `audit`."""
        from tagstitch.pipeline.record_audit import record_audit

        return partial(record_audit, self.backend)

    @cached_property
    def record_dead_letter(self) -> Callable[..., Awaitable[None]]:
        """audit_sink's pipeline for topic `dead-letter`."""
        from tagstitch.pipeline.record_dead_letter import record_dead_letter

        return partial(record_dead_letter, self.backend, self.keyring)

    @cached_property
    def decider(self) -> Decider:
        """Decide's pipeline."""
        from tagstitch.pipeline.decide import Decider
        from tagstitch.pipeline.decision import DecisionMaker
        from tagstitch.pipeline.publish_event import EventPublisher

        maker = DecisionMaker(
            self.finder,
            self.keyring,
            self.rule_book,
            clock=self.backend.clock,
            consent_default_granted=self._consent_default_granted,
        )
        return Decider(
            self.backend,
            self.keyring,
            self.identity,
            maker=maker,
            audit=self.audit,
            views=self.views,
            events=EventPublisher(
                self.backend, self.keyring, claims=self.claims, traits=self.traits
            ),
            audit_parameters=self.settings.audit_parameters,
        )


def make_keyring(settings: Settings) -> Keyring:
    """Return the keys of these settings."""
    from tagstitch.pipeline.keyring import Keyring

    return Keyring(settings.identity_key, settings.pseudonym_keys, settings.receipt_key)
