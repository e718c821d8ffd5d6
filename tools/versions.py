"""Run the unit tests, or others, in an environment of their own: other versions, another Python, real programs, a clean install.

python tools/versions.py lowest                 on the oldest release of everything that pyproject.toml allows
python tools/versions.py newest                 on the newest release of everything
python tools/versions.py without-torch 3.13     on another Python, without torch; skipped where it is not installed
python tools/versions.py clients                the tests with programs that use the package, beside what is installed here
python tools/versions.py wheel                  the built wheel, without the checkout

Further arguments go to pytest. Environments are kept in ``.environments`` and made anew when what they hold should change.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".environments"
TESTED = ("torch", "audit", "test")  # the extras that the unit tests need
UNIT = ("softmax_lab", "tests/_kernels", "tests/audit", "tests/data", "tests/torch")  # and what lies in tests itself
WHERE_PYENV_PUTS_THEM = Path.home() / ".pyenv" / "versions"


def requirements(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml asks for on this system: for the package alone and for its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    found = {canonicalize_name(each.name): each for each in map(Requirement, texts) if not each.marker or each.marker.evaluate()}
    return list(found.values())


def floor(requirement: Requirement) -> str:
    """Return the requirement of the oldest release that one allows."""
    oldest = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(oldest) != 1:
        raise ValueError(f"expected one '>=' in {str(requirement)!r}; got {len(oldest)}")
    return f"{requirement.name}=={oldest[0]}"


def python(version: str) -> str | None:
    """Return an interpreter of a version such as 3.12, or None."""
    for command in (f"python{version}", *map(str, sorted(WHERE_PYENV_PUTS_THEM.glob(f"{version}.*/bin/python")))):
        try:
            # A version manager's stand-in lies on the path for each version, whether it is switched on or not.
            found = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
        except OSError:
            continue
        if found.startswith(f"Python {version}."):
            return command
    return None


def environment(name: str, wanted: Sequence[str], *, interpreter: str = sys.executable, beside: bool = False) -> Path:
    """Return the interpreter of an environment that holds what is wanted: pip's arguments.

    ``beside`` shows it what is installed here, too, so that it holds only what is missing here.
    """
    folder = CACHE / name
    inside, stamp = folder / "bin" / "python", folder / ".holds"
    identity = hashlib.sha256("\n".join([interpreter, sys.version, *wanted]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == identity:
        return inside
    run(interpreter, "-m", "venv", "--clear", folder)
    if beside:
        link = subprocess.run(
            [inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
        )
        Path(link.stdout.strip(), "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *wanted)
    stamp.write_text(identity, encoding="utf-8")
    return inside


def run(*command: str | Path, **variables: str) -> None:
    """Run a command in the project's folder; a failure ends this program with its status."""
    status = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, check=False).returncode
    if status:
        sys.exit(status)


def unit_tests(interpreter: Path, arguments: Iterable[str]) -> None:
    """Run the unit tests of this checkout."""
    files = map(str, sorted(Path("tests").glob("test_*.py")))
    run(interpreter, "-m", "pytest", "-q", "-n", "2", "-m", "not long and not clients", *UNIT, *files, *arguments, PYTHONPATH=str(ROOT))


def lowest(*arguments: str) -> None:
    """The oldest releases."""
    unit_tests(environment("lowest", [floor(each) for each in requirements(*TESTED)]), arguments)


def newest(*arguments: str) -> None:
    """The newest releases."""
    unit_tests(environment("newest", ["--upgrade", *map(str, requirements(*TESTED))]), arguments)


def without_torch(version: str, *arguments: str) -> None:
    """Another Python."""
    interpreter = python(version)
    if interpreter is None:
        print(f"skipped: there is no Python {version} on this machine")
        return
    wanted = [str(each) for each in requirements("audit", "test") if each.name != "triton"]
    unit_tests(environment(f"python{version}", ["-c", "constraints.txt", *wanted], interpreter=interpreter), arguments)


def clients(*arguments: str) -> None:
    """Programs that use the package."""
    wanted = ["-c", "constraints.txt", *map(str, requirements("clients"))]
    inside = environment("clients", wanted, beside=True)
    run(inside, "-m", "pytest", "-q", "-m", "clients", *arguments, PYTHONPATH=str(ROOT))


def wheel(*arguments: str) -> None:
    """A wheel in a place of its own."""
    with tempfile.TemporaryDirectory() as place:
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, ".")
        print(*arguments, *Path(place).iterdir())


COMMANDS: dict[str, Callable[..., None]] = {
    "lowest": lowest,
    "newest": newest,
    "without-torch": without_torch,
    "clients": clients,
    "wheel": wheel,
}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python tools/versions.py {{{','.join(COMMANDS)}}} [arguments]")
    COMMANDS[sys.argv[1]](*sys.argv[2:])
