"""Who must have won: votes become placements, the earlier drawing wins a tie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from sketchy_orchestration.local.players.fields import moment
from sketchy_orchestration.local.players.record import Deed, DeedKind, GameRecord, Heard, Rules, whole_number


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def announced(completed: Heard) -> tuple[str | None, dict[str, tuple[int | None, int]]]:
    """The winner's user id, and user id -> (placement, votes), as a game_completed says."""
    winner = _mapping(completed.data.get("winner")).get("userId")
    rows = completed.data.get("results")
    table: dict[str, tuple[int | None, int]] = {}
    for row in rows if isinstance(rows, Sequence) and not isinstance(rows, str) else ():
        one = _mapping(row)
        table[str(one.get("userId"))] = (
            whole_number(one.get("placement")),
            whole_number(one.get("voteCount")) or 0,
        )
    return winner if isinstance(winner, str) else None, table


def placements(drawings: Sequence[Deed], votes: Sequence[Deed]) -> list[tuple[str, int]]:
    """(user id, votes) from the first place to the last; `drawings` in the order they were submitted."""
    count = {drawing.submission_id: 0 for drawing in drawings}
    for vote in votes:
        count[vote.submission_id] = count.get(vote.submission_id, 0) + 1
    ranked = sorted(drawings, key=lambda drawing: -count[drawing.submission_id])
    return [(str(drawing.user_id), count[drawing.submission_id]) for drawing in ranked]


def in_order_of_submission(record: GameRecord) -> list[Deed]:
    """The drawings by the moment the database gave them, which drawing_submitted tells."""
    told = {
        str(heard.data.get("submissionId")): moment(heard.data.get("submittedAt"))
        for heard in record.heard
        if heard.type == "drawing_submitted"
    }
    return sorted(
        record.deeds_of(DeedKind.drew), key=lambda deed: told.get(str(deed.submission_id)) or deed.began
    )


def fault(record: GameRecord, completed: Heard, rules: Rules) -> str | None:
    """What is wrong with the results that a game_completed tells; None when they follow from the votes."""
    winner, table = announced(completed)
    final = record.final
    if final is not None and final.winner_id != winner:
        return f"game_completed names winner {winner}, the database {final.winner_id}"
    drawings = in_order_of_submission(record)
    left = {str(deed.user_id) for deed in record.deeds_of(DeedKind.left)}
    settled_at = moment(completed.message.get("occurredAt")) or completed.at
    certain: list[Deed] = []
    doubtful: list[Deed] = []
    for vote in record.deeds_of(DeedKind.voted):
        (doubtful if vote.done > settled_at - rules.in_flight_s else certain).append(vote)

    first: str | None = None
    # At most eight players vote: at most 256 ways to count those in flight.
    for size in range(len(doubtful), -1, -1):
        for counted in combinations(doubtful, size):
            why = _differs(placements(drawings, [*certain, *counted]), winner, table, left)
            if why is None:
                return None
            first = first or why
    return first


def _differs(
    ranked: Sequence[tuple[str, int]],
    winner: str | None,
    table: Mapping[str, tuple[int | None, int]],
    left: Collection[str],
) -> str | None:
    should_win = ranked[0][0] if ranked else None
    # Without a single vote the application names the earliest drawing; naming nobody is as good.
    nobody_voted = not any(votes for _, votes in ranked)
    if winner != should_win and not (nobody_voted and winner is None):
        return f"winner is {winner}, but by the votes it is {should_win}"
    for place, (user, votes) in enumerate(ranked, start=1):
        # Whoever has left keeps the placement but may be missing from the list.
        if table.get(user) != (place, votes) and not (user in left and user not in table):
            return f"{user} has (placement, votes) {table.get(user)}, but by the votes {(place, votes)}"
    drew = {user for user, _ in ranked}
    for user, (said, _) in table.items():
        if user not in drew and said is not None:
            return f"{user} drew nothing but has placement {said}"
    return None
