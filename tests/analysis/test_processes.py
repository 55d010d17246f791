"""Work in several processes or in this one: results, errors, and the threads of linear algebra."""

from __future__ import annotations

import os
from functools import partial

import pytest

from analysis.processes import THREADS, processes


@pytest.mark.parametrize("count", [1, 2])
def test_work_gives_its_results_and_errors_where_they_are_asked_for(count: int) -> None:
    with processes(count) as begin:
        works = [begin(partial(int, text)) for text in ("1", "x", "3")]
        assert works[0]() == 1
        with pytest.raises(ValueError, match="invalid literal"):
            works[1]()
        assert works[2]() == 3
        assert (begin(os.getpid)() == os.getpid()) == (count == 1)


def test_processes_have_one_thread_and_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    set_, unset = THREADS[:2]
    monkeypatch.setenv(set_, "7")
    monkeypatch.delenv(unset, raising=False)
    with processes(2) as begin:
        assert [begin(partial(os.getenv, name))() for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ[set_] == "7"
    assert unset not in os.environ
