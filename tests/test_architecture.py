"""Rules of the code's structure that no linter of ours can state."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "acfnet_core", ROOT / "client", ROOT / "server")
MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

FLOWER_PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation"}
USES_FLOWER = {
    "acf_client.app",
    "acf_client.resident_app",
    "acf_client.simulated_app",
    "acf_client.supernode_process",
    "acf_server.app",
    "acf_server.control",
    "acf_server.direct_objects",
    "acf_server.exchange",
    "acf_server.flower_strategies",
    "acf_server.lean_arrays",
    "acf_server.object_files",
    "acf_server.simulation_ray",
    "acf_server.superlink_process",
}
EDGES = {
    "acf_client.app",
    "acf_client.trainer",
    "acf_server.app",
    "acfnet_core.edge",
}
"""The modules at the edge of a process, where every exception is caught."""


@dataclass(frozen=True)
class Module:
    """One module of the product."""

    name: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    @property
    def last_name(self) -> str:
        return self.name.rpartition(".")[2]

    def imports(self) -> Iterator[str]:
        """Yield every imported module, wherever the import stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""

    def imports_at_load(self) -> Iterator[str]:
        """Yield what is imported as soon as the module is."""
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""

    def uses(self, package: str) -> bool:
        return any(name.split(".")[0] == package for name in self.imports())


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _find_modules() -> Iterator[Module]:
    for folder in FOLDERS:
        base = folder.parent if folder.name == "acfnet_core" else folder
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            yield Module(".".join(p for p in parts if p != "__init__"), path)


MODULES = tuple(_find_modules())
NAMES = {module.name for module in MODULES}


def users_of(*packages: str) -> set[str]:
    return {m.name for m in MODULES if any(m.uses(package) for package in packages)}


def calls_of(module: Module, name: str) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
        for node in ast.walk(module.tree)
    )


def catches_everything(module: Module) -> bool:
    return any(
        isinstance(node, ast.ExceptHandler) and _is_broad(node.type)
        for node in ast.walk(module.tree)
    )


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    names = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def test_the_product_is_found() -> None:
    assert {"acfnet_core", "acf_client.cli", "acf_server.cli"} <= NAMES
    assert len(MODULES) > 80


def test_flower_is_used_by_the_apps_and_their_transport_alone() -> None:
    assert users_of("flwr") == USES_FLOWER


def test_launchers_alone_use_more_of_flower_than_its_public_interface() -> None:
    private = {
        (module.name, name)
        for module in MODULES
        for name in module.imports()
        if name.split(".")[0] == "flwr" and name not in FLOWER_PUBLIC
    }
    assert {module for module, _ in private} == {
        "acf_client.resident_app",
        "acf_client.supernode_process",
        "acf_server.control",
        "acf_server.direct_objects",
        "acf_server.exchange",
        "acf_server.flower_strategies",
        "acf_server.lean_arrays",
        "acf_server.object_files",
        "acf_server.superlink_process",
    }


def test_typer_is_used_by_the_command_lines_alone() -> None:
    assert users_of("typer", "click") == {
        "acf_client.cli",
        "acf_client.data_cli",
        "acf_client.options",
        "acf_server.cli",
        "acf_server.options",
        "acf_server.run_cli",
        "acf_server.simulate_cli",
    }


def test_rich_is_used_by_the_consoles_alone() -> None:
    assert users_of("rich") == {
        "acf_client.console",
        "acf_client.data_console",
        "acf_server.console",
        "acf_server.run_console",
    }


def test_dicom_is_read_and_written_by_the_cohort_alone() -> None:
    users = users_of("pydicom", "highdicom")
    assert users
    assert all(name.startswith("acfnet_core.cohort.") for name in users)


def test_the_core_knows_no_side_and_the_sides_not_each_other() -> None:
    for module in MODULES:
        others = {
            "acfnet_core": {"acf_client", "acf_server", "client", "server"},
            "acf_client": {"acf_server", "client", "server"},
            "acf_server": {"acf_client", "client", "server"},
        }[module.name.split(".")[0]]
        found = {name.split(".")[0] for name in module.imports()} & others
        assert not found, module.name


def test_every_import_is_absolute() -> None:
    relative = [
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    "name",
    [
        "acf_client.cli",
        "acf_client.data_cli",
        "acf_server.cli",
        "acf_server.run_cli",
        "acf_server.simulate_cli",
    ],
)
def test_a_command_line_imports_what_is_heavy_inside_its_commands(name: str) -> None:
    module = next(module for module in MODULES if module.name == name)
    allowed = {
        "enum",
        "json",
        "signal",
        "sys",
        "pathlib",
        "typing",
        "typer",
        "collections",
    }
    ours = {"acfnet_core.errors", "acfnet_core.edge"}
    found = {n for n in module.imports_at_load() if n.split(".")[0] not in allowed}
    side = name.split(".")[0]
    terminal = {
        "console",
        "data_console",
        "data_cli",
        "options",
        "run_cli",
        "simulate_cli",
    }
    assert found <= ours | {f"{side}.{module}" for module in terminal}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_says_what_it_holds(module: Module) -> None:
    assert ast.get_docstring(module.tree)


def test_no_module_is_named_vaguely() -> None:
    assert [m.name for m in MODULES if m.last_name in VAGUE_NAMES] == []


def test_no_module_is_too_long() -> None:
    lengths = {m.name: len(m.path.read_text().splitlines()) for m in MODULES}
    assert {n: length for n, length in lengths.items() if length > MAX_LINES} == {}


def test_nothing_is_printed_outside_the_command_lines_and_consoles() -> None:
    printing = {m.name for m in MODULES if calls_of(m, "print")}
    assert printing <= {
        f"{side}.{part}"
        for side in ("acf_client", "acf_server")
        for part in ("cli", "console")
    }


def test_every_exception_is_caught_at_the_edges_of_processes_alone() -> None:
    assert {m.name for m in MODULES if catches_everything(m)} == EDGES


def test_the_root_logger_is_set_up_at_the_edge_of_a_process_alone() -> None:
    users = {
        module.name
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "basicConfig"
    }
    assert users <= EDGES


def test_folders_of_the_core_say_what_they_hold_and_no_more() -> None:
    for path in (ROOT / "acfnet_core").glob("*/__init__.py"):
        assert [type(node) for node in _parse(path).body] == [ast.Expr], path


def test_no_two_tests_share_a_file_name() -> None:
    # Mypy takes each as a module of its own name.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
