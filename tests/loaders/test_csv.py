"""Ratings and interactions as delimited text, as sites and their archives write them."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import ratings
from loaders.delimited import Form, form_of
from loaders.items import split
from loaders.ratings import Options
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch, validate
from tests.loaders.checks import check

NOW = 1_796_000_000_000
RATINGS = (
    "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n1,20,2.5,964982931\n2,10,5.0,964983100\n2,30,0.5,964980868\n"
)
MOVIES = (
    'movieId,title,genres\n10,"Snow, and other (1999)",Drama|War\n20,"Café ""X""",(no genres listed)\n40,Unseen,War\n'
)


def opened(path: Path, save_from: float | None = None, **form: Any) -> Any:
    return ratings.open(path, Options(Form(**form), save_from), NOW)


def loaded(path: Path, save_from: float | None = None, **form: Any) -> Batch:
    events = check(opened(path, save_from, **form), opened(path, save_from, **form), range(3))
    validate(events, NOW, 0)
    return events


def of(events: Batch, *actions: Action) -> Batch:
    return events.take(np.isin(events.action, actions))


def did(events: Batch) -> list[tuple[int, int, str]]:
    rows = of(events, Action.SAVE, Action.CLOSEUP)
    names = [Action(a).name for a in rows.action.tolist()]
    return sorted(zip(rows.user.tolist(), rows.pin.tolist(), names, strict=True))


RATED = [(1, 10, "SAVE"), (1, 20, "CLOSEUP"), (2, 10, "SAVE"), (2, 30, "CLOSEUP")]


