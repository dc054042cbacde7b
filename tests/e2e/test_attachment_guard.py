"""A swapped file is never sent: what check says, and what the server gets."""

from __future__ import annotations

from email import message_from_bytes, policy

from attachment_corpus import pdf
from campaigns import campaign_toml

ATTACH = '[[attach]]\npath = "{{ name }}.pdf"\n[[attach]]\npath = "{{ name }}.txt"\n'


def test_rows_whose_files_were_swapped_get_none(mailmerge, relay):
    """Check names both files and whose they are; only the third row's message goes out, its text as UTF-8."""
    mailmerge.account(relay)
    folder = mailmerge.campaign(campaign_toml=campaign_toml(top='account = "test"', rest=ATTACH))
    for name, address in (("Ana", "bo@example.net"), ("Bo", "ana@example.com"), ("Cy", "cy@example.org")):
        (folder / f"{name}.pdf").write_bytes(pdf(f"Payslip\n{address}"))
        (folder / f"{name}.txt").write_text("Grüße", encoding="utf-8")

    done = mailmerge("check", "spring")
    assert done.code == 3, done
    assert '"Ana.pdf" names "bo@example.net": that is row 3 (bo@example.net), not this row' in done.out
    assert '"Bo.pdf" names "ana@example.com": that is row 2 (ana@example.com), not this row' in done.out

    assert mailmerge("send", "spring", "--yes", "--skip-invalid").code == 3
    [received] = relay.messages
    message = message_from_bytes(received.content, policy=policy.default)
    payslip, text = message.iter_attachments()
    assert message["To"].addresses[0].addr_spec == "cy@example.org"
    assert payslip.get_content() == pdf("Payslip\ncy@example.org")
    assert (text["Content-Type"].params["charset"], text.get_content()) == ("utf-8", "Grüße")
