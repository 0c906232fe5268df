"""The page in a real headless browser, on a desktop's screen and on a phone's, driven as a reader's hands do."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import stsimdiff_cli as st
from stsimdiff_cli.cli.app import main
from stsimdiff_cli.video import Sampling
from stsimdiff_cli.view.token_map import read_token_map
from tests.support.browser import DESKTOP, PHONE, PROGRAM, Browser
from tests.support.clip_factory import SAMPLES

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the path, none in STSIMDIFF_BROWSER")

#: What a test's steps may call: the middle of a cell, a key, a pixel, and the texts that a reader sees.
HANDS = """
const canvases = () => [...document.querySelectorAll("canvas")];
const told = () => [...document.querySelectorAll(".told")].map((e) => e.innerText.trim());
const here = () => [...document.querySelectorAll("section > p")].map((e) => e.textContent);
const middle = (canvas, row, column) => {
  const at = canvas.getBoundingClientRect();
  return { clientX: at.left + (at.width * (column + 0.5)) / W, clientY: at.top + (at.height * (row + 0.5)) / H };
};
const hover = (row, column, n = 0) => canvases()[n].dispatchEvent(
  new PointerEvent("pointermove", { bubbles: true, ...middle(canvases()[n], row, column) }));
const leave = () => canvases()[0].dispatchEvent(new PointerEvent("pointerleave"));
const scrub = (slot) => {
  const slider = document.getElementById("slot");
  slider.value = slot;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
};
const key = (name, on = document) => on.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const click = (selector) => document.querySelector(selector).click();
const pixel = (fx, fy, n = 0) => {
  const c = canvases()[n];
  const data = c.getContext("2d").getImageData(Math.floor(fx * c.width), Math.floor(fy * c.height), 1, 1);
  return [...data.data].slice(0, 3);
};
const bars = (n) => document.querySelectorAll("svg")[n].querySelectorAll(".bar").length;
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with two compressed files of flash.mp4, and the pages of one and of both."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(SAMPLES / "flash.mp4", folder)
    tokens = st.encode_video(folder / "flash.mp4", sampling=Sampling(frames=32))
    for name, method in (("kept", "st-simdiff"), ("even", "uniform")):
        st.save_compressed(folder / name, st.compress_tokens(tokens, "0.3", method))
    assert main(["view", str(folder / "kept"), "-o", str(folder / "one.html")]) == 0
    assert main(["view", str(folder / "kept"), str(folder / "even"), "-o", str(folder / "two.html")]) == 0
    return folder


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def do(browser):
    """A function that loads a page and returns what `steps`, the body of a function, return in it."""

    def run(page: Path, steps: str, **how):
        browser.open(page, **how)
        return browser.run(HANDS + steps)

    return run


def middle(browser, row: int, column: int) -> tuple[float, float]:
    """Where the middle of a cell is on the screen, after the page was scrolled there."""
    return tuple(
        browser.run(f"""{HANDS} canvases()[0].scrollIntoView({{ block: "center" }});
      const at = middle(canvases()[0], {row}, {column}); return [at.clientX, at.clientY];""")
    )


def told(browser) -> str:
    """What the page says under its first picture."""
    return browser.run(HANDS + "return told()[0];")


def test_the_page_names_no_address_but_that_of_svg(made):
    text = (made / "two.html").read_text()
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text and not re.search(r"(src=|href=(?!.#))", text.split('id="data"')[0])


@needs_browser
def test_every_frame_is_there_and_nothing_is_fetched(made, do):
    result = do(made / "one.html", """
      return { widths: pictures.map((p) => p.naturalWidth), slots: T,
               fetched: performance.getEntriesByType("resource").map((e) => e.name.slice(0, 5)) };""")  # fmt: skip
    assert result["widths"] == [224] * 32 and set(result["fetched"]) <= {"data:"}


@needs_browser
def test_scrubbing_shows_the_slot(made, do):
    token_map = read_token_map(made / "kept")
    result = do(made / "one.html", """
      const seen = [];
      for (const slot of [0, 5, 31]) { scrub(slot); seen.push([byId("when").textContent, here()[0]]); }
      key("."); seen.push(byId("when").textContent); key(","); seen.push(byId("when").textContent);
      return seen;""")  # fmt: skip
    for (when, counted), slot in zip(result[:3], (0, 5, 31), strict=True):
        assert when == f"slot {slot} of 31, {token_map.grid.seconds[slot]:.2f} s"
        change = float(re.search(r"change ([\d.]+)\.", counted).group(1))
        assert f"{token_map.kept[slot].sum()} of {token_map.kept[slot].size} tokens" in counted
        assert change == pytest.approx(float(token_map.change[slot]), abs=6e-4)
    assert [text.split(" of")[0] for text in result[3:]] == ["slot 31", "slot 30"]


