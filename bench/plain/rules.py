"""The rules of a home page: the mesh's defaults, stated once more. tests/bench holds the two lists to be the same."""

PAGE = 25
SOURCES = ("followed_boards", "walked_pins", "walked_boards", "interest_pins", "popular_pins", "fresh_pins")
FOLLOWED, WALKED_PINS, WALKED_BOARDS, INTERESTS, POPULAR, FRESH = range(6)
ORIGINS = (0, 5, 2, 1, 3, 4)  # of each source, as the model knows them
RATES = (0.35, 0.35 * 0.75, 0.35 * (1 - 0.75), 0.2, 0.05, 0.05)
LEAST = 25  # candidates of a source, however small its rate

BOARDS, BOARDS_OF_A_USER = 500, 100  # followed boards of a page, and the newest of each followed user
DIRECT, THROUGH = 1.0, 0.7  # weights of a board
INTERESTS_LOOKED_AT, INFERRED, DISLIKED, AFFINITIES = 30, 2.0, 0.25, 100
POPULAR_PINS, POPULAR_INTERESTS, KEEP_S = 300, 30, 10.0
SPREAD = 4  # a place may bring so many times its equal part
DEEP = 4  # of fresh pins, so many times the candidates are kept for all users

WALK_PINS, WALK_STEPS, WALK_BOARDS = 200, 30_000, 300
RESTART, DISCOUNT, SHARPNESS = 0.5, 0.25, 2.0
STOP_NODES, STOP_VISITS = 2_000, 4

ACTIONS = (20, 21, 22, 23, 24)  # impression, closeup, click, save, hide
SAVE, HIDE = 23, 24
WEIGHTS = (0.0, 1.0, 2.0, 4.0, -8.0)
HALF_LIVES_DAYS = (1.0, 3.0, 7.0, 30.0, 90.0)
ACTIONS_KEPT, PINS_LOOKED_AT = 500, 200
USER_WINDOWS_MIN = (10, 60, 1_440)

QUALITY, SCALE_DAYS, DEFAULT_QUALITY = 2.0, 90.0, 0.5  # of the light score
PER_BOARD, PER_OWNER, PER_INTEREST = 2, 3, 10
SMOOTHING = 20.0

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


def shares(candidates: int) -> tuple[int, ...]:
    """How many of the candidates of a page each source may bring."""
    return tuple(max(LEAST, round(candidates * rate / sum(RATES))) for rate in RATES)
