"""Terraform itself accepts the files, runs their tests, and keeps no secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.secrets_file import new_secrets
from infra.teardown import main as tear_down
from infra.tests.terraform import INFRA, ROOT, Terraform

WRONG = {
    "an argument that is not there": (
        "pubsub.tf", "  ack_deadline_seconds  ", "  ack_deadline  ", "Unsupported argument",
    ),
    "an argument of another type": (
        "functions.tf", "= local.sizes[each.key].timeout_s", '= "soon"', "Incorrect attribute value type",
    ),
    "a required argument left out": (
        "scheduler.tf", '  name             = "${var.prefix}-${each.key}"\n', "",
        "Missing required argument",
    ),
    "a resource that is not there": (
        "budget.tf", '"google_billing_budget"', '"google_billing_limit"', "Invalid resource type",
    ),
    "an attribute that is not there": (
        "outputs.tf", '["decide"].service_config[0].uri', '["decide"].service_config[0].address',
        "Unsupported attribute",
    ),
    "a secret where it would be kept": (
        "secrets.tf", "secret_data_wo         =", "secret_data            =",
        "Invalid use of ephemeral value",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("schema_package")
def test_the_files_are_formatted() -> None:
    run = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", str(INFRA)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stdout) == (0, "")


def test_terraforms_own_tests_pass(terraform: Terraform) -> None:
    run = terraform.run("test", "-no-color", check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert " 0 failed" in run.stdout


@pytest.mark.parametrize("case", WRONG)
def test_what_the_providers_schema_forbids_is_found(copy: Terraform, case: str) -> None:
    file, old, new, message = WRONG[case]
    text = (copy.folder / file).read_text("utf-8")
    assert text.count(old) == 1
    (copy.folder / file).write_text(text.replace(old, new), "utf-8")

    run = copy.run("validate", "-json", check=False)

    found = {diagnostic["summary"] for diagnostic in json.loads(run.stdout)["diagnostics"]}
    assert any(message in summary for summary in found), found


def test_no_secret_is_kept_and_everything_is_torn_down(
    copy: Terraform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = new_secrets("https://sgtm.example.com/stitched")
    file = copy.folder / "secrets.auto.tfvars.json"
    file.write_text(json.dumps({"secrets": secrets}))
    copy.run("apply", "-auto-approve", "-input=false")
    state = (copy.folder / "terraform.tfstate").read_text("utf-8")
    file.unlink()

    for name, value in copy.environment().items():
        monkeypatch.setenv(name, value)
    refused = tear_down(["--folder", str(copy.folder), "--project", "another"])
    told = capsys.readouterr().out
    kept = resources_in(copy.folder)
    done = tear_down(["--folder", str(copy.folder), "--project", "my-project"])

    named = {name: value for name, value in secrets.items() if value != "[]"}
    assert [name for name, value in named.items() if value in state] == []
    assert refused == 1
    assert "every profile" in told
    assert "identity key" in told
    assert "audit" in told
    assert len(kept) > 100
    assert done == 0
    assert resources_in(copy.folder) == []


def test_nothing_is_made_before_its_interface_is_switched_on(terraform: Terraform) -> None:
    """In an empty project what does not wait for that fails."""
    edges = re.findall(r'"(\S+)" -> "(\S+)"', terraform.run("graph").stdout)
    made = {name for edge in edges for name in edge if name.startswith("google_")}
    waiting = {"google_project_service.api"}
    while more := {before for before, after in edges if after in waiting} - waiting:
        waiting |= more

    assert len(made) > 40
    assert made - waiting == set()


def test_a_teardown_that_cannot_read_the_state_says_why(
    copy: Terraform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = 'terraform {\n  backend "local" {\n    path = "elsewhere.tfstate"\n  }\n}\n'
    (copy.folder / "backend.tf").write_text(backend)
    for name, value in copy.environment().items():
        monkeypatch.setenv(name, value)

    refused = tear_down(["--folder", str(copy.folder), "--project", "my-project"])

    assert refused == 1
    assert "terraform init" in capsys.readouterr().out


def test_a_new_value_of_a_secret_is_needed_once(
    copy: Terraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that raises its number needs it; those after it, a teardown too, do not."""
    secrets = new_secrets(None)
    apply = ("apply", "-auto-approve", "-input=false")

    def given(version: int, **values: str) -> None:
        told = {"secrets": values, "secret_versions": {"keys": version}}
        (copy.folder / "test.auto.tfvars.json").write_text(json.dumps(told))

    given(1, **secrets)
    copy.run(*apply)
    given(2, callbacks=secrets["callbacks"])
    forgotten = copy.run(*apply, check=False)
    kept = versions_in(copy.folder)
    given(2, keys=secrets["keys"])
    copy.run(*apply)
    given(2)
    again = copy.run(*apply)
    for name, value in copy.environment().items():
        monkeypatch.setenv(name, value)

    assert forgotten.returncode != 0
    assert 'new_value_in_secrets["keys"]' in forgotten.stderr
    assert (kept["keys"], versions_in(copy.folder)["keys"]) == (1, 2)
    assert "No changes." in again.stdout
    assert tear_down(["--folder", str(copy.folder), "--project", "my-project"]) == 0


