"""Choosing clips by hand: in the terminal, on the command line, and on the contact sheet in a real browser."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import studio as stand_ins

from storycli import pipeline, storyboard, workspace
from storycli.config import Settings
from storycli.errors import StoryError

STORY = "A cat sat in the forest.\nA cat ran on the beach.\n"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ROOT = Path(__file__).parent.parent
CHROME = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture
def film(run, studio, tmp_path):
    """A film of two plots; the forest and the beach guide it."""
    Path("story.txt").write_text(STORY)
    assert run("render", "story.txt", "--llm", "none", "-o", "my film.mp4").code == 0
    studio.work()
    return tmp_path / "my film.mp4"


def board(film: Path):
    return storyboard.read(film.with_suffix(".storycli") / "storyboard.yaml").plots


def motion(film: Path, plot: int) -> bytes:
    return (film.with_suffix(".storycli") / f"{plot:02}" / "reference.mp4").read_bytes()


def test_a_chosen_candidate_is_filmed_and_only_that_plot_is_made_anew(run, studio, film):
    before = motion(film, 1), motion(film, 2)
    done = run("again", film.name, "--choose", "2=3")
    assert done.code == 0
    assert [work for work in studio.work() if work.startswith("render")] == ["render A cat ran on the beach."]
    assert motion(film, 1) == before[0] and motion(film, 2) != before[1]
    assert [plot.candidate for plot in board(film)] == [None, 3]


def test_a_choice_stays_when_the_same_story_is_rendered_again(run, studio, film):
    assert run("render", "story.txt", "--llm", "none", "-o", film.name, "--choose", "2=3").code == 0
    chosen = motion(film, 2)
    assert run("render", "story.txt", "--llm", "none", "-o", film.name).code == 0
    assert motion(film, 2) == chosen


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("2", 2, "should be PLOT=CANDIDATE"),
        ("0=1", 2, "should be PLOT=CANDIDATE"),
        ("x=1", 2, "should be PLOT=CANDIDATE"),
        ("3=1", 1, "there is no plot 3: the story has 2"),
        ("1=9", 1, "plot 1 asks for candidate 9, but 5 clips were found"),
    ],
)
def test_a_choice_that_cannot_be_is_told(run, film, given, code, said):
    again = ("render", "story.txt", "--llm", "none", "-o", film.name)
    done = run(*again, "--choose", given)
    assert run(*again).code == 0  # nothing of it was kept
    assert done.code == code
    assert said in done.err


def test_nobody_is_asked_where_there_is_no_terminal(run, film):
    done = run("render", "story.txt", "--llm", "none", "-o", film.name, "--pick")
    assert done.code == 2
    assert "--pick asks in a terminal" in done.err and "--choose" in done.err


def in_terminal(studio, typed: str, *arguments: str) -> str:
    """What the command line shows to somebody who types ``typed``."""
    mine, its = pty.openpty()
    command = [sys.executable, stand_ins.__file__, *arguments]
    environment = os.environ | {"TERM": "dumb", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    os.write(mine, typed.encode())
    shown = b""
    while True:
        try:
            piece = os.read(mine, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(mine)
    assert process.wait(timeout=60) == 0, shown.decode()
    return shown.decode().replace("\r", "")


def test_a_person_is_asked_for_each_plot_in_the_terminal(studio, film):
    typed = "2\n9\n\n"
    shown = in_terminal(studio, typed, "render", "story.txt", "--llm", "none", "-o", film.name, "--pick")
    assert re.search(r"1\. A cat sat in the forest\.\n  \*  1  \d\.\d{3}  a forest", shown)
    assert "9: there are 5 candidates" in shown
    assert [plot.candidate for plot in board(film)] == [2, None]


def test_q_goes_on_with_what_was_chosen_so_far(studio, film):
    in_terminal(studio, "q\n", "render", "story.txt", "--llm", "none", "-o", film.name, "--pick")
    assert [plot.candidate for plot in board(film)] == [None, None]


# The contact sheet


@pytest.fixture(scope="module")
def chrome():
    """A browser without a window; what it shows comes from the disk alone."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROME is None:
        pytest.skip("no browser on this machine")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def sheet(chrome, film):
    """The film's contact sheet, as it is shown in a dark room on a narrow screen; ``mishaps`` must stay empty."""
    page = chrome.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
    mishaps: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and mishaps.append(message.text))
    page.on("pageerror", lambda error: mishaps.append(str(error)))
    page.on("requestfailed", lambda request: mishaps.append(request.url))
    page.on("request", lambda request: request.url.startswith("file:") or mishaps.append(request.url))
    page.goto((film.with_suffix(".storycli") / "index.html").as_uri())
    yield page
    page.close()
    assert mishaps == []


def test_the_contact_sheet_shows_all_its_pictures_and_asks_nothing_of_the_network(sheet):
    sheet.wait_for_function("[...document.images].every(image => image.complete)")
    assert sheet.evaluate("[...document.images].map(image => image.naturalWidth > 0)") == [True] * 10
    sheet.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState > 0)")
    assert sheet.evaluate("document.querySelectorAll('video').length") == 1 + 2 * 3


def test_the_contact_sheet_fits_a_narrow_screen_and_a_dark_room(sheet):
    assert sheet.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert sheet.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
    sheet.emulate_media(color_scheme="light")
    assert sheet.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 249, 246)"


def test_a_click_on_candidates_gives_the_command_that_films_them(run, studio, sheet, film):
    bar, code = sheet.locator(".choice"), sheet.locator(".choice code")
    assert not bar.is_visible()
    second = sheet.locator("#plot-2 .candidates button")
    second.nth(2).click()
    sheet.locator("#plot-1 .candidates button").nth(1).click()
    assert code.inner_text() == "storycli again 'my film.mp4' --choose 1=2 --choose 2=3"
    assert second.nth(2).get_attribute("aria-pressed") == "true"
    second.nth(2).click()  # taken back
    assert code.inner_text() == "storycli again 'my film.mp4' --choose 1=2"
    sheet.locator(".choice button").click()
    assert sheet.evaluate("getSelection().toString()") == code.inner_text()
    assert run("again", film.name, "--choose", "1=2").code == 0
    assert board(film)[0].candidate == 2


def test_what_people_wrote_cannot_run_in_the_contact_sheet(run, studio, chrome, tmp_path):
    Path("story.txt").write_text("A cat <script>document.title=\"owned\"</script> <img src=x onerror='a()'> sat.\n")
    assert run("render", "story.txt", "--llm", "none", "--title", "</title><b>", "-o", "film.mp4").code == 0
    page = chrome.new_page()
    page.goto((tmp_path / "film.storycli" / "index.html").as_uri())
    assert page.title() == "</title><b>"
    assert page.locator("h2").inner_text().startswith("A cat <script>")
    page.close()


def test_a_storyboard_that_is_edited_while_somebody_is_asked_is_told(studio, film, monkeypatch):
    there = film.with_suffix(".storycli") / "storyboard.yaml"
    story = storyboard.read(there)

    def edited(story, found, likely):
        there.write_text(there.read_text().replace("A cat ran", "A dog ran"))
        return storyboard.choose(there, {1: 2})

    with workspace.RunFolder(film) as kept, pytest.raises(StoryError, match="edited while its clips were chosen"):
        pipeline.render(story, Settings(llm="none"), kept.do, pick=edited)
