"""Runs that hypothesis draws: correct samples of 5 and NLLs (C, N), test accuracies (C,)."""

from hypothesis import strategies as st

runs = st.integers(1, 4).flatmap(
    lambda c: st.tuples(
        st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=c, max_size=c),
        st.lists(
            st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.5, 2.0]), min_size=6, max_size=6),
            min_size=c,
            max_size=c,
        ),
        st.lists(st.floats(0, 1), min_size=c, max_size=c),
    )
)
