"""The themes and the rule pages are found in every kind of installation: wheel, sdist → wheel, and editable."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASK = """
import json, qtop
from qtop.ui.themes import BUILT_IN, load, load_css, theme_dir
for name in BUILT_IN:
    assert load(name).name == name
print(json.dumps({"package": qtop.__file__, "folder": str(theme_dir()), "sheets": [str(path) for path in load_css()]}))
"""

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hatchling", "editables", "pip")),
    reason="needs hatchling, editables and pip",
)


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command with nothing of the checkout on its path; its standard output."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, kind: str, target: Path) -> Path:
    """Builds a ``wheel`` or ``sdist`` of ``source`` into the new folder ``target``; the file."""
    run(sys.executable, "-P", "-m", "hatchling", "build", "-t", kind, "-d", target, cwd=source)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="module")
def wheel_of_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", folder / "dist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return build(source, "wheel", folder / "again")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a fresh environment with this one's libraries, yet without this one's qtop."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    interpreter = tmp_path / "venv" / "bin" / "python"
    site = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    # A folder named in a .pth file lends its modules; the .pth files in it (an editable qtop's) are not read.
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(site) / "zz_libraries.pth").write_text("\n".join(libraries) + "\n")
    return interpreter


def install(python: Path, *what: str | Path) -> None:
    run(
        *(
            sys.executable,
            "-P",
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--disable-pip-version-check",
            "--no-index",
        ),
        *("--no-deps", "--no-build-isolation", "--force-reinstall", *what),
        cwd=python.parent,
    )


def ask(python: Path, tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """Where an installation finds its package, its themes folder and its style sheets, asked from an empty folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = json.loads(run(python, "-c", ASK, cwd=elsewhere))
    return Path(answer["package"]).parent, Path(answer["folder"]), [Path(sheet) for sheet in answer["sheets"]]


def members(wheel: Path) -> dict[str, int]:
    """The names and sizes of a wheel's files under qtop/."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist() if info.filename.startswith("qtop/")}


@pytest.mark.parametrize("built", ["wheel", "wheel_of_sdist"])
def test_an_installed_wheel_has_its_themes(
    built: str, python: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    install(python, request.getfixturevalue(built))
    package, folder, sheets = ask(python, tmp_path)
    assert package.is_relative_to(tmp_path / "venv")
    assert folder == package / "themes"
    assert [sheet.name for sheet in sheets] == sorted(path.name for path in (ROOT / "themes").glob("*.tcss"))


def test_an_editable_installation_has_the_checkouts_themes(python: Path, tmp_path: Path) -> None:
    install(python, "--editable", ROOT)
    package, folder, sheets = ask(python, tmp_path)
    assert package == ROOT / "tui" / "qtop"
    assert folder == ROOT / "themes"
    assert sheets == sorted((ROOT / "themes").glob("*.tcss"))


def test_the_wheel_has_every_module_and_page_of_the_checkout(wheel: Path) -> None:
    package = ROOT / "tui" / "qtop"
    wanted = {f"qtop/{path.relative_to(package)}" for end in ("py", "md") for path in package.rglob(f"*.{end}")}
    wanted |= {f"qtop/themes/{path.name}" for path in (ROOT / "themes").iterdir()}
    assert "qtop/themes/dark.toml" in wanted
    assert wanted <= members(wheel).keys()


def test_the_sdist_makes_the_same_wheel(wheel: Path, wheel_of_sdist: Path) -> None:
    assert members(wheel_of_sdist) == members(wheel)


def test_the_installed_command_is_qtop(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "qtop = qtop.cli:main" in archive.read(name).decode().splitlines()
