"""Names that are there only while something is written."""

from __future__ import annotations

import os
import re
import socket

import pytest

from dd.temporary import host, temporary_name


def test_host_process_and_a_random_part() -> None:
    name = temporary_name()
    assert re.fullmatch(rf"_{re.escape(host())}\.{os.getpid()}\.[0-9a-f]{{12}}\.tmp", name)
    assert len({temporary_name() for _ in range(1000)}) == 1000


def test_any_host_makes_a_name_that_a_folder_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a/b c.d\n" + "x" * 300)
    assert re.fullmatch(r"a-b-c-d-x{56}", host())
    assert len(temporary_name()) < 120
