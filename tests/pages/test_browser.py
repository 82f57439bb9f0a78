"""The dashboard in a real browser: sliders, click to load, link, downloads, themes, narrow screens."""

import csv
import hashlib
import io
import math
import re
from itertools import combinations

import pytest
from paretoscope.export import without_figures
from paretoscope.measure.subject import Subject
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.service.sweeps import sweeps
from screens import DESK, PATIENCE, PHONE, screen

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MODEL = "lenet-300-100"
LINK = f"/?model={MODEL}&sparsity=0.5&clusters=16&bits=8"


@pytest.fixture
def page(browser, dashboard):
    with screen(browser, dashboard, accept_downloads=True) as page:
        yield page


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load(MODEL)


def visit(page, link: str = LINK) -> None:
    page.goto(page.address + link)
    settle(page)


def still(page) -> None:
    """No script of the page runs, whatever it shows."""
    page.wait_for_timeout(200)  # what was typed has reached the server
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")


def settle(page) -> None:
    """Both plots drawn, the figures exact, and nothing running."""
    page.locator(".st-key-plots .px-of-ms svg").wait_for()
    page.wait_for_function(
        """() => {
            const app = document.querySelector('[data-testid="stApp"]');
            const metrics = [...document.querySelectorAll('[data-testid="stMetric"]')].map(m => m.innerText);
            return app.dataset.testScriptState === 'notRunning' && metrics.length === 5
                && metrics.every(text => !/…|estimate|timing|≈/.test(text));
        }"""
    )


def metric(page, start: str) -> str:
    return page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{start}")).inner_text()


def stop_filling(page) -> None:
    """End the background sweeps, so that the page stands still."""
    cancel = page.get_by_role("button", name="Cancel")
    if cancel.count():
        cancel.click()
    cancel.wait_for(state="detached")
    settle(page)


PLOTS = "document.querySelector('.st-key-plots .explorer').plots"
# [digest, x, y] of every point that a plot (0: size, 1: time) shows, on the screen.
POINTS = f"""plot => {{
    const {{ board, panes }} = {PLOTS}, box = panes[plot].picture.getBoundingClientRect();
    return panes[plot].spots.filter(([, , place]) => place !== 'baseline')
        .map(([x, y, place]) => [board.rows[place][0], box.x + x, box.y + y]);
}}"""


def digests(page) -> list[str]:
    """Digests of all recipes that the browser has."""
    return page.evaluate(f"() => {PLOTS}.board.rows.map(row => row[0])")


def wait_for_point(page, digest: str) -> None:
    """Until a recipe is drawn on both plots."""
    for plot in (0, 1):
        page.wait_for_function(
            f"""([plot, digest]) => {{
                const {{ board, panes }} = {PLOTS};
                return panes[plot].spots.some(([, , place]) => board.rows[place]?.[0] === digest);
            }}""",
            arg=[plot, digest],
        )


def test_slider_makes_a_point_on_both_plots_and_a_link(page, subject: Subject) -> None:
    visit(page)
    before = metric(page, "Size")
    thumb = page.locator(".st-key-control_sparsity input[type=range]")
    thumb.focus()
    thumb.press("ArrowRight")
    recipe = Recipe.of(sparsity=0.51, clusters=16, bits=8)
    wait_for_point(page, recipe.digest)
    settle(page)
    assert metric(page, "Size") != before
    page.wait_for_url(re.compile("sparsity=0.51"))
    *_, evaluation = subject.evaluate(recipe)
    assert f"{100 * evaluation.record.figures.accuracy:.1f} %" in metric(page, "Accuracy")


def test_a_pasted_link_opens_the_same_view(page, browser, dashboard) -> None:
    visit(page, f"/?model={MODEL}&sparsity=0.333&clusters=17&bits=5&scope=layer")
    shown = [metric(page, start) for start in ("Accuracy", "Size", "Zeros")]
    with screen(browser, dashboard) as other:
        other.goto(page.url)
        settle(other)
        assert [metric(other, start) for start in ("Accuracy", "Size", "Zeros")] == shown
        assert other.locator(".st-key-control_clusters input[type=range]").get_attribute("aria-valuetext") == "17"