@needs_browser
def test_pointing_at_a_token_tells_what_the_file_holds(made, do):
    token_map = read_token_map(made / "kept")
    _, rows, columns = token_map.grid.shape
    kinds = token_map.kind[5]
    cells = [(5, *np.argwhere(kinds == kind)[0]) for kind in np.unique(kinds)]
    assert len(cells) > 1
    result = do(made / "one.html", f"""
      return {json.dumps([list(map(int, cell)) for cell in cells])}.map(([slot, row, column]) => {{
        scrub(slot); hover(row, column); return told()[0].split("\\n"); }});""")  # fmt: skip
    words = {-1: "dropped", 0: "kept", 1: "representative", 2: "event", 3: "representative and event"}
    for cell, lines in zip(cells, result, strict=True):
        slot, row, column = cell
        assert lines[0] == (
            f"slot {slot}, row {row}, column {column} (position {(slot * rows + row) * columns + column}), "
            f"{token_map.grid.seconds[slot]:.2f} s"
        )
        label = int(token_map.community[cell])
        members = token_map.community == label
        kept = int((members & token_map.kept).sum())
        expected = f"{words[int(token_map.kind[cell])]}; community {label}: {int(members.sum())} tokens, {kept} kept"
        assert lines[1].split("; piece ")[0] == expected
        numbers = [float(number) for number in re.findall(r"-?\d[\d.e-]*", lines[2])] if len(lines) > 2 else []
        known = [token_map.centrality[cell], token_map.importance[cell]] if token_map.kept[cell] else []
        assert numbers == pytest.approx([float(value) for value in known], rel=6e-3)


@needs_browser
def test_cells_are_framed_in_the_colour_of_their_kind_where_they_are(made, do):
    token_map = read_token_map(made / "kept")
    result = do(made / "one.html", """
      scrub(5);
      const seen = {};
      for (let row = 0; row < H; row++) for (let column = 0; column < W; column++)
        seen[`${row},${column}`] = pixel((column + 0.5) / W, row / H + 2 / canvases()[0].height);
      return seen;""")  # fmt: skip
    colours = {1: [255, 214, 10], 2: [225, 20, 45], 3: [255, 128, 0]}
    for cell, colour in result.items():
        kind = int(token_map.kind[(5, *map(int, cell.split(",")))])
        if kind == -1:
            assert max(colour) < 110, cell
        else:
            assert colour == pytest.approx(colours[kind], abs=2), cell


@needs_browser
def test_a_kind_that_is_filtered_out_is_dimmed_and_not_counted(made, do):
    token_map = read_token_map(made / "kept")
    slot, row, column = map(int, np.argwhere(token_map.kind == 1)[0])
    result = do(made / "one.html", f"""
      scrub({slot});
      const before = [here()[0], bars(0)];
      click("#kinds input[value='1']");
      const seen = pixel(({column} + 0.5) / W, {row} / H + 2 / canvases()[0].height);
      return [before, [here()[0], bars(0)], seen];""")  # fmt: skip
    kinds = token_map.kind[slot]
    assert f"{(kinds != -1).sum()} of" in result[0][0] and f"{((kinds != -1) & (kinds != 1)).sum()} of" in result[1][0]
    slots_with_some = int((token_map.kind == 1).any(axis=(1, 2)).sum())
    assert result[0][1] - result[1][1] == slots_with_some and max(result[2]) < 110


@needs_browser
def test_two_files_show_the_same_cell_side_by_side(made, do):
    kept, even = read_token_map(made / "kept"), read_token_map(made / "even")
    result = do(made / "two.html", """
      scrub(6); hover(2, 3, 1);
      const left = canvases().map((c) => c.getBoundingClientRect().left);
      const titles = [...document.querySelectorAll("h2")].map((e) => e.textContent);
      return { titles, told: told(), left };""")  # fmt: skip
    assert "st-simdiff" in result["titles"][0] and "uniform" in result["titles"][1]
    assert all(text.startswith("slot 6, row 2, column 3") for text in result["told"])
    assert ("dropped" in result["told"][0]) == (not kept.kept[6, 2, 3])
    assert ("dropped" in result["told"][1]) == (not even.kept[6, 2, 3])
    assert result["left"][1] > result["left"][0] + 300


