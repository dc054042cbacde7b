"""Files of opt-outs, the user's own store of them, and which column of a table has the addresses."""

from __future__ import annotations

import hashlib
import stat
import threading
from datetime import date
from typing import TYPE_CHECKING

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge import Campaign
from mailmerge.addresses import Address
from mailmerge.campaign.suppression_store import SuppressionStore
from mailmerge.errors import InUseError, ListError
from mailmerge.model import Status
from mailmerge.recipients.address_column import address_columns, entries_in, understood
from mailmerge.recipients.suppression import OptOutWatch, Suppressed, read_opt_outs

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import CampaignFactory

DAY = date(2026, 11, 28)
EXPORT = (
    '"Email Address","First Name","Last Name",Address,"Phone Number",UNSUB_TIME,UNSUB_REASON\n'
    'ana@example.org,Ana,Lee,,,"2026-05-02 10:11:12","too many\nmails, see b@x.org"\n'
    'bo@example.org,Bo,Ash,,,"2026-05-03 09:00:00",\n'
)

SAYS = {
    "an export with a blank postal address": (EXPORT, "ana@example.org bo@example.org"),
    "several in a line": ("a@x.org, b@x.org; c@x.org\nd@x.org e@x.org\n",
                          "a@x.org b@x.org c@x.org d@x.org e@x.org"),
    "comments and blank lines": ("# who\n\na@x.org  # by phone, 3 May\n  # b@x.org\n", "a@x.org"),
    "domains": ("@Corp.example\n*@two.example\n", "@corp.example @two.example"),
    "names and brackets": ('"Lee, Ana" <a@x.org>\nBo <b@x.org>, <c@x.org>\nLee, Di <d@x.org>\n',
                           "a@x.org b@x.org c@x.org d@x.org"),
    "mailto links": ("mailto:a@x.org?subject=no%20more\nMAILTO:b@x.org\n", "a@x.org b@x.org"),
    "letter case and Unicode domains": ("ANA@X.ORG\nbo@MÜNCHEN.example\n",
                                        "ana@x.org bo@xn--mnchen-3ya.example"),
    "a local part that we cannot send to": ("JÖRG@x.org\n", "jörg@x.org"),
    "semicolons and another language": ("Datum;E-Mail-Adresse;Grund\n2026;a@x.org;zu viel\n", "a@x.org"),
    "tabs": ("Navn\tE-post\nA\ta@x.org\n", "a@x.org"),
    "the line of Excel": ("sep=;\nE-Mail;x\na@x.org;1\n", "a@x.org"),
    "Chinese headings": ("姓名,电子邮箱\n王,a@x.org\n", "a@x.org"),
    "no headings": ("Ana,a@x.org,2026\nBo,b@x.org,2026\n", "a@x.org b@x.org"),
    "two columns of one person": ("Email,Email 2\na@x.org,b@x.org\nc@x.org,\n", "a@x.org b@x.org c@x.org"),
    "somebody else's address": ("Sender,Recipient\nme@y.org,a@x.org\nme@y.org,b@x.org\n", "a@x.org b@x.org"),
    "one cell too many": ("email\na@x.org, b@x.org\n", "a@x.org b@x.org"),
    "an unquoted comma between two": ("email,name\na@x.org, b@x.org\nc@x.org,Cy\n",
                                      "a@x.org b@x.org c@x.org"),
    "a quote that is never closed": ('email,why\na@x.org,"too many\nb@x.org,no\n', "a@x.org b@x.org"),
    "a handle beside it": ("email,twitter\na@x.org,@ana\n", "a@x.org"),
    "only headings": ("Email Address,Name\n", ""),
    "only a heading that may mean it": ("address,tag,created_at\n", ""),
    "domains in a list of points": ("* @x.org\n- @y.org\nDomain: @z.org\n", "@x.org @y.org @z.org"),
    "nothing": ("", ""),
    "a byte order mark": ("\ufeffemail\na@x.org\n", "a@x.org"),
    "carriage returns alone": ("email\ra@x.org\rb@x.org\r", "a@x.org b@x.org"),
}  # fmt: skip

