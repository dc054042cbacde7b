"""How a text list is written: delimiter, quotes and line ends, and what is told where it cannot be read."""

from __future__ import annotations

import csv
import io

import pytest

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.dialect import SAMPLE, Dialect, find_dialect


@pytest.fixture
def write(tmp_path):
    def write(content, name="people.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, **options):
    people = open_list(path, shown="people.csv", **options)
    return people.columns.headings, [recipient.values for recipient in people]


def refused(path, **options):
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown="people.csv", **options))
    return caught.value


def told(error):
    return [(d.code, d.place.line if d.place else None, d.message) for d in error.diagnostics]


PEOPLE = (("email", "name", "city"), [("a@x.org", "Ann", "Rome"), ("b@x.org", "Bo", "Ulm")])


def written(delimiter, table=PEOPLE):
    headings, rows = table
    return "".join(delimiter.join(cells) + "\r\n" for cells in (headings, *rows))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^", "~", "\x01", "\x1f", "¦", "；", "，"])
def test_delimiters_of_real_exports(write, delimiter):
    """Every delimiter that programs write is found, the rare ones where no common one fits."""
    assert read(write(written(delimiter))) == PEOPLE


@pytest.mark.parametrize("sign", ["，", "；"])
def test_a_full_width_comma_in_a_sentence_does_not_hide_those_between_cells(write, sign):
    """Who types a list with a Chinese keyboard gets the row of the sentence named, not one column."""
    rows = [
        ["学号", "姓名", "邮箱", "评语"],
        ["1", "王小明", "a@x.org", "好"],
        ["2", "李思雨", "b@x.org", "好"],
    ]
    sentence = ["3", "陈晨", "c@x.org", f"字写得好{sign}要多读"]
    text = "".join(sign.join(row) + "\n" for row in [*rows, sentence])

    assert told(refused(write(text))) == [("D101", 4, "this row has 5 cells, the row of headings has 4")]
    headings, values = read(write("".join(sign.join(row) + "\n" for row in rows)))
    assert headings == tuple(rows[0])
    assert values == [tuple(row) for row in rows[1:]]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("sep=;\r\nemail;name;city\r\na@x.org;Ann;Rome\r\nb@x.org;Bo;Ulm\r\n", "semicolon"),
        ('"sep=;"\nemail;name;city\na@x.org;Ann;Rome\nb@x.org;Bo;Ulm\n', "semicolon"),
        ("SEP=,\nemail,name,city\na@x.org,Ann,Rome\nb@x.org,Bo,Ulm\n", "comma"),
        ("sep=;;;\nemail;name;city\na@x.org;Ann;Rome\nb@x.org;Bo;Ulm\n", "semicolon"),
        ("\ufeffsep=;\nemail;name;city\na@x.org;Ann;Rome\nb@x.org;Bo;Ulm\n", "semicolon"),
        ("sep=\t\nemail\tname\tcity\na@x.org\tAnn\tRome\nb@x.org\tBo\tUlm\n".encode("utf-16"), "tab"),
        ("sep=:\nemail:name:city\na@x.org:Ann:Rome\nb@x.org:Bo:Ulm\n", "colon"),
        ("sep=#\nemail#name#city\na@x.org#Ann#Rome\nb@x.org#Bo#Ulm\n", '"#"'),
    ],
)
def test_a_first_line_that_states_the_delimiter_is_obeyed(write, content, name):
    """It is not a row, as in Excel: the headings are row 1, and the first person is row 2 on line 3."""
    people = open_list(write(content))
    assert (people.columns.headings, [one.values for one in people]) == PEOPLE
    assert (people.header_row, [one.row for one in people]) == (1, [2, 3])
    assert people.understanding.delimiter == name
    assert "sep=" in people.understanding.notes[0]


def test_rows_below_a_stated_delimiter_have_their_own_lines(write):
    """A problem is told with the line that an editor shows."""
    error = refused(write("sep=;\nemail;name\na@x.org;Ann\nb@x.org\n"))
    assert told(error) == [("D101", 4, "this row has 1 cell, the row of headings has 2")]
    assert error.row == 3


