"""Draw the picture of the README: the gradient of a row against the gap by which it is right.

python tools/readme_picture.py     writes book/confident_row.svg

The numbers are torch's and this package's own, in float32. The file is plain SVG, the same on every machine.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

import softmax_lab as sl

PICTURE = Path(__file__).resolve().parents[1] / "book" / "confident_row.svg"

GAPS = np.arange(0.0, 40.25, 0.25)
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
DECADES = 18  # below 1
BLUE, RED = "#0b62a4", "#b3261e"


def gradients() -> dict[str, list[float]]:
    """Return the magnitude of the gradient at the label, by who computed it, for each gap."""
    z = np.stack([GAPS, np.zeros_like(GAPS)], 1).astype(np.float32)
    labels = np.zeros(len(z), dtype=np.int64)
    _, ours = sl.cross_entropy_grad(z, labels, reduction="none")
    leaf = torch.from_numpy(z).requires_grad_()
    torch.nn.functional.cross_entropy(leaf, torch.from_numpy(labels), reduction="sum").backward()
    assert leaf.grad is not None
    return {"softmax_lab": np.abs(ours[:, 0]).tolist(), "torch": leaf.grad[:, 0].abs().tolist()}


def svg(found: dict[str, list[float]]) -> str:
    """Return the picture."""
    lost = next(gap for gap, g in zip(GAPS, found["torch"], strict=True) if g == 0.0)
    kept = [(gap, g) for gap, g in zip(GAPS, found["torch"], strict=True) if g > 0.0]
    ours = list(zip(GAPS, found["softmax_lab"], strict=True))
    floor = HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *_axes(),
        _line(ours, BLUE, 2),
        _line(kept, RED, 4, ' stroke-dasharray="8 5"'),
        f'<path d="M{_x(lost):.1f} {floor - 3}H{_x(GAPS[-1]):.1f}" stroke="{RED}" stroke-width="6"/>',
        _text(_x(lost) + 6, floor - 12, f"torch: 0 from a gap of about {lost:.0f} on", RED),
        _text(_x(22.0), _y(math.exp(-19.0)), "softmax_lab: the exact value", BLUE),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes() -> Iterable[str]:
    for exponent in range(0, DECADES + 1, 3):
        y = _y(10.0**-exponent)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
        yield _text(LEFT - 8, y + 4, "1" if exponent == 0 else f"1e-{exponent}", "#333333", "end")
    for gap in range(0, 41, 10):
        yield _text(_x(gap), HEIGHT - BOTTOM + 18, str(gap), "#333333", "middle")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield _text(middle, HEIGHT - 10, "gap between the label's logit and the other", "#333333", "middle")
    yield _text(LEFT + 6, TOP - 6, "magnitude of the gradient at the label, float32", "#333333")


def _x(gap: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * gap / float(GAPS[-1])


def _y(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * -math.log10(value) / DECADES


def _line(points: Sequence[tuple[float, float]], colour: str, width: int, more: str = "") -> str:
    path = " ".join(f"{_x(gap):.1f},{_y(value):.1f}" for gap, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'


def _text(x: float, y: float, text: str, colour: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'


def main() -> int:
    PICTURE.write_text(svg(gradients()), encoding="utf-8")
    print(f"wrote {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