SAYS_NOTHING = {
    "rows without addresses": ("name,phone\nA,1\nB,2\n", 1, "headings"),
    "the first line is mistyped": ("ana.example.org\nb@x.org\n", 1, "ana.example.org"),
    "the first row is mistyped": ("Ana,a.x.org\nBo,b@x.org\n", 1, "headings"),
    "a line is mistyped": ("a@x.org\nb.x.org\n", 2, "no @"),
    "one of several is mistyped": ("a@x.org, b.x.org\n", 1, "no @"),
    "a row has none": ("email,name\na@x.org,A\n,B\n", 3, '"B"'),
    "an address that is none": ("email\na@x.org\nb@@x.org\n", 3, "b@@x.org"),
    "a full-width sign": ("ana＠x.org\n", 1, "look-alike"),
    "only somebody else's": ("Sender,Name\nme@y.org,A\n", 2, "no address"),
    "a domain that is none": ("*@example\n", 1, "dot"),
    "everybody": ("*\n", 1, "*"),
    "a pattern": ("a@x.org\nann*@x.org\n", 2, "only a whole domain"),
    "a pattern of databases": ("%@x.org\n", 1, "only a whole domain"),
    "a letter became a question mark": ("j?rg@x.org\n", 1, "lost"),
    "a blank in an address": ("ann @x.org\n", 1, "unclear"),
    "a title and nothing else": ("Unsubscribed people 2024\n", 1, "headings"),
    "headings without rows or an address column": ("Name;Date\n", 1, "headings"),
    "only the heading of somebody else's": ("Sender,Date\n", 1, "headings"),
    "a letter was lost": ("a@x.org\nj\ufffdrg@x.org\n", 2, "lost"),
}


@pytest.mark.parametrize("case", SAYS)
def test_d1_every_address_of_a_file_counts(tmp_path: Path, case: str) -> None:
    """Whatever the dialect, headings, names and languages."""
    text, wanted = SAYS[case]
    (tmp_path / "stop.csv").write_text(text, encoding="utf-8", newline="")
    found = read_opt_outs(tmp_path / "stop.csv")

    assert {*found.addresses, *(f"@{domain}" for domain in found.domains)} == set(wanted.split())


@pytest.mark.parametrize("case", SAYS_NOTHING)
def test_d2_a_row_that_says_nothing_is_an_error_with_its_line(tmp_path: Path, case: str) -> None:
    """A list of people who said no is never shorter than it looks."""
    text, line, words = SAYS_NOTHING[case]
    (tmp_path / "stop.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ListError) as caught:
        read_opt_outs(tmp_path / "stop.csv")

    assert (caught.value.code, caught.value.place and caught.value.place.line) == ("D151", line)
    assert words in str(caught.value)
    assert "stop.csv" in f"{caught.value} {caught.value.place}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"M\xfcller@x.org\n", "depends on its encoding"),
        (b"email\nJ\xc4@x.org\nann@x.org\n", "depends on its encoding"),  # in Chinese \xc4@ is one letter
        (b"email\nANDR\xc9@x.org\nZO\xc9@x.org\n", "depends on its encoding"),
        (b"a@x.org\0\n", "NUL"),
    ],
)
def test_d3_a_file_that_cannot_be_read_stops_everything(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """It fails closed: nobody is written to because a file was missing or an address in it is not certain."""
    if content is not None:
        (tmp_path / "no.txt").write_bytes(content)
    with pytest.raises(ListError) as caught:
        Suppressed([tmp_path / "no.txt"])

    assert caught.value.code == "D150"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("names", "codec"),
    [
        ("Müller Jörg Zoë", "cp1252"),
        ("Müller Jörg Zoë", "mac-roman"),
        ("Łukasz Świątek", "cp1250"),
        ("Иван Ольга Щербаков", "koi8-r"),
        ("王小明 李娜", "gbk"),
        ("王一三 林一心 陳小明", "big5"),
        ("ソニー アァア 表示", "cp932"),
        ("ﾔﾏﾀﾞ ﾀﾛｳ", "cp932"),
        ("김민수 이지영", "cp949"),
        ("山田 太郎", "iso2022_jp"),
        ("Jörg 王", "utf-16-le"),
    ],
)
@pytest.mark.parametrize("template", ["{name},{address}\n", "{address}|{name}|x\n", "{name} <{address}>\n"])
def test_d3_nobody_is_lost_in_another_encoding(tmp_path: Path, names: str, codec: str, template: str) -> None:
    """Addresses are ASCII: an export is read whatever its names are in, even if nobody can say what."""
    lines = [
        template.format(name=name, address=f"p{at}@x.org") for at, name in enumerate([*names.split(), "Ann"])
    ]
    path = tmp_path / "stop.csv"
    path.write_bytes("".join(lines).encode(codec))

    assert read_opt_outs(path).addresses == {f"p{at}@x.org" for at in range(len(lines))}


