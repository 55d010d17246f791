"""Python's search for garbage: dd.garbage."""

from __future__ import annotations

import gc

import pytest

from dd.garbage import uncollected


def test_the_search_goes_on_afterwards() -> None:
    assert gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "the outer block decides"
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()
