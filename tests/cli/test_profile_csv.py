"""Profiles in CSV: what a cell means, and where a mistake is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tagstitch.cli.json_lines import BadLine
from tagstitch.cli.output import CommandFailed
from tagstitch.cli.profile_files import ProfileFormat, open_profile_file
from tests.cli.conftest import Cli


def lines_of(path: Path, content: str | bytes, **options: Any) -> list[tuple[int, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(open_profile_file(path, **options).lines())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("Gold", "Gold"),
        (" Gold ", "Gold"),
        ("7", 7),
        ("-7.50", -7.5),
        ("007", "007"),  # a code, not a number
        ("+43 1 234", "+43 1 234"),
        ("12E3", "12E3"),
        ("1e5", "1e5"),
        ("12345678901234567890", "12345678901234567890"),  # more than 64 bits
        ("NaN", "NaN"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("null", "null"),
        ('"{""a"": [1, true]}"', {"a": [1, True]}),
        ('"[""a"", ""b""]"', ["a", "b"]),
        ('"two\nlines"', "two\nlines"),
        ('"say ""hello"""', 'say "hello"'),
        ("Käse", "Käse"),
    ],
)
def test_a_cell_is_what_it_looks_like(file: Path, cell: str, value: object) -> None:
    ((_, line),) = lines_of(file, f"profile_id,attributes.x\np1,{cell}\n")

    assert line["attributes"] == {"x": value}
    assert type(line["attributes"]["x"]) is type(value)


def test_a_column_can_stay_text(file: Path) -> None:
    content = "profile_id,zip,attributes.version\np1,1010,1.10\n"

    ((_, line),) = lines_of(file, content, text_columns=["zip", "attributes.version"])

    assert line["attributes"] == {"zip": "1010", "version": "1.10"}


