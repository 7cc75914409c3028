"""Elements: the tables, charts and texts that pages are drawn with."""

import tempfile
from collections.abc import Callable, Sequence
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

PICTURES = ("svg", "png")
PNG_SCALE = 3  # sharp in print
BEGINNING = 100  # characters of a text that a table has


def palette() -> figures.Palette:
    """The colours of the theme that the reader chose."""
    return figures.DARK if st.context.theme.type == "dark" else figures.LIGHT


def controls() -> DeltaGenerator:
    """The row of controls that change the whole page; wraps in a narrow window."""
    return st.container(horizontal=True, vertical_alignment="bottom", gap="small")


def table_of(rows: pd.DataFrame, columns: list[str], beginning: int = BEGINNING) -> pd.DataFrame:
    """The columns that a table shows, long texts by their beginning: all of it is sent."""
    table = rows[columns]
    for name in {"question", "completion"}.intersection(columns):
        whole = rows[name]
        begun = whole.str.slice(0, beginning - 1) + "…"
        table = table.assign(**{name: whole.where(whole.str.len() <= beginning, begun)})
    return table


def small_table(
    rows: pd.DataFrame,
    columns: dict[str, str | tuple[str, Callable[[Any], str]]],
    alt: str,
    links: dict[str, str] | None = None,
) -> None:
    """A table of few rows that is only read: drawn at once, its cells wrapped.

    Args:
        columns: the columns shown, in order, with their titles; of numbers also how they are
            written, and they stand to the right.
        alt: what it shows, for screen readers.
        links: columns whose cells open this page anew, and the parameter that their value is of.
    """
    head, body = "", [""] * len(rows)
    for name, column in columns.items():
        title, write = (column, str) if isinstance(column, str) else column
        right = "" if isinstance(column, str) else ' class="premem-number"'
        head += f'<th scope="col"{right}>{escape(title)}</th>'
        for at, value in enumerate(rows[name]):
            cell = escape(write(value))
            if links and name in links:
                here = {key: st.query_params.get_all(key) for key in st.query_params}
                address = urlencode({**here, links[name]: value}, doseq=True)
                cell = f'<a href="?{escape(address)}" target="_self">{cell}</a>'
            body[at] += f"<td{right}>{cell}</td>"
    rest = "".join(f"<tr>{row}</tr>" for row in body)
    st.html(
        f'<div class="premem-table" tabindex="0" role="region" aria-label="{escape(alt)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rest}</tbody></table></div>"
    )


def numbers(*told: tuple[str, str, str]) -> None:
    """A few large numbers in a row, each a title, a value and a note, in one element."""
    each = [
        f"<div><dt>{escape(title)}</dt><dd>{escape(value)}</dd>"
        + (f'<dd class="premem-note">{escape(note)}</dd></div>' if note else "</div>")
        for title, value, note in told
    ]
    st.html(f'<dl class="premem-numbers">{"".join(each)}</dl>')


def pick_question(
    rows: pd.DataFrame, columns: dict[str, Any], key: str, height: int | Literal["auto"] = "auto"
) -> int:
    """A table of questions; the place of the row that is selected, which the address keeps.

    Args:
        rows: with a column `id`.
        columns: the columns shown, in order, with their configuration; None: not shown.
    """
    ids = rows["id"].tolist()
    wanted = st.query_params.get("question")
    first = ids.index(wanted) if wanted in ids else 0
    if wanted and wanted not in ids:
        st.caption(f"The address asks for question '{plain(wanted)}', which is not in this table.")
    shown = {name: column for name, column in columns.items() if column is not None}
    event = st.dataframe(
        table_of(rows, list(shown), BEGINNING // 2),  # all of one stands beside it
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


def verbatim(*texts: tuple[str, str]) -> None:
    """Texts as they are, never as Markdown, each under its title."""
    passages([(title, [Passage(text, marked=False)]) for title, text in texts])


def passages(
    texts: Sequence[tuple[str, Sequence[Passage]]], mark: bool = True, side_by_side: bool = False
) -> None:
    """Texts as they are, each under its title, in one element: a page may show a hundred.

    Args:
        mark: set off the passages that are marked; False: those that are not.
        side_by_side: in as many columns as there is room for.
    """
    html = []
    for title, parts in texts:
        text = "".join(
            f"<mark>{escape(p.text)}</mark>" if p.marked == mark else escape(p.text) for p in parts
        )
        html.append(
            f'<div><div class="premem-title">{escape(title)}</div>'
            f'<div class="premem-text" dir="auto">{text}</div></div>'
        )
    if html:
        columns = "premem-columns" if side_by_side else ""
        st.html(f'<div class="premem-texts {columns}">{"".join(html)}</div>')


def pick_picture_format() -> None:
    """What the camera in a chart's corner saves."""
    st.segmented_control(
        "Charts saved as",
        PICTURES,
        default=PICTURES[0],
        required=True,
        key="pictures",
        format_func=str.upper,
        help="By the camera in a chart's corner.",
    )


def written(name: str, write: Callable[[Path], object]) -> bytes:
    """What a function writes to a file of this name, for a download button."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        write(file)
        return file.read_bytes()


def selected(key: str) -> Any:
    """What is selected in a chart or a table, before it is drawn; None where nothing is.

    Asked early by a page that a click leaves: what it would still draw would not be seen.
    """
    state = st.session_state.get(key)
    return state.selection if state else None


def chart(
    figure: figures.Chart, name: str, table: pd.DataFrame | None, alt: str, select: bool = False
) -> None:
    """A chart with its picture in the tool bar and its numbers as CSV below it.

    With `select`, what is clicked is what `selected` gives.
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
