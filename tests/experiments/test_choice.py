"""The figures of the page on choosing are those of the stored tables; it is the only page of its kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import softmax_lab as sl
from experiments import choice, tables
from tools.build_book import read_toc

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "choice.ipynb"
#: what leads to the page
LEADING = (
    "README.md",
    "book/intro.ipynb",
    "book/07-balance.ipynb",
    "book/10-speed.ipynb",
    "book/migration.ipynb",
)


def prose(path: Path) -> str:
    """Return the text of a page: of a notebook its Markdown cells."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_costs_are_those_of_the_stored_rows() -> None:
    found = choice.costs()
    rows = pd.read_csv(tables.RESULTS / "torch_cpu.csv").query("task == 'loss' and dtype == 'float32'")
    newest = rows.drop_duplicates(["k", "provider"], keep="last").pivot(
        index="k", columns="provider", values="ms"
    )
    ratio = newest["softmax_lab"] / newest["torch"]
    assert found["few"] == f"{ratio[10]:.2g}"
    assert found["many"] == f"{ratio.loc[1000:].min():.2g} to {ratio.loc[1000:].max():.2g}"
    layers = pd.read_csv(tables.RESULTS / "linear_cpu.csv").groupby("provider")["seconds"].median()
    assert found["linear"] == f"{layers['softmax_lab'] / layers['torch materialised']:.2g}"
    balanced = (
        pd.read_csv(tables.RESULTS / "balance_cpu.csv").query("case == 'counts given'").tail(3)["ratio"]
    )
    assert found["balanced"] == f"{balanced.min():.2g} to {balanced.max():.2g}"


def test_the_page_shows_every_cost_and_types_none() -> None:
    text = prose(PAGE)
    shown = set(re.findall(r"\{glue:text\}`choice-([\w-]+)`", text))
    assert shown == choice.costs().keys()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) >= 10
    typed = [
        line.split("|")[3]
        for line in table[2:]
        if re.search(r"\b\d", re.sub(r"`[^`]*`", "", line.split("|")[3]))
    ]
    assert typed == []


def test_the_losses_that_are_recommended_are_there() -> None:
    names = set(re.findall(r"`(\w+)\((?:counts|eps|gamma)\b", prose(PAGE)))
    assert names == {"logit_adjusted", "gradient_balanced", "label_smoothing", "focal"}
    assert names <= set(sl.losses.REGISTRY)


def test_there_is_one_copy_and_links_lead_to_it() -> None:
    pages = [
        path for page in read_toc(ROOT) for path in (ROOT / "book").parent.glob(f"{page}.*") if path.is_file()
    ]
    pages += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    with_table = [path.name for path in pages if re.search(r"^\| You have", prose(path), re.MULTILINE)]
    assert with_table == ["choice.ipynb"]
    assert "book/choice" in read_toc(ROOT)


@pytest.mark.parametrize("name", LEADING)
def test_a_page_leads_to_it(name: str) -> None:
    wanted = (
        r"\]\(book/choice\.ipynb\)" if name.endswith(".md") else r"\{doc\}`[^`]*<choice>`|\{doc\}`choice`"
    )
    assert re.search(wanted, prose(ROOT / name))
