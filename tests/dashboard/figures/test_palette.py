"""Colours: each has one meaning, and is seen on its background."""

import pytest
from plotly.colors import hex_to_rgb

from premem_core.dashboard.figures.palette import DARK, LIGHT, Palette


def luminance(color: str) -> float:
    channels = [c / 255 for c in hex_to_rgb(color)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_are_seen_on_the_background(palette: Palette):
    assert contrast(palette.text, palette.surface) >= 4.5
    for line in (palette.premem, palette.test, palette.train, palette.memorized):
        assert contrast(line, palette.surface) >= 3


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_no_two_meanings_share_a_colour(palette: Palette):
    lines = [palette.premem, palette.test, palette.train, palette.memorized]
    assert len(set(lines)) == len(lines)
    assert len(set(palette.kinds)) == len(palette.kinds)
    assert len(set(palette.map_corners)) == 4


def test_a_theme_shares_no_line_colour_with_the_other():
    names = ("premem", "test", "train", "memorized", "grid", "text", "surface")
    assert not [name for name in names if getattr(LIGHT, name) == getattr(DARK, name)]
