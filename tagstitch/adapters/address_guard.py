"""Which network addresses a callback may reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_TRANSLATING_OR_SPECIAL: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "100.64.0.0/10",  # shared by carriers
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64: an IPv4 address in disguise
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo, likewise
        "2002::/16",  # 6to4, likewise
        "::/96",  # IPv4-compatible, likewise
        "fec0::/10",  # site-local
    )
)
"""Ranges that Python's `is_global` lets through, or did in some version
(https://www.iana.org/assignments/iana-ipv6-special-registry/)."""


def is_public_address(text: str) -> bool:
    """Return whether an address, as a resolver gave it, is a host of the public internet."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(
        address in network
        for network in _TRANSLATING_OR_SPECIAL
        if network.version == address.version
    )
