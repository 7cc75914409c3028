"""The faults of Streamlit that streamlit_workarounds.py works around, where a server shows them.

Each test passes while the fault is there. When one fails after a new Streamlit was installed, the
fault is mended: remove its workaround and the test. The faults that only a browser shows are in
tests/browser/test_streamlit_faults.py.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.testing.v1 import AppTest

from premem_core.dashboard.streamlit_workarounds import freeze_loaded_modules


@contextmanager
def sent_messages() -> Iterator[list[ForwardMsg]]:
    """What the apps that run meanwhile send to the browser."""
    messages: list[ForwardMsg] = []
    ForwardMsgQueue.on_before_enqueue_msg(lambda message: messages.append(message))
    yield messages
    ForwardMsgQueue.on_before_enqueue_msg(None)


def test_streamlit_still_opens_a_linked_page_without_the_router_on_a_fresh_server(tmp_path: Path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "two.py").write_text('import streamlit as st\nst.header("Two")')
    (tmp_path / "app.py").write_text(
        'import streamlit as st\nst.title("Router")\nst.navigation([st.Page("pages/two.py")]).run()'
    )
    linked = AppTest.from_file(tmp_path / "app.py").switch_page("pages/two.py").run()
    assert [each.value for each in linked.header] == ["Two"]
    assert len(linked.title) == 0
    first_page = AppTest.from_file(tmp_path / "app.py").run()
    assert [each.value for each in first_page.title] == ["Router"]


def test_streamlit_still_sends_an_inner_fragment_without_the_outer_one():
    def app() -> None:
        import streamlit as st

        def outer() -> None:
            with st.container():
                st.fragment(inner)()

        def inner() -> None:
            st.text("inside")

        st.fragment(outer)()

    with sent_messages() as messages:
        AppTest.from_function(app).run()
    deltas = [message for message in messages if message.HasField("delta")]
    outer, inner = dict.fromkeys(message.delta.fragment_id for message in deltas)
    queue = ForwardMsgQueue()
    for message in deltas:
        queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=[outer])  # it is drawn again
    assert {message.delta.fragment_id for message in queue.flush()} == {inner}


def test_streamlit_still_forgets_where_a_file_is_to_be_uploaded_when_a_drawing_begins():
    """No workaround of the dashboard: the browser test of two uploads waits for the first one."""
    queue = ForwardMsgQueue()
    message = ForwardMsg()
    message.file_urls_response.response_id = "the second of two files chosen at once"
    queue.enqueue(message)
    queue.clear(retain_lifecycle_msgs=True)
    assert queue.is_empty()


def test_loaded_modules_are_kept_from_the_garbage_collector():
    def app() -> None:
        from premem_core.dashboard.streamlit_workarounds import freeze_loaded_modules

        freeze_loaded_modules(1)

    gc.unfreeze()
    freeze_loaded_modules.clear()
    AppTest.from_function(app).run()
    assert gc.get_freeze_count() > 100_000
    gc.unfreeze()


def bound() -> None:
    import streamlit as st

    st.selectbox("Run", ["a", "b"], format_func=str.upper, key="run", bind="query-params")


def test_streamlit_still_holds_a_bound_choice_in_the_address_as_it_is_displayed():
    app = AppTest.from_function(bound)
    app.query_params["run"] = "B"
    assert app.run().selectbox[0].value == "b"
    app = AppTest.from_function(bound)
    app.query_params["run"] = "b"
    assert app.run().selectbox[0].value == "a"


def test_streamlit_still_shows_another_choice_in_silence_where_the_address_names_one_not_there():
    app = AppTest.from_function(bound)
    app.query_params["run"] = "GONE"
    app.run()
    assert app.selectbox[0].value == "a"
    assert not app.exception
    assert not app.warning
    assert not app.error


def test_streamlit_still_keeps_ticked_rows_by_their_places_when_the_rows_are_others():
    def app() -> None:
        import pandas as pd
        import streamlit as st

        ids = st.session_state.setdefault("ids", ["a", "b"])
        ticked = {"selection": {"rows": [1], "columns": [], "cells": []}}
        st.session_state.setdefault("table", ticked)
        event = st.dataframe(
            pd.DataFrame({"id": ids}), on_select="rerun", selection_mode="multi-row", key="table"
        )
        st.text([ids[row] for row in event.selection.rows])

    page = AppTest.from_function(app).run()
    assert page.text[0].value == "['b']"
    page.session_state["ids"] = ["c", "d"]
    assert page.run().text[0].value == "['d']"
