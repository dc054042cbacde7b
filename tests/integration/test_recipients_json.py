"""JSON lists: an object a line, an array, or objects in any layout."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.recipient_list import MAX_PROBLEMS
from mailmerge.values import Number, Truth, displayed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("json")


@pytest.fixture
def write(folder):
    """Write a list and give its path."""

    def write(content, name="people.jsonl"):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(people):
    """Return the displayed texts of all rows, by row number."""
    return {recipient.row: [displayed(value) for value in recipient.values] for recipient in people}


def refused(path, **options):
    """Read a list to its end and return the error it must end with."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown=path.name, **options))
    return caught.value


def told(error):
    """Return the problems of an error, with their lines."""
    return [(one.code, one.place.line, one.message) for one in error.diagnostics]


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        ('{"email":"a@x.org","n":1}\n\n{"n":2.50,"late":true}\n', "JSON lines, UTF-8"),
        ('[{"email":"a@x.org","n":1},\r\n\r\n {"n":2.50,"late":true}]\r\n', "JSON array, UTF-8"),
        ('[\n{"email":"a@x.org","n":1}\n,{"n":2.50,"late":true}\n]', "JSON array, UTF-8"),
        ('{\n  "email": "a@x.org",\n  "n": 1\n}\n\n{"n": 2.50,\n "late": true}\n', "JSON objects, UTF-8"),
        ('\ufeff{"email":"a@x.org","n":1}\n{"n":2.50,"late":true}', "JSON lines, UTF-8"),
        ('\ufeff{"email":"a@x.org","n":1}\n{"n":2.50,"late":true}'.encode("utf-16-le"), "JSON lines, UTF-16"),
    ],
)
def test_all_forms_give_the_same_list(write, content, dialect):
    """Columns are the names of all objects; what one lacks is empty; numbers are as written."""
    people = open_list(write(content))

    assert str(people.understanding) == dialect
    assert people.columns.names == ("email", "n", "late")
    assert list(rows(people).values()) == [["a@x.org", "1", ""], ["", "2.50", "TRUE"]]


def test_rows_of_lines_are_numbered_as_in_a_sheet(write):
    """The object in line 3 is row 4, as below headings; blank lines and empty objects are blank rows."""
    people = open_list(write('{"email":"a@x.org"}\n\n{"email":"b@x.org"}\n{}\n{"email":null}\n'))
    assert rows(people) == {2: ["a@x.org"], 4: ["b@x.org"]}
    assert people.blank_rows == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", Number(Decimal("12.50"))),
        ("4111111111111111", Number(Decimal(4111111111111111))),
        ("123456789012345678901234567890", Number(Decimal(123456789012345678901234567890))),
        ("0.1", Number(Decimal("0.1"))),
        ("1e3", Number(Decimal(1000))),
        ("-0.0", Number(Decimal("-0.0"))),
        ("true", Truth(True)),
        ("false", Truth(False)),
        ("null", ""),
        ('"00716"', "00716"),
        ('"J\\u00f6rg"', "Jörg"),
        ('""', ""),
    ],
)
def test_values_are_exact(write, text, value):
    """No digit is lost and no text becomes a number."""
    [recipient] = open_list(write(f'{{"email":"a@x.org","n":{text}}}'))
    found = recipient.values[1]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('{"street":"A 1","zip":"1"}', "D135", '"n" is an object, not one value'),
        ('["a","b"]', "D135", '"n" is an array, not one value'),
        ("[]", "D135", '"n" is an array, not one value'),
        ("1e999999999999999999999", "D135", "out of range"),
        ('1,"n":2', "D219", 'the object has "n" more than once'),
        ('"1","n":1', "D219", 'the object has "n" more than once'),
        ('"' + "x" * 140_000 + '"', "D109", "a cell of 140,000 characters"),
        ("1" * 140_000, "D109", "a cell of 140,000 characters"),
        ('"\\u0000"', "D106", "a NUL character"),
    ],
)
def test_a_value_that_is_none_costs_its_row(write, text, code, words):
    """Nested, doubled, endless and damaged values are problems of their row, with line and name."""
    first, second = open_list(write(f'{{"email":"b@x.org"}}\n{{"email":"a@x.org","n":{text}}}\n'))
    assert first.problems == ()
    [problem] = second.problems
    assert (problem.code, words in problem.message) == (code, True)
    assert problem.place is not None
    assert (problem.place.line, problem.place.cell) == (2, '"n"')


