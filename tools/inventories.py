"""Write the inventories by which the API reference links to NumPy's and torch's documentation.

Run it as ``python tools/inventories.py``. Sphinx would fetch the whole ones from the network at each build.
These hold the names that this project's pages link to, in Sphinx's own format (version 2), and are stored in
``book/_inventories``.
"""

from __future__ import annotations

import zlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "book" / "_inventories"
#: project -> (version in its title, names with role and address under its root)
PROJECTS: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "numpy": (
        "2",
        {
            "numpy.ndarray": ("py:class", "reference/generated/numpy.ndarray.html#$"),
            "numpy.exp": ("py:data", "reference/generated/numpy.exp.html#$"),
            "numpy.random.Generator": ("py:class", "reference/random/generator.html#$"),
        },
    ),
    "torch": (
        "2",
        {
            "torch.Tensor": ("py:class", "tensors.html#$"),
            "torch.compile": ("py:function", "generated/torch.compile.html#$"),
            "torch.log_softmax": (
                "py:function",
                "generated/torch.nn.functional.log_softmax.html#torch.nn.functional.log_softmax",
            ),
            "torch.nn.Linear": ("py:class", "generated/torch.nn.Linear.html#$"),
            "torch.nn.Module": ("py:class", "generated/torch.nn.Module.html#$"),
            "torch.nn.modules.module.Module": ("py:class", "generated/torch.nn.Module.html#torch.nn.Module"),
            "torch.nn.CrossEntropyLoss": ("py:class", "generated/torch.nn.CrossEntropyLoss.html#$"),
            "torch.nn.functional.cross_entropy": (
                "py:function",
                "generated/torch.nn.functional.cross_entropy.html#$",
            ),
            "torch.softmax": ("py:function", "generated/torch.softmax.html#$"),
        },
    ),
}


def inventory(project: str, version: str, names: dict[str, tuple[str, str]]) -> bytes:
    """Return an inventory file's content."""
    lines = ["Sphinx inventory version 2", f"Project: {project}", f"Version: {version}"]
    head = "".join(f"# {line}\n" for line in (*lines, "The remainder of this file is compressed using zlib."))
    body = "".join(f"{name} {role} 1 {address} -\n" for name, (role, address) in sorted(names.items()))
    return head.encode() + zlib.compress(body.encode(), 9)


def main() -> None:
    """Write one file a project."""
    FOLDER.mkdir(exist_ok=True)
    for project, (version, names) in PROJECTS.items():
        (FOLDER / f"{project}.inv").write_bytes(inventory(project, version, names))


if __name__ == "__main__":
    main()
