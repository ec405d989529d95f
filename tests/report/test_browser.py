"""The saved page in a real browser: it asks for nothing, is accessible, and does what it offers."""

import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import sample

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("SALIENCE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def axe_source():
    """Return axe-core: the file named by SALIENCE_AXE, or the one inside axe-playwright-python."""
    named = os.environ.get("SALIENCE_AXE")
    spec = None if named else find_spec("axe_playwright_python")
    path = Path(named) if named else Path(spec.submodule_search_locations[0]) / "axe.min.js" if spec else None
    if path is None or not path.exists():
        pytest.skip("axe-core is absent: install axe-playwright-python or set SALIENCE_AXE")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is absent: apt-get install chromium, or set SALIENCE_CHROMIUM")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return sample.clothing().save(tmp_path_factory.mktemp("report") / "report.html")


@contextmanager
def opened(browser, path, **options):
    """Open a page that records every request and fails on errors and on messages in the console."""
    context = browser.new_context(**({"viewport": DESK} | options))
    page = context.new_page()
    page.requests, page.troubles = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.goto(path.as_uri())
    try:
        yield page
        assert page.troubles == []
    finally:
        context.close()


def test_it_asks_for_nothing_but_itself(browser, saved):
    assert saved.stat().st_size < 2_000_000
    with opened(browser, saved) as page:
        page.wait_for_timeout(300)
        assert [url for url in page.requests if not url.startswith("data:")] == [saved.as_uri()]
        assert page.evaluate("window.hacked") is None


def test_the_policy_stops_requests_and_strange_scripts(browser, saved, tmp_path):
    attack = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'><img src='http://127.0.0.1:9/x.png'>"
    changed = tmp_path / "changed.html"
    changed.write_text(
        saved.read_text(encoding="utf-8").replace("<main", attack + "<main", 1), encoding="utf-8"
    )
    with opened(browser, changed) as page:
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None
        refused = [text for text in page.troubles if "Content Security Policy" in text]
        assert len(refused) >= 3
        page.troubles.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing(browser, saved, scheme, size):
    source = axe_source()
    with opened(browser, saved, color_scheme=scheme, viewport=size) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.evaluate(source)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    told = [
        f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:200]} × {len(v['nodes'])}"
        for v in found["violations"]
    ]
    assert told == []


def test_axe_finds_a_planted_fault(browser, saved):
    source = axe_source()
    with opened(browser, saved) as page:
        page.evaluate(
            "document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=\"data:,\">')"
        )
        page.evaluate(source)
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert "image-alt" in [v["id"] for v in found["violations"]]


@pytest.mark.parametrize("name", ["clothing", "minimal", "regression", "many_classes", "images"])
def test_nothing_overflows_sideways(browser, tmp_path, name):
    report = sample.images(sample.picture()) if name == "images" else getattr(sample, name)()
    path = report.save(tmp_path / "r.html")
    with opened(browser, path) as page:
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        for width in (320, 360, 768):
            page.set_viewport_size({"width": width, "height": 740})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_reads_without_javascript(browser, saved):
    with opened(browser, saved, java_script_enabled=False) as page:
        text = page.locator("main").inner_text()
        assert all(f.question in text for f in sample.findings())
        assert all(f"Example {k}" in text for k in range(1, 13))
        assert page.locator(".example:visible").count() == 12
        assert page.locator("button:visible").count() == 0
        page.locator("details.finding:not([open]) > summary").first.click()
        assert "3,710" in page.locator("#performance").inner_text()


def test_a_link_opens_the_evidence_without_javascript(browser, saved):
    with opened(browser, saved, java_script_enabled=False) as page:
        assert not page.locator("#finding-8").is_visible()
        page.locator("#findings-table a", has_text="What does it cost?").click()
        assert page.locator("#finding-8").is_visible()


def test_print_shows_everything(browser, saved):
    with opened(browser, saved) as page:
        page.emulate_media(media="print")
        for position in range(1, 10):
            assert page.locator(f"#finding-{position}").is_visible()
        assert page.locator(".example:visible").count() == 12
        assert page.locator("nav").is_hidden()
        assert (
            page.locator("#performance figure .scroll:visible").count()
            == page.locator("#performance figure").count()
        )
        document = page.pdf(format="A4")
    pages = len(re.findall(rb"/Type\s*/Page\b", document))
    assert document.startswith(b"%PDF")
    assert 5 <= pages <= 30


