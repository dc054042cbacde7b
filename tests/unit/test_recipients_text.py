"""Text lists: what is read, and what is refused, with line and row."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.errors import CampaignFileError, ListError
from mailmerge.model import Severity
from mailmerge.recipients import open_list
from mailmerge.recipients.dialect import find_delimiter
from mailmerge.values import displayed, plain


@pytest.fixture
def write(tmp_path):
    def write(content, name="people.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def texts(people):
    return [recipient.values for recipient in people]


def refused(path, **options):
    """Read a list to its end and return the error it must end with."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown="people.csv", **options))
    return caught.value


def told(error):
    return [(d.code, d.row, d.place.line, d.message) for d in error.diagnostics]


def test_columns_keep_headings_and_gain_names(write):
    """A heading stays as written and is reachable by a name that a template can write."""
    path = write("email,First Name,Amount (EUR),2026,名前,#\na@x.org,Ann,5,y,安,1\n")
    people = open_list(path)
    assert people.columns.headings == ("email", "First Name", "Amount (EUR)", "2026", "名前", "#")
    assert people.columns.names == ("email", "first_name", "amount_eur", "_2026", "名前", "column_6")
    [ann] = people
    assert ann.fields["First Name"] == "Ann"
    assert ann.columns.names[ann.columns.headings.index("First Name")] == "first_name"


def test_what_nobody_sees_is_no_part_of_a_heading(write):
    """A second byte order mark, a zero-width blank and a no-break one are taken off its ends, as of cells."""
    people = open_list(write("\ufeff\ufeffemail,\u00a0First Name\u200b\na@x.org,Ann\n"))
    assert people.columns.headings == ("email", "First Name")


def test_a_list_that_ends_within_a_character_may_have_been_cut_off(write):
    """That comes first, whatever else the last bytes may mean."""
    error = refused(write("email,name\na@x.org,Jörg\nb@x.org,Zoë".encode()[:-1]))
    (problem,) = error.diagnostics
    assert problem.hint.startswith("the list ends here: if it was cut off, download or copy it again.")


def test_rows_are_numbered_as_the_spreadsheet_shows_them(write):
    """The header is row 1, blank rows take a number but are not recipients, and are counted."""
    people = open_list(write("email,name\na@x.org,Ann\n\n,\n  ,\t\nb@x.org,Bo\n"))
    assert [recipient.row for recipient in people] == [2, 6]
    assert people.blank_rows == 3


def test_iterating_again_reads_again(write):
    """A list can be gone through more than once, with the same result."""
    people = open_list(write("email,name\na@x.org,Ann\n\nb@x.org,Bo\n"))
    assert list(people) == list(people)
    assert people.blank_rows == 1


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"email,name\na@x.org,Ann\n", "CSV, UTF-8, comma"),
        ("email;name\na@x.org;Ann\n".encode("utf-8-sig"), "CSV, UTF-8 with BOM, semicolon"),
        ("email\tname\na@x.org\tAnn\n".encode("utf-16"), "TSV, UTF-16, tab"),
        ("email|name\na@x.org|Ann\n".encode("utf-16-be").join([b"\xfe\xff", b""]), "CSV, UTF-16, pipe"),
        (b"email,name\r\na@x.org,Ann\r\n", "CSV, UTF-8, comma"),
        (b"email,name\ra@x.org,Ann\r", "CSV, UTF-8, comma"),
        (b"\n\nemail,name\na@x.org,Ann", "CSV, UTF-8, comma"),
    ],
)
def test_dialects(write, content, dialect):
    """Byte order mark, delimiter and line ends are found, and stated for the plan."""
    people = open_list(write(content))
    assert (people.columns.names, texts(people)) == (("email", "name"), [("a@x.org", "Ann")])
    assert str(people.understanding) == dialect


