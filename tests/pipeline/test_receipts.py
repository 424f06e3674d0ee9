"""Receipts through the whole pipeline: what the audit recorded can be decided again, until the
visitor is erased."""

from __future__ import annotations

import base64
import json
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tagstitch.core.caller import ANYBODY, Caller
from tagstitch.core.errors import InvalidInput
from tagstitch.core.identifier import Identifier
from tagstitch.core.operators import OPERATORS
from tagstitch.core.rule_book import RuleBook, compile_rule_book
from tagstitch.core.rule_definitions import RuleDefinitions
from tagstitch.core.text_computation import OPERATORS as COMPUTATIONS
from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.decide import Decider
from tagstitch.pipeline.replay_decisions import (
    DecisionReplayer,
    RecordedDecision,
    load_rule_book_of_version,
)
from tagstitch.pipeline.rule_publication import publish_rules
from tagstitch.pipeline.sealed_receipt import (
    WITHOUT_VALUES,
    is_replayable,
    open_receipt,
    receipt_profile_id,
)
from tests.pipeline.world import KEYRING, START, World
