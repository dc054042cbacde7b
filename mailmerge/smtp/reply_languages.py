"""Words of refusals in other languages than English, case-folded, as data for the table of replies.

Administrators translate the texts of their servers, and some products answer in the language of the system.
"""

from __future__ import annotations

from typing import Final

SIGN_IN: Final = (
    "authentification requise",
    "authentification nécessaire",
    "authentifizierung erforderlich",
    "authentifizierung notwendig",
    "anmeldung erforderlich",
    "nicht authentifiziert",
    "requiere autentic",
    "autenticación requerida",
    "no autenticado",
    "autenticação necessária",
    "não autenticado",
    "autenticazione richiesta",
    "non autenticato",
    "authenticatie vereist",
    "wymagane uwierzytelnienie",
    "требуется аутентификация",
    "требуется авторизация",
    "необходима авторизация",
    "需要身份验证",
    "需要身份認證",
    "需要认证",
    "请先登录",
    "認証が必要",
    "인증이 필요",
)
"""What asks for a sign-in."""
RECIPIENTS: Final = (
    "empfänger",
    "empfaenger",
    "destinataire",
    "destinatari",
    "destinatári",
    "ontvanger",
    "postfach",
    "boîte",
    "buzón",
    "caixa postal",
    "casella",
    "postvak",
    "skrzynk",
    "odbiorc",
    "получател",
    "收件",
    "受信者",
    "宛先",
    "받는 사람",
    "수신자",
)
"""Parts of words for a recipient or a mailbox."""
LANGUAGES: Final = {
    "German": (
        ("absender", "absenderadresse", "absendeadresse", "absenderdomain", "absenderdomäne"),
        ("relay-zugriff", "relayzugriff", "relaying", "relay", "weiterleitung"),
        ("nicht", "kein", "verweigert", "abgelehnt", "abgewiesen", "ungültig", "unzulässig", "gesperrt"),
    ),
    "French": (
        ("expéditeur", "expediteur", "l'expéditeur", "l'expediteur", "émetteur"),
        ("relais", "relayage", "relayer"),
        ("refus", "rejet", "interdit", "invalide", "non ", "n'est pas", "pas autoris", "ne correspond"),
    ),
    "Spanish, Portuguese, Italian": (
        ("remitente", "remetente", "mittente", "del mittente", "do remetente"),
        ("relay", "retransmisión", "retransmissão", "reenvío", "inoltro"),
        ("rechaz", "deneg", "negad", "recus", "rejeit", "rifiut", "negat", "no ", "não ", "non ", "inválid"),
    ),
    "Dutch, Polish": (
        ("afzender", "afzenderadres", "nadawca", "nadawcy"),
        ("doorsturen", "relay", "przekazywanie"),
        ("niet", "geweigerd", "ongeldig", "odrzuc", "nie ", "zabron"),
    ),
    "Russian": (
        ("отправител",),
        ("ретрансляц", "пересылк", "релей"),
        ("не ", "откл", "отказ", "запрещ", "недопустим"),
    ),
    "Chinese": (
        ("发件", "寄件", "发信人"),
        ("中继", "中繼", "转发", "轉發"),
        ("不", "拒", "无", "無", "未", "没", "沒", "禁"),
    ),
    "Japanese, Korean": (
        ("送信者", "送信元", "差出人", "보낸 사람", "발신자", "발신인"),
        ("中継", "リレー", "릴레이"),
        ("ません", "拒否", "無効", "禁止", "いない", "거부", "않", "없", "아닙"),
    ),
}
"""Of a language: who sends, what relaying is called, and how both are refused."""
