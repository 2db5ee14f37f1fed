"""The bar says how far, how long still, and what is worth counting; outside a terminal nothing."""

import io
import sys

from experiments.lab.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("fig2 mse", 8) as advance:
        advance(3, {"diverged": 0})
        advance(5, {"diverged": 2})
    return stream.getvalue()


def test_a_terminal_shows_work_done_and_marks(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    assert "fig2 mse" in text
    assert "8/8" in text
    assert "25% diverged" in text


def test_elsewhere_nothing_is_written(monkeypatch):
    assert shown(io.StringIO(), monkeypatch) == ""
