"""What `make long` tests is what pyproject.toml says."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import run_tests, versions

EXTRAS = tomllib.loads((versions.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_requirement_has_an_oldest_release(extra: str) -> None:
    for each in versions.requirements(extra):
        lowest = Requirement(versions.floor(each))
        (pinned,) = lowest.specifier
        assert pinned.operator == "=="
        assert Version(pinned.version) in each.specifier


@pytest.mark.parametrize(("text", "count"), [("numpy", 0), ("numpy<3", 0), ("numpy>=1,>=2", 2)])
def test_a_requirement_without_one_oldest_release_is_refused(text: str, count: int) -> None:
    with pytest.raises(
        ValueError, match=f"expected one '>=' in '{text}'; got {count}".replace("numpy>=1,>=2", ".*")
    ):
        versions.floor(Requirement(text))


def test_triton_comes_with_torch_alone() -> None:
    assert "triton" not in {each.name for each in versions.requirements("test")}
    names = {each.name for each in versions.requirements("torch", "test")}
    assert ("triton" in names) == (sys.platform == "linux")


def test_the_oldest_jax_stands_beside_releases_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for newer ones than the oldest that the package itself allows."""
    made: dict[str, list[str]] = {}

    def environment(name: str, wanted: list[str]) -> Path:
        made[name] = wanted
        return Path(name)

    monkeypatch.setattr(versions, "environment", environment)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        versions, "unit_tests", lambda inside, arguments: ran.append((str(inside), *arguments))
    )
    versions.lowest(extras=versions.OLDEST)
    versions.lowest_jax()
    versions.lowest_jax("tests/jax/test_modes.py")
    assert all("==" in text for text in made["lowest-without-torch"])
    assert not any(text.startswith("jax") for text in made["lowest-without-torch"])
    assert [text.split("==")[0] for text in made["lowest-jax"] if "==" in text] == ["jax"]
    assert any(text.startswith("numpy>=") for text in made["lowest-jax"])
    assert ran == [
        ("lowest-without-torch",),
        ("lowest-jax", *versions.ON_JAX),
        ("lowest-jax", "tests/jax/test_modes.py"),
    ]


def test_all_unit_tests_run_but_those_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(versions, "tests", lambda inside, *arguments: ran.extend(arguments))
    versions.unit_tests(Path("python"), ())
    files = {path.stem for path in (versions.ROOT / "tests").glob("test_*.py")}
    left_out = files - {Path(argument).stem for argument in ran}
    assert left_out == {f"test_{name}" for name in versions.OF_THE_TEXTS}
    assert set(versions.UNIT) <= set(ran)


def test_an_interpreter_is_found_by_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a stand-in on the path that is switched off, and of the real one, the real one."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    switched_off = tmp_path / f"python{version}"
    switched_off.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    switched_off.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(versions, "WHERE_PYENV_PUTS_THEM", tmp_path)
    assert versions.python(version) is None
    real = tmp_path / f"{version}.1" / "bin" / "python"
    real.parent.mkdir(parents=True)
    real.symlink_to(sys.executable)
    assert versions.python(version) == str(real)


def test_a_python_that_is_not_installed_is_skipped_and_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "python", lambda version: None)
    versions.without_torch("3.99")
    assert capsys.readouterr().out == "skipped: there is no Python 3.99 on this machine\n"


def test_every_stage_is_in_one_group() -> None:
    assert [stage for group in run_tests.GROUPS.values() for stage in group] == list(run_tests.stages())
    assert run_tests.chosen([]) == list(run_tests.GROUPS["test"])
    assert run_tests.chosen(["wheel", "clients", "wheel", "ruff"]) == ["wheel", "clients", "ruff"]


def test_pages_are_looked_at_only_after_they_are_rendered() -> None:
    assert run_tests.chosen(["long", "ruff"]) == ["book", *run_tests.GROUPS["long"], "ruff"]
    assert run_tests.chosen(["links"]) == ["book", "links"]
    assert run_tests.chosen(["test", "long"]) == [*run_tests.GROUPS["test"], *run_tests.GROUPS["long"]]


def test_a_stage_that_fails_ends_the_run_and_the_last_lines_name_the_stages(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = {"ruff": ["-c", "pass"], "wheel": ["-c", "raise SystemExit(3)"], "clients": ["-c", "pass"]}
    monkeypatch.setattr(run_tests, "stages", lambda: commands)
    assert run_tests.main(["ruff", "wheel", "clients"]) == 3
    outcome, *lines = capfd.readouterr().out.splitlines()[-4:]
    assert outcome == "=== wheel failed with status 3"
    assert [line.split()[-1] for line in lines] == ["ruff", "wheel", "total"]
