"""The languages whose words search knows by their stems, as PostgreSQL's text search configurations of ours.

Each `lms_…` is the configuration of that name with accents taken off before (migration materials_0004).
"""

SIMPLE = "lms_simple"
STEMMED = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "id": "indonesian",
    "it": "italian",
    "nb": "norwegian",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "tr": "turkish",
}
CONFIGURATIONS = (SIMPLE, *sorted({f"lms_{name}" for name in STEMMED.values()}))


def configuration(locale: str) -> str:
    """The configuration for a language tag (BCP 47), such as `de-CH`; words as they are for other languages."""
    name = STEMMED.get(locale.partition("-")[0].lower())
    return SIMPLE if name is None else f"lms_{name}"
