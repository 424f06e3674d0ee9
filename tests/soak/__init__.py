"""The soak: a stack under mixed traffic and random faults, and what must hold of it afterwards.

It lives among the tests and not in `bench/`, because it judges and measures nothing.
"""
