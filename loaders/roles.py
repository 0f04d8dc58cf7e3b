"""The meanings of columns in files of interactions, by the names that such files are known to give them."""

from collections.abc import Iterable

from services.core.errors import InvalidArgument

#: role -> its names, without case and punctuation; the first that a file has is taken. Sources: MovieLens, Amazon reviews,
#: Goodreads and goodbooks-10k, Book-Crossing, Last.fm, Steam, Yelp, RetailRocket.
ROLES: dict[str, tuple[str, ...]] = {
    "user": (
        "user", "userid", "uid", "reviewerid", "reviewer", "username", "member", "memberid", "customer", "customerid",
        "listener", "listenerid", "visitorid",
    ),
    "item": (
        "item", "itemid", "iid", "movie", "movieid", "asin", "parentasin", "product", "productid", "book", "bookid", "isbn",
        "track", "trackid", "song", "songid", "pin", "pinid", "business", "businessid", "video", "videoid", "anime", "animeid",
        "recipe", "recipeid", "game", "gameid", "appid", "articleid", "newsid", "artist", "artistid",
    ),
    "rating": ("rating", "ratings", "stars", "score", "overall", "userrating", "bookrating", "reviewscore", "value"),
    "timestamp": (
        "timestamp", "time", "date", "at", "ts", "unixreviewtime", "datetime", "createdat", "ratedat", "dateadded", "readat",
        "reviewtime", "eventtime", "updatedat", "addedat",
    ),
    "board": ("board", "boardid", "list", "listid", "shelf", "shelfid", "playlist", "playlistid", "collection"),
    "title": ("title", "name", "itemname", "movietitle", "booktitle", "productname", "artistname", "trackname"),
    "interests": ("genres", "genre", "interests", "tags", "categories", "category", "topics", "keywords", "subjects"),
    "link": ("link", "url", "uri"),
}  # fmt: skip
#: Files that are known by name to have no header.
LAYOUTS = {
    "ratings.dat": ("user", "item", "rating", "timestamp"),
    "movies.dat": ("item", "title", "genres"),
    "u.data": ("user", "item", "rating", "timestamp"),
    "u.item": ("item", "title", "released", "released on video", "link"),
}


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """role -> the column that has it."""
    bare = {"".join(c for c in name.casefold() if c.isalnum()): name for name in reversed(list(names))}
    return {
        role: bare[known]
        for role, known in ((r, next((k for k in ks if k in bare), "")) for r, ks in ROLES.items())
        if known
    }


def check_columns(columns: tuple[str, ...]) -> None:
    """Raises InvalidArgument unless `columns` names a user, an item and only roles, or "-" for a column that is not read."""
    unknown = [name for name in columns if name != "-" and not roles_of([name])]
    roles = [role for name in columns for role in roles_of([name])]
    if unknown or "user" not in roles or "item" not in roles or len(roles) != len(set(roles)):
        raise InvalidArgument(
            f"--columns {','.join(columns)}: allowed are {', '.join(ROLES)}, each once, user and item among them, and - for a "
            "column that is not read"
        )
