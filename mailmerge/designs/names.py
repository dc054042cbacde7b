"""Names of placeholders in other programs, and the columns of a list to which they refer."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from mailmerge.model import Columns

_MARKS = lazy_re(r"""["'\\{}%#]""")
_RESERVED = frozenset(
    """and else elif if for in is not or import from as with without context block extends include macro call
    filter set do true false none True False None loop self super caller varargs kwargs range dict lipsum
    cycler joiner namespace row recursive ignore missing scoped required pluralize trans""".split()  # noqa: SIM905
)
"""Names with another meaning in templates."""

_SPELLINGS = (
    # First names, family names, whole names.
    """firstname fname first givenname forename christianname vorname rufname prenom nombre nome imie imię
    voornaam fornamn förnamn fornavn etunimi jmeno jméno keresztnev imya имя 名 名字""",
    """lastname lname last surname familyname secondname nachname familienname zuname nomdefamille nom
    apellido apellidos cognome sobrenome nazwisko achternaam efternamn etternavn efternavn sukunimi
    prijmeni příjmení vezeteknev фамилия 姓""",
    """name fullname contactname recipientname customername subscribername displayname vollername
    namecomplete nomcomplet nombrecompleto nomecompleto 姓名 名前 氏名""",
    """email mail emailaddress mailaddress emailadresse mailadresse courriel correo correoelectronico
    indirizzoemail adresemail epost sahkoposti почта 邮箱 メールアドレス""",
    """company companyname organization organisation organizationname organisationname firma firmenname
    unternehmen societe société entreprise empresa azienda ditta bedrijf företag foretag yritys компания 公司
    会社名""",
    "salutation anrede briefanrede greeting civilite civilité tratamiento titolo aanhef tilltal",
    "jobtitle position berufsbezeichnung funktion fonction cargo puesto",
    "phone phonenumber telephone telefon tel telefono telefone telefonnummer mobile mobil mobilephone",
    "address street address1 addressline1 adresse strasse straße rue direccion dirección indirizzo endereço",
    "city town ort stadt wohnort ville ciudad citta città cidade plaats stad miasto город 城市",
    "zip zipcode postcode postalcode plz postleitzahl codepostal codigopostal cap cep",
    "state province region bundesland kanton provincia estado",
    "country land staat pays pais país paese kraj страна 国家",
    "birthday birthdate dateofbirth geburtstag geburtsdatum anniversaire fechadenacimiento",
    "website url web homepage webseite",
    "invoicenumber invoiceno invoice rechnungsnummer rechnungsnr numerofacture",
    "customerid customernumber customerno kundennummer kundennr numeroclient",
)
_GROUP = {spelling: group for group, line in enumerate(_SPELLINGS) for spelling in line.split()}
_PERSONAL = frozenset(
    """firstname fname lastname lname fullname givenname forename surname familyname contactname recipientname
    customername subscribername displayname vorname nachname prenom prénom anrede briefanrede salutation
    nombrecompleto apellidos voornaam achternaam förnamn efternamn fornavn etternavn name email emailaddress
    mailaddress emailadresse company companyname firma companyaddress phonenumber jobtitle username customer
    recipient zipcode postcode unsubscribelink addressblock greetingline adressblock grusszeile grußzeile имя
    фамилия 姓名 名前 氏名""".split()  # noqa: SIM905
)
"""Names that in brackets are not prose, whether or not the list has such a column."""
_OPT_OUT = lazy_re(
    r"unsub(?:scribe)?(?:me|url|uri|link|linkurl|linkall|here|fromall|fromlist|email)?"
    r"|unsub(?:scribe)?link(?:[a-z]{2}|url)|(?:tag|mailinglist|global|list|newsletter|one?click)unsub(?:scribe)?(?:url|link)?"
    r"|asm(?:group|global)unsubscribe(?:raw)?url|unsubscribe(?:subscriptioncenter)?url|rawunsubscribeurl"
    r"|opt(?:ing)?out(?:url|link|here)?|listunsubscribe|emailpreferencesunsubscribe"
    r"|abmelde(?:n|link|url)?|austragen(?:link)?|desinscription(?:url|lien)?|liendesinscription|seddesinscrire"
    r"|darsedebaja|baja(?:url|link)|cancellami|disiscrizione|disiscriviti|afmeld(?:en|link|url)"
    r"|avregistrera|wypisz|отписаться|退订|配信停止"
)
_ABOUT_WHOM = lazy_re(
    r"(?:the|your|insert|enter|add|customer'?s?|recipient'?s?|client'?s?|ihre?|dein|votre|tu|su|vuestro)"
    r"[\s_-]+(?:the[\s_-]+|your[\s_-]+)?(?=\w)",
    re.IGNORECASE,
)
_OWNER = lazy_re(
    r"\.?(?:recipient|contact|contacts|subscriber|person|customer|lead|user|member|params|attributes|merge|data|var|profile"
    r"|contactfield|contact_attribute|owner|account|payload|row|column|fields?|list)\s*[.:=]\s*",
    re.IGNORECASE,
)
_FALLBACK = lazy_re(
    r"""\s*(?:,\s*fallback\s*=|\|\s*(?:default|fallback)\s*(?:\(|:|=)?|\|\||\bOR\b|\|(?=[^|])|:(?=["'])"""
    r"""|:default=|,\s*(?=["']))\s*(["']?)(?P<other>[^"'|()]*?)\1\s*\)?\s*\Z"""
)
_EDITORIAL = frozenset(
    """note sic link image img video photo picture pdf audio update edit edited ed optional more ad ads
    external extern draft new old sold ok yes no tbd todo n/a na here source sources citation start end
    page title text music pause laughter applause redacted""".split()  # noqa: SIM905
)
"""Words that prose contains in square brackets."""


