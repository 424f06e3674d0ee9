"""Wiring: settings to backend to pipelines; each part is made on its first use."""

from __future__ import annotations

from functools import cached_property

from tagstitch.adapters.backend_factory import open_backend
from tagstitch.adapters.settings import Settings
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.rule_book import RuleBook
from tagstitch.core.view import Views
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.claims import ClaimPublisher
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.definitions import load_rule_book, load_views
from tagstitch.pipeline.deliver import CallbackDelivery
from tagstitch.pipeline.keyring import Keyring
from tagstitch.pipeline.look_up import ProfileLookup
from tagstitch.pipeline.publish_audit import AuditPublisher
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.stitch import Stitcher
from tagstitch.pipeline.visitor import VisitorFinder


class Wiring:
    """The object graph of one function in one process; must be used in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.identity = IdentitySettings()
        self._consent_default_granted = settings.consent_default == "granted"

    @cached_property
    def backend(self) -> Backend:
        """The stores and topics."""
        return open_backend(self.settings)

    @cached_property
    def keyring(self) -> Keyring:
        """The operator's keys."""
        return make_keyring(self.settings)

    @cached_property
    def finder(self) -> VisitorFinder:
        """Finds visitors; its memory is this process's."""
        return VisitorFinder(self.backend.documents, self.keyring, self.identity)

    @cached_property
    def audit(self) -> AuditPublisher:
        """Publishes audit records."""
        return AuditPublisher(self.backend.publisher)

    @cached_property
    def claims(self) -> ClaimPublisher:
        """Publishes the stitch requests that reads give rise to."""
        return ClaimPublisher(self.backend, self.keyring)

    @cached_property
    def delivery(self) -> CallbackDelivery:
        """Posts callbacks."""
        endpoints = {endpoint.id: endpoint for endpoint in self.settings.callbacks}
        return CallbackDelivery(self.backend, endpoints, audit=self.audit)

    @cached_property
    def rule_book(self) -> Refreshed[RuleBook]:
        """The rules in memory."""
        return Refreshed(
            load_rule_book(self.backend.documents),
            name="rules",
            interval_s=self.settings.rules_refresh_s,
            clock=self.backend.clock,
        )

    @cached_property
    def views(self) -> Refreshed[Views]:
        """The views in memory."""
        return Refreshed(
            load_views(self.backend.documents),
            name="views",
            interval_s=self.settings.rules_refresh_s,
            clock=self.backend.clock,
        )

    @cached_property
    def lookup(self) -> ProfileLookup:
        """stitch_sync's pipeline."""
        return ProfileLookup(
            self.backend,
            self.identity,
            finder=self.finder,
            views=self.views,
            claims=self.claims,
            delivery=self.delivery,
            consent_default_granted=self._consent_default_granted,
        )

    @cached_property
    def stitcher(self) -> Stitcher:
        """stitch_async's pipeline."""
        return Stitcher(
            self.backend,
            self.keyring,
            self.identity,
            finder=self.finder,
            audit=self.audit,
            delivery=self.delivery,
            consent_default_granted=self._consent_default_granted,
        )

    @cached_property
    def decider(self) -> Decider:
        """Decide's pipeline."""
        return Decider(
            self.backend,
            self.keyring,
            self.identity,
            finder=self.finder,
            audit=self.audit,
            rule_book=self.rule_book,
            views=self.views,
            claims=self.claims,
            audit_parameters=self.settings.audit_parameters,
            consent_default_granted=self._consent_default_granted,
        )


def make_keyring(settings: Settings) -> Keyring:
    """Return the keys of these settings."""
    return Keyring(settings.identity_key, settings.pseudonym_keys, settings.receipt_key)