def test_a_stated_delimiter_that_does_not_fit(write):
    """The line that says ``sep=;`` above rows with commas is an error that names both."""
    error = refused(write("sep=;\nemail,name\na@x.org,Ann\n"))
    assert (error.code, error.place.line) == ("D241", 1)
    assert "2 columns separated by a comma" in str(error)
    assert read(write("sep=;\nemail,name\na@x.org,Ann\n"), delimiter="comma")[1] == [("a@x.org", "Ann")]


@pytest.mark.parametrize(
    ("content", "one", "other"),
    [
        ("first;last,city\nAnn;Lee,Rome\nBo;Ray,Ulm\n", "semicolon", "comma"),
        ("first\tlast|city\nAnn\tLee|Rome\n", "tab", "pipe"),
        ("email;name,email\na@x.org;Ann,a@x.org\n", "semicolon", "comma"),
    ],
)
def test_two_delimiters_that_fit_equally_are_both_named(write, content, one, other):
    """Nothing is guessed: the error names both, and each of its suggestions reads the list."""
    error = refused(write(content))
    assert error.code == "D240"
    assert f"a {one} between" in str(error)
    assert f"a {other}, which" in str(error)
    for name in (one, other):
        assert f"--delimiter {name}" in error.hint
        assert len(read(write(content), delimiter=name)[0]) == 2


@pytest.mark.parametrize(
    ("content", "headings"),
    [
        ("email;amount,eur\na@x.org;1,50\nb@x.org;2,75\n", ("email", "amount,eur")),
        ("name;email;amount\nLee, Ann;a@x.org;1,50\nRay, Bo;b@x.org;2,50\n", ("name", "email", "amount")),
        ("email,tags\na@x.org,x|y\nb@x.org,z|w\n", ("email", "tags")),
        ("email;name,first\na@x.org;Lee,Ann\n", ("email", "name,first")),
        ('"email";"name"\n"a@x.org";"Lee, Ann"\n"b@x.org";"Ray, Bo"\n', ("email", "name")),
        ("to\tnote, long\na@x.org\tHi, there\n", ("to", "note, long")),
    ],
)
def test_the_delimiter_is_the_one_that_leaves_addresses_whole(write, content, headings):
    """Decimal commas and delimiters inside of cells fit, too, but not with a column of addresses."""
    assert read(write(content))[0] == headings


@pytest.mark.parametrize("title", ["Members 2026\n", "Members 2026\n\n\n", "Table 1\n# made by hand\n"])
def test_lines_above_the_headings_do_not_mislead(write, title):
    """The delimiter is that of the table, not of its title."""
    content = title + written(";")
    assert find_dialect(lambda: io.StringIO(content, newline=""), "x").delimiter == ";"


def test_a_late_row_counts(write):
    """Where the start leaves two possible, the whole file decides."""
    head = "name;city,country\n" + "Ann;Rome,Italy\n" * 4000
    assert len(head) > SAMPLE
    people = open_list(write(head + "Bo;Ulm, by the Danube,Germany\n"))
    assert (people.understanding.delimiter, sum(1 for _ in people)) == ("semicolon", 4001)


def test_one_column_of_addresses(write):
    """A list of addresses alone is one column, and so are cells with every delimiter in them."""
    assert read(write("email\na@x.org\nb@x.org\n")) == (("email",), [("a@x.org",), ("b@x.org",)])
    cells = ["a@x.org, b@x.org", "Ann; Bo <c@x.org>", "x\ty|z@x.org"]
    assert read(write("\n".join(["email", *cells]) + "\n"))[1] == [(cell,) for cell in cells]


@pytest.mark.parametrize("name", ["tab", "\\t", "\t"])
def test_a_delimiter_can_be_named(write, name):
    """By its name, by its escape or by itself."""
    assert read(write("a;b\tc;d\n1;2\t3;4\n"), delimiter=name)[0] == ("a;b", "c;d")


@pytest.mark.parametrize("name", ["semi", "", "x", '"', "\n"])
def test_a_delimiter_that_is_none(write, name):
    """Words, letters and quotes cannot separate cells."""
    assert refused(write("a,b\n1,2\n"), delimiter=name).code == "D241"


