"""How colours look to people: contrast, lightness, difference, and what colour-blind people see of them. Pure.

Colours are (red, green, blue), 0–255.
"""

from __future__ import annotations

from collections.abc import Sequence

Rgb = Sequence[int]

# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency (2009),
# severity 1.0, on linear RGB.
DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
PROTANOPIA = (
    (0.152286, 1.052583, -0.204868),
    (0.114503, 0.786281, 0.099216),
    (-0.003882, -0.048116, 1.051998),
)
TRITANOPIA = (
    (1.255528, -0.076749, -0.178779),
    (-0.078411, 0.930809, 0.147602),
    (0.004733, 0.691367, 0.303900),
)
NORMAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
VISIONS = {"normal": NORMAL, "deuteranopia": DEUTERANOPIA, "protanopia": PROTANOPIA, "tritanopia": TRITANOPIA}


def linear(colour: Rgb) -> list[float]:
    """Linear light, 0–1 (source: IEC 61966-2-1, sRGB)."""
    shares = (part / 255 for part in colour)
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def luminance(colour: Rgb) -> float:
    """Relative luminance, 0–1 (source: WCAG 2.2)."""
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def contrast(one: Rgb, other: Rgb) -> float:
    """Contrast ratio, 1–21 (source: WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: Rgb, vision: Sequence[Sequence[float]] = NORMAL) -> tuple[float, float, float]:
    """CIE L*a*b* (D65) of what a person with this vision sees."""
    light = linear(colour)
    seen = [min(1.0, max(0.0, sum(a * b for a, b in zip(line, light, strict=True)))) for line in vision]
    x, y, z = (
        _cube(sum(a * b for a, b in zip(line, seen, strict=True)) / white)
        for line, white in (
            ((0.4124, 0.3576, 0.1805), 0.95047),
            ((0.2126, 0.7152, 0.0722), 1.0),
            ((0.0193, 0.1192, 0.9505), 1.08883),
        )
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _cube(share: float) -> float:
    return share ** (1 / 3) if share > 0.008856 else 7.787 * share + 16 / 116


def difference(one: Rgb, other: Rgb, vision: Sequence[Sequence[float]] = NORMAL) -> float:
    """CIE76 ΔE: about 2.3 is just noticeable."""
    pairs = zip(lab(one, vision), lab(other, vision), strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)
