"""The explorer and the page around it, as a reader meets them: in headless Chromium, on desktop and phone, by keyboard.

Covers: analysis/cards.py, analysis/provenance.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from analysis import explorer, report
from analysis.cards import Section
from analysis.peaks import table
from analysis.setups import draw_card, draw_table
from tests.analysis.synthetic import logged, peaked, runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])


def growing(row: dict[str, object]) -> dict[str, float]:
    """A peak that grows with the steps, and a train loss that is rounding at the most of them."""
    found, steps = peaked(row), int(row["steps"])  # type: ignore[call-overload]
    return found | {"test_loss": found["test_loss"] * steps**0.1, "train_loss": 0.0 if steps == 1000 else 1 / steps}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return runs(numbers=growing, steps=(10, 100, 1000), label_noise=(0.0, 0.1))


def unpacked(packed: dict[str, Any]) -> dict[str, np.ndarray]:
    """Columns of a table as the page's program reads them."""
    names = [a["key"] for a in (*packed["axes"], *packed["metrics"])]
    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed["data"])), np.uint8)
    whole = planes.reshape(len(names), 4, packed["rows"]).transpose(0, 2, 1).copy().view("<f4")[..., 0]
    return dict(zip(names, whole, strict=True))


def test_every_run_is_in_the_page_with_its_settings(rows: pd.DataFrame) -> None:
    packed = explorer.packed("mine", rows)[""]
    columns = unpacked(packed)
    levels = {a["key"]: a["levels"] for a in packed["axes"]}
    assert levels["steps"] == ["10", "100", "1000"]
    assert set(levels) == {"width", "data.label_noise", "steps", "seed"}
    got = pd.DataFrame({k: np.array(levels[k])[v.astype(int)] for k, v in columns.items() if k in levels})
    got["test_loss"] = columns["test_loss"]
    expected = rows.set_index(["width", "label_noise", "steps", "seed"])["test_loss"]
    for row in got.to_dict("records"):
        key = (int(row["width"]), float(row["data.label_noise"]), int(row["steps"]), int(row["seed"]))
        assert row["test_loss"] == pytest.approx(expected[key], rel=1e-6)


def test_runs_without_a_result_have_no_numbers(rows: pd.DataFrame) -> None:
    columns = unpacked(explorer.packed("mine", rows.assign(status=["diverged", *["ok"] * (len(rows) - 1)]))[""])
    assert np.isnan(columns["test_loss"]).sum() == 1


def test_logged_steps_are_a_table_of_their_own(rows: pd.DataFrame) -> None:
    points = logged(rows, (0, 1, 10, 100, 1000), lambda step, run: 1.0 + step)
    packed = explorer.packed("mine", rows, points)[": along training"]
    assert {a["key"]: a["levels"] for a in packed["axes"]}["step"] == ["1", "10", "100", "1000"]
    columns = unpacked(packed)
    assert set(np.unique(columns["test_loss"])) == {2.0, 11.0, 101.0, 1001.0}


def test_tables_beyond_the_limit_are_named(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = explorer.packed("mine", rows)[""]
    monkeypatch.setattr(explorer, "DATA_LIMIT", len(packed["data"]) + 10)
    html = explorer.section([explorer.Source("first", "a", packed), explorer.Source("<second>", "b", packed)], "e")
    assert "Left out to keep this page small: &lt;second&gt;." in html


def test_names_cannot_end_the_script(rows: pd.DataFrame) -> None:
    packed = explorer.packed("</script><b>", rows)[""]
    html = explorer.section([explorer.Source("</script>", "a", packed)], "e")
    data = re.search(r'id="explorer-data">(.*?)</script>', html, re.S)
    assert data is not None
    assert json.loads(data[1])["tables"][0]["name"] == "</script><b>"


def test_the_page_carries_the_licence_of_what_it_carries() -> None:
    html = explorer.section([], "e")
    assert "The MIT License (MIT)" in html
    assert "Leon Sorokin" in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    points = logged(rows, (0, 1, 10, 100, 1000), lambda step, run: 1.0 + step)
    sections = [
        Section(
            name, rows, draw_table(rows, name, folder), table(rows), card=draw_card(rows, name, folder),
            explored=explorer.packed(name, rows, points),
        )
        for name in ("iterations", "my own")
    ]  # fmt: skip
    return report.write(folder, sections, report.Findings())


@pytest.fixture
def page(browser: Browser, site: Path, size: dict[str, int]) -> Iterator[Page]:
    context = browser.new_context(viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "request",
        lambda request: errors.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None,
    )
    opened.goto(site.as_uri())
    opened.wait_for_selector("#explore-charts canvas")
    yield opened
    assert errors == [], "no error, and nothing is fetched"
    context.close()


def say(page: Page) -> str:
    return page.inner_text("#explore-reading")


@SIZES
def test_the_page_is_no_wider_than_the_screen(page: Page, size: dict[str, int]) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]