@pytest.mark.parametrize(
    ("sample", "found"),
    [
        ("email\na@x.org\nb@x.org\n", (",", True)),
        ("email;amount,eur\na@x.org;1,50\nb@x.org;2,75\n", (";", False)),
        ("email,greeting\na@x.org,Hi; there\nb@x.org,Hello\n", (",", False)),
        ("name\temail, work\nLi, Bo\ta@x.org\n", ("\t", False)),
        ("email,name,plan\na@x.org,Ann\n", (",", False)),
        ('a;b;c\n"x,y,z";2;3\n"x,y";2;3\n', (";", False)),
        ("email,name;alias\na@x.org,Ann\n", (",", False)),
        ("full name\nMüller, Jörg\nLi, Bo\n", (";", True)),
        ("", (",", True)),
    ],
)
def test_delimiter_is_the_most_consistent(sample, found):
    """The delimiter is the one that makes rows as wide as the header."""
    assert find_delimiter(sample)[1] == found[1]
    if not found[1]:
        assert find_delimiter(sample)[0] == found[0]


def test_one_column_cells_keep_their_commas(write):
    """A list of one column needs no quotes around a comma."""
    people = open_list(write("full name\nMüller, Jörg\nLi, Bo\n", "people.txt"))
    assert texts(people) == [("Müller, Jörg",), ("Li, Bo",)]
    assert people.understanding.delimiter == "one column"


def test_doubled_quotes_after_the_first_kilobyte(write):
    """A doubled quote is one quote wherever it is in the file."""
    filler = "".join(f"p{i}@x.org,plain\n" for i in range(100))
    path = write(f'email,note\n{filler}a@x.org,"he said ""hi"" there"\n')
    assert texts(open_list(path))[-1] == ("a@x.org", 'he said "hi" there')


def test_ragged_rows_are_told_all_at_once(write):
    """Rows that are not as wide as the header are errors with line, row and cells; none is padded."""
    path = write(
        'email,name,plan\na@x.org,"A\nnn",gold\nb@x.org,Bo\nc@x.org,Li,gold, yearly\nd@x.org,Di,x,\n'
    )
    error = refused(path)
    assert told(error) == [
        ("D101", 3, 4, "this row has 2 cells, the row of headings has 3"),
        ("D101", 4, 5, "this row has 4 cells, the row of headings has 3"),
        ("D101", 5, 6, "this row has 4 cells, the row of headings has 3"),
    ]
    assert [d.hint for d in error.diagnostics] == [
        "is a cell missing? An empty cell needs its comma too. Cells: b@x.org | Bo",
        'does a cell contain a comma? Then quote it: "gold, yearly". Cells: c@x.org | Li | gold |  yearly',
        "remove the comma at the end of the row. Cells: d@x.org | Di | x | ",
    ]
    assert (
        str(error) == "people.csv has 3 problems; the first: this row has 2 cells, the row of headings has 3"
    )


def test_at_most_twenty_problems(write):
    """Reading stops when enough problems are known."""
    error = refused(write("email,name\n" + "a@x.org\n" * 500))
    assert len(error.diagnostics) == 20
    assert str(error).startswith("people.csv has at least 20 problems")


def test_good_rows_before_the_problem_come_out(write):
    """Rows stream: those before the first problem are handed on."""
    rows = iter(open_list(write("email,name\na@x.org,Ann\nb@x.org\n")))
    assert next(rows).row == 2
    with pytest.raises(ListError):
        next(rows)


def test_one_byte_a_character_is_asked_with_what_each_encoding_reads(write):
    """Bytes that many encodings read are never guessed: the likeliest are shown with the same names."""
    path = write("email,name\na@x.org,Ann\nb@x.org,Jérôme\nc@x.org,Zoë\n".encode("latin-1"))
    error = refused(path)
    assert (error.code, error.line) == ("D230", 3)
    assert str(error).startswith("the encoding of people.csv is not certain: probably Windows-1252")
    assert '--encoding cp1252 reads "Jérôme, Zoë"; --encoding cp1257 reads "Jérōme, Zoė"' in error.hint