class Field(Struct, frozen=True):
    """What a placeholder of another program refers to."""

    name: str
    """The name as written there, without owner and fallback."""
    key: str
    """The name in the form in which it is compared."""
    fallback: str
    """The text to show if the value is empty."""

    @property
    def unsubscribes(self) -> bool:
        """Whether it is the recipient's unsubscribe address."""
        return _OPT_OUT.fullmatch(self.key) is not None

    @property
    def personal(self) -> bool:
        """Whether it is known as a placeholder in any context."""
        return self.key in _PERSONAL or self.unsubscribes

    @property
    def common(self) -> bool:
        """Whether lists commonly have such a column, under whatever heading."""
        return self.key in _GROUP

    @property
    def editorial(self) -> bool:
        """Whether prose contains such a word in square brackets."""
        return self.key in _EDITORIAL and self.name[:1].islower()

    @property
    def spelt_as_a_field(self) -> bool:
        """Whether people would not write it like that: First_Name, FirstName."""
        return "_" in self.name or re.search(r"[a-z][A-Z]", self.name) is not None


def read_field(inner: str) -> Field:
    """Parse the text between the marks of a placeholder."""
    from html import unescape

    text = " ".join(unescape(inner.replace("\0", "")).replace("\u00a0", " ").split()).strip(" $!.=@")
    text = re.sub(r"\Av\(@?|\)\Z", "", text)
    fallback = ""
    if found := _FALLBACK.search(text):
        text, fallback = text[: found.start()], found["other"].strip()
    bare = _OWNER.sub("", text, count=1).strip(" .")
    bare = _ABOUT_WHOM.sub("", bare, count=1) or bare
    return Field(bare or text, compared(bare or text), fallback)


def compared(name: str) -> str:
    """Return a name as it is compared: without case, form of accents, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


class ListColumns:
    """The columns of a list, as placeholders may refer to them."""

    def __init__(self, columns: Columns) -> None:
        self._names = frozenset(columns.names)
        self._exact: dict[str, str] = {}
        self._alike: dict[int, str] = {}
        for heading, name in zip(columns.headings, columns.names, strict=True):
            written = expression(name, heading)
            for spelling in (compared(heading), compared(name)):
                if spelling:
                    self._exact.setdefault(spelling, written)
                    if (group := _GROUP.get(spelling)) is not None:
                        self._alike.setdefault(group, written)

    def written(self, field: Field) -> str | None:
        """Return a placeholder's column as a template writes it; None: the list has no such column."""
        return self._exact.get(field.key) or self._alike.get(_GROUP.get(field.key, -1))

    def is_name(self, name: str) -> bool:
        """Return whether a template may refer to a column by this name."""
        return name in self._names

    def named(self, field: Field) -> bool:
        """Return whether the list has a column of exactly that name."""
        return field.key in self._exact


def expression(name: str, heading: str) -> str:
    """Return a column as a template reads it: by its name, or by a heading as a string."""
    if name in _RESERVED or _MARKS.search(heading):
        return f"row[{quoted_in_template(heading)}]"
    return name


def quoted_in_template(text: str) -> str:
    r"""Return a string in Jinja2's notation: ``\`` and quotes are escaped, as in Python."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