@needs_browser
def test_the_keyboard_walks_over_the_cells(made, do):
    result = do(made / "one.html", """
      const canvas = canvases()[0];
      canvas.focus();
      const walk = ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowUp"].map((name) => {
        key(name, canvas); return told()[0].split(" (")[0]; });
      return { focused: document.activeElement === canvas, walk };""")  # fmt: skip
    assert result["focused"]
    cells = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 1)]
    assert result["walk"] == [f"slot 0, row {row}, column {column}" for row, column in cells]


@needs_browser
def test_a_click_on_the_time_line_goes_to_the_slot(made, do):
    result = do(made / "one.html", """
      const line = document.querySelector("svg"), at = line.getBoundingClientRect();
      return [0, 5, 31].map((slot) => {
        const x = at.left + 46 + ((at.width - 46 - 54) * (slot + 0.5)) / T;
        line.dispatchEvent(new MouseEvent("click", { clientX: x, clientY: at.top + 20, bubbles: true }));
        return state.slot; });""")  # fmt: skip
    assert result == [0, 5, 31]


@needs_browser
def test_communities_are_shown_as_regions_and_play_plays(made, do):
    result = do(made / "one.html", """
      const before = pixel(0.3 / W, 0.5 / H);
      click("input[value=regions]");
      const after = pixel(0.3 / W, 0.5 / H);
      click("#play"); const playing = byId("play").textContent; click("#play");
      return { before, after, playing, stopped: byId("play").textContent };""")  # fmt: skip
    assert max(result["after"]) - min(result["after"]) > 40 > max(result["before"]) - min(result["before"])
    assert (result["playing"], result["stopped"]) == ("Pause", "Play")


@needs_browser
def test_pieces_of_a_community_say_so(made, do):
    kept = read_token_map(made / "kept")
    slot, row, column = np.argwhere((kept.whole_of[kept.community] == 0) & (kept.piece[kept.community] == 2))[0]
    count = int((kept.whole_of == 0).sum())
    told = do(made / "one.html", f"scrub({slot}); hover({row}, {column}); return told()[0];")
    assert f"; piece 3 of {count} of community 0" in told


@needs_browser
@pytest.mark.parametrize(("dark", "expected"), [(False, "rgb(255, 255, 255)"), (True, "rgb(22, 24, 28)")])
def test_the_page_follows_light_and_dark(made, do, dark, expected):
    assert do(made / "one.html", "return getComputedStyle(document.body).backgroundColor;", dark=dark) == expected


# --- two files ------------------------------------------------------------------------------------------------------


@needs_browser
def test_two_files_share_one_scale(made, do):
    kept, even = (read_token_map(made / name) for name in ("kept", "even"))
    most = max(int(each.kept.sum(axis=(1, 2)).max()) for each in (kept, even))
    assert most > even.kept.sum(axis=(1, 2)).max()  # else the test could not fail
    result = do(made / "two.html", """
      return [...document.querySelectorAll("svg")].map((s) => s.querySelector("text").textContent);""")  # fmt: skip
    assert result == [str(most)] * 2


@needs_browser
def test_a_against_b_tells_and_paints_what_only_one_of_them_kept(made, do):
    kept, even = (read_token_map(made / name).kept for name in ("kept", "even"))
    result = do(made / "two.html", """
      scrub(5); click("input[value=difference]");
      const seen = {};
      for (let row = 0; row < H; row++) for (let column = 0; column < W; column++)
        seen[`${row},${column}`] = [0, 1].map((n) => pixel((column + 0.5) / W, row / H + 2 / canvases()[n].height, n));
      const kinds = byId("kinds").offsetParent;
      return { seen, sides: byId("sides").textContent, here: here(), kinds };""")  # fmt: skip
    colours = {(True, False): [86, 180, 233], (False, True): [255, 122, 184], (True, True): [240, 240, 240]}
    for cell, pair in result["seen"].items():
        place = (5, *map(int, cell.split(",")))
        expected = colours.get((bool(kept[place]), bool(even[place])))
        for colour in pair:
            assert max(colour) < 110 if expected is None else colour == pytest.approx(expected, abs=2), cell
    counts = (kept & ~even).sum(), (even & ~kept).sum(), (kept & even).sum()
    assert [int(n) for n in re.findall(r"\((\d+)\)", result["sides"])] == [int(n) for n in counts]
    here = [text for text in result["here"] if text.startswith("In slot")]
    assert f"{(kept[5] & ~even[5]).sum()} only in A" in here[0] and result["kinds"] is None
    assert f"{(even[5] & ~kept[5]).sum()} only in B" in here[1]