def test_clicking_a_point_loads_its_recipe(page) -> None:
    visit(page)
    page.locator(".st-key-preset_int8 button").first.click()
    wait_for_point(page, presets.get("int8").recipe.digest)
    wait_for_point(page, presets.get("tiny").recipe.digest)
    stop_filling(page)
    places = page.evaluate(POINTS, 0)
    current = presets.get("int8").recipe
    known = {recipe.digest: recipe for sweep in sweeps(current).values() for recipe in sweep}
    known |= {preset.recipe.digest: preset.recipe for preset in presets}
    # The point that stands most alone, so that the click can only mean it.
    apart = {
        digest: min(math.dist((x, y), other[1:]) for other in places if other[0] != digest)
        for digest, x, y in places
        if digest in known and digest not in (current.digest, Recipe().digest)
    }
    wanted = max(apart, key=apart.get)
    assert apart[wanted] > 12
    page.mouse.click(*next(place[1:] for place in places if place[0] == wanted))
    query = "&".join(f"{name}={value}" for name, value in known[wanted].to_query().items())
    page.wait_for_url(re.compile(re.escape(query) + "$"))
    settle(page)
    text = page.locator(".st-key-control_bits input[type=range]").get_attribute("aria-valuetext")
    assert text.split()[0] == str(known[wanted].bits)


def download(page, label: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label, exact=False).click()
    file = waiting.value
    return file.suggested_filename, open(file.path(), "rb").read()


def test_downloads_are_what_was_measured(page, subject: Subject) -> None:
    visit(page)
    stop_filling(page)
    recipe = Recipe.of(sparsity=0.5, clusters=16, bits=8)
    *_, evaluation = subject.evaluate(recipe)
    record = evaluation.record
    page.locator(".st-key-export button").first.click()

    name, text = download(page, "Recipe (JSON)")
    assert name.endswith(".json") and Recipe.from_json(text) == recipe

    name, artefact = download(page, "Artefact")
    assert name.endswith(".psc") and len(artefact) == record.size.artefact
    assert hashlib.sha256(without_figures(artefact)).hexdigest() == record.digests.artefact

    _, table = download(page, "All tried (CSV)")
    rows = {row["digest_recipe"]: row for row in csv.DictReader(io.StringIO(table.decode()))}
    assert int(rows[recipe.digest]["correct"]) == record.figures.correct
    assert int(rows[recipe.digest]["size_artefact"]) == record.size.artefact


def test_sweeps_fill_in_and_the_sliders_stay_free(page) -> None:
    visit(page, f"/?model={MODEL}&sparsity=0.62&clusters=16&bits=8")
    page.wait_for_function(f"() => {PLOTS}.board.rows.length >= 8")
    thumb = page.locator(".st-key-control_bits input[type=range]")
    thumb.focus()
    thumb.press("ArrowRight")
    wait_for_point(page, Recipe.of(sparsity=0.62, clusters=16, bits=7).digest)


def test_all_tried_is_brushed_linked_and_loaded(page) -> None:
    visit(page)
    page.locator(".st-key-preset_binary button").first.click()
    binary = presets.get("binary").recipe
    wait_for_point(page, binary.digest)
    stop_filling(page)
    page.get_by_role("tab", name="All tried").click()
    page.locator(".px-scroll tbody tr").first.wait_for()
    # Away from the tray, which covers the foot of the page.
    page.locator(".px-lines").evaluate("lines => lines.scrollIntoView({ block: 'center' })")
    place, start, end = page.evaluate(
        """digest => {
            const { board, axes, lines } = document.querySelector('.st-key-tried .explorer').tried;
            const axis = axes.find(({ key }) => key === 'bits'), box = lines.getBoundingClientRect();
            const at = value => [box.x + axis.x, box.y + axis.scale.y(value)], [x, y] = at(1);
            return [board.rows.findIndex(row => row[0] === digest), at(1.5), [x, y + 8]];
        }""",
        Recipe.of(sparsity=0.5, clusters=16, bits=8).digest,
    )
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=3)
    page.mouse.up()
    # What was brushed here is what the plots and the table have left.
    page.get_by_role("button", name="Zoom in").wait_for()
    everything = len(digests(page))
    one_bit = page.evaluate(f"() => [...{PLOTS}.inside].map(place => {PLOTS}.board.rows[place][10])")
    assert one_bit and set(one_bit) == {1}
    assert page.locator(".px-scroll tbody tr").count() == len(one_bit) < everything
    page.get_by_role("button", name="Clear filter").last.click()
    row = page.locator(f".px-scroll tr[data-place='{place}']")
    row.hover()
    assert page.locator(".st-key-plots .px-ring").count() == 2
    assert "50 % sparse, 16 clusters, 8 bits" in page.locator(".px-readout").inner_text()
    row.click()
    page.wait_for_url(re.compile("sparsity=0.5&clusters=16&bits=8"))


