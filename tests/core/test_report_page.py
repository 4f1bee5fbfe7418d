import pytest
from jinja2 import TemplateNotFound, UndefinedError

from acfnet_core.report_page import page_environment, script_source


@pytest.mark.parametrize("package", ["acf_client", "acf_server"])
def test_both_sides_find_the_shared_style(package: str) -> None:
    style = page_environment(package).get_template("page.css").render()
    assert "@media print" in style


def test_inserted_text_is_escaped() -> None:
    page = page_environment("acf_client").from_string("{{ text }}")
    assert page.render(text="<b>") == "&lt;b&gt;"


def test_a_name_that_is_not_given_is_a_mistake() -> None:
    with pytest.raises(UndefinedError):
        page_environment("acf_client").from_string("{{ text }}").render()


def test_one_side_does_not_see_the_templates_of_the_other() -> None:
    with pytest.raises(TemplateNotFound):
        page_environment("acf_client").get_template("report.html.jinja")


def test_the_policy_names_a_script_by_its_hash() -> None:
    assert script_source("a") != script_source("b")
    assert script_source("a").startswith("'sha256-")
