import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from references.run_folder import (
    MODEL,
    READING,
    make_risk_map,
    make_rounds,
    make_run,
    make_sites,
    make_verdict,
    write_run_folder,
)

from acf_server.report import ReportContent, read_content, render_report, write_report
from acf_server.report_sections import (
    describe_aggregation,
    describe_personal,
    describe_sites,
    find_difference,
)
from acf_server.report_traffic import describe_traffic
from acf_server.run_files import RUN_FILE, SiteRecord
from acfnet_core.errors import ConfigError, MachineError
from acfnet_core.evaluation.verdict import Interval
from acfnet_core.federation.messages import (
    ModelFigures,
    PersonalComparison,
    RoundReply,
)


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return ReportContent(
        run=make_run(),
        sites=tuple(make_sites()),
        rounds=tuple(make_rounds(2)),
        verdict=make_verdict(),
        risk_maps=(),
    )


@pytest.fixture(scope="module")
def page(content: ReportContent) -> str:
    """A report without maps, drawn once for all tests that only read it."""
    return render_report(content)


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of a whole run's folder, maps included."""
    folder = write_run_folder(tmp_path_factory.mktemp("run"))
    return write_report(folder).read_text()


class _TextOnly(HTMLParser):
    """Collects what a reader reads, figures included, scripts and styles not."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.parts.append(data)


def parse(page: str) -> _TextOnly:
    parser = _TextOnly()
    parser.feed(page)
    return parser


def read_text(page: str) -> str:
    return " ".join(" ".join(parse(page).parts).split())


def test_report_of_a_whole_run_folder_is_written(tmp_path: Path) -> None:
    path = write_report(write_run_folder(tmp_path))
    assert path == tmp_path / "report.html"
    assert path.read_text().startswith("<!doctype html>")


def test_report_is_the_same_bytes_each_time(tmp_path: Path, whole_page: str) -> None:
    folder = write_run_folder(tmp_path)
    assert write_report(folder).read_text() == whole_page


def test_report_names_no_other_machine(whole_page: str) -> None:
    page = whole_page
    assert "http:" not in page
    assert "https:" not in page
    assert "//" not in re.sub(r"data:image/png;base64,[^\"]+", "", page)


def test_report_loads_nothing(whole_page: str) -> None:
    tags = parse(whole_page).tags
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in tags}
    targets = [
        value
        for _, attributes in tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href") and value is not None
    ]
    assert targets
    assert all(target.startswith(("#", "data:image/png")) for target in targets)


def test_ids_are_unique_among_figures(page: str) -> None:
    ids = [attributes["id"] for _, attributes in parse(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "section",
    ["Study", "Sites", "Rounds", "Held-out results", "Risk maps", "Limits"],
)
def test_section_has_a_heading(page: str, section: str) -> None:
    assert f"<h2>{section}</h2>" in page


def test_every_figure_states_its_n(whole_page: str) -> None:
    page = whole_page
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == 6
    assert all("n = " in caption for caption in captions)


def test_negative_headline_is_the_answer_in_the_box(content: ReportContent) -> None:
    headline = f"ridge Cox is better than {MODEL}: Harrell's C differs by -0.06."
    verdict = make_verdict(headline=headline)
    page = render_report(replace(content, verdict=verdict))
    assert headline in read_text(page)
    assert 'class="answer">ridge Cox is better than' in page


def test_figures_stand_with_interval_and_n(page: str) -> None:
    text = read_text(page)
    assert f"{MODEL} 0.604 0.514 to 0.694" in text
    assert "43 28 with the event" in text.replace("Held-out patients ", "")


def test_difference_stands_in_the_forest_plot(page: str) -> None:
    text = read_text(page)
    assert "vs ridge Cox: \N{MINUS SIGN}0.012 (\N{MINUS SIGN}0.080 to +0.056)" in text


def test_undetermined_figure_says_so(page: str) -> None:
    assert "not determined" in read_text(page)


def test_verdict_without_any_figure_is_rendered(content: ReportContent) -> None:
    verdict = make_verdict()
    empty = [
        score.model_copy(
            update={
                "harrell_c": None,
                "uno_c": None,
                "integrated_brier": None,
                "scaled_brier": None,
                "auc_by_year": {},
                "observed_expected": {},
                "calibration": [],
            }
        )
        for score in verdict.scores
    ]
    nothing = verdict.model_copy(
        update={
            "scores": empty,
            "differences": [],
            "risk_groups": [],
            "log_rank_p": None,
            "temporal_adjacency": None,
            "median_follow_up_months": None,
            "brier_window_months": None,
        }
    )
    text = read_text(render_report(replace(content, verdict=nothing)))
    assert "The median follow-up is not reached" in text


def test_difference_without_interval_is_not_drawn(content: ReportContent) -> None:
    verdict = make_verdict()
    rows = [row.model_copy(update={"interval": None}) for row in verdict.differences]
    undetermined = verdict.model_copy(update={"differences": rows})
    page = render_report(replace(content, verdict=undetermined))
    assert "Is the difference more than chance?" not in page


def test_estimate_without_interval_says_no_interval(content: ReportContent) -> None:
    verdict = make_verdict()
    first = verdict.scores[0].model_copy(update={"harrell_c": Interval(estimate=0.7)})
    lone = verdict.model_copy(update={"scores": [first, *verdict.scores[1:]]})
    text = read_text(render_report(replace(content, verdict=lone)))
    assert f"{MODEL} 0.700 no interval" in text


def test_run_without_evaluation_says_not_yet_evaluated(tmp_path: Path) -> None:
    folder = write_run_folder(tmp_path, evaluated=False)
    text = read_text(render_report(read_content(folder)))
    assert "Not yet evaluated" in text
    assert "Harrell's C of 4D-ACFNet" not in text


def test_run_that_has_only_begun_is_rendered(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).write_text(
        make_run(status="running", finished_utc=None).model_dump_json()
    )
    text = read_text(render_report(read_content(tmp_path)))
    assert "No site has answered yet." in text
    assert "No round has ended yet." in text


def test_count_below_the_minimum_is_never_written(content: ReportContent) -> None:
    small = SiteRecord(
        name="hillside",
        num_patients=9,
        num_events=7,
        num_with_scans=8,
        num_scans=12,
        rounds_answered=6,
        rounds_failed={},
    )
    sites = (*content.sites[:2], small)
    page = render_report(replace(content, sites=sites))
    row = re.search(r">hillside</th>(.*?)</tr>", page, re.DOTALL)
    assert row is not None
    cells = re.findall(r'<td class="number">(.*?)</td>', row.group(1))
    assert cells[:4] == ["withheld"] * 4


def test_total_does_not_give_a_suppressed_count_away(page: str) -> None:
    text = read_text(page)
    assert "n = at least 95 patients at 3 sites" in text
    assert not re.search(r"(?<![.\d])104\b", text)


def test_suppressed_events_of_a_group_hide_the_others(page: str) -> None:
    text = read_text(page)
    assert "low risk n = 14, middle n = 14, high risk n = 15." in text


def test_hostile_site_name_is_escaped(content: ReportContent) -> None:
    name = "<script>alert(1)</script>$\\frac$"
    site = content.sites[0].model_copy(update={"name": name})
    record = content.rounds[-1].model_copy(update={"worst_c_site": name})
    page = render_report(replace(content, sites=(site,), rounds=(record,)))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_hostile_text_in_a_figure_is_escaped(content: ReportContent) -> None:
    run = make_run(endpoint="</svg><script>$x$ & more")
    page = render_report(replace(content, run=run))
    assert "<script" not in page
    assert "$x$" in read_text(page)


def test_made_up_patients_are_announced_first(page: str) -> None:
    assert read_text(page).split("</title>")[-1].count("Made-up") == 1
    assert 'class="banner"' in page


def test_real_patients_carry_no_banner(content: ReportContent) -> None:
    page = render_report(replace(content, run=make_run(data_origin="public")))
    assert 'class="banner"' not in page
    assert "one public cohort of one hospital" in page


def test_reconstruction_is_stated(page: str) -> None:
    assert "open reconstruction" in read_text(page)


def test_map_is_said_to_be_no_forecast(content: ReportContent) -> None:
    page = render_report(replace(content, risk_maps=(make_risk_map(),)))
    text = read_text(page)
    assert "It is not a forecast of where a recurrence appears" in text
    assert "Held-out patient 1" in text


def test_run_without_scans_shows_no_scan_columns(content: ReportContent) -> None:
    sites = tuple(
        site.model_copy(update={"num_scans": 0, "num_with_scans": 0})
        for site in content.sites
    )
    text = read_text(render_report(replace(content, sites=sites)))
    assert "No scans were used in this run." in text
    assert "With scans" not in text


def test_warnings_of_the_verdict_stand_under_limits(page: str) -> None:
    limits = page[page.index('id="limits"') :]
    assert "28 events: the intervals are wide." in limits
    assert "failed or were refused: 1" in limits


def test_long_run_lists_a_part_and_says_so(content: ReportContent) -> None:
    page = render_report(replace(content, rounds=tuple(make_rounds(120))))
    assert "24 of 121 rounds are listed" in read_text(page)
    assert '<th scope="row">120</th>' in page


def test_software_seed_and_hash_are_stated(content: ReportContent) -> None:
    text = read_text(render_report(content))
    assert content.run.contract_sha256 in text
    assert "torch 2.13.0" in text
    assert "Seed of the run 7" in text


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run\.json"):
        write_report(tmp_path)


def test_damaged_file_is_named_with_its_fault(tmp_path: Path) -> None:
    write_run_folder(tmp_path)
    (tmp_path / "rounds.json").write_text('[{"round": -1}]')
    with pytest.raises(MachineError, match=r"rounds\.json.*0\.round: Input should"):
        write_report(tmp_path)


def test_damaged_maps_are_named(tmp_path: Path) -> None:
    write_run_folder(tmp_path)
    (tmp_path / "risk_maps" / "patient-1.safetensors").write_bytes(b"not tensors")
    with pytest.raises(MachineError, match=r"patient-1\.safetensors"):
        write_report(tmp_path)


def test_initial_model_shows_no_exchange(page: str) -> None:
    row = re.search(r'<th scope="row">0</th>(.*?)</tr>', page, re.DOTALL)
    assert row is not None
    assert "0 of 3" not in row.group(1)


def test_baselines_state_their_patients_when_no_site_is_small(
    content: ReportContent,
) -> None:
    page = render_report(replace(content, sites=content.sites[:2]))
    assert "whose tables the coordinator holds (n = 104)" in read_text(page)


def test_every_field_of_an_answer_stands_in_what_left_the_sites(
    content: ReportContent,
) -> None:
    rows = describe_traffic(content.run, content.sites, content.rounds)
    assert sorted(field for row in rows for field in row.fields) == sorted(
        RoundReply.model_fields
    )


def test_number_of_parameters_is_stated(page: str) -> None:
    assert "training (103 482 numbers)" in read_text(page)


@pytest.mark.parametrize(
    ("max_share", "num_sites", "words"),
    [
        (0.5, 3, "by patients, no site above 50 %"),
        (0.5, 2, "no site above 50 %: at 2 sites all weigh the same"),
        (0.25, 3, "no site above 25 %: at 3 sites all weigh the same"),
        (0.5, 1, "by patients, no site above 50 %"),
        (1.0, 3, "mean of the sites' parameters by patients"),
    ],
)
def test_aggregation_is_stated_in_words(
    max_share: float, num_sites: int, words: str
) -> None:
    run = make_run(strategy={"name": "fedavg", "max_share": max_share})
    assert describe_aggregation(run, make_sites()[:num_sites]).endswith(words)


def test_rest_of_a_site_below_the_minimum_is_withheld() -> None:
    site = make_sites()[0].model_copy(update={"num_patients": 64, "num_events": 60})
    assert describe_sites([site], 10)[0].events == "withheld"


def test_scans_are_withheld_with_the_patients_who_have_them() -> None:
    site = make_sites()[0].model_copy(update={"num_with_scans": 4, "num_scans": 12})
    assert describe_sites([site], 10)[0].scans == "withheld"


def test_withheld_scans_do_not_pass_for_none(content: ReportContent) -> None:
    update = {"num_scans": None, "num_with_scans": None}
    sites = tuple(site.model_copy(update=update) for site in content.sites)
    text = read_text(render_report(replace(content, sites=sites)))
    assert "No scans were used" not in text


def test_headline_box_compares_with_the_headlines_reference() -> None:
    verdict = make_verdict()
    fong = [row for row in verdict.differences if row.reference != "ridge Cox"]
    without_cox = verdict.model_copy(update={"differences": fong[::-1]})
    assert {row.reference for row in find_difference(without_cox)} == {"Fong score"}


def test_dots_above_the_diagonal_are_said_to_underestimate(page: str) -> None:
    assert f"Above it {MODEL} underestimated the risk" in read_text(page)


def test_a_run_counts_from_the_resection(page: str) -> None:
    assert ", counted from the resection</dd>" in page


@pytest.mark.parametrize(
    ("months", "words"),
    [
        (12.0, "from month 12 after the resection, among those still free"),
        (-1.5, "from month 1.5 before the resection, among those still free"),
    ],
)
def test_a_landmark_is_told_beside_the_endpoint_and_under_limits(
    content: ReportContent, months: float, words: str
) -> None:
    run = content.run.model_copy(update={"landmark_months": months})
    marked = render_report(replace(content, run=run))
    assert f", counted {words}" in marked
    assert f"The model speaks {words}" in marked


def test_the_report_tells_how_the_held_out_files_were_read(page: str) -> None:
    assert f"<code>{READING}</code>" in page


def test_a_sites_own_model_stands_beside_the_global_one(
    content: ReportContent,
) -> None:
    own = PersonalComparison(
        num_patients=21,
        global_model=ModelFigures(loss=2.1234, harrell_c=0.6),
        own_model=ModelFigures(loss=2.0, harrell_c=None),
    )
    first, *others = content.sites
    sites = (first.model_copy(update={"personal": own}), *others)
    rows = describe_personal(sites)
    assert [(r.patients, r.global_loss, r.own_loss, r.own_c) for r in rows] == [
        ("21", "2.123", "2.000", "Withheld")
    ]
    page = render_report(replace(content, sites=sites))
    assert "own model beside the global one" in page
    assert "own model beside the global one" not in render_report(content)
