"""The colours of charts: everywhere a colour has one meaning (docs/design.md, visual language)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a theme; `runs` names a sequential, colour-blind-safe scale and its range."""

    premem: str
    premem_band: str
    test: str
    test_band: str
    train: str
    memorized: str
    memorized_band: str
    grid: str
    text: str
    surface: str  # the background of labels over a chart
    runs: tuple[str, float, float]
    map_corners: tuple[str, str, str, str]  # wrong, wrong memorized, right, right memorized
    kinds: tuple[str, ...]  # of perturbations: Okabe and Ito's colour-blind-safe colours


LIGHT = Palette(
    premem="#1D5FD1",
    premem_band="rgba(29,95,209,0.14)",
    test="#16181D",
    test_band="rgba(22,24,29,0.10)",
    train="#858C99",
    memorized="#C2620A",
    memorized_band="rgba(226,140,45,0.16)",
    grid="#E8EAEE",
    text="#4A505C",
    surface="#FFFFFF",
    runs=("viridis", 0.0, 0.9),
    map_corners=("#EDEFF3", "#8A6A54", "#1D5FD1", "#F08A24"),
    kinds=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7A5195"),
)
DARK = Palette(
    premem="#7FB0FF",
    premem_band="rgba(127,176,255,0.18)",
    test="#F4F5F7",
    test_band="rgba(244,245,247,0.12)",
    train="#7A8291",
    memorized="#F0A04B",
    memorized_band="rgba(240,160,75,0.18)",
    grid="#262A33",
    text="#B4BAC6",
    surface="#111318",
    runs=("viridis", 0.3, 1.0),
    map_corners=("#2A2F3A", "#7A5A46", "#7FB0FF", "#F0A04B"),
    kinds=("#56B4E9", "#F0844A", "#2CC295", "#E39AC3", "#E3C04A", "#A9D8F5", "#B79AD3"),
)