def test_each_encoding_of_the_hint_reads_the_whole_list_as_it_says(write):
    """What the error suggests has been tried on the whole file, and works when it is pasted."""
    path = write("email,name\na@x.org,Ann\nb@x.org,Jérôme\nc@x.org,Zoë\n".encode("latin-1"))
    for codec, shown in re.findall(r'--encoding (\S+) reads "([^"]+)"', refused(path).hint):
        named = [name for _, name in texts(open_list(path, encoding=codec))]
        assert ", ".join(named[1:]) == shown


def test_lines_in_another_encoding_are_told(write):
    """Lines of a UTF-8 list that are not UTF-8 are named, with what they seem to be, and nothing else."""
    path = write("email,name\na@x.org,Zoë\n".encode() + "b@x.org,Jérôme\nc@x.org,Müller\n".encode("cp1252"))
    error = refused(path)
    assert [(d.code, d.place.line, d.message) for d in error.diagnostics] == [
        ("D105", 3, "byte 0xE9 at position 10 of the line is not UTF-8"),
        ("D105", 4, "byte 0xFC at position 10 of the line is not UTF-8"),
    ]
    assert 'may be Windows-1252: "Jérôme"' in error.hint
    assert "--encoding" not in error.hint


def test_a_line_of_utf_8_in_a_list_of_windows_is_told(write):
    """It is the same the other way round: two encodings in one list are never read as a third one."""
    path = write("email,name\na@x.org,Jörg\nb@x.org,Käthe\n".encode("cp1252") + "c@x.org,Zoë\n".encode())
    error = refused(path)
    assert [(d.code, d.place.line) for d in error.diagnostics] == [("D105", 2), ("D105", 3)]


def test_a_short_list_in_gb18030_is_asked_and_read_when_named(write):
    """Four characters are not enough to be certain: they are shown; naming the encoding reads the list."""
    path = write("email,姓名\na@x.org,张伟\n".encode("gb18030"))
    assert '--encoding gb18030 reads "张伟, 姓名"' in refused(path).hint
    people = open_list(path, encoding="gb18030")
    assert (texts(people), str(people.understanding)) == (
        [("a@x.org", "张伟")],
        "CSV, GB18030 (张伟, 姓名), comma",
    )


def test_several_bytes_a_character_are_taken_and_shown(write):
    """A list that can be but in one encoding is read, and the plan shows its names."""
    path = write("email,姓名\na@x.org,王小明\nb@x.org,张建国\nc@x.org,李娜\n".encode("gbk"))
    people = open_list(path)
    assert texts(people)[0] == ("a@x.org", "王小明")
    assert str(people.understanding) == "CSV, GB18030 (王小明, 张建国, 李娜), comma"


def test_bad_bytes_far_down(write):
    """A bad byte behind the first block is found while streaming, with its line."""
    path = write(b"email,name\n" + "a@x.org,Änn\n".encode() * 9000 + b"b@x.org,\xff\n")
    people = open_list(path, shown="people.csv")
    with pytest.raises(ListError) as caught:
        list(people)
    assert (caught.value.code, caught.value.line) == ("D105", 9002)


def test_what_is_not_ascii_far_down_is_asked(write):
    """Names in another encoding that come behind a megabyte of ASCII are found while streaming."""
    path = write(b"email,name\n" + b"a@x.org,Ann\n" * 90_000 + "b@x.org,Jürgen\n".encode("cp1252"))
    people = open_list(path, shown="people.csv")
    with pytest.raises(ListError) as caught:
        list(people)
    assert (caught.value.code, caught.value.line) == ("D230", 90_002)
    assert '--encoding cp1252 reads "Jürgen"' in str(caught.value.hint)