def test_a_delimiter_that_the_list_does_not_have(write):
    """The error names the one that it has."""
    error = refused(write(written(",")), delimiter=";")
    assert (error.code, error.hint) == ("D241", "--delimiter comma")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(write, end):
    """Unix, DOS and old Mac, and the number of rows is about right for each."""
    people = open_list(write(written(",").replace("\r\n", end)))
    assert (people.columns.headings, [one.values for one in people]) == PEOPLE
    assert people.about_rows() == 3


def test_mixed_line_ends(write):
    """Parts of several lists may have been pasted together."""
    assert read(write("email,name,city\ra@x.org,Ann,Rome\r\nb@x.org,Bo,Ulm\n")) == PEOPLE


@pytest.mark.parametrize("end", ["\x1a", "\r\n\x1a", "\x1a\r\n", "\x1a\x1a\x1a\0\0"])
def test_the_end_of_file_sign_of_dos_is_no_row(write, end):
    """Ctrl-Z ends the text, also in the middle of a block."""
    assert read(write(written(",").removesuffix("\r\n") + end)) == PEOPLE


def test_ctrl_z_inside_of_a_list_ends_nothing(write):
    """People below it are not lost."""
    people = list(open_list(write("email,name\n" + "a@x.org,A\x1ann\n" * 5000)))
    assert len(people) == 5000


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        ("'email','name'\n'a@x.org','Lee, Ann'\n'b@x.org','O''Hara'\n", ["Lee, Ann", "O'Hara"]),
        ('"email", "name"\n"a@x.org", "Lee, Ann"\n"b@x.org", "Bo"\n', ["Lee, Ann", "Bo"]),
        ('email, name\na@x.org, "Lee, Ann"\nb@x.org, Bo\n', ["Lee, Ann", "Bo"]),
        ('email,name\na@x.org,"Ann \\"A\\" Lee"\nb@x.org,"a\\\\b"\n', ['Ann "A" Lee', "a\\b"]),
        ('email,name\na@x.org,"Ann ""A"" Lee"\nb@x.org,"C:\\new"\n', ['Ann "A" Lee', "C:\\new"]),
        ('email,name\na@x.org,"ends with \\"\nb@x.org,Bo\n', ["ends with \\", "Bo"]),
        ('email,name\na@x.org,"say , ""hi"""\nb@x.org,"x, "\n', ['say , "hi"', "x, "]),
        ("email,name\na@x.org,O'Hara\nb@x.org,'t Hooft\n", ["O'Hara", "'t Hooft"]),
    ],
)
def test_quotes(write, content, cells):
    """Apostrophes, spaces after every delimiter, and doubled or escaped quotes are read as they are meant."""
    assert [row[1] for row in read(write(content))[1]] == cells


def test_escaped_quotes_far_down(write):
    """The whole file says whether quotes are escaped by backslashes."""
    content = "email,name\n" + "a@x.org,Ann Lee\n" * 5000 + 'b@x.org,"Bo \\"B\\" Ray"\n'
    assert read(write(content))[1][-1] == ("b@x.org", 'Bo "B" Ray')


def test_escaped_quotes_beside_other_backslashes_are_refused(write):
    """Where a backslash may be literal, what is meant cannot be known."""
    error = refused(write('email,name\na@x.org,"Ann \\"A\\" Lee"\nb@x.org,"C:\\new"\n'))
    assert told(error)[0][:2] == ("D103", 2)
    assert "backslash" in error.hint