def test_a_frame_on_a_plot_filters_and_zooms(page) -> None:
    visit(page)
    page.wait_for_function(f"() => {PLOTS}.board.rows.length >= 8")
    stop_filling(page)
    places = page.evaluate(POINTS, 0)
    _, x, y = max(places, key=lambda place: min(math.dist(place[1:], o[1:]) for o in places if o is not place))
    page.mouse.move(x - 9, y - 9)
    page.mouse.down()
    page.mouse.move(x + 9, y + 9, steps=3)
    page.mouse.up()
    page.get_by_text(f"1 of {len(digests(page))} shown").wait_for()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Whole range").click()
    page.get_by_role("button", name="Whole range").wait_for(state="detached")


def test_keys_walk_the_front_and_load(page) -> None:
    visit(page)
    page.wait_for_function(f"() => {PLOTS}.board.rows.length >= 8")
    stop_filling(page)
    front = page.evaluate(f"() => {PLOTS}.board.head.fronts.size.map(place => {PLOTS}.board.rows[place][0])")
    plots = page.locator(".px-plots")
    assert "The front: " in plots.get_attribute("aria-label")
    plots.focus()
    plots.press("ArrowRight")
    plots.press("ArrowRight")
    assert f"2 of {len(front)} on the front" in page.locator(".st-key-plots [aria-live]").inner_text()
    plots.press("Enter")
    page.wait_for_function(f"digest => {PLOTS}.board.rows[{PLOTS}.board.head.current]?.[0] === digest", arg=front[1])


def test_the_question_is_answered_drawn_and_linked(page) -> None:
    visit(page)
    stop_filling(page)
    for key, value in (("afford_size", "60"), ("afford_lost", "3")):
        field = page.locator(f".st-key-{key} input")
        field.fill(value)
        field.press("Enter")
        still(page)
    page.wait_for_url(re.compile("most_kb=60&most_lost=3"))
    page.get_by_text("Best so far").first.wait_for()
    # By hand: the smallest file within both limits.
    expected = page.evaluate(
        f"""() => {{
            const {{ rows, head }} = {PLOTS}.board;
            const fit = rows.filter(row => row[2] <= 60000 && 100 * (head.baseline.value - row[3]) <= 3 + 1e-9);
            return fit.sort((a, b) => a[2] - b[2])[0][0];
        }}"""
    )
    assert page.evaluate(f"() => {PLOTS}.board.rows[{PLOTS}.board.head.best][0]") == expected
    assert page.locator(".st-key-plots .px-limit").count() == 3
    page.locator(".st-key-answer_load button").first.click()
    page.wait_for_function(f"digest => {PLOTS}.board.rows[{PLOTS}.board.head.current]?.[0] === digest", arg=expected)
    page.goto(page.url)
    settle(page)
    assert page.locator(".st-key-afford_size input").input_value() == "60"


def test_names_of_points_keep_clear_of_those_of_number_formats(page) -> None:
    visit(page)
    timed = f"[...{PLOTS}.inside].filter(place => {PLOTS}.panes[1].valueOf(place) !== null)"
    page.wait_for_function(f"{timed}.length >= 4")
    # Four named points below the name of a format, as where the best of all are of one format.
    shown = page.evaluate(
        f"""() => {{
            const pane = {PLOTS}.panes[1], [{{ x }}] = pane.formats();
            {PLOTS}.board.letters = new Map();
            {PLOTS}.board.names = new Map({timed}.slice(0, 4).map((place, at) => [place, `Name ${{at}}`]));
            pane.at = () => [x, 31];
            pane.draw(pane.picture.viewBox.baseVal.width, false);
            return [...pane.picture.querySelectorAll('text')].map(each => {{
                const {{ left, right, top, bottom }} = each.getBoundingClientRect();
                return [each.textContent, left, right, top, bottom];
            }});
        }}"""
    )
    names = [each for each in shown if re.search("Name|fp32|int8", each[0])]
    assert sum(text.startswith("Name") for text, *_ in names) >= 2 and len(names) > 2
    for (_, left, right, top, bottom), (_, start, end, head, foot) in combinations(names, 2):
        assert right <= start or end <= left or bottom <= head or foot <= top, names