def test_the_example_of_variables_is_one_that_terraform_takes(copy: Terraform) -> None:
    """With every line that it offers; nothing in it is unknown or of another type."""
    offered = (copy.folder / "terraform.tfvars.example").read_text("utf-8")
    taken = re.sub(r"^# (?=[a-z_]+ += |  |\})", "", offered, flags=re.MULTILINE)
    (copy.folder / "terraform.tfvars.json").unlink()
    (copy.folder / "terraform.tfvars").write_text(taken)
    packages = json.dumps({"package_dir": str(copy.folder / "packages")})
    (copy.folder / "test.auto.tfvars.json").write_text(packages)
    (copy.folder / "packages").mkdir()
    for name in ("stitch_sync", "stitch_async", "decide", "audit_sink"):
        (copy.folder / "packages" / f"{name}.zip").write_bytes(b"")

    plan = copy.plan()

    given = set(re.findall(r"^([a-z_]+) +=", taken, re.MULTILINE))
    assert len(given) == len(re.findall(r"^(?:# )?([a-z_]+) += ", offered, re.MULTILINE)) > 10
    assert given <= plan["variables"].keys()


def test_two_commands_deploy_and_make_secrets_only_once(copy: Terraform) -> None:
    root = copy.folder.parent
    for name in ("Makefile", "infra/secrets_file.py"):
        (root / name).write_text((ROOT / name).read_text("utf-8"))
    (copy.folder / "terraform.tfvars").write_text('region = "europe-west1"\n')
    secrets = copy.folder / "secrets.auto.tfvars.json"
    command = ["make", "deploy", f"PYTHON={sys.executable}", "TERRAFORM_ARGS=-auto-approve"]
    environment = {
        **copy.environment(), "TF_CLI_ARGS_init": f"-plugin-dir={root / 'plugins'}",
    }  # fmt: skip

    def deploy() -> str:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=180,
            check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    first = deploy()
    made = json.loads(secrets.read_text("utf-8"))["secrets"]
    secrets.unlink()
    again = deploy()

    assert "identity-key" in made
    assert "decide_url" in first
    assert "No changes." in again
    assert not secrets.exists()


def versions_in(folder: Path) -> dict[str, int]:
    """Return the number of each secret's value."""
    state = json.loads((folder / "terraform.tfstate").read_text("utf-8"))
    return {
        instance["index_key"]: instance["attributes"]["secret_data_wo_version"]
        for resource in state["resources"]
        if resource["type"] == "google_secret_manager_secret_version"
        for instance in resource["instances"]
    }


def resources_in(folder: Path) -> list[str]:
    state = json.loads((folder / "terraform.tfstate").read_text("utf-8"))
    return [resource["type"] for resource in state["resources"] for _ in resource["instances"]]