@pytest.mark.parametrize(
    ("heading", "codec"),
    [("Адрес эл. почты", "cp1251"), ("退订邮箱", "gbk"), ("Επώνυμο;Ηλ. διεύθυνση;e-mail", "iso8859-7")],
)
def test_d3_headings_in_an_old_encoding_are_headings(tmp_path: Path, heading: str, codec: str) -> None:
    """In other encodings they are no words, but the addresses below are the same."""
    (tmp_path / "stop.csv").write_bytes(f"{heading}\n{';' * heading.count(';')}a@x.org\n".encode(codec))

    assert read_opt_outs(tmp_path / "stop.csv").addresses == {"a@x.org"}


def test_d3_what_depends_on_the_encoding_is_refused(tmp_path: Path) -> None:
    """Where a character of a short list may have an @ in it, nothing is guessed."""
    path = tmp_path / "stop.csv"
    path.write_bytes("a@x.org|一|x\nb@x.org|丁一|x\n".encode("big5"))

    with pytest.raises(ListError):
        read_opt_outs(path)


def test_d3_nobody_is_lost_in_two_encodings(tmp_path: Path) -> None:
    """A line in another encoding that was pasted into a UTF-8 export is read like the others."""
    path = tmp_path / "stop.csv"
    path.write_bytes("email,name\na@x.org,Zoë\n".encode() + "b@x.org,Müller\n".encode("cp1252"))

    assert read_opt_outs(path).addresses == {"a@x.org", "b@x.org"}