def test_a_blank_before_a_quote_is_named_with_its_line(write):
    """All of them are reported together, with the cell that would be split or keep its quotes."""
    error = refused(write('email,name\na@x.org, "Lee, Ann"\nb@x.org,Bo\nc@x.org, "Cy"\nd@x.org\n'))
    assert told(error) == [
        ("D242", 2, 'a space before the quote of "Lee, Ann": it would not begin a quoted cell'),
        ("D242", 4, 'a space before the quote of "Cy": it would not begin a quoted cell'),
        ("D101", 5, "this row has 1 cell, the row of headings has 2"),
    ]
    assert error.diagnostics[0].hint == 'remove the space: ,"Lee, Ann"'
    fixed = write('email,name\na@x.org,"Lee, Ann"\n')
    assert read(fixed)[1] == [("a@x.org", "Lee, Ann")]


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("a@x.org,Ann,gold, yearly", 'does a cell contain a comma? Then quote it: "gold, yearly".'),
        ("a@x.org,Ann,9,50", 'is 9,50 a number with a decimal comma? Then quote it: "9,50", or separate'),
        ("a@x.org,Ann,1,2", 'is 1,2 a number with a decimal comma? Then quote it: "1,2", or separate'),
        ("a@x.org,Ann,gold,yearly", 'does a cell contain a comma? Then quote it: "gold, yearly".'),
    ],
)
def test_an_unquoted_delimiter_is_shown_in_its_cell(write, row, hint):
    """The cell that makes the row fit is the one to quote, where only one does."""
    error = refused(write(f"email,name,plan\n{row}\n"))
    assert error.hint.startswith(hint)


def test_a_line_break_without_quotes_is_one_problem(write):
    """Two short rows that are one together are told as one."""
    error = refused(write("email,name,city\na@x.org,Ann\nLee,Rome\nb@x.org,Bo,Ulm\n"))
    assert told(error) == [
        (
            "D101",
            2,
            (
                "this row and the next have 2 and 2 cells, the row of headings has 3: "
                "one row with a line break in a cell"
            ),
        )
    ]


def test_row_names_of_r_are_one_problem(write):
    """Each row has one cell more, and it counts."""
    out = '"email","name"\n"1","a@x.org","Ann"\n"2","b@x.org","Bo"\n'
    error = refused(write(out))
    assert len(error.diagnostics) == 1
    assert "begin with a number that has no heading" in str(error)
    assert "row.names = FALSE" in error.hint


def test_a_delimiter_at_the_end_of_every_row(write):
    """Where every row ends with a delimiter that the headings do not have, nothing is missing."""
    assert read(write("email,name\na@x.org,Ann,\nb@x.org,Bo,\n"))[1] == [
        ("a@x.org", "Ann"),
        ("b@x.org", "Bo"),
    ]
    assert read(write("email;name;\na@x.org;Ann;\nb@x.org;Bo;\n"))[1] == [
        ("a@x.org", "Ann"),
        ("b@x.org", "Bo"),
    ]


def test_an_unclosed_quote_does_not_hide_what_is_below(write):
    """Every broken row is told in one run, each with its own line."""
    content = 'email,name\na@x.org,"Ann\nb@x.org,Bo\nc@x.org\nd@x.org,"Di" x\ne@x.org,Ed\nf@x.org,"Fay\n'
    assert [(code, line) for code, line, _ in told(refused(write(content)))] == [
        ("D104", 2),
        ("D101", 4),
        ("D103", 5),
        ("D104", 7),
    ]


def test_any_dialect_writes_and_reads(write):
    """What `Dialect.reader` reads is what csv writes in that dialect."""
    rows = [["a", 'b"c', "d,e\\f"], ["1", "", "x\ny"]]
    for dialect in (Dialect(), Dialect(";"), Dialect("\t", quote="'"), Dialect(escape="\\")):
        out = io.StringIO(newline="")
        csv.writer(
            out,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            escapechar=dialect.escape,
            doublequote=not dialect.escape,
        ).writerows(rows)
        assert list(dialect.reader(io.StringIO(out.getvalue(), newline=""))) == rows


def test_rows_inside_of_a_cell_are_warned_of(write):
    """A quote that is not closed takes in rows up to the next quote: nobody is lost in silence."""
    people = open_list(write('email,name\na@x.org,"Ann\nb@x.org,Bo\nc@x.org,Cy"\nd@x.org,Di\n'))
    assert [one.values[0] for one in people] == ["a@x.org", "d@x.org"]
    [warning] = people.warnings
    assert (warning.code, warning.row) == ("D243", 2)
    assert warning.place
    assert warning.place.line == 2
    assert warning.message == ('a cell of this row seems to contain 2 more rows of the list: "b@x.org,Bo"')


