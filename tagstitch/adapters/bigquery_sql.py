"""BigQuery SQL to DuckDB SQL, by SQLGlot, and the few differences that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tagstitch.core.errors import InvalidInput

_JSON_COLUMNS: Final = frozenset(
    {"modifications", "consent", "extra", "old_value", "new_value", "modification"}
)
"""JSON columns of the table and its views: their subscripts count from 0 in both dialects."""


@dataclass(frozen=True, slots=True)
class TranslatedQuery:
    """One query in DuckDB's dialect, and the names of the tables that it reads."""

    sql: str
    tables: frozenset[str]


@lru_cache(maxsize=64)
def translate_query(sql: str, *, dataset: str) -> TranslatedQuery:
    """Return the query for DuckDB, where the tables of `dataset` stand without a prefix.

    Raises InvalidInput for anything but one query (nothing that writes), with the place of a
    syntax error and no text of the query.
    """
    query = parse_query(sql)
    tables = {table.name for table in query.find_all(exp.Table)}
    for table in query.find_all(exp.Table):
        if table.db == dataset:
            table.set("db", None)
            table.set("catalog", None)
    # Collected first: replacing while walking would visit what was put in.
    for bracket in list(query.find_all(exp.Bracket)):
        _shift_subscripts(bracket)
    for unnest in list(query.find_all(exp.Unnest)):
        _shift_offset(unnest)
    try:
        return TranslatedQuery(query.sql("duckdb"), frozenset(tables))
    except (SqlglotError, RecursionError):
        raise _invalid("the query uses what has no local translation") from None


def parse_query(sql: str) -> exp.Query:
    """Return the one query; raises InvalidInput for anything else, as `translate_query` does."""
    try:
        statements = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree is not None]
    except SqlglotError as error:
        raise _invalid(f"SQL syntax error{_position(error)}") from None
    except RecursionError:
        raise _invalid("the query is nested too deeply") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise _invalid("only one SELECT may be run: the audit table is read-only")
    query = statements[0]
    if query.find(exp.DDL, exp.DML, exp.Command, exp.Into) is not None:
        raise _invalid("only one SELECT may be run: the audit table is read-only")
    return query


def _position(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details or details[0].get("line") is None:
        return ""
    return f" at line {details[0]['line']}, column {details[0]['col']}"


def _invalid(message: str) -> InvalidInput:
    return InvalidInput("invalid_field", message, path="sql")


def _shift_subscripts(bracket: exp.Bracket) -> None:
    """Make an array's subscript count from 1, as DuckDB does.

    SQLGlot shifts literal subscripts by itself, of JSON columns too (where it must not), and no
    others.
    """
    if not _is_array_subscript(bracket):
        bracket.set("offset", 1)  # 1 is DuckDB's own: nothing is shifted
    elif bracket.args.get("offset") == 0 and not any(i.is_int for i in bracket.expressions):
        bracket.set(
            "expressions",
            [
                exp.Paren(this=exp.Add(this=exp.Paren(this=item), expression=exp.Literal.number(1)))
                for item in bracket.expressions
            ],
        )
        bracket.set("offset", 1)


def _is_array_subscript(bracket: exp.Bracket) -> bool:
    root = bracket.this
    while isinstance(root, exp.Bracket | exp.Dot):
        root = root.this
    return not (isinstance(root, exp.Column) and {part.name for part in root.parts} & _JSON_COLUMNS)


def _shift_offset(unnest: exp.Unnest) -> None:
    """Make `WITH OFFSET AS o` count from 0: SQLGlot writes WITH ORDINALITY, which counts from 1."""
    offset = unnest.args.get("offset")
    select = unnest.parent_select
    if not isinstance(offset, exp.Identifier) or select is None:
        return
    for column in list(select.find_all(exp.Column)):
        if column.name != offset.name or column.table:
            continue
        shifted: exp.Expr = exp.Paren(
            this=exp.Sub(this=column.copy(), expression=exp.Literal.number(1))
        )
        if isinstance(column.parent, exp.Select) and column.arg_key == "expressions":
            shifted = exp.alias_(shifted, offset.name)
        column.replace(shifted)