def _workbook(path: Path, **sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.remove(book.worksheets[0])
    book.save(path)
    return path


def test_d1_a_workbook_is_read_as_text_is(tmp_path: Path) -> None:
    """Also its hidden rows; a row without an address is named by its number."""
    good = _workbook(tmp_path / "a.xlsx", stop=[["Name", "E-mail"], ["A", "a@x.org"], [], ["B", "b@x.org"]])
    book = openpyxl.load_workbook(good)
    book["stop"].row_dimensions[4].hidden = True
    book.save(good)
    bad = _workbook(tmp_path / "b.xlsx", stop=[["Name", "E-mail"], ["A", None]])

    assert read_opt_outs(good).addresses == {"a@x.org", "b@x.org"}
    with pytest.raises(ListError) as caught:
        read_opt_outs(bad)
    assert "sheet stop, row 2" in str(caught.value.place)


def test_d2_addresses_on_two_sheets_are_a_question(tmp_path: Path) -> None:
    """It is not known which of them must not be written to."""
    path = _workbook(tmp_path / "a.xlsx", members=[["email"], ["a@x.org"]], stop=[["email"], ["b@x.org"]])

    with pytest.raises(ListError, match='several sheets: "members", "stop"'):
        read_opt_outs(path)


@given(
    st.lists(st.from_regex(r"\A[a-z]{1,8}@[a-z]{1,8}\.org\Z"), min_size=1, max_size=8),
    st.sampled_from([", ", ";", " ", "\n", " ; ", "\t", ",\n"]),
    st.sampled_from(["{}", "<{}>", "Name <{}>", '"Last, First" <{}>', "mailto:{}", "{}.", "'{}'"]),
)
def test_d1_no_address_of_a_cell_is_lost(addresses: list[str], between: str, form: str) -> None:
    """However they are written and separated."""
    found = entries_in(between.join(form.format(address) for address in addresses))

    assert found.problem is None
    assert list(found.addresses) == addresses


@given(st.text(max_size=200))
def test_d1_any_text_is_a_cell(text: str) -> None:
    """Each @ of it belongs to an address that was found, or there is a problem."""
    found = entries_in(text)

    assert found.problem is not None or all(
        Address.parse(f"any@{one.rpartition('@')[2]}") for one in found.addresses
    )


# --- in a campaign -------------------------------------------------------------------------------------


def test_d1_suppression_covers_addresses_and_domains(tmp_path: Path) -> None:
    """Case does not matter; several files count together."""
    (tmp_path / "one.txt").write_text("# who said no\nANN@x.org\n@corp.example\n", encoding="utf-8")
    (tmp_path / "two.csv").write_text("when,email\n2026-01-01,bo@x.org\n", encoding="utf-8")
    suppressed = Suppressed([tmp_path / "one.txt", tmp_path / "two.csv"])
    covered = ["ann@X.org", "anyone@corp.example", "bo@x.org", "cy@x.org"]

    assert [suppressed.covers(Address.parse(text).normalised) for text in covered] == [
        True,
        True,
        True,
        False,
    ]


def test_d1_the_plan_says_how_many_and_how_many_of_them_are_meant(campaign_factory: CampaignFactory) -> None:
    """Of each file, the user's own store included."""
    rows = ["ana@x.org,Ana", "bo@x.org,Bo", "cy@y.org,Cy"]
    stop = "email\nANA@x.org\ngone@x.org\n"
    campaign = campaign_factory({"stop.csv": stop}, rows=rows, data='suppress = ["stop.csv"]')
    with SuppressionStore(campaign_factory.config.with_name("suppressed.csv")) as store:
        store.add(["@y.org"], day=DAY)
    plan = campaign.check()

    assert [(one.path.name, one.entries, one.listed) for one in plan.opt_outs] == [
        ("stop.csv", 2, 1),
        ("suppressed.csv", 1, 1),
    ]
    assert (plan.statuses[Status.SUPPRESSED], plan.statuses[Status.PENDING]) == (2, 1)


def test_d3_who_was_read_once_stays(tmp_path: Path) -> None:
    """A file that is empty for a moment, because it is being written, makes nobody a recipient."""
    path = tmp_path / "stop.txt"
    path.write_text("a@x.org\n")
    suppressed = Suppressed([path])
    path.write_text("")

    assert suppressed.refresh()
    assert suppressed.covers("a@x.org")


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_d3_a_store_that_vanishes_while_a_run_goes_on_holds_it(tmp_path: Path) -> None:
    """Checked once a second: the run waits while it is away, resumes when it is back, ends after a minute."""
    store, clock = tmp_path / "suppressed.csv", _Clock()
    store.write_text("email\na@x.org\n")
    watch = OptOutWatch(Suppressed([], store), clock)
    seen = [watch.held_until()]
    store.rename(tmp_path / "away")
    for seconds in (0.5, 0.5, 30.0):
        clock.now += seconds
        seen.append(watch.held_until())
    (tmp_path / "away").rename(store)
    clock.now += 1
    seen.append(watch.held_until())
    store.unlink()
    clock.now += 1
    seen.append(watch.held_until())
    clock.now += 60
    seen.append(watch.held_until())

    assert seen == [0.0, 0.0, 161.0, 161.0, 0.0, 193.0, 0.0]
    assert watch.failure is not None
    assert watch.failure.code == "D150"


# --- the store -----------------------------------------------------------------------------------------


def test_d4_the_store_keeps_what_is_added(tmp_path: Path) -> None:
    """Normalised, once, private; removed again by name, and nobody by a name that is not there."""
    path = tmp_path / "config" / "suppressed.csv"
    with SuppressionStore(path) as store:
        assert store.add(["Ana@X.org", "Bo <bo@x.org>", "@Corp.example"], day=DAY) == 3
        assert store.add(["ana@x.org", "cy@x.org"], day=DAY, source="form") == 1
        with pytest.raises(ListError, match=r"nobody@x\.org is not in"):
            store.remove(["bo@x.org", "nobody@x.org"])
        assert store.remove(["BO@x.org"]) == 1

    assert path.read_text("utf-8") == (
        "email,added,source\nana@x.org,2026-11-28,\n@corp.example,2026-11-28,\ncy@x.org,2026-11-28,form\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Suppressed([], path).covers("x@corp.example")


def test_d4_a_store_that_is_not_understood_is_never_written_over(tmp_path: Path) -> None:
    """Nor is anything read from it: whoever edited it is told the line."""
    path = tmp_path / "suppressed.csv"
    path.write_text("email\na@x.org\noops\n")
    with SuppressionStore(path) as store, pytest.raises(ListError) as caught:
        store.add(["b@x.org"], day=DAY)

    assert caught.value.place is not None
    assert caught.value.place.line == 3
    assert path.read_text() == "email\na@x.org\noops\n"


def test_d4_two_writers_lose_nothing(tmp_path: Path) -> None:
    """One waits for the other; who waits too long is told."""
    path = tmp_path / "suppressed.csv"

    def write(number: int) -> None:
        for count in range(5):
            with SuppressionStore(path) as store:
                store.add([f"p{number}-{count}@x.org"], day=DAY)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(SuppressionStore(path).entries()) == 15

    with SuppressionStore(path), pytest.raises(InUseError), SuppressionStore(path, wait=0.0):
        pass


def test_d4_an_import_takes_all_of_a_file_or_nothing(tmp_path: Path) -> None:
    """As the file is read for a campaign."""
    path = tmp_path / "suppressed.csv"
    (tmp_path / "export.csv").write_text(EXPORT)
    (tmp_path / "bad.csv").write_text("email\nc@x.org\n?\n")
    with SuppressionStore(path) as store:
        found, new = store.add_file(tmp_path / "export.csv", day=DAY)
        with pytest.raises(ListError):
            store.add_file(tmp_path / "bad.csv", day=DAY)

    assert (len(found), new) == (2, 2)
    assert [(one.entry, one.source) for one in SuppressionStore(path).entries()] == [
        ("ana@example.org", "export.csv"),
        ("bo@example.org", "export.csv"),
    ]


def test_d4_a_fault_in_the_store_stops_every_campaign(campaign_factory: CampaignFactory) -> None:
    """It fails closed, as a file that the campaign names does."""
    campaign_factory.config.with_name("suppressed.csv").write_text("email\nana\n")

    with pytest.raises(ListError) as caught:
        campaign_factory().check()
    assert caught.value.code == "D151"


# --- the column ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heading",
    ["email", "E-mail", "E-Mail-Adresse", "EMAIL_ADDRESS", "emailAddress", "Your e mail", "Courriel", "Mail",
     "Adresse électronique", "Correo electrónico", "邮箱", "電子郵件", "メールアドレス", "이메일", "Почта",
     "Эл. почта", "E-posta", "Sähköposti", "ईमेल", "อีเมล", "البريد الإلكتروني", "דוא״ל",
     "Ηλεκτρονικό ταχυδρομείο"],
)  # fmt: skip
def test_headings_that_mean_email_are_known(heading: str) -> None:
    """In many spellings and languages."""
    assert understood(heading).email


@pytest.mark.parametrize(
    "heading", ["Sender", "From", "Account owner", "Referred by", "Created By", "Absender"]
)
def test_headings_that_mean_somebody_else_are_known(heading: str) -> None:
    """The address of who sent or referred is not that of the row."""
    assert not understood(heading).theirs


@pytest.mark.parametrize(
    ("headings", "row", "wanted"),
    [
        (["Address", "E-mail"], ["Main St. 1", "a@x.org"], 1),
        (["Email Address", "Address"], ["a@x.org", ""], 0),
        (["Referrer email", "Login"], ["b@x.org", "a@x.org"], 1),
        (["Notes", "Kontakt"], ["a@x.org", "b@x.org"], 1),
        (["a", "b"], ["x", "a@x.org"], 1),
        (["name", "mail"], ["Ana", ""], 1),
    ],
)
def test_heading_and_cells_decide_together(headings: list[str], row: list[str], wanted: int) -> None:
    """A blank column that is called Address loses against cells."""
    assert address_columns(headings, [row])[0].position == wanted


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (["a@x.org", "b@x.org", "c@x.org ::: d@x.org"], ["e@x.org", "", ""], 0),
        (["a@x.org", "b@x.org", "c@x.org", "d@x"], ["e@x.org", "f@x.org", "g@x.org", "h@x.org"], 0),
        (["a@x.org", "", "", ""], ["e@x.org", "f@x.org", "g@x.org", "h@x.org"], 1),
    ],
)
def test_a_second_address_is_no_better_for_having_no_mistake(
    first: list[str], second: list[str], wanted: int
) -> None:
    """One mistake in the first of several columns of addresses leaves it the first."""
    rows = [list(cells) for cells in zip(first, second, strict=True)]

    assert address_columns(["E-mail 1 - Value", "E-mail 2 - Value"], rows)[0].position == wanted


