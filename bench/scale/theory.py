"""Known results of queueing theory, which the simulation is held against."""

from __future__ import annotations


def erlang_c(servers: int, load: float) -> float:
    """Return the chance that an arrival waits in M/M/c, where `load` is rate times service time.

    By the recursion of Erlang B, which does not overflow:
    https://en.wikipedia.org/wiki/Erlang_(unit)#Erlang_C_formula
    """
    if not 0 < load < servers:
        raise ValueError("the load must be above 0 and below the number of servers")
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = load * blocked / (server + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))


def mmc_wait_s(servers: int, rate: float, service_s: float) -> float:
    """Return the mean seconds that an arrival waits in M/M/c."""
    load = rate * service_s
    return erlang_c(servers, load) * service_s / (servers - load)


def md1_wait_s(rate: float, service_s: float) -> float:
    """Return the mean seconds of waiting in M/D/1 (Pollaczek and Khinchine)."""
    load = rate * service_s
    return load * service_s / (2 * (1 - load))