def shown_numbers(page):
    return [
        int(k) for k in page.locator(".example:visible").evaluate_all("es => es.map(e => e.id.split('-')[1])")
    ]


def test_an_example_is_picked_by_button_step_key_and_address(browser, saved):
    with opened(browser, saved) as page:
        assert shown_numbers(page) == [1]
        page.locator(".picker button").nth(4).click()
        assert shown_numbers(page) == [5]
        page.get_by_role("button", name="Next").click()
        assert shown_numbers(page) == [6]
        page.locator(".picker button").nth(6).focus()
        page.keyboard.press("ArrowDown")
        assert shown_numbers(page) == [8]
        assert page.locator(".picker button[aria-current=true]").count() == 1
        page.goto(f"{saved.as_uri()}#example-3")
        assert shown_numbers(page) == [3]


def test_examples_are_filtered_by_outcome(browser, saved):
    with opened(browser, saved) as page:
        wrong = page.locator("[data-filters=examples] button[data-filter=wrong]")
        wrong.click()
        assert wrong.get_attribute("aria-pressed") == "true"
        listed = page.locator(".picker li:visible")
        assert listed.count() == int(wrong.inner_text().split()[-1])
        assert all("wrong" in s for s in listed.evaluate_all("ls => ls.map(l => l.dataset.status)"))
        (now,) = shown_numbers(page)
        assert "wrong" in page.locator(f"#example-{now}").get_attribute("data-status")
        page.locator("[data-filters=examples] button[data-filter='']").click()
        assert page.locator(".picker li:visible").count() == 12


def test_findings_are_filtered_and_sorted(browser, saved):
    with opened(browser, saved) as page:
        page.locator("[data-filters=findings] button[data-filter=warn]").click()
        assert page.locator("#findings-table tbody tr:visible").count() == 2
        assert page.locator("details.finding:visible").count() == 2
        page.locator("[data-filters=findings] button[data-filter='']").click()
        heading = page.locator("#findings-table thead button", has_text="Value")
        heading.click()
        column = "rs => rs.map(r => r.cells[2].dataset.sort).filter(Boolean).map(Number)"
        rows = page.locator("#findings-table tbody tr")
        assert rows.evaluate_all(column) == sorted(f.value for f in sample.findings() if f.value is not None)
        heading.click()
        assert rows.evaluate_all(column)[0] == 74.0
        assert page.locator("#findings-table th[aria-sort=descending]").count() == 1
        assert rows.last.inner_text().count("—") >= 1


def test_a_summary_chip_leads_to_its_findings(browser, saved):
    with opened(browser, saved) as page:
        page.locator(".tally a[data-verdict=fail]").click()
        assert page.locator("#findings-table tbody tr:visible").count() == 1


def test_hovering_tells_the_number_and_a_sentence_outlines_its_words(browser, saved):
    with opened(browser, saved) as page:
        page.locator("#example-1 mark", has_text="flattering").hover()
        assert page.locator("#tip").inner_text() == "flattering: +0.75"
        page.locator("#example-1 .sentences li", has_text="speaks most for").hover()
        outlined = page.locator("#example-1 .told").all_inner_texts()
        assert set(outlined) == {"love", "flattering", "compliments", "comfortable"}


def test_the_keyboard_reaches_the_report(browser, saved):
    with opened(browser, saved) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_awkward_reports_run_without_errors(browser, tmp_path):
    reports = [sample.minimal(), sample.regression(), sample.many_classes(), sample.images(sample.picture()), replace(sample.clothing(), findings=())]  # fmt: skip
    for position, report in enumerate(reports):
        with opened(browser, report.save(tmp_path / f"{position}.html")) as page:
            assert page.locator("h1").inner_text() == report.title
            page.wait_for_timeout(50)


def test_the_report_of_a_run(browser):
    named = os.environ.get("SALIENCE_REPORT")
    if not named:
        pytest.skip("SALIENCE_REPORT names no report of a run")
    path = Path(named).resolve()
    test_it_asks_for_nothing_but_itself(browser, path)
    test_axe_finds_nothing(browser, path, "light", DESK)
    test_axe_finds_nothing(browser, path, "dark", PHONE)