def test_pins_have_letters_names_and_live_in_the_link(page, browser) -> None:
    visit(page)
    stop_filling(page)
    page.locator(".st-key-pin button").first.click()
    tray = page.locator(".st-key-tray")
    tray.get_by_role("button", name=re.compile("^A ")).click()
    page.get_by_label("Name", exact=True).fill("ours & theirs")
    page.get_by_label("Name", exact=True).press("Enter")
    tray.get_by_role("button", name="A ours & theirs").wait_for()
    page.wait_for_url(re.compile("pins="))
    with screen(browser, page.address) as other:
        other.goto(page.url)
        settle(other)
        other.locator(".st-key-tray").get_by_role("button", name="A ours & theirs").wait_for()
        assert other.evaluate(f"() => [...{PLOTS}.board.letters.values()]") == ["A"]
    # The store has it for whoever comes next, such as other tests.
    page.keyboard.press("Escape")
    page.locator(".st-key-pin button").first.click()
    tray.get_by_role("button", name="A ours & theirs").wait_for(state="detached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes(browser, dashboard, scheme: str) -> None:
    with screen(browser, dashboard, color_scheme=scheme) as page:
        visit(page)
        colours = page.evaluate(
            """() => ({
                page: getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor,
                text: getComputedStyle(document.querySelector('.px-plots text')).fill})"""
        )

    def brightness(colour: str) -> float:
        # "rgb(16, 21, 28)", or "color(srgb 0.6 0.6 0.7)".
        parts = [float(each) for each in re.findall(r"[\d.]+", colour)][:3]
        return sum(parts) / (3 if "srgb" in colour else 765)

    dark = scheme == "dark"
    assert (brightness(colours["page"]) < 0.3) == dark
    assert (brightness(colours["text"]) > 0.5) == dark


def test_a_scheme_that_changes_changes_the_plots(page) -> None:
    visit(page)
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    text = "document.querySelector('.js-plotly-plot')._fullLayout.font.color"
    before = page.evaluate(text)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => {text} !== before", arg=before)


def test_answer_is_above_the_fold_and_narrow_screens_do_not_scroll_sideways(browser, dashboard) -> None:
    for size in (DESK, PHONE):
        with screen(browser, dashboard, size) as page:
            visit(page)
            if size is DESK:
                box = page.locator(".px-plots").bounding_box()
                assert box["y"] + box["height"] <= size[1]
            main = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
            assert main[0] <= main[1]


def test_nonsense_in_the_link_is_told(page) -> None:
    visit(page, f"/?model={MODEL}&sparsity=95")
    assert "sparsity must be in [0, 1); got 95" in page.get_by_test_id("stAlert").first.inner_text()


def test_methods_page_follows_the_recipe(page) -> None:
    visit(page)
    page.get_by_role("link", name="Methods").click()
    page.get_by_text("50 % sparse, 16 clusters, 8 bits").first.wait_for()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.get_by_role("link", name="Explore").click()
    settle(page)
    assert page.locator(".st-key-control_sparsity input[type=range]").get_attribute("aria-valuetext") == "50 %"


def visit_layers(page, tab: str, query: str = f"model={MODEL}&sparsity=0.5&clusters=16&bits=8") -> None:
    # The first address that a new server is asked for must be its front page.
    visit(page)
    page.goto(f"{page.address}/layer-by-layer?{query}")
    page.get_by_text(re.compile("smaller, touched .*\\.$")).wait_for()
    page.get_by_role("tab", name=tab).click()


def idle(page) -> None:
    page.wait_for_timeout(300)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=\"stApp\"]').dataset.testScriptState === 'notRunning'"
    )


def press_slider(page, selector: str, key: str, times: int = 1) -> None:
    thumb = page.locator(f"{selector} input[type=range]")
    thumb.focus()
    for _ in range(times):
        thumb.press(key)


def measured(page) -> None:
    """The sensitivity of all layers, measured now unless another test did."""
    page.wait_for_function(
        "() => document.querySelector('.st-key-plot_heat .js-plotly-plot')?.data?.[0].y.length === 3"
    )
    page.locator(".st-key-cancel_study").wait_for(state="detached")
    idle(page)


def test_clicking_a_cell_of_the_heat_map_looks_at_its_layer(page) -> None:
    visit_layers(page, "Sensitivity")
    measured(page)
    page.get_by_text("The line in colour is fc1").wait_for()
    x, y = page.evaluate(
        """() => {
            const plot = document.querySelector('.st-key-plot_heat .js-plotly-plot');
            const box = plot.getBoundingClientRect(), layout = plot._fullLayout;
            return [box.x + layout.xaxis._offset + layout.xaxis.d2p('60 %'),
                box.y + layout.yaxis._offset + layout.yaxis.d2p('fc3')];
        }"""
    )
    page.mouse.click(x, y)
    page.wait_for_function(
        "() => document.querySelector('.st-key-plot_heat .js-plotly-plot').layout.shapes[0].y0 === 1.5"
    )
    page.get_by_text("The line in colour is fc3").wait_for()
    page.get_by_role("tab", name="One layer").click()
    page.get_by_text("Settings of fc3 alone").wait_for()