def test_d4_campaigns_made_of_rows_ask_the_store_too(tmp_path: Path) -> None:
    """A program's list is not an exception."""
    with SuppressionStore(tmp_path / "suppressed.csv") as store:
        store.add(["a@x.org"], day=DAY)
    campaign = Campaign.from_rows(
        [{"email": "a@x.org"}, {"email": "b@x.org"}],
        subject="Hi",
        text="Hello",
        sender="me@example.org",
        state=tmp_path / "state",
        environ={"MAILMERGE_CONFIG": str(tmp_path / "config.toml")},
    )

    assert campaign.plan().statuses[Status.SUPPRESSED] == 1


def test_opt_outs_below_a_title(tmp_path):
    """What is above the headings and has no address is left out; a row without one below them is not."""
    path = tmp_path / "stop.csv"
    path.write_text(
        "Opt-outs 2026,,\nexported 2026-03-05,,\n\nName,Email,Date\nAnn,ann@x.org,1\nBo,bo@x.org,2\n"
    )
    assert read_opt_outs(path).addresses == {"ann@x.org", "bo@x.org"}
    path.write_text("Opt-outs 2026,,\nCy,cy@x.org,1\nName,Email,Date\nAnn,ann@x.org,1\nBo,,2\n")
    with pytest.raises(ListError):
        read_opt_outs(path)


