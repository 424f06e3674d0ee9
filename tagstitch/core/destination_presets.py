"""What is known about providers, so that a destination needs only its ids and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class Preset:
    """The parts of a destination that are the same for all customers of a provider."""

    type: Literal["email", "crm"]
    url: str
    method: Literal["POST", "PATCH"]
    body: Any
    success: frozenset[int]
    repeatable: bool
    values: Mapping[str, str] = field(default_factory=dict)


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        # https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send: 202 says that the
        # message was queued; there is no idempotency key, custom_args come back with its events.
        "sendgrid": Preset(
            type="email",
            url="https://${host}/v3/mail/send",
            method="POST",
            body={
                "from": {"email": "${from}"},
                "personalizations": [
                    {
                        "to": [{"email": "${recipient}"}],
                        "dynamic_template_data": "${data}",
                        "custom_args": {"tagstitch_key": "${idempotency_key}"},
                    }
                ],
                "template_id": "${template_id}",
            },
            success=frozenset({202}),
            repeatable=False,
            values={"host": "api.sendgrid.com"},
        ),
        # https://developer.salesforce.com/docs/platform/api-rest/guide/dome-upsert.html: 201 when
        # the record was made, 200 or 204 when it was changed, 300 when several have the id.
        "salesforce": Preset(
            type="crm",
            url="https://${domain}/services/data/${version}/sobjects/${object}"
            "/${external_id_field}/${external_id}",
            method="PATCH",
            body="${fields}",
            success=frozenset({200, 201, 204}),
            repeatable=True,
            values={"version": "v62.0"},
        ),
    }
)