def test_the_graph_of_the_network_leads_to_its_layers(page) -> None:
    visit_layers(page, "Graph")
    tiles = page.locator(".st-key-network_graph .tile")
    tiles.first.wait_for()
    shown = tiles.evaluate_all("all => all.map(each => each.dataset.layer)")
    assert shown == ["fc1.weight", "fc2.weight", "fc3.weight"]
    # By the keyboard as by a click; the focus stays where it was.
    tiles.nth(2).focus()
    page.keyboard.press("Enter")
    page.locator(".st-key-network_graph [data-layer='fc3.weight'] [stroke-width='2.5']").wait_for()
    page.wait_for_function("document.activeElement.dataset.layer === 'fc3.weight'")
    tiles.nth(1).click()
    page.locator(".st-key-network_graph [data-layer='fc2.weight'] [stroke-width='2.5']").wait_for()
    # Drawn anew for a narrow screen, and not cut there.
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.querySelector('.st-key-network_graph svg').getAttribute('width') === '340'")
    box = page.locator(".st-key-network_graph svg").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_an_override_changes_the_recipe_and_the_link(page, subject: Subject) -> None:
    visit_layers(page, "One layer")
    page.locator(".st-key-plot_layer .main-svg").first.wait_for()
    # From "as the others" over 32, 16 and 8 to 7 bits; the button is pressed at once.
    press_slider(page, "[class*=st-key-own_bits_fc1]", "ArrowRight", 4)
    page.locator(".st-key-own_apply button").click()
    recipe = Recipe.of(sparsity=0.5, clusters=16, bits=8, overrides=[{"layers": "fc1", "bits": 7}])
    page.wait_for_url(re.compile("overrides="))
    page.get_by_text(recipe.describe()).wait_for()
    page.get_by_text("Now: bits 7.").wait_for()
    *_, evaluation = subject.evaluate(recipe)
    page.get_by_text(f"{100 * evaluation.record.figures.accuracy:.1f} %", exact=False).first.wait_for()
    page.locator(".st-key-remove_overrides button").click()
    page.wait_for_url(lambda url: "overrides" not in url)


def test_waterfall_is_measured_by_itself_and_drawn(page) -> None:
    visit_layers(page, "Waterfall")
    drawn = page.locator(".st-key-plot_fall_size .main-svg").first
    drawn.wait_for()
    bars = page.evaluate("() => document.querySelector('.st-key-plot_fall_size .js-plotly-plot').data[0].x")
    assert bars == ["Baseline", "Coding alone", "Prune", "Share", "Quantize", "This recipe"]
    page.locator(".st-key-plot_fall_figure .main-svg").first.wait_for()


def test_a_suggestion_is_loaded_as_overrides(page) -> None:
    visit_layers(page, "Sensitivity")
    measured(page)
    page.get_by_role("tab", name="Suggest").click()
    field = page.get_by_label("Size, KB")
    field.fill("40")
    field.press("Enter")
    page.get_by_text(re.compile(r"^3\d\.\d KB, .* predicted")).wait_for()
    page.get_by_role("button", name="Load the suggestion").click()
    page.wait_for_url(re.compile("overrides="))
    page.get_by_text(re.compile("^Predicted .* measured")).wait_for()
    size = float(re.search(r"measured ([0-9.]+) KB", page.get_by_text(re.compile("^Predicted")).inner_text())[1])
    assert 30 < size <= 40


def test_the_cliff_of_a_slider_is_found_and_drawn(page) -> None:
    visit(page, f"/?model={MODEL}&sparsity=0.5&clusters=16&bits=8")
    page.get_by_role("tab", name="Sweeps").click()
    page.locator(".st-key-plot_sweep_sparsity .main-svg").first.wait_for()
    page.locator(".st-key-cliff_sparsity button").first.click()
    page.get_by_text(re.compile("^Cliff: up to")).wait_for()
    notes = page.evaluate(
        "() => document.querySelector('.st-key-plot_sweep_sparsity .js-plotly-plot').layout.annotations"
    )
    assert re.fullmatch(r"cliff at \d+ %", notes[0]["text"])