ANA = hashlib.sha256(b"ana@example.org").hexdigest()
BO = hashlib.sha256(b"bo@xn--mller-kva.example").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        f"{ANA}\n{BO}\n",
        f"sha256:{ANA}\nSHA256:{BO.upper()}\n",
        f"sha256:{ANA}  # 2026-11-27 club\nsha-256:{BO}\n",
        f"hash\n{ANA}\n{BO}\n",
        f"Email SHA256,Date\n{ANA},2026-11-27\n{BO},2026-11-28\n",
        f"id;email_hash\n1;{ANA}\n2;{BO}\n",
        f"email,sha256\nana@example.org,{ANA}\n,{BO}\n",
        f"email\nana@example.org\n{BO}\n",
        f'"{ANA}"\n"{BO}"\n',
        f"# hashes\n\n{ANA},{BO}\n",
    ],
)
def test_hashes_stand_for_the_addresses_that_they_are_of(tmp_path: Path, text: str) -> None:
    """SHA-256 of the address in small letters, the domain in A-labels, in any column and spelling."""
    path = tmp_path / "gone.csv"
    path.write_text(text, encoding="utf-8")
    suppressed = Suppressed([path])

    assert suppressed.covers("ana@example.org")
    assert suppressed.covers("bo@xn--mller-kva.example")
    assert not suppressed.covers("cy@example.org")


def test_a_file_of_weaker_hashes_is_refused(tmp_path: Path) -> None:
    """MD5 and SHA-1 are not compared, so such a row must not pass for an opt-out."""
    path = tmp_path / "gone.csv"
    path.write_text(f"email_hash\n{hashlib.md5(b'ana@example.org').hexdigest()}\n")
    with pytest.raises(ListError) as caught:
        read_opt_outs(path)
    [found] = caught.value.diagnostics
    assert (found.code, "SHA-256: 64 hex digits" in (found.hint or "")) == ("D151", True)


def test_the_store_keeps_hashes_and_lets_go_by_address(tmp_path: Path) -> None:
    """Who is removed by the address is not in it by a hash any more, and a file of the store reads back."""
    path = tmp_path / "suppressed.csv"
    with SuppressionStore(path) as store:
        assert (
            store.add([f"sha256:{ANA}", BO, "@example.com", "ana@example.org"], day=date(2026, 11, 27)) == 4
        )
        assert store.add([ANA.upper()], day=date(2026, 11, 28)) == 0
        assert [one.entry for one in store.entries()] == [
            f"sha256:{ANA}",
            f"sha256:{BO}",
            "@example.com",
            "ana@example.org",
        ]
        assert store.remove(["Ana@Example.org"]) == 2
    assert Suppressed(store=path).covers("bo@xn--mller-kva.example")
    assert not Suppressed(store=path).covers("ana@example.org")


@pytest.mark.parametrize("weak", ["5d41402abc4b2a76b9719d911017c592", "md5:" + "0a" * 16, "AF" * 20])
def test_a_weaker_hash_is_refused_with_the_one_that_is_wanted(tmp_path: Path, weak: str) -> None:
    """In the store as in files; nothing is added."""
    store = SuppressionStore(tmp_path / "suppressed.csv")
    with pytest.raises(ListError) as caught:
        store.add([weak], day=date(2026, 11, 27))
    assert (caught.value.code, "SHA-256" in (caught.value.hint or "")) == ("D151", True)
    assert store.entries() == []
