"""The page in a real browser."""

import json
import shutil

import browser
import numpy as np
import pytest

from minimix.data import shapes10
from minimix.report import report

PHONE, DESK = 390, 1200
chromium = browser.find()
pytestmark = pytest.mark.skipif(chromium is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def pages(trained, few, tmp_path_factory):
    """Pages about one run, about two under a long name each, and about one that has it all."""
    folder = tmp_path_factory.mktemp("pages")
    long = folder / ("a-name-that-nobody-would-type-twice-" * 4)
    long.symlink_to(trained, target_is_directory=True)
    hard = shutil.copytree(trained, folder / "hard")
    with open(hard / "metrics.jsonl", "w") as file:
        for line in metrics_of_a_hard_run(trained):
            file.write(json.dumps(line) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes10, "load", lambda: few)
        return [
            report([trained], folder / "one.html", lambda line: None),
            report([trained, long], folder / "two.html", lambda line: None),
            report([hard], folder / "hard.html", lambda line: None),
        ]


def metrics_of_a_hard_run(folder):
    """200 epochs of 3 steps: long names, numbers of all sizes, gaps, and a hundred classes."""
    text = (folder / "metrics.jsonl").read_text().splitlines()
    lines = {line["kind"]: line for line in map(json.loads, text)}
    rng = np.random.default_rng(0)
    names = [f"encoder.layers.{i}.attention.output.projection" for i in range(30)]
    names += ["x" * 80, "<b>$y$</b>", "日本語", "a"]
    for epoch in range(1, 201):
        place = {"epoch": epoch, "step": 3 * epoch}
        for step in range(3 * epoch - 2, 3 * epoch + 1):
            loss = 1e5 * rng.random() if step % 7 else float("nan")
            yield lines["step"] | {"epoch": epoch, "step": step, "loss": loss, "lr": 1e-6 / step}
        yield (
            lines["epoch"]
            | place
            | {
                "confusion": rng.integers(0, 3, (100, 100)).tolist(),
                "weight_norms": {name: 10 ** rng.uniform(-6, 6) for name in names},
                "gradient_norms": {name: 10 ** rng.uniform(-29, 29) for name in names},
            }
        )


@pytest.fixture(scope="module")
def chrome():
    with browser.Browser(chromium) as opened:
        yield opened


@pytest.fixture(params=[0, 1, 2], ids=["one run", "two runs", "hard run"])
def page(pages, request):
    return pages[request.param]


UNFOLD = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
WIDER = """[...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, .unseen'))
    .map(e => `${e.tagName}.${e.className}`)"""


# Texts of a chart whose boxes share more than a pixel, and such as stick out of the card around.
COLLISIONS = """[...document.querySelectorAll('svg')].flatMap(svg => {
    const card = svg.closest('figure').getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(t => [t, t.getBoundingClientRect()]);
    return texts.flatMap(([a, p], i) => [
        ...(p.left < card.left || p.right > card.right || p.bottom > card.bottom
            ? [`${a.textContent} sticks out`] : []),
        ...texts.slice(i + 1)
            .filter(([, q]) => p.left + 1 < q.right && q.left + 1 < p.right
                            && p.top + 2 < q.bottom && q.top + 2 < p.bottom)
            .map(([b]) => `${a.textContent} on ${b.textContent}`),
    ]);
})"""


@pytest.mark.parametrize("width", [320, PHONE, 700, DESK])
def test_no_text_of_a_chart_is_on_another(chrome, page, width):
    chrome.open(page, width)
    chrome.ask(UNFOLD)
    assert chrome.ask("document.querySelectorAll('svg text').length") > 80
    assert chrome.ask(COLLISIONS) == []
    # and what there is can be read: no letter is smaller than on a printed page
    sizes = chrome.ask(
        "[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().width / 360)"
    )
    assert min(sizes) * 10 > 7


def test_colliding_texts_would_be_noticed(chrome, pages):
    chrome.open(pages[0], DESK)
    chrome.ask("document.querySelectorAll('svg text').forEach(t => t.style.fontSize = '20px')")
    found = chrome.ask(COLLISIONS)
    assert any(line.startswith("block 1 depthwise on block 1 norm") for line in found)


@pytest.mark.parametrize("width", [320, PHONE, DESK])
def test_it_fits_and_nothing_complains(chrome, page, width):
    chrome.open(page, width)
    assert chrome.ask("document.querySelectorAll('.plot svg .curve').length") >= 5
    for _ in range(2):  # as it opens, and with everything unfolded
        assert chrome.ask("document.documentElement.scrollWidth") <= width
        assert chrome.ask(WIDER) == []
        chrome.ask(UNFOLD)
    assert chrome.complaints() == []


def test_it_is_dark_where_that_is_wanted(chrome, page):
    chrome.open(page, DESK)
    light = chrome.ask(COLORS)
    chrome.scheme(dark=True)
    dark = chrome.ask(COLORS)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    for colors, paper in ((light, 1), (dark, 0)):
        page_color, card, ink, line = map(luminance, colors)
        assert abs(page_color - paper) < 0.1
        assert contrast(page_color, ink) > 7
        assert contrast(card, ink) > 7
        assert contrast(card, line) > 3
    assert chrome.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_and_line_of_a_chart_can_be_seen(chrome, page, dark):
    chrome.open(page, DESK, dark=dark)
    chrome.ask(UNFOLD)
    card = luminance(
        chrome.ask("getComputedStyle(document.querySelector('.chart')).backgroundColor")
    )
    drawn = {"text": ("fill", 4.5), ".curve path": ("stroke", 2.9)}  # WCAG asks for 4.5 and 3
    for selector, (what, least) in drawn.items():
        colors = chrome.ask(
            f"[...document.querySelectorAll('svg {selector}')].map(e => getComputedStyle(e).{what})"
        )
        assert len(colors) > 5
        for color in set(colors):
            assert contrast(card, luminance(color)) >= least, (selector, color)


COLORS = """(() => {
    const of = (selector, what) => getComputedStyle(document.querySelector(selector))[what];
    return [of('body', 'backgroundColor'), of('.chart', 'backgroundColor'), of('h1', 'color'),
            of('.plot .curve path', 'stroke')];
})()"""


def luminance(color):
    """Relative luminance, from 0 (black) to 1, of "rgb(r, g, b)".   W3C, WCAG 2.2"""
    shares = [int(n) / 255 for n in color.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * s for w, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_the_pointer_shows_the_values(chrome, pages):
    chrome.open(pages[0], DESK)
    chrome.ask("document.querySelector('.plot').scrollIntoView({behavior: 'instant'})")
    left, top, width = chrome.ask(
        "(({left, top, width}) => [left, top, width])"
        "(document.querySelector('.plot .area').getBoundingClientRect())"
    )
    assert chrome.ask("getComputedStyle(document.querySelector('.tip')).visibility") == "hidden"
    chrome.point(left + width - 0.4, top + 50)
    assert chrome.ask("getComputedStyle(document.querySelector('.tip')).visibility") == "visible"
    training, test = chrome.ask(
        "JSON.parse(document.querySelector('.plot').dataset.curves).curves.map(c => c.y)"
    )
    assert training[-1] != training[-2]
    tip = chrome.ask("document.querySelector('.tip').innerText")
    assert tip.splitlines() == ["epoch 2", f"training {training[-1]}", f"test {test[-1]}"]
    assert chrome.complaints() == []


def test_the_pointer_shows_no_value_after_the_end_of_a_run(chrome, pages, tmp_path):
    page = tmp_path / "page.html"
    plot = pages[1].read_text("utf-8")
    # the second run ends at epoch 1 of 2
    page.write_text(plot.replace("&quot;x&quot;:[1.0,2.0]", "&quot;x&quot;:[0.5,1.0]"), "utf-8")
    chrome.open(page, DESK)
    chrome.ask("document.querySelector('.plot').scrollIntoView({behavior: 'instant'})")
    box = "document.querySelector('.plot .area').getBoundingClientRect()"
    left, top, width = chrome.ask(f"(({{left, top, width}}) => [left, top, width])({box})")
    for share, shown in ((0.5, False), (0.9, True)):
        chrome.point(left + share * width, top + 50)
        tip = chrome.ask("document.querySelector('.tip').innerText").splitlines()[1:]
        assert [line.endswith(" –") for line in tip] == [shown, shown]


def test_what_is_injected_after_all_does_not_run(chrome, pages, tmp_path):
    """The policy is a second wall: were a name written out unescaped, nothing would come of it."""
    hostile = tmp_path / "hostile.html"
    evil = "<script>window.evil = 1</script><img src='http://127.0.0.1:9/' onerror='evil = 2'>"
    hostile.write_text(pages[0].read_text("utf-8").replace("<h1>", evil + "<h1>"), "utf-8")
    chrome.open(hostile, DESK)
    assert chrome.ask("typeof evil") == "undefined"
    assert chrome.complaints()  # and the browser says so