def test_a_utf_8_list_is_not_read_as_something_else(write):
    """An encoding that was right for an earlier list is refused for one that is UTF-8."""
    path = write("email,name\na@x.org,Jérôme\n")
    error = refused(path, encoding="cp1252")
    assert (error.code, str(error)) == ("D127", 'people.csv is UTF-8 ("Jérôme"), not cp1252 ("JÃ©rÃ´me")')
    assert refused(write("email,name\na@x.org,Jörg\n"), encoding="latin-1").code == "D127"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"a,b\n", "klingon", '"klingon" is not a known encoding'),
        (b"a,b\n", "rot13", '"rot13" is not a known encoding'),
        (b"a,b\n", "idna", '"idna" is not a known encoding'),
        (b"a,b\n", "punycode", '"punycode" is not a known encoding'),
        (b"a,b\n", "undefined", '"undefined" is not a known encoding'),
        (b"a,b\n", "utf-16", "people.csv does not begin with the byte order mark that UTF-16 requires"),
        (
            b"\xef\xbb\xbfa,b\n",
            "gb18030",
            "people.csv begins with the byte order mark of UTF-8, not of gb18030",
        ),
    ],
)
def test_wrong_encoding_option(write, content, encoding, message):
    """An encoding that does not exist, or contradicts the file's mark, is refused."""
    error = refused(write(content), encoding=encoding)
    assert (error.code, str(error)) == ("D127", message)


def test_damage_of_earlier_conversions(write):
    """U+FFFD in many rows says that the list was converted wrongly, with rows, lines and columns."""
    path = write("email,name\n" + "a@x.org,Ann\n" * 3000 + "b@x.org,J\ufffdr\nc@x.org,\0Bo\n" * 20)
    error = refused(path)
    words = '"J�r" contains U+FFFD: a character was lost when the list was converted'
    assert told(error) == [("D106", 3002 + 2 * at, 3002 + 2 * at, words) for at in range(20)]
    assert error.diagnostics[0].place.cell == 'column "name"'


@pytest.mark.parametrize(
    ("cell", "code"),
    [("\0Bo", "D106"), ("J\ufffdr", "D106"), ("x" * 131_073, "D109"), ("line\n" * 40_000, "D109")],
)
def test_d5_a_cell_that_cannot_be_used_costs_its_row(write, cell, code):
    """NUL, and more than any letter has: that row is unusable, the ones around it are as they were."""
    people = open_list(write(f'email,name\na@x.org,Ann\nb@x.org,"{cell}"\n' + "c@x.org,Cy\n" * 3000))
    found = list(people)

    assert [problem.code for problem in found[1].problems] == [code]
    assert {len(recipient.problems) for recipient in (found[0], *found[2:])} == {0}
    assert [recipient.row for recipient in found] == list(range(2, 3004))


@pytest.mark.parametrize("header", ["," * 1_000_000, "email," + "x" * 100_000])
def test_d5_a_row_that_cannot_be_headings_is_told(write, header):
    """A million cells, or one of a hundred thousand characters, are not headings."""
    error = refused(write(f"email{header}\na@x.org,1\n"))
    assert error.code == "D164"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["Ann", "Jörg", "王小明"])
def test_utf_16_and_32_are_read_without_their_mark(write, codec, name):
    """The zero bytes beside ASCII characters tell them, and the plan says so."""
    people = open_list(write(f"email,name\na@x.org,{name}\n".encode(codec)))
    assert texts(people) == [("a@x.org", name)]
    assert f"{codec.upper()} without BOM" in people.understanding.encoding


@pytest.mark.parametrize("codec", ["iso2022_jp", "iso2022_kr"])
def test_escape_sequences_tell_the_encoding(write, codec):
    """ISO-2022 says itself what follows: it is not taken for ASCII."""
    name = "山田太郎" if codec == "iso2022_jp" else "김민수"
    assert texts(open_list(write(f"email,name\na@x.org,{name}\n".encode(codec)))) == [("a@x.org", name)]


