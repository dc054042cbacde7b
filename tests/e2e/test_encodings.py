"""Lists in the encodings of real programs, through the command line."""

from __future__ import annotations

import re

from servers.command import typed

EXCEL = "E-Mail;Vorname;Nachname;Fällig\r\nj@x.org;Jörg;Müller;1.234,50 €\r\nk@x.org;Käthe;Weiß;99 €\r\n"
WPS = "姓名,邮箱,金额\r\n王小明,wang@example.com,￥1234.50\r\n李娜,li@example.com,￥99.00\r\n"
INIT = ["init", "spring", "--list", "kunden.csv", "--template", "plain", "--from", "me@example.org"]


def test_init_asks_once_and_writes_the_answer(mailmerge):
    """The names of the list are shown as each encoding reads them; what was chosen is in campaign.toml."""
    (mailmerge.folder / "kunden.csv").write_bytes(EXCEL.encode("cp1252"))

    made = typed(mailmerge, [*INIT, "--subject", "Hi"], [("another encoding", "1")])

    assert made.code == 0, made
    assert re.search(r"1  Windows-1252 \(Western Europe\) +Jörg, Käthe, Weiß", made.err)
    assert 'encoding = "cp1252"' in (mailmerge.folder / "spring" / "campaign.toml").read_text("utf-8")
    check = mailmerge("check", "spring")
    assert check.code == 0, check
    assert "CSV, Windows-1252 (Jörg, Müller, Käthe), semicolon" in check.err


def test_what_the_hint_says_can_be_pasted(mailmerge):
    """Without a terminal the likeliest encodings are shown, each as the option that says it."""
    (mailmerge.folder / "kunden.csv").write_bytes(EXCEL.encode("cp1252"))

    refused = mailmerge(*INIT)

    assert refused.code == 2
    assert "error[D230]: the encoding of kunden.csv is not certain" in refused.err
    option = re.search(r'(--encoding) (\S+) reads "Jörg, Käthe, Weiß"', refused.err)
    assert option, refused
    assert mailmerge(*INIT, *option.groups()).code == 0
    assert mailmerge("check", "spring").code == 0


def test_a_list_in_chinese_is_read_and_said(mailmerge):
    """GB18030 is taken where the names leave no doubt, and they are in the plan."""
    (mailmerge.folder / "kunden.csv").write_bytes(WPS.encode("gb18030"))

    assert mailmerge(*INIT).code == 0
    check = mailmerge("check", "spring", "-v")

    assert check.code == 0, check
    assert "CSV, GB18030 (王小明, 李娜, 姓名), comma" in check.err


def test_opt_outs_are_taken_over_in_any_encoding(mailmerge):
    """An export of opt-outs needs no encoding: its addresses are ASCII."""
    (mailmerge.folder / "stop.csv").write_bytes("name,email\nMüller,a@x.org\n王,b@x.org\n".encode("gb18030"))
    (mailmerge.folder / "stopp.csv").write_bytes("name;email\nMüller;c@x.org\n".encode("cp1252"))

    for name in ("stop.csv", "stopp.csv"):
        assert mailmerge("suppress", "import", name).code == 0

    listed = mailmerge("suppress", "list").out
    assert [address for address in ("a@x.org", "b@x.org", "c@x.org") if address not in listed] == []
