"""Delimited text as strangers have it in their first hour: loaded, or refused with a message that names its format."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from loaders import ratings
from loaders.ratings import Options
from services.core.errors import InvalidArgument
from services.core.events import Action, Batch

NOW = 1_796_000_000_000
HEAD = "user,item,rating,timestamp,title\n"
ROWS = "".join(f"{n % 7 + 1},{n + 10},{n % 5 + 1},{1_700_000_000 + n},Pin {n}\n" for n in range(40))


def opened(path: Path, **options: Any) -> Any:
    return ratings.open(path, Options(**options), NOW)


def read(path: Path) -> Batch:
    return Batch.concat(list(opened(path).batches()))


def titles(path: Path) -> list[str]:
    events = read(path)
    return sorted(events.take(events.action == Action.CREATE_PIN).title.strings())


def write(folder: Path, data: bytes | str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def plain(folder: Path) -> list[tuple[int, int, int]]:
    return seen(read(write(folder, HEAD + ROWS, "plain.csv")))


def seen(events: Batch) -> list[tuple[int, int, int]]:
    did = events.take((events.pin > 0) & (events.user > 0))
    return sorted(zip(did.user.tolist(), did.pin.tolist(), did.at_ms.tolist(), strict=True))


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b",", b";"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: b"sep=;\r\n" + text.replace(b",", b";"),
        lambda text: b"\n \n\n" + text.replace(b"\n", b"\n\n"),
        lambda text: text.replace(b"Pin ", b"Pin").replace(b",", b" "),
        lambda text: text.replace(b"\n", b",\n"),
        lambda text: text.replace(b",", b" , "),
        lambda text: text.replace(b",17", b".0,17").replace(b"\n3,", b"\n3.0,"),
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstd,
    ],
    ids=["BOM", "semicolons", "CRLF", "CR", "sep=", "blank lines", "spaces", "separator at the end", "padded", "floats", "gz",
         "bz2", "xz", "zst"],
)  # fmt: skip
def test_one_table_is_one_however_it_is_written(tmp_path: Path, changed: Any) -> None:
    assert seen(read(write(tmp_path, changed((HEAD + ROWS).encode())))) == plain(tmp_path)


def test_names_of_rows_as_R_writes_them_are_no_column(tmp_path: Path) -> None:
    """`write.table`: a header that is one shorter than its rows; `write.csv`: a name that is empty."""
    rows = "".join(f'"{n}" {n} {n + 10} {n % 5}\n' for n in range(1, 30))
    short = read(write(tmp_path, '"user" "item" "rating"\n' + rows))
    named = read(write(tmp_path, '"" "user" "item" "rating"\n' + rows, "named.csv"))
    assert [(user, pin) for user, pin, _ in seen(short)] == [(n, n + 10) for n in range(1, 30)]
    assert seen(short) == seen(named)


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "NA", "<NA>", "None", "null", "NULL", "N/A", "#N/A", "\\N"])
def test_what_is_missing_is_missing_however_it_is_called(tmp_path: Path, missing: str) -> None:
    rows = "".join(f"{n},{n},3,t{n}\n" for n in range(2, 60))
    path = write(tmp_path, f'user,item,rating,title\n{rows}70,1,{missing},a\n70,70,3,{missing}\n70,71,3,"NA"\n')
    assert [note for note in opened(path).notes if note.endswith("1 rows skipped with no rating")]
    named = titles(path)
    assert "pin 70" in named, "no title"
    assert "NA" in named, "in quotes it is text"


def test_bytes_of_windows_are_read_as_such(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n},3,“Smart” – €{n} café’s\n" for n in range(1, 9))
    path = write(tmp_path, f"user,item,rating,title\n{rows}".encode("cp1252"))
    assert "“Smart” – €1 café’s" in titles(path)
    assert "x.csv is not UTF-8: read as windows-1252 (--encoding names another)" in opened(path).notes
    path.write_bytes(b"user,item,title\n1,2,caf\xe9 \x81\n")
    assert titles(path) == ["café \x81"], "0x81 is no character of windows-1252"


def test_quotes_stay_in_titles_and_separators_within_quotes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'user,item,title\n1,10,"He said ""hi"", then left"\n2,11,plain "inner" quotes\n3,12,5" disk\n4,13,\'single\'\n',
    )
    assert titles(path) == sorted(['He said "hi", then left', 'plain "inner" quotes', '5" disk', "'single'"])


@pytest.mark.parametrize("zone", ["+02", "+0200", "+02:00", " +02:00"])
def test_P20_zones_of_postgres_are_zones(tmp_path: Path, zone: str) -> None:
    path = write(tmp_path, f"user,item,timestamp\n1,2,2024-02-29 10:00:00{zone}\n3,4,2024-02-29\n")
    assert [at for _, _, at in seen(read(path))] == [1_709_193_600_000, 1_709_164_800_000]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"user": 1, "item": 2}]', "JSON; write it as a table"),
        (b'{"user": 1, "item": 2}\n{"user": 2, "item": 2}\n', "JSON"),
        (b"<!DOCTYPE html>\n<html>404</html>", "a page of HTML"),
        (b'<?xml version="1.0"?><a/>', "XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"SQLite format 3\0" + bytes(90), "an SQLite database"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(90), "a 7z archive; unpack it first"),
        (b"ARROW1\0\0" + bytes(90), "an Arrow file"),
        (b"ORC" + bytes(90), "an ORC file"),
        (gzip.compress(b"X\n\0\0\0\3\0\4\2\2"), "R's RDS"),
        (b"\xd0\xcf\x11\xe0" + bytes(90), "an old Office file"),
        (bytes(257) + b"ustar" + bytes(90), "a tar archive; unpack it first"),
        (gzip.compress(HEAD.encode())[:-4] + b"\xff\xff\xff\x7f", "could not be unpacked: Incorrect length"),
        (b"# exported\n" + (HEAD + ROWS).encode(), "take out the lines that are no rows, such as '# exported'"),
        (b"user,item,item\n1,2,3\n", "column item is there more than once"),
        (b"user,item,title,Title,title\n1,2,a,b,c\n", "column title is there more than once"),
        (b"user,item\n9007199254740994.0,2\n", "9007199254740994.0 is not allowed: ids are whole numbers"),
        (b"user,item\n1.23456789012346e+18,2\n", "a float holds whole numbers only up to 2**53"),
        (b"user,item\n9.00719925474099e+15,2\n", "a float holds whole numbers only up to 2**53"),
        (b"user,item\n1.5e+00,2\n", "row 0 (from 0): 1.5e+00 is not allowed"),
        (b"user,item\n-1,2\n", "row 0 (from 0): -1 is not allowed: ids are whole numbers from 1"),
        (b"user,item\n0,2\n", "row 0 (from 0): 0 is not allowed"),
        (b"user,item,timestamp\n1,2,02/21/2024\n", "'02/21/2024'; dates are Unix time in one unit, or ISO 8601 such as"),
        (b"user,item,timestamp\n1,2,4000000000\n", "no date from 1970 to now"),
        (b"user,item,timestamp\n", "no row can be read"),
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_it_is_instead_is_said(tmp_path: Path, data: bytes, said: str) -> None:
    """Other formats, damage, and members of P11 (ids as floats), P15 (a column twice) and P20 (dates)."""
    with pytest.raises(InvalidArgument) as error:
        read(write(tmp_path, data))
    assert str(error.value).startswith(f"{tmp_path / 'x.csv'}: ")
    assert said in str(error.value)


def test_archives_are_named(tmp_path: Path) -> None:
    for inside, said in (("ratings.csv", "a zip archive; unpack it first"), ("[Content_Types].xml", "a workbook")):
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr(inside, HEAD)
        with pytest.raises(InvalidArgument, match=said):
            read(tmp_path / "x.zip")


def test_names_that_begin_like_another_format_are_text(tmp_path: Path) -> None:
    assert len(seen(read(write(tmp_path, "ORCID,user,item\na,1,2\n")))) == 1
    assert titles(write(tmp_path, 'title,user,item\n"[x] {y}",1,2\n')) == ["[x] {y}"]


def test_links_pipes_and_rights_are_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    with pytest.raises(InvalidArgument, match=r"loop\.csv: could not be read: Too many levels of symbolic links"):
        read(loop)
    with pytest.raises(InvalidArgument, match=r"none\.csv: could not be read: No such file"):
        read(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InvalidArgument, match=r"pipe\.csv: not a file"):
        read(tmp_path / "pipe.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "self").symlink_to(".")
    write(tmp_path / "folder", HEAD + ROWS)
    assert seen(read(tmp_path / "folder")) == plain(tmp_path)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    """By a user without rights: a superuser reads anything, and becomes `nobody` for it where the test runs as one."""
    shut = write(tmp_path, HEAD + ROWS)
    shut.chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from loaders.unpack import read_unpacked\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: read_unpacked(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    ran = subprocess.run([sys.executable, "-c", program, str(shut)], capture_output=True, text=True, check=True)
    assert ran.stdout == f"InvalidArgument {shut}: could not be read: Permission denied\n"


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, gzip.compress(bytes(200 << 20), 1), "bomb.csv.gz")
    assert path.stat().st_size < 2 << 20
    free = psutil.virtual_memory()._replace(available=1 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(InvalidArgument, match=r"bomb\.csv\.gz: has over 102 MB unpacked.*split it"):
        read(path)


def test_P05_parts_of_one_table_are_one(tmp_path: Path) -> None:
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-00000.csv.crc"):
        write(tmp_path, b"\0crc", name)
    lines = ROWS.splitlines(keepends=True)
    key = "6ac3ba57-2f4f-4c56-a7a5-1f8e6e3dd7a1"
    write(tmp_path, HEAD + "".join(lines[:25]), f"part-00000-{key}-c000.csv")
    write(tmp_path, HEAD.replace("\n", "\r\n") + "".join(lines[25:30]).strip(), f"part-00001-{key}-c000.csv")
    write(tmp_path, gzip.compress((HEAD + "".join(lines[30:])).encode()), f"part-00002-{key}-c000.csv")
    write(tmp_path, "item,title\n10,Ten\n", "movies.csv")
    dataset = opened(tmp_path)
    assert [note for note in dataset.notes if note.startswith("3 files are read as one: part-00000")]
    assert not [note for note in dataset.notes if "SUCCESS" in note or "crc" in note]
    at = seen(Batch.concat(list(dataset.batches())))
    (tmp_path / "alone").mkdir()
    assert at == plain(tmp_path / "alone")
    write(tmp_path, "user,item,stars\n1,2,3\n", f"part-00003-{key}-c000.csv")
    with pytest.raises(InvalidArgument, match="could each be read"):
        opened(tmp_path)


def test_P03_columns_that_are_read_and_not_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "userId,movieId,stars,mood,Titel\n1,2,3,good,x\n")
    assert (
        "x.csv: read are userId as user, movieId as item, stars as rating; not read are mood, Titel"
        in opened(path).notes
    )