def test_damage_in_utf_16(write):
    """The search for damage works in every encoding."""
    (only,) = open_list(write("email,name\na@x.org,J\ufffdr\n".encode("utf-16")))
    assert [problem.code for problem in only.problems] == ["D106"]


@pytest.mark.parametrize(
    ("content", "code", "line", "message"),
    [
        (
            'email,name\na@x.org,"Ann\nb@x.org,Bo\n',
            "D104",
            2,
            (
                "a quoted cell that begins in this row is never closed "
                "(the row begins on line 2, the error is on line 3)"
            ),
        ),
        ('email,name\na@x.org,"Ann" Li\n', "D103", 2, "text after the closing quote of a cell"),
        ('"email', "D104", 1, "a quoted cell that begins in this row is never closed"),
    ],
)
def test_quoting_is_strict(write, content, code, line, message):
    """A cell that csv cannot take apart is an error, never half a cell."""
    assert [d[:1] + d[2:] for d in told(refused(write(content)))] == [(code, line, message)]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("", "D102", "people.csv is empty"),
        ("\n , \n", "D102", "people.csv is empty"),
        ("email,name\n", "D102", "people.csv has headings but no rows"),
        (
            "a@x.org,Ann\nb@x.org,Bo\n",
            "D102",
            'row 1 should contain the headings, but "a@x.org" is an address',
        ),
        ("email,name,email\n", "D107", 'two columns have the heading "email"'),
        ("E-Mail,e mail\n", "D107", 'the headings "E-Mail" and "e mail" are both `e_mail` in templates'),
        (
            "email,,name\na@x.org,,Ann\nb@x.org,x,Bo\n",
            "D108",
            'column 2 has no heading, but contains "x" in this row',
        ),
        (b"PK\x03\x04....", "D124", "people.csv is damaged or incomplete (File is not a zip file)"),
    ],
)
def test_lists_that_are_none(write, content, code, message):
    """An empty list, a missing or ambiguous header, and files of another kind are refused."""
    error = refused(write(content))
    assert (error.code, error.diagnostics[0].message) == (code, message)


@pytest.mark.parametrize("heading", ["", '""'])
def test_the_index_of_pandas_and_r_is_no_column(write, heading):
    """Whole numbers in a first column without a heading are left out, with one warning for the list."""
    people = open_list(write(f"{heading},email,name\n0,a@x.org,Ann\n7,b@x.org,Bo\n3,c@x.org,Cy\n"))
    rows = texts(people)

    assert rows == [("a@x.org", "Ann"), ("b@x.org", "Bo"), ("c@x.org", "Cy")]
    assert [(one.code, one.severity) for one in people.warnings] == [("D244", Severity.WARNING)]


@pytest.mark.parametrize(
    "content", [",email\n0,a@x.org\nx,b@x.org\n", "email,\na@x.org,1\n", ",email\n1.5,a@x.org\n"]
)
def test_anything_else_without_a_heading_is_refused(write, content):
    """It may be a value that slipped aside."""
    assert refused(write(content)).code == "D108"


def test_empty_columns_and_our_own_are_dropped(write):
    """A column without heading and cells is not a column; failed.csv can be used as a list."""
    path = write("email,,mailmerge_status,name,mailmerge_row,mailmerge_key,\na@x.org,,rejected,Ann,17,a,\n")
    people = open_list(path)
    assert people.columns.names == ("email", "name")
    assert texts(people) == [("a@x.org", "Ann")]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("poeple.csv", {}, "the list poeple.csv does not exist"),
        ("old.xls", {}, "old.xls is not a workbook, despite its name"),
        ("people.csv", {"sheet": "People"}, "people.csv has no sheets"),
        (".", {}, ". is not a file"),
    ],
)
def test_files_that_are_no_lists(write, tmp_path, name, options, message):
    """Missing files, folders and other kinds are refused by name."""
    write("email\n")
    write("x", "old.xls")
    with pytest.raises(ListError) as caught:
        open_list(tmp_path / name, shown=name, **options)
    assert str(caught.value) == message