def test_a_row_becomes_a_line_of_an_import(file: Path) -> None:
    header = (
        "profile_id,identifiers.user_id,identifiers.client_id,identifiers.client_id,"
        "attributes.tier,a.b,consent.email,consent.crm,attributes_at"
    )
    rows = [
        (
            'p1,007,1.2;3.4,5.6,Gold,1,granted,"{""granted"": true, ""at"": ""2026-11-21T20:00:00Z""}"'
            ",2026-11-21T20:00:00Z"
        ),
        ",u-2,,,,,,,",
        '"x;y","[""a;b""]",,,,,false,,',
    ]

    found = lines_of(file, "\r\n".join([header, *rows]))

    assert found == [
        (2, {
            "profile_id": "p1",
            "identifiers": {"user_id": ["007"], "client_id": ["1.2", "3.4", "5.6"]},
            "attributes": {"tier": "Gold", "a.b": 1},
            "consent": {"email": "granted", "crm": {"granted": True, "at": "2026-11-21T20:00:00Z"}},
            "attributes_at": "2026-11-21T20:00:00Z",
        }),
        (3, {"identifiers": {"user_id": ["u-2"]}}),
        (4, {"profile_id": "x;y", "identifiers": {"user_id": ["a;b"]}, "consent": {"email": False}}),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_ends_of_lines_do_not_matter(
    file: Path, encoding: str, end: str
) -> None:
    content = end.join(["profile_id,name", "p1,Zoë", "", ",", "p2,"]).encode(encoding)

    assert lines_of(file, content) == [
        (2, {"profile_id": "p1", "attributes": {"name": "Zoë"}}),
        (5, {"profile_id": "p2"}),
    ]


def test_a_compressed_file_reads_alike(tmp_path: Path) -> None:
    content = gzip.compress(b"profile_id,x\np1,1\n")

    found = lines_of(tmp_path / "PEOPLE.CSV.gz", content)

    assert found == [(2, {"profile_id": "p1", "attributes": {"x": 1}})]


def test_the_format_can_be_said(tmp_path: Path) -> None:
    found = lines_of(tmp_path / "people.txt", "profile_id\np1\n", format_=ProfileFormat.csv)

    assert found == [(2, {"profile_id": "p1"})]
    with pytest.raises(CommandFailed):
        open_profile_file(tmp_path / "people.txt", text_columns=["x"])


BROKEN_ROWS = [
    (b"p2,{1,2", "invalid_field", None, "3 cells where the header has 2"),
    (b"p2", "invalid_field", None, "1 cells where the header has 2"),
    (b"p2,{no}", "invalid_json", "attributes.x", "column 2 begins like JSON"),
    (b"p2,Z\xeb", "invalid_unicode", "attributes.x", "column 2 is not UTF-8"),
    (b'p2,"a"b', "invalid_field", None, "a quote is not closed"),
]


@pytest.mark.parametrize(("row", "code", "path", "message"), BROKEN_ROWS)
def test_a_broken_row_spoils_no_other(
    file: Path, row: bytes, code: str, path: str | None, message: str
) -> None:
    found = lines_of(file, b"profile_id,x\np1,1\n" + row + b"\np3,3\n")

    assert [number for number, _ in found] == [2, 3, 4]
    bad = found[1][1]
    assert isinstance(bad, BadLine)
    assert (bad.code, bad.path) == (code, path)
    assert message in bad.message
    assert bad.text == row.decode(errors="replace")
    assert found[2][1]["profile_id"] == "p3"


def test_a_quote_that_is_never_closed_is_one_broken_row(file: Path) -> None:
    rows = "".join(f"p{n},{n}\n" for n in range(3, 300))

    found = lines_of(file, 'profile_id,x\np1,1\np2,"x\n' + rows)

    assert [number for number, _ in found] == [2, 3]
    assert found[1][1].text.endswith("p299,299")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("\xff\xfep\0r\0", "must name the columns"),  # UTF-16
        ('"profile_id', "must name the columns"),
        ("u-1001,Gold", "needs profile_id or an identifiers.<type>"),
        ("user_id,tier", "column 1 must be identifiers.user_id, or attributes.user_id"),
        ("profile_id;tier", "column 1 has a semicolon"),
        ("profile_id,tier,", "column 3 has no name"),
        ("profile_id,tier,attributes.tier", "column 3 is there twice"),
        ("profile_id,profile_id", "column 2 is there twice"),
        ("identifiers.shoe_size", "column 1 is no declared type of identifier"),
        ("profile_id,consent.not ours", "column 2 does not name a purpose"),
    ],
)
def test_a_header_that_cannot_be_right_stops_the_import(file: Path, header: str, says: str) -> None:
    with pytest.raises(CommandFailed, match=says) as refused:
        lines_of(file, header.encode("latin-1") + b"\nx,y\n")

    assert "u-1001" not in str(refused.value)
    assert "Gold" not in str(refused.value)


def test_an_empty_file_has_no_header(file: Path) -> None:
    with pytest.raises(CommandFailed, match="must name the columns"):
        lines_of(file, "")


def test_a_csv_file_is_imported_with_its_rejects(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(
        "identifiers.user_id,tier,consent.analytics_storage\n"
        'u-1,Gold,true\nundefined,Gold,true\nu-3,[1,true\nu-4,"[[1]]",true\n'
    )  # fmt: skip

    ran = cli("profiles", "import", file, "--json")

    assert ran.exit_code == 1
    assert ran.document["created"] == 1
    rejects = [json.loads(line) for line in Path(f"{file}.rejects.jsonl").read_text().splitlines()]
    assert [(r["line"], r["code"], r["path"]) for r in rejects] == [
        (3, "invalid_field", "identifiers.user_id"),
        (4, "invalid_json", "attributes.tier"),
        (5, "invalid_field", "attributes.tier"),
    ]
    (exported,) = cli("profiles", "export", "--json").document
    assert exported["attributes"] == {"tier": "Gold"}


def test_csv_and_json_lines_of_the_same_people_end_alike(cli: Cli, tmp_path: Path) -> None:
    rows, lines = tmp_path / "people.csv", tmp_path / "people.jsonl"
    rows.write_text("identifiers.user_id,tier,visits\nu-1,Gold,7\nu-2,,0\n")
    lines.write_text(
        '{"identifiers": {"user_id": ["u-1"]}, "attributes": {"tier": "Gold", "visits": 7}}\n'
        '{"identifiers": {"user_id": "u-2"}, "attributes": {"visits": 0}}\n'
    )

    cli("profiles", "import", rows)
    again = cli("profiles", "import", lines, "--json")

    assert again.document["unchanged"] == 2
