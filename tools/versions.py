"""Run the unit tests, or others, in an environment of their own.

Other versions, another Python, real programs, a clean install:

python tools/versions.py lowest                 on the oldest release of everything that pyproject.toml allows
python tools/versions.py newest                 on the newest release of everything
python tools/versions.py lowest-without-torch   the same without torch, whose own wheels bring CUDA
python tools/versions.py newest-without-torch
python tools/versions.py lowest-jax             what needs JAX, on its oldest release
python tools/versions.py without-torch 3.13     on another Python, without torch; skipped where there is none
python tools/versions.py clients                the tests with programs that use the package
python tools/versions.py wheel                  the built wheel, without the checkout

Further arguments go to pytest, in place of the files to test. Environments are kept in ``.environments`` and
made anew when what they hold should change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".environments"
#: the extras that the unit tests need, whose oldest releases go together
OLDEST = ("audit", "matplotlib", "test")
#: the oldest JAX asks for newer releases of others than the package itself does
WITHOUT_TORCH = (*OLDEST, "jax")
#: what other stages need of these extras
OTHER_STAGES = {"mypy", "nbformat", "nbval", "papermill", "playwright", "ruff"}
#: the folders of unit tests; the files in tests itself are added to them
UNIT = ("softmax_lab", "tests/_kernels", "tests/audit", "tests/data", "tests/jax", "tests/torch")
#: what reads the texts of this checkout alone, whatever is installed
OF_THE_TEXTS = ("contributing", "imports", "private_names", "project", "versions")
#: what runs on JAX arrays
ON_JAX = ("softmax_lab/jax", "tests/jax", "tests/audit/adapters")
WHERE_PYENV_PUTS_THEM = Path.home() / ".pyenv" / "versions"


def requirements(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml asks for on this system: for the package alone and for its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in extras for text in project["optional-dependencies"][extra]),
    ]
    found = {
        canonicalize_name(each.name): each
        for each in map(Requirement, texts)
        if not each.marker or each.marker.evaluate()
    }
    # Triton is of no use without torch
    return [each for name, each in found.items() if name != "triton" or "torch" in found]


def needed(*extras: str) -> list[Requirement]:
    """Return what the unit tests need of the package and its extras."""
    return [each for each in requirements(*extras) if each.name not in OTHER_STAGES]


def floor(requirement: Requirement) -> str:
    """Return the requirement of the oldest release that one allows."""
    oldest = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(oldest) != 1:
        raise ValueError(f"expected one '>=' in {str(requirement)!r}; got {len(oldest)}")
    return f"{requirement.name}=={oldest[0]}"


def python(version: str) -> str | None:
    """Return an interpreter of a version such as 3.12, or None."""
    for command in (
        f"python{version}",
        *map(str, sorted(WHERE_PYENV_PUTS_THEM.glob(f"{version}.*/bin/python"))),
    ):
        try:
            # A version manager has a stand-in on the path for each version, switched on or not.
            found = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
        except OSError:
            continue
        if found.startswith(f"Python {version}."):
            return command
    return None


def environment(
    name: str, wanted: Sequence[str], *, interpreter: str = sys.executable, beside: bool = False
) -> Path:
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
            [inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        Path(link.stdout.strip(), "beside.pth").write_text(
            sysconfig.get_path("purelib") + "\n", encoding="utf-8"
        )
    if wanted:
        install(inside, *wanted)
    stamp.write_text(identity, encoding="utf-8")
    return inside


def install(interpreter: Path, *wanted: str) -> None:
    """Install wheels: a source archive of others would need a compiler.

    pip runs isolated. In the checkout it would take the traces of an editable install for an installed
    package, and install nothing.
    """
    run(
        interpreter,
        "-I",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        *wanted,
    )


def run(*command: str | Path, folder: Path = ROOT, quiet: bool = False, **variables: str) -> None:
    """Run a command; a failure ends this program with its status."""
    shown = subprocess.DEVNULL if quiet else None
    status = subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, stdout=shown, check=False
    ).returncode
    if status:
        sys.exit(status)


def unit_tests(interpreter: Path, arguments: Iterable[str]) -> None:
    """Run the unit tests of this checkout, those left out that take long or read its texts alone."""
    files = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").glob("test_*.py"))
        if path.stem.removeprefix("test_") not in OF_THE_TEXTS
    ]
    tests(
        interpreter, "-n", "2", "-m", "not slow and not long and not clients", *(arguments or (*UNIT, *files))
    )


def tests(interpreter: Path, *arguments: str) -> None:
    """Run tests of this checkout; machine code is kept with the environment whose Numba made it."""
    cache = interpreter.parents[1] / "numba"
    run(
        interpreter,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *arguments,
        PYTHONPATH=str(ROOT),
        NUMBA_CACHE_DIR=str(cache),
    )


def lowest(*arguments: str, extras: Sequence[str] = ("torch", *OLDEST)) -> None:
    """The oldest releases."""
    name = "lowest" if "torch" in extras else "lowest-without-torch"
    unit_tests(environment(name, [floor(each) for each in needed(*extras)]), arguments)


def lowest_jax(*arguments: str) -> None:
    """The oldest JAX, beside releases that it takes."""
    oldest = [floor(each) for each in requirements("jax") if each.name == "jax"]
    inside = environment("lowest-jax", [*oldest, *map(str, needed(*OLDEST))])
    unit_tests(inside, arguments or ON_JAX)


def newest(*arguments: str, extras: Sequence[str] = ("torch", *WITHOUT_TORCH)) -> None:
    """The newest releases, whatever an earlier run installed."""
    name = "newest" if "torch" in extras else "newest-without-torch"
    inside = environment(name, [])
    install(inside, "--upgrade", "--upgrade-strategy", "eager", *map(str, needed(*extras)))
    unit_tests(inside, arguments)


def without_torch(version: str, *arguments: str) -> None:
    """Another Python."""
    interpreter = python(version)
    if interpreter is None:
        print(f"skipped: there is no Python {version} on this machine")
        return
    wanted = map(str, needed(*WITHOUT_TORCH))
    unit_tests(
        environment(f"python{version}", ["-c", "constraints.txt", *wanted], interpreter=interpreter),
        arguments,
    )


def clients(*arguments: str) -> None:
    """Programs that use the package."""
    wanted = ["-c", "constraints.txt", *map(str, requirements("clients"))]
    inside = environment("clients", wanted, beside=True)
    tests(inside, "-m", "clients", *(arguments or ("tests/clients",)))


WHAT_AN_INSTALLED_PACKAGE_DOES = """
import sys
import softmax_lab as sl
assert sl.__file__.startswith(sys.prefix), f"imported from {sl.__file__}"
assert sl._dispatch.choose(2) == "short", "NumPy did the work"
assert abs(sl.softmax([40.0, 0.0])[1] / 4.248354255291589e-18 - 1) < 1e-15
value, gradient = sl.cross_entropy_grad([[40.0, 0.0]], [0], sl.LossSpec(temperature=2.0))
assert abs(value / 2.061153620314381e-09 - 1) < 1e-15 and gradient.sum() == 0
print("softmax-lab", sl.__version__, "imports, and its softmax and loss are right")
"""

BRIEFLY = ("--dtype", "float16", "--dtype", "float32")  # the other types take as long again


def wheel() -> None:
    """Build the archive of the sources, and from it the wheel; try the wheel far from here.

    The wheel is installed in an environment of its own.
    """
    builder = environment("build", build_requirements())
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sources = copied(place / "checkout")
        run(
            builder,
            "-c",
            f"from setuptools.build_meta import build_sdist; build_sdist({name!r})",
            folder=sources,
            quiet=True,
        )
        archive = next(place.glob("*.tar.gz"))
        check_archive(archive, sources)
        run(
            builder,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            place,
            archive,
            folder=place,
        )
        run(sys.executable, "-m", "venv", place / "clean")
        inside = place / "clean" / "bin" / "python"
        install(inside, "-c", str(ROOT / "constraints.txt"), f"{next(place.glob('*.whl'))}[audit]")
        run(inside, "-c", WHAT_AN_INSTALLED_PACKAGE_DOES, folder=place, PYTHONPATH="")
        run(inside.with_name("softmax-lab"), "audit", "softmax_lab", *BRIEFLY, folder=place, PYTHONPATH="")


def build_requirements() -> list[str]:
    """Return what pyproject.toml builds with."""
    table: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "build-system"
    ]
    return table["requires"]


def copied(folder: Path) -> Path:
    """Copy the files that are, or would be, tracked: a build leaves traces that the next one reads."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def check_archive(archive: Path, sources: Path) -> None:
    """Fail unless the archive holds the whole package, and of the tests nothing.

    A part of the tests would run nowhere.
    """
    with tarfile.open(archive) as opened:
        held = {
            Path(*Path(member.name).parts[1:]).as_posix() for member in opened.getmembers() if member.isfile()
        }
    package = {
        path.relative_to(sources).as_posix()
        for path in (sources / "softmax_lab").rglob("*")
        if path.is_file()
    }
    if missing := package - held:
        sys.exit(f"the archive lacks {', '.join(sorted(missing))}")
    if tests := [name for name in held if name.startswith("tests/")]:
        sys.exit(
            f"the archive holds {len(tests)} files of the tests, such as {min(tests)}; it should hold none"
        )


COMMANDS: dict[str, Callable[..., None]] = {
    "lowest": lowest,
    "newest": newest,
    "lowest-without-torch": partial(lowest, extras=OLDEST),
    "newest-without-torch": partial(newest, extras=WITHOUT_TORCH),
    "lowest-jax": lowest_jax,
    "without-torch": without_torch,
    "clients": clients,
    "wheel": wheel,
}


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python tools/versions.py {{{','.join(COMMANDS)}}} [arguments]")
    COMMANDS[sys.argv[1]](*sys.argv[2:])