@needs_browser
def test_one_file_is_not_held_against_another(made, do):
    assert do(made / "one.html", "return byId('compare').offsetParent;") is None


# --- slider, links, keys --------------------------------------------------------------------------------------------


@needs_browser
def test_slots_with_events_are_marked_on_the_slider(made, do):
    slots = read_token_map(made / "kept").events().nonzero()[0]
    result = do(made / "one.html", "return [...byId('marks').children].map((mark) => parseFloat(mark.style.left));")
    assert sorted(result) == pytest.approx([100 * slot / 31 for slot in slots], abs=0.01)


@needs_browser
def test_a_link_leads_to_a_slot_and_a_wrong_one_nowhere(made, do, browser):
    state = "return [state.slot, byId('link').getAttribute('href'), byId('slot').getAttribute('aria-valuetext')];"
    second = read_token_map(made / "kept").grid.seconds[5]
    assert do(made / "one.html", state, at="#slot=5") == [5, "#slot=5", f"slot 5 of 31, {second:.2f} s"]
    assert do(made / "one.html", state, at="#slot=99")[0] == 31
    assert do(made / "one.html", state, at="#slot=x")[0] == 0
    browser.run("location.hash = '#slot=7'; await new Promise((done) => setTimeout(done, 50));")
    assert browser.run("return state.slot;") == 7


@needs_browser
def test_a_click_keeps_a_cell_until_escape_lets_go(made, do, browser):
    do(made / "one.html", "")
    browser.move(*middle(browser, 2, 3))
    assert "row 2, column 3" in told(browser)
    browser.click(*middle(browser, 2, 3))
    browser.move(*middle(browser, 4, 4))
    assert "row 2, column 3" in told(browser)
    browser.press("Escape")
    assert told(browser).startswith("Point at a cell")
    browser.run("play(true);")
    browser.press("Escape")
    assert browser.run("return [state.playing, byId('play').textContent];") == [None, "Play"]


@needs_browser
def test_the_words_of_the_page_are_explained(made, do):
    words = do(made / "one.html", "return [...document.querySelectorAll('dt')].map((e) => e.textContent);")
    assert {"representative", "event", "community", "change"} <= set(words)


# --- a phone --------------------------------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("name", ["one.html", "two.html"])
@pytest.mark.parametrize("device", [DESKTOP, PHONE, (320, 568, 2, True)])
def test_nothing_is_wider_than_the_screen_and_texts_are_legible(made, do, name, device):
    result = do(made / name, """
      return { page: document.documentElement.scrollWidth,
        beyond: [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
          .map((e) => e.outerHTML.slice(0, 80)),
        texts: [...document.querySelectorAll("svg text")].map((e) => e.getBoundingClientRect().height) };""",
        device=device)  # fmt: skip
    assert result["page"] == device[0] and result["beyond"] == []
    assert min(result["texts"]) >= 12  # a text in a picture that was made smaller would be less high


@needs_browser
def test_a_tap_selects_and_stays_and_a_swipe_over_the_picture_scrolls(made, do, browser):
    do(made / "one.html", "", device=PHONE)
    x, y = middle(browser, 2, 3)
    browser.tap(x, y)
    assert "row 2, column 3" in told(browser)
    before = browser.run("return scrollY;")
    browser.swipe(x, y, 150)
    assert browser.run("return scrollY;") > before + 80
    assert "row 2, column 3" in told(browser)
    browser.tap(*middle(browser, 2, 3))
    assert told(browser).startswith("Point at a cell")


@needs_browser
def test_fingers_have_room(made, do):
    heights = do(made / "two.html", """
      return [...document.querySelectorAll("button, label, #link")].filter((e) => e.offsetParent)
        .map((e) => e.offsetHeight);""", device=PHONE)  # fmt: skip
    assert min(heights) >= 44
