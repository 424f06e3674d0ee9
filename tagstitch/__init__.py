"""Tagstitch: who a visitor is and what to do with an event, for server-side Google Tag Manager."""

__version__ = "0.1.0"
