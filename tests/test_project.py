"""The project's own files agree with each other and are fit for any machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import softmax_lab as sl
from tools import run_tests

ROOT = Path(__file__).resolve().parents[1]
CONDA_EXTRAS = ("audit", "book", "frameworks", "test")
NOT_OURS = re.compile(r"/(?:\.(?!ci/|gitignore)|_build/|build/|__pycache__/|[^/]+\.egg-info/)")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def requirements(*extras: str) -> list[Requirement]:
    """Return the requirements of the base package and of ``extras``."""
    optional = project()["optional-dependencies"]
    return [
        Requirement(text)
        for text in [*project()["dependencies"], *(text for extra in extras for text in optional[extra])]
    ]


def constraints() -> dict[str, str]:
    """Return the pinned version of each package."""
    lines = (
        line.split("#")[0].strip()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    )
    return pins((line for line in lines if line), "==")


def pins(lines: Iterable[str], separator: str) -> dict[str, str]:
    found = dict(line.split(separator) for line in lines)
    return {canonicalize_name(name): version for name, version in found.items()}


def conda() -> tuple[dict[str, str], list[str]]:
    """Return the pinned packages of ``environment.yml`` and what else it lists."""
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    by_pip = next(item["pip"] for item in listed if isinstance(item, dict))
    by_conda = [item for item in listed if isinstance(item, str)]
    pinned = [item for item in by_conda if re.fullmatch(r"[\w.-]+=[\w.]+", item)]
    pinned_by_pip = [item for item in by_pip if "==" in item]
    rest = [item for item in [*by_conda, *by_pip] if item not in pinned + pinned_by_pip]
    without_markers = (item.split(";")[0] for item in pinned_by_pip)
    return pins(pinned, "=") | pins(without_markers, "=="), rest


def project_files() -> list[Path]:
    """Return the files that are, or would be, tracked."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split(
            "\0"
        )
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):  # an archive without git
        paths = [path for path in ROOT.rglob("*") if not NOT_OURS.search(f"/{path.relative_to(ROOT)}")]
    return [path for path in paths if path.is_file()]


def test_versions_agree() -> None:
    """The number stands in the package alone, and the build reads it there."""
    version = sl.__version__
    assert "version" not in project()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert re.search(
        rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_base_needs_only_numpy_and_numba() -> None:
    assert {requirement.name for requirement in requirements()} == {"numpy", "numba"}


@pytest.mark.parametrize("extra", ["audit", "book", "clients", "frameworks", "test", "torch"])
def test_constraints_pin_every_requirement_within_its_range(extra: str) -> None:
    pinned = constraints()
    for requirement in requirements(extra):
        assert canonicalize_name(requirement.name) in pinned, (
            f"constraints.txt does not pin {requirement.name}"
        )
        assert Version(pinned[canonicalize_name(requirement.name)]) in requirement.specifier


def test_conda_environment_is_in_step() -> None:
    pinned, rest = conda()
    wanted = {canonicalize_name(requirement.name) for requirement in requirements(*CONDA_EXTRAS)}
    assert pinned == {name: constraints()[name] for name in wanted}
    assert sorted(rest) == ["-e .", "pip", f"python{project()['requires-python']}"]


def test_constraints_name_no_place() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_the_pythons_that_are_tested_are_named() -> None:
    """What make long and make versions run, besides the oldest."""
    named = {
        line.rpartition(" :: ")[2]
        for line in project()["classifiers"]
        if re.search(r"Python :: 3\.\d+$", line)
    }
    stages = set(
        re.findall(
            r'"without-torch", "(3\.\d+)"', (ROOT / "tools" / "run_tests.py").read_text(encoding="utf-8")
        )
    )
    assert named == stages | {project()["requires-python"].removeprefix(">=")}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"{version}" in readme for version in named)


def test_make_and_python_ask_for_the_same_python() -> None:
    oldest = project()["requires-python"].removeprefix(">=")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in (ROOT / "Makefile").read_text(
        encoding="utf-8"
    )


def test_no_file_names_a_registry_or_a_place_on_this_machine() -> None:
    registry = r"--(?:extra-)?index-url|--find-links|https?://[^\s\"']*(?:pypi|/simple/|pythonhosted)"
    place = r"(?<![\w.~/-])/(?:home|Users|root|work|opt|tmp)/\w+"
    pattern = re.compile(f"{registry}|{place}|{re.escape(str(ROOT))}")
    found = []
    for path in project_files():
        if path == Path(__file__):  # the pattern itself
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize("module", ["softmax_lab.softmax", "softmax_lab.torch.linear", "tests.test_softmax"])
@pytest.mark.parametrize(
    "category", [RuntimeWarning, UserWarning, FutureWarning, DeprecationWarning, ResourceWarning]
)
def test_a_warning_of_others_fails_no_test(category: type[Warning], module: str) -> None:
    """On a line of ours, too: torch gives its caller's."""
    with warnings.catch_warnings(record=True):
        warnings.warn_explicit("torch will do this otherwise", category, "file.py", 1, module)


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("overflow encountered in exp", RuntimeWarning),
        ("softmax_lab's compiled loops fail here", RuntimeWarning),
        ("softmax_lab.losses: seesaw(p) is deprecated", DeprecationWarning),
    ],
)
def test_a_warning_of_ours_fails_a_test(message: str, category: type[Warning]) -> None:
    with pytest.raises(category, match=re.escape(message)):
        warnings.warn_explicit(message, category, "file.py", 1, "softmax_lab.softmax")


