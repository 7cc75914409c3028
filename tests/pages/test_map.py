"""The memorization map's page."""

from tests.helpers.shown import show, text


def test_the_map_says_how_much_was_learned_and_memorized(demo_store, monkeypatch):
    shown = text(show("map.py", demo_store.path, monkeypatch, t="-2.3"))
    assert (
        "of the 500 scored examples of lr 0\\.003 · 24 epochs · 500 examples were answered" in shown
    )
    assert "Each column is 2 neighbouring examples, learned first" in shown
