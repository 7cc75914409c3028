"""Where tests find the repository's own files, and data that stands beside it.

The slices are small parts of published data (tests/fixtures/README.md), there on every machine.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "pages"
DEMO = ROOT / "data" / "demo"
SHARED = ROOT.parent / "shared" / "data"  # not part of the repository
GSM8K = SHARED / "gsm8k"
FIXTURES = ROOT / "tests" / "fixtures"
GSM8K_SLICE = FIXTURES / "gsm8k"
GSM8K_RUNS = FIXTURES / "kang2024" / "gsm8k.zip"
MATH_RUNS = FIXTURES / "kang2024" / "math.zip"