def test_a_control_of_a_group_moves_the_recipe(page) -> None:
    visit(page)
    assert page.locator(".st-key-control_nodes").count() == 0
    page.get_by_text("Architecture", exact=True).click()
    page.locator(".st-key-control_nodes").wait_for()
    idle(page)
    # Quicker than the link of the first move comes back.
    press_slider(page, ".st-key-control_nodes", "ArrowRight", 2)
    page.wait_for_url(re.compile("nodes=0.1"))
    wait_for_point(page, Recipe.of(nodes=0.1, sparsity=0.5, clusters=16, bits=8).digest)
    page.get_by_text("Architecture", exact=True).click()
    page.locator(".st-key-control_nodes").wait_for(state="detached")
    press_slider(page, ".st-key-control_bits", "ArrowRight")
    page.wait_for_url(re.compile("nodes=0.1.*bits=7"))


def test_the_latency_page_measures_and_switches_the_runtime(page) -> None:
    visit(page)
    page.goto(f"{page.address}/how-fast?model={MODEL}&sparsity=0.5&clusters=off&bits=32")
    page.locator(".st-key-plot_runtimes .main-svg").first.wait_for()
    # Timed by itself, and judged.
    page.locator(".st-key-verdict").get_by_text("zeros, but ONNX Runtime multiplies zeros at full price").wait_for()
    runtimes = page.evaluate(
        "() => document.querySelector('.st-key-plot_runtimes .js-plotly-plot').layout.yaxis.tickvals"
    )
    assert {"ONNX Runtime fp32", "PyTorch fp32"} <= set(runtimes)
    verdict, plot = page.locator(".st-key-verdict").bounding_box(), page.locator(".st-key-plot_runtimes").bounding_box()
    assert verdict["y"] < plot["y"] and plot["y"] + plot["height"] <= 900

    # All runtimes, batches and threads are timed by themselves.
    page.locator(".st-key-cancel_latency button").wait_for()
    page.wait_for_function(
        """() => document.querySelector('.st-key-plot_runtimes .js-plotly-plot')?.data[0].y.length >= 2"""
    )
    page.locator(".st-key-cancel_latency button").click()
    page.locator(".st-key-cancel_latency").wait_for(state="detached")
    page.get_by_role("button", name="Measure now").wait_for()
    for tab, plots in (("Batch and threads", ("batch", "threads")), ("Distribution", ("calls",))):
        page.get_by_role("tab", name=tab).click()
        for plot in plots:
            page.locator(f".st-key-plot_{plot} .main-svg").first.wait_for()
    page.get_by_role("tab", name="Other devices").click()
    page.get_by_text("Estimates, not measurements").wait_for()

    page.locator(".st-key-latency_runtime").get_by_role("combobox").click()
    page.get_by_role("option", name="PyTorch", exact=True).click()
    page.wait_for_url(re.compile("runtime=torch"))
    page.locator(".st-key-verdict").get_by_text("zeros, but PyTorch multiplies zeros at full price").wait_for()


def test_a_training_is_started_watched_loaded_and_drawn_with_an_arrow(page) -> None:
    visit(page)
    page.goto(f"{page.address}/win-back?model={MODEL}&sparsity=0.93&clusters=off&bits=4")
    page.get_by_text("Not trained yet").wait_for()
    epochs = page.locator(".st-key-training_epochs input")
    epochs.fill("3")
    epochs.press("Enter")
    still(page)
    page.locator(".st-key-train button").click()
    load = page.get_by_role("button", name="Load the result")
    # Trainings wait behind all else, also behind what tests before this one have begun.
    load.wait_for(timeout=3 * PATIENCE)
    for quantity in ("loss", "figure", "size"):
        page.locator(f".st-key-plot_{quantity} .main-svg").first.wait_for()
        xs = page.evaluate(
            """quantity => document.querySelector(`.st-key-plot_${quantity} .js-plotly-plot`).data
                .filter(trace => trace.name !== 'Kept').at(-1).x""",
            quantity,
        )
        assert xs == [0, 1, 2, 3]
    page.get_by_text("Won back").wait_for()
    load.click()
    page.wait_for_url(re.compile("epochs=3"))
    page.get_by_text("See it in Explore").click()
    settle(page)
    arrows = page.evaluate(
        f"() => {PLOTS}.board.head.trained.filter(([, end]) => end === {PLOTS}.board.head.current).length"
    )
    # Others of this dashboard may have one to the recipe that ships.
    assert arrows == 1