#: modules without a test file of their own, by pattern, and the tests that prove them through others
PROVED_ELSEWHERE: dict[str, tuple[str, ...]] = {
    # one computation in three files, which the loss alone calls
    "_compiled.py": ("tests/test_cross_entropy.py", "tests/test_fuzz.py"),
    "_log_compiled.py": ("tests/test_log_cross_entropy.py", "tests/_kernels/test_log_rows.py"),
    "_log_reference.py": ("tests/test_log_cross_entropy.py", "tests/test_exact_log.py"),
    "_log_rows.py": ("tests/test_log_cross_entropy.py", "tests/_kernels/test_log_rows.py"),
    "_problem.py": ("tests/test_cross_entropy.py", "tests/test_domains.py"),
    "_reference.py": ("tests/test_cross_entropy.py", "tests/test_exact.py"),
    "_version.py": ("tests/test_project.py",),
    # the loops are held to the reference, in every field and at every size, through what calls them
    "_kernels/*": ("tests/_kernels/test_family.py", "tests/test_fuzz.py"),
    # the rooms behind the public faces of the torch backend
    "torch/_*": ("tests/torch/test_functional.py", "tests/torch/test_modes.py"),
    # JAX is there; and the rooms behind its public face
    "jax/_*": ("tests/jax/test_cross_entropy.py", "tests/jax/test_modes.py"),
    # a module around a function
    "torch/modules/log_loss.py": ("tests/torch/test_log_cross_entropy.py", "tests/torch/test_modes.py"),
    # what the monitor shows and adds up
    "torch/modules/drawing.py": ("tests/torch/modules/test_monitor.py",),
    "torch/modules/statistics.py": ("tests/torch/modules/test_monitor.py",),
}
#: test files that belong to no module
OF_MANY_MODULES = {
    "test_accuracy.py": "every function on the hard rows",
    "test_conftest.py": "the tests' own fixtures",
    "test_contributing.py": "the recipes and the files that they name",
    "test_domains.py": "every function at the ends of every field",
    "test_exact_log.py": "the oracle of the log of the mean loss, beside test_exact.py",
    "test_fuzz.py": "backend against backend",
    "test_imports.py": "who imports whom",
    "test_private_names.py": "what files keep to themselves",
    "test_project.py": "the project's own files",
    "test_public.py": "the package's face",
    "test_readme.py": "the page that a reader sees first",
    "test_versions.py": "the tools that run the tests",
}


def mirrored(module: Path) -> Path:
    """Return where the tests of a module are: ``a/_b.py`` is tested in ``a/test_b.py``."""
    return module.with_name(f"test_{module.stem.removeprefix('_')}.py")


def package_modules() -> list[Path]:
    """Return the modules of the package, from its folder on; an ``__init__`` only collects names."""
    package = ROOT / "softmax_lab"
    paths = (path.relative_to(package) for path in sorted(package.rglob("*.py")))
    return [path for path in paths if path.name != "__init__.py"]


@pytest.mark.parametrize("module", package_modules(), ids=str)
def test_every_module_has_a_test_file_or_says_where_it_is_proved(module: Path) -> None:
    own = ROOT / "tests" / mirrored(module)
    patterns = [pattern for pattern in PROVED_ELSEWHERE if fnmatch(module.as_posix(), pattern)]
    assert own.is_file() or patterns, f"softmax_lab/{module} is tested nowhere: {own.relative_to(ROOT)}"


def test_what_proves_a_module_elsewhere_is_there_and_needed() -> None:
    for pattern, tests in PROVED_ELSEWHERE.items():
        assert all((ROOT / test).is_file() for test in tests), pattern
        found = [module for module in package_modules() if fnmatch(module.as_posix(), pattern)]
        assert not all((ROOT / "tests" / mirrored(module)).is_file() for module in found), pattern


def test_every_test_file_belongs_to_a_module_or_says_to_which_it_belongs() -> None:
    tests = ROOT / "tests"
    folders = (tests, tests / "audit", tests / "audit" / "adapters", tests / "data")
    files = {path.relative_to(tests).as_posix() for folder in folders for path in folder.glob("test_*.py")}
    assert files - {mirrored(module).as_posix() for module in package_modules()} == set(OF_MANY_MODULES)


def test_a_commit_is_checked_by_the_stages_of_make_lint() -> None:
    """Locally: a hook from elsewhere would be fetched, and be of another version."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    linted = re.search(r"^lint:.*\n\t\$\(BIN\)/python (tools/run_tests\.py) (.*)$", makefile, re.MULTILINE)
    assert linted is not None
    stages = linted[2].split()
    assert [hook["entry"] for hook in hooks] == [f".venv/bin/python {linted[1]} {stage}" for stage in stages]
    assert [hook["id"] for hook in hooks] == stages
    assert set(stages) <= run_tests.stages().keys()
    assert not any(hook["pass_filenames"] for hook in hooks)  # a stage knows what it checks