def test_notes_of_several_lines_are_no_rows(write):
    """An address in a note is not a row of the list."""
    people = open_list(write('email,name,note\na@x.org,Ann,"write to\nMr Bo, b@x.org, please\nor call"\n'))
    assert (len(list(people)), people.warnings) == (1, ())


def test_no_row_comes_after_a_problem(write):
    """All rows above the first problem come out, and none below it."""
    content = "email,name\na@x.org,Ann\nb@x.org\n" + "c@x.org,Cy\n" * 50
    found: list[int] = []
    with pytest.raises(ListError):
        found.extend(one.row for one in open_list(write(content)))
    assert found == [2]


def test_quotes_after_a_comma_and_a_blank_in_a_cell_are_no_problem(write):
    """What looks like a space before a quote in the middle of a cell is a part of it."""
    content = "email,note\n" + 'a@x.org,"he said, ""hi"" twice"\n' * 400
    assert {row[1] for row in read(write(content))[1]} == {'he said, "hi" twice'}


def test_short_rows_of_two_people_are_two_problems(write):
    """A row that has an address of its own is not the rest of the row above it."""
    error = refused(write("email,name,city\na@x.org,Ann\nb@x.org,Bo\n"))
    assert told(error) == [
        ("D101", 2, "this row has 2 cells, the row of headings has 3"),
        ("D101", 3, "this row has 2 cells, the row of headings has 3"),
    ]


R_TABLE = '"email" "name" "amount"\n"1" "a@x.org" "Ann Lee" 1.5\n"2" "b@x.org" "Bo" NA\n'


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (R_TABLE, "3 columns that are separated by spaces", "row.names = FALSE))"),
        (R_TABLE.replace("Ann Lee", "Lee, Ann").replace("Bo", "Kay, Bo"), "3 columns", "row.names = FALSE))"),
        ("email name\n1 a@x.org Ann\n2 b@x.org Bo\n", "2 columns that are separated", "FALSE))"),
        ("email name\na@x.org Ann\nb@x.org Bo\n", "2 columns", "--delimiter blank reads it as it is"),
        (
            "email    name     city\na@x.org  Ann Lee  Rome\nb@x.org  Bo       New York\n",
            "3 columns",
            "fixed",
        ),
        ("id  email\n--- --------\n1   a@x.org\n\n(1 rows affected)\n", "2 columns", "fixed width"),
        ('"email;name"\n"a@x.org;Ann"\n"b@x.org;Bo"\n', "one quoted cell, with 2 columns", "around each row"),
        (
            '"email,city"\r\n"a@x.org,""Ulm, DE"""\r\n',
            "columns in it that are separated by a comma",
            "around",
        ),
    ],
)
def test_columns_that_would_be_one_cell_are_refused(write, content, message, hint):
    """What R, database clients and spreadsheet programs write, in words about that and not about quotes."""
    error = refused(write(content))

    assert error.code == "D245"
    assert message in error.diagnostics[0].message
    assert hint in error.hint


@pytest.mark.parametrize(
    "content",
    [
        "email address\nAnn <a@x.org>\nBo <b@x.org>\n",
        "email of the person\na@x.org\nb@x.org\n",
        '"email, or several"\n"a@x.org, b@x.org"\n"c@x.org"\n',
        '"email"\n"a@x.org"\n',
    ],
)
def test_one_column_with_blanks_and_commas_is_one(write, content):
    """Names, several addresses and words of a heading are no columns."""
    headings, rows = read(write(content))

    assert len(headings) == 1
    assert all(len(cells) == 1 for cells in rows)


def test_a_person_in_the_place_of_the_headings(write):
    """A list of mailboxes without headings would lose its first person."""
    error = refused(write('Ann Lee <a@x.org>\n"Kay, Bo" <b@x.org>\n'))

    assert told(error) == [
        ("D102", 1, 'row 1 should contain the headings, but "Ann Lee <a@x.org>" is an address')
    ]
    assert read(write("Email (such as a@x.org)\nb@x.org\n"))[1] == [("b@x.org",)]
