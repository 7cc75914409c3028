"""Where tests find the repository's own files, and data that stands beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "pages"
DEMO = ROOT / "data" / "demo"
SHARED = ROOT.parent / "shared" / "data"  # not part of the repository
GSM8K = SHARED / "gsm8k"
