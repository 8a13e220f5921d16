"""Palettes: every one is complete and readable, a fault in one is a line, and the terminal decides when nobody does."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from tests.fakes.colours import VISIONS, Rgb, contrast, difference, lab
from textual.color import Color as TextualColor

from qtop.config import Settings, load
from qtop.errors import QtopError
from qtop.ui import scheme, themes
from qtop.ui.look import ColourlessFilter, CursorFilter, Look, choose
from qtop.ui.scheme import DISTINCT_FILLS, PENS, STAGES, Scheme
from qtop.ui.themes import BUILT_IN
from qtop.ui.theming import textual_theme

NOT_TEXT = {"rule", "chart", "roofline", "cpu_wait", *(f"stage_{name}" for name in STAGES[:-1])}
"""Pens of lines, areas and marks, beside which a word says the same."""
STAGE_PENS = [f"stage_{name}" for name in STAGES[:-1]] + ["cpu_wait"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def own(home: Path, name: str, text: str) -> Path:
    path = home / "qtop" / "themes" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def rgb(colour: Color | None) -> Rgb:
    assert colour is not None and colour.triplet is not None
    return colour.triplet


def grounds(palette: Scheme, pen: Style) -> list[Rgb]:
    """What a pen may stand on."""
    if pen.bgcolor is not None:
        return [rgb(pen.bgcolor)]
    return [rgb(Color.parse(one)) for one in (palette.screen.background, palette.screen.panel)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_palette_has_every_pen_and_says_what_it_is_for(name: str) -> None:
    palette = themes.load(name)
    assert palette.pens.keys() == set(PENS)
    assert palette.about and len(palette.about) < 70
    assert textual_theme(palette).name == f"qtop-{name}"


@pytest.mark.parametrize(("name", "text", "rest"), [("dark", 4.5, 1.5), ("light", 4.5, 1.5), ("contrast", 7.0, 3.0)])
def test_contrast(name: str, text: float, rest: float) -> None:
    palette = themes.load(name)
    assert set(PENS) - NOT_TEXT >= {"text", "label", "title", "good", "warn", "crit", "accent", "key", "crit_bar"}
    for pen, style in palette.pens.items():
        for ground in grounds(palette, style):
            assert contrast(rgb(style.color), ground) >= (rest if pen in NOT_TEXT else text), pen
            if pen in NOT_TEXT - {"rule"}:
                assert contrast(rgb(style.color), ground) >= 3.0, pen
    selected = Style.parse(palette.screen.selected)
    assert contrast(rgb(selected.color), rgb(selected.bgcolor)) >= text


@pytest.mark.parametrize("vision", VISIONS)
def test_in_the_contrast_palette_colour_blind_people_tell_states_and_stages_apart(vision: str) -> None:
    palette, matrix = themes.load("contrast"), VISIONS[vision]

    def light(pen: str) -> float:
        return lab(rgb(palette.pens[pen].color), matrix)[0]

    for one, other in combinations(("good", "warn", "crit"), 2):
        assert difference(rgb(palette.pens[one].color), rgb(palette.pens[other].color), matrix) >= 20, (one, other)
    for one, other in pairwise(STAGE_PENS):
        assert abs(light(one) - light(other)) >= 20, (one, other)


@pytest.mark.parametrize("name", ["dark", "light"])
def test_neighbouring_stages_differ_in_the_other_palettes_too(name: str) -> None:
    palette = themes.load(name)
    for one, other in pairwise(STAGE_PENS):
        assert difference(rgb(palette.pens[one].color), rgb(palette.pens[other].color)) >= 30, (one, other)


def test_the_simulations_are_those_of_colour_blindness() -> None:
    red, green = (255, 0, 0), (0, 160, 0)
    assert difference(red, green) > 100
    assert difference(red, green, VISIONS["deuteranopia"]) < 30
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert lab((255, 255, 255))[0] == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("name", ["terminal", "mono"])
def test_nothing_takes_the_terminals_background_for_granted(name: str) -> None:
    palette = themes.load(name)
    black_or_white = {0, 7, 8, 15}
    for pen, style in palette.pens.items():
        for colour in (style.color, style.bgcolor):
            assert colour is None or colour.number not in black_or_white, pen
    assert palette.distinct


def test_stages_have_a_character_each_where_colour_is_not_enough() -> None:
    for name in ("terminal", "mono"):
        for ascii_only in (False, True):
            look = Look(themes.load(name), ascii=ascii_only)
            fills = [look.stage_char(stage) for stage in STAGES]
            assert len(set(fills)) == len(STAGES)
            assert all(cell_len(fill) == 1 and look.plain(fill) == fill for fill in fills)
            assert "".join(fills).isascii() is ascii_only
    look = Look(themes.load("dark"))
    assert [look.stage_char(stage) for stage in STAGES] == ["█"] * 6 + ["▒"]
    assert Look(themes.load("dark"), ascii=True).stage_char("queue") == look_plain(DISTINCT_FILLS["queue"])
    with pytest.raises(KeyError):
        look.stage_char("lunch")


def look_plain(text: str) -> str:
    return Look(themes.load("mono"), ascii=True).plain(text)


@pytest.mark.parametrize(
    ("environ", "colour", "name"),
    [
        ({}, "auto", "terminal"),
        ({"COLORTERM": "truecolor"}, "auto", "dark"),
        ({"COLORTERM": "24bit"}, "auto", "dark"),
        ({"COLORTERM": "truecolor", "SSH_CONNECTION": "a 1 b 22"}, "auto", "terminal"),
        ({"COLORTERM": "truecolor", "SSH_CONNECTION": "a 1 b 22"}, "truecolor", "dark"),
        ({"COLORTERM": "truecolor"}, "ansi", "terminal"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "0;15"}, "auto", "light"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "0;default;15"}, "auto", "light"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "15;0"}, "auto", "dark"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "15;8"}, "auto", "dark"),
        ({"COLORTERM": "truecolor", "COLORFGBG": "default;default"}, "auto", "dark"),
        ({"COLORFGBG": "0;15"}, "truecolor", "light"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, "truecolor", "mono"),
        ({"COLORTERM": "truecolor", "NO_COLOR": ""}, "auto", "dark"),
    ],
)
def test_the_terminal_decides_when_nobody_does(environ: Mapping[str, str], colour: str, name: str) -> None:
    assert choose(colour, environ).scheme.name == name


def test_who_asks_gets_it_and_no_color_outweighs_it() -> None:
    over_ssh = {"SSH_CONNECTION": "a 1 b 22"}
    assert choose("ansi", over_ssh, "light").scheme.name == "light"
    look = choose("ansi", {**over_ssh, "NO_COLOR": "1"}, "light")
    assert (look.scheme.name, look.colourless) == ("mono", True)
    assert not choose("auto", over_ssh, "mono").colourless


def test_a_palette_of_ones_own_says_what_differs(home: Path) -> None:
    own(home, "mine", 'base = "light"\n[screen]\npanel = "#ffffff"\n[pens]\nwarn = "bold #112233"\n')
    own(home, "auto", "")
    own(home, ".hidden", "")
    mine, light = themes.load("mine"), themes.load("light")
    assert mine.name == "mine"
    assert mine.pens["warn"] == Style.parse("bold #112233")
    assert {**mine.pens, "warn": light.pens["warn"]} == light.pens
    assert mine.screen.panel == "#ffffff" and mine.screen.background == light.screen.background
    assert themes.names() == [*BUILT_IN, "mine"]


def test_ones_own_comes_before_qtops(home: Path) -> None:
    own(home, "dark", 'base = "dark"\n[pens]\ntext = "#ffffff"\n')
    assert themes.load("dark").pens["text"] == Style.parse("#ffffff")
    assert themes.names() == list(BUILT_IN)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("= =", "not TOML"),
        ('kind = "neon"', "neon"),
        ("colours = 3", "colours"),
        ("", "says no kind"),
        ('kind = "ansi"\n[pens]\ntext = "none"', "lacks the pens label, title"),
        ('base = "nosuch"', "nosuch"),
        ('base = "mine"', "base is 'mine'"),
        ('base = "dark"\nkind = "ansi"', "its kind is ansi"),
        ('base = "dark"\n[pens]\nwarn = "yelow"', "'yelow' is no style"),
        ('base = "dark"\n[pens]\nwarn = "yellow"', "'yellow' is not #rrggbb"),
        ('base = "terminal"\n[pens]\nwarn = "#ffff00"', "'#ffff00' is not one of the 16"),
        ('base = "terminal"\n[pens]\nwarn = "color(200)"', "is not one of the 16"),
        ('base = "mono"\n[pens]\nwarn = "red"', "has no colours"),
        ('base = "dark"\n[pens]\nwarm = "#ffff00"', "'warm'"),
        ('base = "dark"\n[pens]\nwarn = "link https://example.org"', "no style"),
        ('base = "dark"\n[pens]\nwarn = 3', "pens"),
        ('base = "dark"\n[screen]\nborder = "blue"', "border"),
        ('base = "dark"\n[screen]\nborder = "bold #ffffff"', "border"),
        ('base = "dark"\n[screen]\nbackground = "default"', "background"),
        ('base = "dark"\n[screen]\nselected = "bold"', "both colours"),
        ('base = "terminal"\n[screen]\nselected = "red"', "always"),
        ('base = "dark"\n[screen]\nframe = "#ffffff"', "frame"),
        ("#" * (themes.MOST_BYTES + 1), "longer than"),
    ],
)
def test_a_fault_is_one_line_that_names_file_and_fault(home: Path, text: str, told: str) -> None:
    path = own(home, "mine", text)
    with pytest.raises(QtopError) as caught:
        themes.load("mine")
    said = str(caught.value)
    assert str(path) in said and told in said and "\n" not in said


@pytest.mark.parametrize("name", ["nosuch", "", "../dark", "/etc/passwd", "a/b", ".", "..", "a\0b", "x" * 300, "auto"])
def test_what_is_no_theme_is_said_with_those_there_are(name: str) -> None:
    with pytest.raises(QtopError, match="no theme is called") as caught:
        themes.load(name)
    assert "contrast" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_palette(home: Path) -> None:
    (home / "qtop" / "themes" / "mine.toml").mkdir(parents=True)
    with pytest.raises(QtopError, match="cannot read the palette"):
        themes.load("mine")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_palette_or_one_line(text: bytes) -> None:
    try:
        scheme.parse("any", text)
    except QtopError as error:
        assert "\n" not in str(error)


def test_the_settings_name_a_theme(home: Path) -> None:
    (home / "qtop").mkdir(exist_ok=True)
    (home / "qtop" / "config.toml").write_text('theme = "contrast"\n')
    assert load() == Settings(theme="contrast")


def test_lines_are_drawn_again_in_the_colours_of_another_scheme() -> None:
    """Also where two pens look the same, as label and rule do on a terminal."""
    look = Look(themes.load("terminal"))
    line = (*(look.seg(pen, pen) for pen in PENS), look.seg("q", "key", "app.quit"), Segment("x", Style(bold=True)))
    for name in ("mono", "dark", "terminal", "light"):
        look.use(themes.load(name))
        line = look.again(line)
        for segment in line[: len(PENS)]:
            assert segment.style == look.seg("", segment.text).style
        style = line[-2].style
        assert style is not None and style.meta == {"@click": "app.quit"}
        assert style.color == look.pens["key"].color
        assert line[-1] == Segment("x", Style(bold=True))


BACK = TextualColor(0, 0, 0)


def test_without_colours_attributes_stay_and_a_background_is_reversed() -> None:
    segments = [
        Segment("a", Style.parse("bold red")),
        Segment("b", Style.parse("#ffffff on #ff0000")),
        Segment("c", Style(meta={"@click": "app.quit"}, color="red")),
        Segment("d", Style.parse("dim default on default")),
        Segment("e", None),
    ]
    drawn = ColourlessFilter().apply(segments, BACK)
    for segment in drawn[:4]:
        assert segment.style is not None
        assert all(colour is None or colour.is_default for colour in (segment.style.color, segment.style.bgcolor))
    styles = [segment.style or Style() for segment in drawn]
    assert [bool(style.reverse) for style in styles] == [False, True, False, False, False]
    assert styles[0].bold and styles[3].dim and styles[2].meta == {"@click": "app.quit"}


def test_only_the_mark_is_reversed_in_the_terminals_colours() -> None:
    plain, marked = Style.parse("bold black on cyan"), Style.parse(f"dim red on {CursorFilter.MARK}")
    kept, row = CursorFilter().apply([Segment("a", plain), Segment("b", marked)], BACK)
    assert kept.style == plain
    assert row.style is not None and row.style.reverse and row.style.dim
    assert row.style.bgcolor is not None and row.style.bgcolor.is_default