def test_the_same_value_twice_is_one(write):
    """A name that occurs twice with one value is not a problem."""
    [recipient] = open_list(write('{"email":"a@x.org","n":1,"n":1.0}'))
    assert recipient.problems == ()


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (
            '{"a":NaN}\n{"a":1\n[1]\n5\n{"a":1},\n{\'a\':1}\n{"a":1}\n',
            [
                ("D218", 1, "this is not JSON: NaN is not a JSON value"),
                ("D218", 2, "this is not JSON: Expecting ',' delimiter at character 7"),
                ("D218", 3, "each recipient must be an object, not an array"),
                ("D218", 4, "each recipient must be an object, not a number"),
                ("D218", 5, "this is not JSON: Extra data at character 8"),
                (
                    "D218",
                    6,
                    "this is not JSON: Expecting property name enclosed in double quotes at character 2",
                ),
            ],
        ),
        ('[{"a":1},\n{"a":2}', [("D218", 2, "the array is never closed")]),
        ('[{"a":1},\n{"a":', [("D218", 2, "this is not JSON: Expecting value at character 6")]),
        ('[{"a":1}]\nx', [("D218", 1, 'unexpected content after the array: "x"')]),
        ('[1,\n"x",{"a":1}]', [
            ("D218", 1, "each recipient must be an object, not a number"),
            ("D218", 2, "each recipient must be an object, not a string"),
        ]),
        ('{"a":' + "[" * 100_000, [("D218", 1, "this is nested too deeply")]),
        ("[]", [("D102", None, "people.jsonl is empty")]),
        ("", [("D102", None, "people.jsonl is empty")]),
        (" \n", [("D102", None, "people.jsonl is empty")]),
        (
            '{"a b":1}\n{"A_B":2}',
            [("D107", None, 'the headings "a b" and "A_B" are both `a_b` in templates')],
        ),
        (
            '{"A":1,"a":2,"B":3,"b":4}',
            [
                ("D107", None, 'the headings "A" and "a" are both `a` in templates'),
                ("D107", None, 'the headings "B" and "b" are both `b` in templates'),
            ],
        ),
        (b'{"a":"x"}\n{"a":"J\xf6rg"}', [("D105", 2, "byte 0xF6 at position 8 of the line is not UTF-8")]),
        (b'[{"a":"x"},\n{"a":"J\xf6rg"}]', [("D105", 2, "byte 0xF6 at position 8 of the line is not UTF-8")]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(write, content, problems):
    """Broken JSON, other values and bytes of another encoding are errors of the list, all at once."""
    assert told(refused(write(content))) == problems


def test_no_more_problems_than_can_be_read_are_collected(write):
    """A file of another kind is given up after the usual number of problems."""
    assert len(refused(write("{\n" + "x\n" * 50_000)).diagnostics) <= MAX_PROBLEMS


def test_an_encoding_may_be_named(write):
    """JSON is UTF-8; who knows better says so."""
    assert rows(open_list(write(b'{"a":"J\xf6rg"}'), encoding="cp1252")) == {2: ["Jörg"]}


def test_an_object_has_a_limit(write):
    """A file that is one endless object is given up before memory is."""
    path = write(b'[{"a":"' + b"x" * (18 << 20))
    tracemalloc.start()
    error = refused(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (error.code, error.message) == ("D218", "an object of more than 16 MB")
    assert most < 100 << 20


def test_memory_stays_flat(write):
    """A long list is never in memory as a whole, an array neither."""
    one = json.dumps({"email": "someone@example.org", "text": "x" * 500})
    path = write("[" + ",\n".join([one] * 20_000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in open_list(path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert most < 3 << 20


NAMES = st.sampled_from(["email", "name", "n", "First Name", "größe"])
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufffd"), max_size=10),
)


@settings(max_examples=100, deadline=None)
@given(
    objects=st.lists(st.dictionaries(NAMES, VALUES), min_size=1, max_size=5),
    ascii_only=st.booleans(),
    form=st.sampled_from(["lines", "array", "indented", "concatenated"]),
)
def test_any_objects_come_back(folder, objects, ascii_only, form):
    """Whatever program wrote them, the cells are what the objects contain."""
    objects = [{"email": "a@x.org", **one} for one in objects]
    if form in {"lines", "concatenated"}:
        end = "\n" if form == "lines" else "\n \n"
        indent = None if form == "lines" else 1
        text = end.join(json.dumps(one, ensure_ascii=ascii_only, indent=indent) for one in objects)
    else:
        text = json.dumps(objects, ensure_ascii=ascii_only, indent=2 if form == "indented" else None)
    path = folder / "any.json"
    path.write_text(text, "utf-8")
    people = open_list(path)
    names = people.columns.headings
    wanted = [
        one for one in objects if any(value is not None and str(value).strip() for value in one.values())
    ]

    found = [dict(zip(names, recipient.values, strict=True)) for recipient in people] if wanted else []

    assert [{name: displayed(value) for name, value in one.items()} for one in found] == [
        {name: _text(one.get(name)) for name in names} for one in wanted
    ]


def _text(value):
    if value is None:
        return ""
    return str(value).upper() if isinstance(value, bool) else str(value)


GOOD = [{"email": f"p{n}@x.org", "name": "Jörg", "n": n, "x": [1]} for n in range(5)]


@settings(max_examples=300, deadline=None)
@given(
    good=st.sampled_from(["\n".join(map(json.dumps, GOOD)).encode(), json.dumps(GOOD).encode()]),
    end=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3),
)
def test_hostile_bytes_are_an_error_or_rows(folder, good, end, changes):
    """Cut and changed bytes never end in anything but rows or a `ListError`."""
    content = bytearray(good[: max(int(len(good) * end), 1)])
    for place, byte in changes:
        content[int(len(content) * place)] = byte
    path = folder / "hostile.jsonl"
    path.write_bytes(content)
    with contextlib.suppress(ListError):
        list(open_list(path))


@pytest.mark.parametrize(
    "content",
    [
        '{"people": [{"email": "a@x.org"}, {"email": "b@x.org"}]}',
        '{\n "status": "ok",\n "page": 1,\n "people": [\n  {"email": "a@x.org"}\n ]\n}\n',
    ],
)
def test_an_answer_of_a_web_service_is_told_from_a_list(write, content):
    """People in a member of the only object are not columns of one person: the member is named."""
    error = refused(write(content))
    assert error.code == "D218"
    assert 'its member "people"' in error.message


@pytest.mark.parametrize(
    "content",
    [
        '{"email": "a@x.org", "orders": [{"id": 1}]}',
        '{"orders": [{"id": 1}]}\n{"orders": []}',
    ],
)
def test_a_person_with_an_array_is_a_list(write, content):
    """An address, or a second object, says that the objects are people: only their arrays are not cells."""
    assert len(rows(open_list(write(content)))) == content.count("orders")


@pytest.mark.parametrize(
    "content",
    [
        '{"email":{"0":"a@x.org","1":"b@x.org"},"name":{"0":"Ann","1":"Bo"}}',
        '{"0":{"email":"a@x.org","name":"Ann"},"1":{"email":"b@x.org","name":"Bo"}}',
        '{"columns":["email","name"],"index":[0,1],"data":[["a@x.org","Ann"],["b@x.org","Bo"]]}',
        '{"email":["a@x.org","b@x.org"],"name":["Ann","Bo"]}',
    ],
)
def test_a_table_in_one_object_is_no_recipient(write, content):
    """What pandas and polars write where they are not told to write records is not one person."""
    error = refused(write(content, "people.json"))

    message = "the file is one object that contains a whole table, and each recipient must be an object"
    assert told(error) == [("D218", None, message)]
    assert 'orient="records"' in error.hint