@SIZES
def test_contents_stay_in_sight(page: Page, size: dict[str, int]) -> None:
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    box = page.locator("nav").bounding_box()
    assert box is not None
    assert box["y"] == 0
    if size is PHONE:
        assert box["height"] < 60, "folded"
        page.click("nav summary")
    page.click("nav a >> text=Explore every run")
    page.wait_for_function("Math.abs(document.querySelector('.explorer').getBoundingClientRect().top) < 80")
    assert page.locator("#contents").evaluate("(d) => d.open") == (size is DESKTOP), "a choice folds them on a phone"
    page.click(".jump a[href='#top']")
    page.wait_for_function("scrollY === 0")
    assert page.locator(".headline").bounding_box()["y"] < 300, "the verdict is on the first screen"  # type: ignore[index]


@SIZES
def test_the_explorer_is_read_and_driven_by_keyboard_alone(page: Page) -> None:
    page.focus("#explore-table")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.parentElement.id") == "explore-charts":
            break
    page.keyboard.press("ArrowRight")
    assert say(page).startswith("width 10: test loss ")
    assert say(page).endswith("3 runs (steps 10)")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert say(page).startswith("width 50: test loss ")
    assert say(page).endswith("3 runs (steps 100)")
    page.keyboard.press("Enter")
    command = page.inner_text("#explore-command")
    assert command.startswith("python -m dd.run -m ")
    for word in ("width=50", "steps=100", "data.label_noise=0.1", "seed=0,1,2", "name=iterations", "optimizer=gd"):
        assert word in command.split()


@SIZES
def test_pointing_gives_the_values_and_a_click_the_command(page: Page, rows: pd.DataFrame) -> None:
    page.locator("#explore-charts").scroll_into_view_if_needed()
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    reading = say(page)
    steps = int(reading.split("(steps ")[1].rstrip(")"))
    chosen = rows[(rows["width"] == 200) & (rows["steps"] == steps) & (rows["label_noise"] == 0.1)]["test_loss"]
    assert reading.startswith("width 200: test loss ")
    assert float(reading.split("test loss ")[1].split(" ")[0]) == pytest.approx(chosen.median(), rel=5e-3)
    assert f"steps={steps}" in page.inner_text("#explore-command").split()


@SIZES
def test_axis_colour_panels_noise_and_metric_are_chosen(page: Page) -> None:
    page.select_option("#explore-facet", "data.label_noise")
    assert page.locator("#explore-charts canvas").count() == 2
    page.select_option("#explore-facet", "")
    assert page.locator("#explore-slider").is_visible()
    page.select_option("#explore-x", "steps")
    assert not page.locator("#explore-slider").is_visible(), "the steps are the axis"
    assert page.locator("#explore-charts canvas").count() == 1
    page.select_option("#explore-colour", "width")
    assert page.locator("#explore-key li").count() == 5
    page.select_option("#explore-y", "train_loss")
    assert "Open triangles: at most 1.00e-10, or zero." in page.inner_text("#explore-note")
    page.select_option('[id="explore-only-data.label_noise"]', label="0")
    page.locator("#explore-charts > div").focus()
    page.keyboard.press("End")
    assert say(page).startswith("steps 1000: train loss ≤ 1e-10")


@SIZES
def test_a_slider_over_the_steps_plays_the_growth_of_the_peak(page: Page) -> None:
    page.focus("#explore-step")
    page.keyboard.press("Home")
    assert page.inner_text("#explore-budget") == "steps: 10"
    page.locator("#explore-charts > div").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    small = float(say(page).split("test loss ")[1].split(" ")[0])
    page.click("#explore-play")
    page.wait_for_function("document.getElementById('explore-play').textContent === 'Play'")
    assert page.inner_text("#explore-budget") == "steps: 1000"
    page.locator("#explore-charts > div").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert float(say(page).split("test loss ")[1].split(" ")[0]) == pytest.approx(small * 100**0.1, rel=1e-2)


@pytest.mark.parametrize("size", [DESKTOP], ids=["desktop"])
def test_a_card_opens_its_table_and_logged_steps_have_a_slider(page: Page) -> None:
    page.locator(".card a[data-table]").nth(1).click()
    assert page.locator("#explore-table option:checked").inner_text() == "my own"
    page.select_option("#explore-table", label="my own: along training")
    page.wait_for_function("document.getElementById('explore-budget').textContent === 'step: 1000'")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(browser: Browser, site: Path, size: dict[str, int], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(site.as_uri())
    opened.wait_for_selector("#explore-charts canvas")
    opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = axe.Axe().run(opened).response["violations"]
    context.close()
    serious = [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_without_javascript_the_figures_are_there(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=DESKTOP)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(site.as_uri())
    assert opened.locator(".card img").first.is_visible()
    assert not opened.locator("#explorer").is_visible()
    assert "The explorer needs JavaScript." in opened.inner_text(".explorer")
    opened.locator(".card summary").first.click()
    assert opened.locator(".card details img").first.is_visible()
    context.close()
