"""The demo world's vocabulary: a taxonomy of themes and interests, and titles and names composed from it.

The words are in `words.txt`; this reads them and spells out every title there can be, so that a generator only picks.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

GIVEN = """Ada Aiko Alma Amara Anders Anika Anselm Aoife Arjun Astrid Aylin Basma Beatriz Bilal Bram Camille Carmen
Chidi Clara Dagny Daniel Deepa Diego Ebba Elif Eliza Emeka Enzo Esther Farid Fatima Felix Femi Freya Gael Greta Hana Hassan
Helena Hiro Ida Ilse Imani Ines Ivo Jamal Jana Jing Joana Jonas Kaito Karim Keiko Kofi Lars Layla Leila Leo Lina Lucia
Lukas Maeve Magnus Mai Malik Maren Mateo Mei Mila Minh Miriam Mohan Nadia Naomi Nils Noor Olga Omar Oskar Paloma Paolo
Petra Priya Rafael Rania Ravi Rosa Ruben Saba Samir Sana Selma Sione Sofia Soren Sunita Tahir Tala Tariq Teresa Thandi
Tomas Uma Valentin Vera Viktor Wanjiru Wei Willa Xavier Yara Yasmin Yuki Yusuf Zahra Zeynep Zofia Zuri"""
FAMILY = """Abebe Achterberg Adeyemi Ahmed Almeida Andersen Aoki Baker Banerjee Barros Becker Bello Berg Bianchi Blom
Bosch Brandt Campbell Castro Chen Choi Cohen Costa Dahl Delgado Desai Diallo Dubois Duran Eriksen Falk Farah Fernandes
Fischer Fontaine Fraser Fujita Garcia Gill Gomez Gupta Haddad Hansen Haugen Herrera Hoang Horvat Ibrahim Inoue Ito
Ivanova Jansen Jensen Kaya Keller Khan Kim Kovacs Kowalski Kumar Larsen Laurent Lehmann Lim Lindqvist Lopez Lund
Mahlangu Marino Martin Mbeki Mendes Meyer Mori Moreau Mwangi Nakamura Nasser Ndiaye Nguyen Novak Nunes Oduya Okafor Okonkwo Olsen
Ortega Osei Park Pereira Petrov Pham Popescu Quinn Rahman Ramos Reyes Ricci Rossi Sato Schmidt Sharma Silva Singh Smit
Sokolova Suzuki Tanaka Tembo Torres Tran Vargas Vega Vogel Walsh Weber Wong Yamada Yilmaz Zhang Zimmer"""
BOARDS = (
    "{Interest}", "{Interest} ideas", "{Interest} to try", "My {interest} board", "{Interest}, saved for later",
    "All things {interest}", "{Interest} inspiration", "Favourite {interest}", "{Interest} for the weekend",
    "{Interest} worth keeping", "Learning {interest}", "{Interest} & friends", "{Theme}: {interest}",
    "One day: {interest}", "{Interest} for autumn", "Best of {interest}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Theme:
    """Interests that belong together, each with the things that are saved about it."""

    name: str
    adjectives: list[str]
    endings: list[str]
    interests: dict[str, list[str]]


@cache
def themes() -> tuple[Theme, ...]:
    """All themes of `words.txt`, in its order."""
    found: list[Theme] = []
    for line in Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(": ")
        if line.startswith("= "):
            found.append(Theme(line[2:], [], [], {}))
        elif key == "adjectives":
            found[-1].adjectives.extend(rest.split(" | "))
        elif key == "endings":
            found[-1].endings.extend(rest.split(" | "))
        elif rest and not line.startswith("#"):
            found[-1].interests[key] = rest.split(", ")
    return tuple(found)


def pin_titles(theme: Theme, interest: str) -> list[str]:
    """Every title of a pin of the interest: a thing, perhaps with an adjective, perhaps with an ending of each kind."""
    starts = [
        capital(f"{adjective} {thing}".strip())
        for thing in theme.interests[interest]
        for adjective in ("", *theme.adjectives)
    ]
    how = [""] + [f" {ending}" for ending in theme.endings if not ending.startswith(",")]
    note = [""] + [ending for ending in theme.endings if ending.startswith(",")]
    return [start + one + other for start in starts for one in how for other in note]


def board_titles(theme: Theme, interest: str) -> list[str]:
    """Every title of a board of the interest."""
    words = {"interest": interest, "Interest": capital(interest), "Theme": theme.name}
    return [template.format(**words) for template in BOARDS]


def user_names() -> list[str]:
    """Every given and family name together."""
    return [f"{given} {family}" for given in GIVEN.split() for family in FAMILY.split()]


def slug(interest: str) -> str:
    """The interest as part of an address: lower-case ASCII letters, digits and hyphens."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in interest.lower())
    return "-".join(part for part in plain.split("-") if part)


def capital(text: str) -> str:
    """`text` with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]
