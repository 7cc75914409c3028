"""Elements: the tables, charts and texts that pages are drawn with."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from premem_core.analysis.copied_text import Passage
from premem_core.dashboard import figures, streamlit_workarounds
from premem_core.dashboard.wording import plain
from premem_core.models.encoding.inspection import SeenToken

PICTURES = ("svg", "png")
PNG_SCALE = 3  # sharp in print
TOKEN_PARTS = {
    "prompt": "prompt",
    "trace": "thinking trace, scored",
    "target": "target, scored",
    "between": "not scored",
}
TABLE_TEXT = 100  # characters of a long text that a table shows
# Column → its title; for numbers, with the function that writes one.
Columns = dict[str, str | tuple[str, Callable[[Any], str]]]


def palette() -> figures.Palette:
    """The colours of the theme that the reader chose."""
    return figures.DARK if st.context.theme.type == "dark" else figures.LIGHT


def controls() -> DeltaGenerator:
    """The row of controls that change the whole page; wraps in a narrow window."""
    return st.container(horizontal=True, vertical_alignment="bottom", gap="small")


def kept(name: str) -> dict[str, Any]:
    """Options of a control on the Score page whose value stays while the control is not drawn.

    Args:
        name: of the control; where its default or its choices depend on something, with that.
    """
    return {"key": f"score-{name}", "persist_state": "session"}


def table_of(rows: pd.DataFrame, columns: list[str], longest: int = TABLE_TEXT) -> pd.DataFrame:
    """The columns that a table shows, long texts cut: the browser receives all that is in it."""
    table = rows[columns]
    for name in {"question", "completion"}.intersection(columns):
        texts = rows[name]
        cut = texts.str.slice(0, longest - 1) + "…"
        table = table.assign(**{name: texts.where(texts.str.len() <= longest, cut)})
    return table


def small_table(
    rows: pd.DataFrame,
    columns: Columns,
    alt: str,
    links: dict[str, str] | None = None,
) -> None:
    """A table of a few rows, only for reading: it needs no second drawing, and its cells wrap.

    Args:
        columns: the columns shown, in order, with their titles. A column of numbers also has the
            function that writes a number, and is aligned to the right.
        alt: what the table shows, for screen readers.
        links: column → the query parameter that its cells set, as links to this page.
    """
    head, body = "", [""] * len(rows)
    for name, column in columns.items():
        title, write = (column, str) if isinstance(column, str) else column
        right = "" if isinstance(column, str) else ' class="premem-number"'
        head += f'<th scope="col"{right}>{escape(title)}</th>'
        for row, value in enumerate(rows[name]):
            cell = escape(write(value))
            if links and name in links:
                query = {key: st.query_params.get_all(key) for key in st.query_params}
                address = urlencode({**query, links[name]: value}, doseq=True)
                cell = f'<a href="?{escape(address)}" target="_self">{cell}</a>'
            body[row] += f"<td{right}>{cell}</td>"
    body_rows = "".join(f"<tr>{cells}</tr>" for cells in body)
    st.html(
        f'<div class="premem-table" tabindex="0" role="region" aria-label="{escape(alt)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body_rows}</tbody></table></div>"
    )


def numbers(*items: tuple[str, str, str]) -> None:
    """A few large numbers in a row, in one element; an item is a title, a value and a note."""
    html = [
        f"<div><dt>{escape(title)}</dt><dd>{escape(value)}</dd>"
        + (f'<dd class="premem-note">{escape(note)}</dd></div>' if note else "</div>")
        for title, value, note in items
    ]
    st.html(f'<dl class="premem-numbers">{"".join(html)}</dl>')


def pick_question(
    rows: pd.DataFrame, columns: dict[str, Any], key: str, height: int | Literal["auto"] = "auto"
) -> int:
    """A table of questions; returns the place of the selected row, whose id the address holds.

    Args:
        rows: with a column `id`.
        columns: the columns shown, in order, with their configuration; one with None is left out.
    """
    ids = rows["id"].tolist()
    requested = st.query_params.get("question")
    first = ids.index(requested) if requested in ids else 0
    if requested and requested not in ids:
        st.caption(
            f"The address asks for question '{plain(requested)}', which is not in this table."
        )
    shown = {name: column for name, column in columns.items() if column is not None}
    event = st.dataframe(
        table_of(rows, list(shown), TABLE_TEXT // 2),  # the page shows the selected one in full
        hide_index=True,
        height=height,
        column_config=shown,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [first]}},
        key=key,
    )
    chosen: int = next(iter(event.selection.rows), first)
    if chosen != first:
        st.query_params["question"] = ids[chosen]
    return chosen


@dataclass(frozen=True, slots=True)
class Fold:
    """The beginning of a text that is shown only after a click on its summary."""

    summary: str
    passages: Sequence[Passage]


def verbatim(*texts: tuple[str, str], folds: Sequence[Fold | None] = ()) -> None:
    """Texts under their titles, shown character by character, never as Markdown.

    Args:
        folds: as in `passages`.
    """
    passages([(title, [Passage(text, marked=False)]) for title, text in texts], folds=folds)


def passages(
    texts: Sequence[tuple[str, Sequence[Passage]]],
    mark: bool = True,
    side_by_side: bool = False,
    folds: Sequence[Fold | None] = (),
) -> None:
    """Texts under their titles, in one element: a page may show a hundred.

    Args:
        folds: for each text what stands folded before it, or None; () for no folds.
        mark: whether the marked passages are highlighted; False: the others are.
        side_by_side: whether the texts stand in columns, as many as there is room for.
    """
    html = []
    for (title, parts), fold in zip(texts, folds or [None] * len(texts), strict=True):
        folded = ""
        if fold:
            folded = (
                f'<details class="premem-fold"><summary>{escape(fold.summary)}</summary>'
                f'<div class="premem-text" dir="auto">{_marked(fold.passages, mark)}</div>'
                "</details>"
            )
        html.append(
            f'<div><div class="premem-title">{escape(title)}</div>{folded}'
            f'<div class="premem-text" dir="auto">{_marked(parts, mark)}</div></div>'
        )
    if html:
        columns = "premem-columns" if side_by_side else ""
        st.html(f'<div class="premem-texts {columns}">{"".join(html)}</div>')


def _marked(parts: Sequence[Passage], mark: bool) -> str:
    return "".join(
        f"<mark>{escape(p.text)}</mark>" if p.marked == mark else escape(p.text) for p in parts
    )


def tokens(texts: Sequence[tuple[str, Sequence[SeenToken]]]) -> None:
    """Texts under their titles, token by token; each token's part and id are its tooltip."""
    html = []
    for title, seen in texts:
        spans = "".join(
            f'<span class="premem-{t.part}{" premem-special" if t.special else ""}" '
            f'title="{t.part}, token {t.id}">{escape(t.text)}</span>'
            for t in seen
        )
        html.append(
            f'<div><div class="premem-title">{escape(title)}</div>'
            f'<div class="premem-text premem-tokens" dir="auto">{spans}</div></div>'
        )
    key = "".join(
        f'<span class="premem-{part}">{words}</span>' for part, words in TOKEN_PARTS.items()
    )
    st.html(
        f'<div class="premem-token-key">{key}</div><div class="premem-texts">{"".join(html)}</div>'
    )