def test_near_miss_of_a_file_name(write):
    """A misspelt file name comes with the one that was meant."""
    path = write("email\n")
    with pytest.raises(ListError) as caught:
        open_list(path.with_name("poeple.csv"))
    assert caught.value.hint == "did you mean `people.csv`?"


def test_key_types_and_defaults(write):
    """The key is trimmed text, defaults fill empty cells, types convert the others."""
    path = write("id,First Name,paid,n\n 7 ,,yes,12\n8,Bo,no,\n")
    people = open_list(
        path, key="id", types={"paid": "boolean", "n": "integer"}, defaults={"first_name": "there", "n": "0"}
    )
    first, second = people
    assert [(plain(cell), displayed(cell)) for cell in (*first.values[2:], *second.values[2:])] == [
        (True, "yes"),
        (12, "12"),
        (False, "no"),
        (0, "0"),
    ]
    assert [(r.key, r.values[:2]) for r in people] == [("7", (" 7 ", "there")), ("8", ("8", "Bo"))]
    assert list(people.originals({3})) == [(3, ("8", "Bo", "no", ""))]


def test_cell_problems_do_not_stop_the_list(write):
    """A cell that does not fit its type, or an empty key, marks its row only."""
    path = write("id,n\n1,1.5\n,2\n3,3\n")
    first, second, third = open_list(path, shown="people.csv", key="id", types={"n": "integer"})
    [misfit] = first.problems
    assert misfit.place
    assert (misfit.code, misfit.message, misfit.row, misfit.place.line, misfit.place.cell) == (
        "D130",
        '"1.5" is not an integer',
        2,
        2,
        'column "n"',
    )
    assert first.values == ("1", "1.5")
    assert [(d.code, d.message) for d in second.problems] == [("D133", 'the key column "id" is empty')]
    assert (third.problems, third.values[0], plain(third.values[1])) == ((), "3", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "idd"}, "`data.key` names the column 'idd', which the list does not have"),
        ({"types": {"nn": "text"}}, "`data.types.nn` names the column 'nn', which the list does not have"),
        ({"types": {"n": "money"}}, '`data.types.n`: "money" is not a valid type'),
        ({"types": {"n": "date:dd.mm"}}, '`data.types.n`: "dd.mm" is not a date format'),
        ({"types": {"n": "integer"}, "defaults": {"n": "x"}}, '`data.defaults.n`: "x" is not an integer'),
    ],
)
def test_options_that_do_not_fit_the_list(write, options, message):
    """A column or type that does not exist is the campaign's mistake, with a near miss."""
    with pytest.raises(CampaignFileError) as caught:
        open_list(write("id,n\n1,2\n"), **options)
    assert str(caught.value) == message
    assert caught.value.hint


def test_a_csv_list_loads_no_heavy_module(write):
    """Opening and reading a text list imports neither openpyxl nor pandas nor Babel."""
    code = (
        "import sys, pathlib; from mailmerge.recipients import open_list;"
        "list(open_list(pathlib.Path(sys.argv[1])));"
        "heavy = {'openpyxl', 'pandas', 'numpy', 'babel', 'email_validator', 'zipfile'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    path = write("email\na@x.org\n")
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), max_size=12)


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_table_comes_back(tmp_path_factory, data, delimiter, encoding, quoting):
    """Whatever csv.writer writes, in any dialect and encoding, comes back cell by cell."""
    width = data.draw(st.integers(2, 4))
    row = st.lists(CELLS, min_size=width, max_size=width).filter(lambda cells: any(c.strip() for c in cells))
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    writer.writerows([[f"column{i}" for i in range(width)], *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    named = encoding if encoding in {"gb18030", "utf-8"} else None  # a few letters may be both
    assert texts(open_list(path, encoding=named)) == [tuple(cells) for cells in rows]
