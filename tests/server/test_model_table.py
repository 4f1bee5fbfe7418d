import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

from acf_server.cli import app
from acf_server.model_table import (
    ModelFigures,
    count_activation_bytes,
    count_multiply_adds,
    describe_figures,
    measure_models,
    num_rows,
    render_table,
)
from acf_server.run_config import read_run_config, resolve_plan
from acfnet_core.cohort.contract import shipped_contract
from acfnet_core.model.ablations import ABLATIONS
from acfnet_core.model.config import SIZES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "model.md"
Table = dict[tuple[str, str], ModelFigures]
RUN_TOML = """
[run]
name = "first"
study = "A study"
sites = ["hospital-a"]
rounds = 1
[training]
local_steps = 1
"""


@pytest.fixture(scope="module")
def table() -> Table:
    return {(row.size, row.ablation): row for row in measure_models()}


class Attend(nn.Module):
    """Two products of attention and no other: 4 x 6 x 8 multiply-adds each."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key = tokens[:, :, :4], tokens[:, :, 4:]
        return functional.scaled_dot_product_attention(query, key, key)


class SquareOfProduct(nn.Module):
    """Keeps its input for the product and the product for the square."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        product = self.linear(values)
        return product.square() + product.view(5, -1).square().view(-1, 5)


def in_toml(settings: Mapping[str, object]) -> list[str]:
    # JSON writes strings and numbers as TOML does.
    return [f"{name} = {json.dumps(value)}" for name, value in settings.items()]


def test_every_size_has_every_ablation_once(table: Table) -> None:
    assert list(table) == [(size, name) for size in SIZES for name in ABLATIONS]
    assert len(table) == num_rows()


def test_multiply_adds_of_a_layer_are_those_by_hand() -> None:
    layer = nn.Conv3d(2, 3, kernel_size=3, padding=1)
    assert count_multiply_adds(layer, torch.ones(1, 2, 4, 5, 6)) == 27 * 2 * 3 * 120


def test_multiply_adds_of_fused_attention_are_counted() -> None:
    tokens = torch.ones(1, 1, 10, 8)
    assert count_multiply_adds(Attend(), tokens) == 2 * 4 * 6 * 8


def test_activations_are_counted_once_and_without_parameters() -> None:
    model = SquareOfProduct()
    expected = 4 * (2 * 3 + 2 * 5)
    assert count_activation_bytes(model, torch.ones(2, 3)) == expected


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_network_saves_what_the_paper_says(table: Table, size: str) -> None:
    assert 0.405 <= table[size, "none"].conv_reduction <= 0.425


@pytest.mark.parametrize("size", SIZES)
def test_full_convolution_saves_nothing_and_costs_more(table: Table, size: str) -> None:
    whole, full = table[size, "none"], table[size, "full_convolution"]
    assert full.conv_reduction == full.model_reduction == 0
    assert full.multiply_adds > whole.multiply_adds
    assert whole.parameters == round(full.parameters * (1 - whole.model_reduction))


@pytest.mark.parametrize("size", SIZES)
def test_losses_taken_away_cost_what_the_whole_network_costs(
    table: Table, size: str
) -> None:
    same = {"size": size, "ablation": "none"}
    for name in ("no_alignment", "no_disentanglement"):
        assert table[size, name].model_copy(update=same) == table[size, "none"]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_taken_away_costs_nothing(table: Table, size: str) -> None:
    whole = table[size, "none"]
    for name in ("clinical_only", "image_only", "one_virtual_year"):
        less = table[size, name]
        assert less.parameters < whole.parameters
        assert less.multiply_adds < whole.multiply_adds
        assert less.activation_mib < whole.activation_mib


def test_json_is_a_list_of_the_rows(table: Table) -> None:
    ended = CliRunner().invoke(app, ["model", "--json"])
    assert ended.exit_code == 0
    assert json.loads(ended.stdout) == [row.model_dump() for row in table.values()]


def test_the_table_has_a_line_for_each_row_and_says_what_is_counted(
    table: Table,
) -> None:
    ended = CliRunner().invoke(app, ["model"])
    assert ended.stdout.splitlines() == list(render_table(list(table.values())))
    assert "forward pass of one patient with 2 scans of 24 x 48 x 48" in ended.stderr
    assert "that the same pass keeps for backward" in ended.stderr


def test_every_column_of_the_table_is_explained() -> None:
    explained = " ".join(describe_figures())
    for column in ("conv_reduction", "model_reduction", "multiply-adds", "activation"):
        assert column in explained


def test_the_page_on_the_model_shows_this_table(table: Table) -> None:
    """But for the memory, which may differ with the machine and torch's version."""
    shown = {tuple(line.split()[:-2]) for line in PAGE.read_text().splitlines()}
    for line in render_table(list(table.values())):
        assert tuple(line.split()[:-2]) in shown


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_page_on_the_model_states_every_ablation(name: str) -> None:
    (row,) = [r for r in PAGE.read_text().splitlines() if r.startswith(f"| `{name}` |")]
    for section in ("model", "loss"):
        settings = in_toml(getattr(ABLATIONS[name], section))
        assert (f"`[{section}]`" in row) == bool(settings)
        assert all(f"`{setting}`" in row for setting in settings)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_run_toml_can_state_every_ablation(name: str, tmp_path: Path) -> None:
    stated = ABLATIONS[name]
    path = tmp_path / "run.toml"
    model, loss = in_toml(stated.model), in_toml(stated.loss)
    path.write_text("\n".join([RUN_TOML, "[model]", *model, "[loss]", *loss]))
    keys = {"hospital-a": "-"}
    plan = resolve_plan(read_run_config(path), shipped_contract("crlm"), keys)
    assert ABLATIONS[name].model.items() <= plan.model.items()
    assert ABLATIONS[name].loss.items() <= plan.loss.items()