def test_movielens_as_it_is(tmp_path: Path) -> None:
    for name, text in {
        "ratings.csv": RATINGS,
        "movies.csv": MOVIES,
        "links.csv": "movieId,imdbId\n10,1\n",
        "README.txt": "x",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,10,funny,964982703\n")
    dataset, events = opened(tmp_path), loaded(tmp_path)
    assert did(events) == RATED
    pins = of(events, Action.CREATE_PIN)
    titles = dict(zip(pins.pin.tolist(), pins.title.strings(), strict=True))
    assert titles == {10: "Snow, and other (1999)", 20: 'Café "X"', 30: "pin 30", 40: "Unseen"}
    names = of(events, Action.NAME_INTEREST)
    words = dict(zip(names.target.tolist(), names.title.strings(), strict=True))
    by_pin = {pin: {words[i] for i in pins.interests.run(row).tolist()} for row, pin in enumerate(pins.pin.tolist())}
    assert by_pin == {10: {"Drama", "War"}, 20: set(), 30: set(), 40: {"War"}}
    saves = of(events, Action.SAVE)
    assert saves.board.tolist() == saves.user.tolist(), "every user has a board"
    assert saves.at_ms.tolist() == [964982703000, 964983100000]
    assert of(events, Action.CREATE_BOARD).user.tolist() == [1, 2]
    said = " ".join(dataset.notes)
    for word in (
        "README.txt is not read",
        "links.csv is not read",
        "tags.csv is not read",
        "4 rows",
        "from 3.875 on",
        "--save-from",
    ):
        assert word in said


def text(separator: str, *rows: str, end: str = "\n") -> str:
    return end.join(row.replace(",", separator) for row in rows) + end


AMAZON = "user_id,parent_asin,rating,timestamp\n1,10,5.0,1588687728923\n2,20,1.0,1588687728924\n"
ROWS = ("1,10,4.0,964982703", "1,20,2.5,964982931", "2,10,5.0,964983100", "2,30,0.5,964980868")


@pytest.mark.parametrize("separator", [",", ";", "\t", "::", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_separators_line_ends_and_headers_are_found_out(tmp_path: Path, separator: str, end: str, header: bool) -> None:
    head = ["user_id,Item-ID,Rating,timestamp"] if header else []
    (tmp_path / "x.txt").write_bytes(text(separator, *head, *ROWS, end=end).encode())
    assert did(loaded(tmp_path / "x.txt", columns=None if header else ("user", "item", "rating", "timestamp"))) == RATED


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lambda data: data])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_compression_are_found_out(tmp_path: Path, pack: Any, encoding: str) -> None:
    body = "user,item,rating,title\n1,10,5,Café\n2,20,1,Zürich\n"
    (tmp_path / "x.csv").write_bytes(pack(body.encode(encoding)))
    events = loaded(tmp_path / "x.csv")
    assert sorted(of(events, Action.CREATE_PIN).title.strings()) == ["Café", "Zürich"]


def test_utf16_without_a_mark_is_stated(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(RATINGS.encode("utf-16-le"))
    with pytest.raises(InvalidArgument, match=r"NUL bytes.*--encoding utf-16-le"):
        opened(tmp_path / "x.csv")
    assert did(loaded(tmp_path / "x.csv", encoding="utf-16-le")) == RATED


def test_movielens_1m_and_100k_have_known_layouts(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(text("::", *ROWS))
    (tmp_path / "movies.dat").write_bytes("10::L'été: a film (1999)::Drama|War\n20::Up::Comedy\n".encode("latin-1"))
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n")
    events = loaded(tmp_path)
    assert did(events) == RATED
    assert "L'été: a film (1999)" in of(events, Action.CREATE_PIN).title.strings()
    (tmp_path / "u.data").write_text(text("\t", *ROWS))
    assert did(loaded(tmp_path / "u.data")) == RATED


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ('"User-ID";"ISBN";"Book-Rating"\n"1";"10";"8"\n"2";"20";"0"\n', [(1, 10, "SAVE"), (2, 20, "CLOSEUP")]),
        (AMAZON, [(1, 10, "SAVE"), (2, 20, "CLOSEUP")]),
        ("user_id,book_id\n1,10\n2,20\n", [(1, 10, "SAVE"), (2, 20, "SAVE")]),
        ("item,user\n10,1\n20,2\n", [(1, 10, "SAVE"), (2, 20, "SAVE")]),
        (",userID,artistID,weight\n0,1,10,13883\n1,2,20,11690\n", [(1, 10, "SAVE"), (2, 20, "SAVE")]),
        ("user,item,rating\n1,10,\"4,5\"\n2,20,\"1,0\"\n", [(1, 10, "SAVE"), (2, 20, "CLOSEUP")]),
    ],
    ids=["Book-Crossing", "Amazon", "Goodreads to_read", "pairs", "Last.fm of pandas with its index", "decimal comma"],
)  # fmt: skip
def test_files_of_other_sites_load(tmp_path: Path, body: str, what: Any) -> None:
    (tmp_path / "x.csv").write_text(body)
    assert did(loaded(tmp_path / "x.csv")) == what


def with_pandas(path: Path, rows: dict[str, list[Any]]) -> None:
    pd.DataFrame(rows).to_csv(path)


def with_polars(path: Path, rows: dict[str, list[Any]]) -> None:
    pl.DataFrame(rows).write_csv(path, separator="\t", include_bom=True)


def with_duckdb(path: Path, rows: dict[str, list[Any]]) -> None:
    frame = pd.DataFrame(rows)
    duckdb.connect().register("frame", frame).sql(
        f"COPY (SELECT * FROM frame) TO '{path}' (HEADER, DELIMITER ';', COMPRESSION gzip)"
    )


@pytest.mark.parametrize("write", [with_pandas, with_polars, with_duckdb])
def test_csv_of_other_tools_loads(tmp_path: Path, write: Any) -> None:
    at = pd.to_datetime([964982703, 964982931, 964983100, 964980868], unit="s")
    rows = {"user": [1, 1, 2, 2], "item": [10, 20, 10, 30], "rating": [4.0, 2.5, 5.0, 0.5], "at": list(at)}
    write(tmp_path / "x", {**rows, "title": ['A "b"; c, d', None, 'A "b"; c, d', "line\nend"]})
    events = loaded(tmp_path / "x")
    assert did(events) == RATED
    assert sorted(of(events, Action.SAVE).at_ms.tolist()) == [964982703000, 964983100000]
    assert 'A "b"; c, d' in of(events, Action.CREATE_PIN).title.strings()


@pytest.mark.parametrize(
    "moment",
    ["964982703", "964982703000", "964982703000000", "964982703000000000", "964982703.0", "2000-07-30 18:45:03",
     "2000-07-30T18:45:03Z", "2000-07-30T20:45:03.000+02:00", "2000-07-30 13:15:03.123456 -0530", "2000-07-30 18:45:03 UTC"],
)  # fmt: skip
def test_dates_are_of_any_unit(tmp_path: Path, moment: str) -> None:
    (tmp_path / "x.csv").write_text(f"user,item,timestamp\n1,10,{moment}\n")
    assert of(loaded(tmp_path / "x.csv"), Action.SAVE).at_ms.tolist() == [964982703000]


def test_rows_that_cannot_be_read_are_skipped_and_counted(tmp_path: Path) -> None:
    good = "".join(f"{n},{n + 10},{n % 5 + 1},96498270{n % 10}\n" for n in range(1, 60))
    bad = (
        "7,,5,964982703\n,8,5,964982703\n7,8,many,964982703\n7,8,5,yesterday\n7,8,5,-4\n7,8,5\n7,8,5,2000-02-30\n"
        + f"7,8,5,{'9' * 400}\n7,8,{'9' * 400},1\n"
    )
    (tmp_path / "x.csv").write_text("user,item,rating,timestamp\n" + good + bad)
    dataset = opened(tmp_path / "x.csv")
    assert len(did(loaded(tmp_path / "x.csv"))) == 59
    said = "\n".join(dataset.notes)
    for words in (
        "67 rows", "1 rows skipped that have another number of values", "1 rows skipped with no user",
        "1 rows skipped with no item", "2 rows skipped with a rating that is no number, first in row 61 (from 0): 'many'",
        "4 rows skipped with a timestamp that is no date from 1970 to now",
    ):  # fmt: skip
        assert words in said, said


@pytest.mark.parametrize(
    ("body", "form", "said"),
    [
        ("", {}, "the file is empty"),
        ("user,item\n", {}, "no row can be read"),
        ("1,2,3\n4,5,6\n", {}, "no column user, item; the first line is 1, 2, 3; if it is data"),
        ("user;rating\n1;2\n", {}, "no column item"),
        ("one column\nalone\n", {}, "no separator found"),
        ("user,item\n1,x\n", {}, "column item, row 0"),
        ("user,item,rating\n1,2,good\n3,4,bad\n", {}, "more than a fifth of the rows"),
        (
            "1,2\n",
            {"columns": ("user", "item", "rating")},
            "3 columns are stated (user, item, rating), and the first line has 2",
        ),
        ("1,2\n", {"columns": ("user", "thing")}, "--columns user,thing: allowed are user, item"),
        ("1,2\n", {"columns": ("user", "user")}, "each once"),
        ('user,item,title\n1,2,"open\n' + "3,4,x\n" * 20_000, {}, "a quote is probably not closed"),
        ("user,item\n1,2\n", {"encoding": "utf-16"}, "no separator found"),
        ("user,item,rating\n1,2,3\n", {"save_from": 9}, "no rating is as high"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, body: str, form: dict[str, Any], said: str) -> None:
    (tmp_path / "x.csv").write_text(body)
    with pytest.raises(InvalidArgument) as error:
        opened(tmp_path / "x.csv", **form)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("", "ab", "", True), "--separator 'ab'"),
        (("", "\n", "", True), "--separator"),
        (("", "", "klingon", True), "--encoding 'klingon'"),
        (("", "", "base64", True), "--encoding 'base64'"),
    ],
)
def test_options_are_checked(given: tuple[str, str, str, bool], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        form_of(*given)


def test_files_joined_with_their_headers_load(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(RATINGS * 2)
    assert did(loaded(tmp_path / "x.csv")) == sorted(RATED * 2)
    assert any("1 rows skipped with the header again" in note for note in opened(tmp_path / "x.csv").notes)


def test_one_of_several_files_must_be_meant(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(RATINGS)
    with pytest.raises(InvalidArgument, match=r"a\.csv, b\.csv could each be read"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04....", b"PAR1....", b"\x1f\x8b\x08\0cut", b"BZh91AY&SYcut", b"\0\1\2\n", b"\xff\xfe\0\xd8\n"]
)
def test_other_files_are_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(InvalidArgument, match=r"x\.csv: "):
        opened(tmp_path / "x.csv")


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@pytest.mark.parametrize("head", [b"", b"user,item,rating,timestamp,title,genres\n", b"user\titem\n1\t2\n"])
def test_any_bytes_load_or_are_refused(tmp_path_factory: pytest.TempPathFactory, head: bytes, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(head + body)
    try:
        events = Batch.concat(list(opened(path).batches()))
    except InvalidArgument:
        return
    validate(events, NOW, 0)


@pytest.mark.parametrize("saved", [None, 3])
def test_a_scale_decides_what_is_a_save(tmp_path: Path, saved: float | None) -> None:
    (tmp_path / "x.csv").write_text("user,item,rating\n" + "".join(f"{n},{n},{n}\n" for n in range(1, 11)))
    kept = [user for user, _, name in did(loaded(tmp_path / "x.csv", saved)) if name == "SAVE"]
    assert kept == list(range(8 if saved is None else 3, 11))


def test_boards_and_links_of_the_file_are_used(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "user,item,board,url,genres\n1,10,7,https://a/b,\"['Tea', 'Fog']\"\n2,20,8,javascript:x,Tea\n1,30,7,,\n"
    )
    events = loaded(tmp_path / "x.csv")
    boards = of(events, Action.CREATE_BOARD)
    assert sorted(zip(boards.board.tolist(), boards.user.tolist(), strict=True)) == [(7, 1), (8, 2)]
    assert sorted(of(events, Action.CREATE_PIN).link.strings()) == ["", "", "https://a/b"]
    assert sorted(of(events, Action.NAME_INTEREST).title.strings()) == ["Fog", "Tea"]
    assert any("1 links left out that are not http or https" in note for note in opened(tmp_path / "x.csv").notes)


def test_users_follow_what_they_saved_most(tmp_path: Path) -> None:
    rows = "".join(f"1,{n},{'Tea' if n < 5 else 'Fog'}\n" for n in range(1, 7))
    (tmp_path / "x.csv").write_text("user,item,genres\n" + rows)
    events = loaded(tmp_path / "x.csv")
    names = of(events, Action.NAME_INTEREST)
    followed = of(events, Action.FOLLOW_INTEREST)
    assert followed.user.tolist() == [1]
    assert names.title.strings()[names.target.tolist().index(int(followed.target[0]))] == "Tea"


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("Drama|War", ["Drama", "War"]),
        ("a; b;a", ["a", "b"]),
        ("['x', 'y, z']", ["x", "y, z"]),
        ("[broken, list", ["broken", "list"]),
        ("(no genres listed)", []),
        ("Sci-Fi", ["Sci-Fi"]),
        ("a\x00b", ["a b"]),
        ("", []),
    ],
)
def test_genres_are_taken_apart(word: str, parts: list[str]) -> None:
    assert split(word) == parts
