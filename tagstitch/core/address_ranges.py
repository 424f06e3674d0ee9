"""Ranges of network addresses in CIDR notation (RFC 4632, RFC 4291), IPv4 and IPv6."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
)
from typing import Final

from tagstitch.core.limits import ADDRESS_CHARS_MAX

NETWORK_PATTERN: Final = "[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?"

_NETWORK: Final = re.compile(NETWORK_PATTERN)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as dual-stack servers log them (RFC 4291, section 2.5.5.2)."""


@dataclass(frozen=True, slots=True)
class AddressRanges:
    """Ranges of one family, sorted, without overlaps, so that one search finds an address."""

    first: tuple[int, ...]
    last: tuple[int, ...]

    def __contains__(self, number: int) -> bool:
        position = bisect_right(self.first, number) - 1
        return position >= 0 and number <= self.last[position]


def read_network(text: str) -> IPv4Network | IPv6Network | None:
    """Return the range of `10.0.0.0/8` or of one address, or None when it is none.

    Bits behind the prefix must be zero: 10.1.0.0/8 is more often a slip than a wish.
    """
    if _NETWORK.fullmatch(text) is None:
        return None
    try:
        if ":" not in text:
            return IPv4Network(text)
        network = IPv6Network(text)
    except ValueError:
        return None
    if not network.subnet_of(_MAPPED):
        return network
    low = int(network.network_address) & 0xFFFFFFFF
    return IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))


def collect_ranges(texts: Iterable[str]) -> tuple[AddressRanges, AddressRanges]:
    """Return the ranges of IPv4 and of IPv6 that these networks cover."""
    networks = [network for network in map(read_network, texts) if network is not None]
    of_4 = [network for network in networks if isinstance(network, IPv4Network)]
    of_6 = [network for network in networks if isinstance(network, IPv6Network)]
    return _merged(collapse_addresses(of_4)), _merged(collapse_addresses(of_6))


def _merged(networks: Iterable[IPv4Network | IPv6Network]) -> AddressRanges:
    ordered = list(networks)
    return AddressRanges(
        tuple(int(network.network_address) for network in ordered),
        tuple(int(network.broadcast_address) for network in ordered),
    )


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address, an IPv4 one also when it is written as an IPv6 one; None if it is none.

    The zone of a link-local address (`fe80::1%eth0`) does not count.
    """
    if len(text) > ADDRESS_CHARS_MAX:
        return None
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return address.ipv4_mapped or address