def pick_picture_format() -> None:
    """The control for the format of the picture that the camera in a chart's corner saves."""
    st.segmented_control(
        "Charts saved as",
        PICTURES,
        default=PICTURES[0],
        required=True,
        key="pictures",
        format_func=str.upper,
        help="The camera in a chart's corner saves the chart in this format.",
    )


def download_file(label: str, name: str, write: Callable[[Path], object], **options: Any) -> None:
    """A button that downloads a file; the file is written only after a click.

    Args:
        name: of the file.
        write: writes the file.
        options: further arguments of `st.download_button`.
    """

    def content() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            write(file)
            return file.read_bytes()

    st.download_button(label, content, file_name=name, on_click="ignore", **options)


def selected(key: str) -> Any:
    """The selection in a chart or a table, before it is drawn; None where nothing is selected.

    A page that a click leaves reads it early, and so does not draw what nobody would see.
    """
    state = st.session_state.get(key)
    return state.selection if state else None


def chart(
    figure: figures.Chart, name: str, table: pd.DataFrame | None, alt: str, select: bool = False
) -> None:
    """A chart with a button that saves its picture, and its numbers as CSV below it.

    Args:
        name: of the files that the reader saves.
        table: the chart's numbers; None: no CSV.
        alt: what the chart shows, for screen readers.
        select: whether a click on a point selects it, for `selected`.
    """
    picture = st.session_state.get("pictures", PICTURES[0])
    streamlit_workarounds.plotly_chart(
        figure,
        key=f"chart-{name}",
        alt=alt,
        on_select="rerun" if select else "ignore",
        selection_mode="points",
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {
                "format": picture,
                "scale": PNG_SCALE if picture == "png" else 1,
                "filename": f"premem-{name}",
            },
        },
    )
    if table is not None:
        st.download_button(
            "Numbers as CSV",
            lambda: table.to_csv(index=False),
            file_name=f"premem-{name}.csv",
            mime="text/csv",
            type="tertiary",
            key=f"csv-{name}",
            on_click="ignore",
        )
