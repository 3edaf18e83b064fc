"""Which games are enrolled: by bucket, monotone, the same in SQL, Python and JavaScript."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.sweep.scene import Scene

DOCUMENT = Path(__file__).parents[3] / "docs" / "flags.md"
# (salt, subject, bucket), as documented: any other implementation must agree.
VECTORS = [
    (salt, subject, int(number))
    for salt, subject, number in re.findall(
        r"^\| `([^`]*)` \| `([^`]*)` \| (\d+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
]
JAVASCRIPT = """
const { createHash } = require('node:crypto');
const bucket = (salt, subject) =>
    createHash('sha256').update(`${salt}:${subject}`, 'utf8').digest().readUInt32BE(0) % 10000;
console.log(JSON.stringify(JSON.parse(process.argv[1]).map(([salt, subject]) => bucket(salt, subject))));
"""


def bucket(salt: str, subject: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}:{subject}".encode()).digest()[:4], "big") % 10_000


def test_the_vectors_in_sql_and_python(scene: Scene) -> None:
    assert len(VECTORS) >= 4
    pairs = [(salt, subject) for salt, subject, _ in VECTORS]
    wanted = [number for _, _, number in VECTORS]
    assert [bucket(*pair) for pair in pairs] == wanted
    assert [scene.one("select orchestration.bucket(%s, %s)", *pair) for pair in pairs] == wanted


def test_the_vectors_in_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine: the buckets are not tried in JavaScript")
    done = subprocess.run(
        [node, "-e", JAVASCRIPT, json.dumps([[salt, subject] for salt, subject, _ in VECTORS])],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [number for _, _, number in VECTORS]


def test_sql_and_python_agree_on_anything(scene: Scene) -> None:
    text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))

    @settings(max_examples=200, deadline=None, database=None)
    @given(text, text)
    def agree(salt: str, subject: str) -> None:
        assert scene.one("select orchestration.bucket(%s, %s)", salt, subject) == bucket(salt, subject)

    agree()


def test_a_higher_percentage_holds_every_game_of_a_lower(scene: Scene) -> None:
    subjects = [str(uuid.uuid4()) for _ in range(2000)]
    salt = scene.one("select salt from orchestration.flags where name = 'enrolment'")
    before: set[str] = set()
    for percentage in (0, 0.01, 1, 5, 25, 25.5, 50, 75, 99.99, 100):
        scene.flag("enrolment", value=percentage)
        within = {
            subject
            for (subject,) in scene.rows(
                "select s from unnest(%s::text[]) s where orchestration.flag_includes('enrolment', s)",
                subjects,
            )
        }
        assert within == {subject for subject in subjects if bucket(salt, subject) < percentage * 100}
        assert within >= before
        assert abs(len(within) / len(subjects) - percentage / 100) < 0.05
        before = within
    assert before == set(subjects)


def test_games_are_enrolled_by_their_bucket_and_stay_as_decided(scene: Scene) -> None:
    scene.flag("enrolment", value=40)
    salt = scene.one("select salt from orchestration.flags where name = 'enrolment'")
    scene.do("insert into public.games (prompt) select 'a cat' from generate_series(1, 200)")
    decided = dict(scene.rows("select game_id::text, handler from orchestration.enrolments"))
    assert decided == {
        game: "orchestration" if bucket(salt, game) < 4000 else "legacy"
        for (game,) in scene.rows("select id::text from public.games")
    }
    ours = {game for game, handler in decided.items() if handler == "orchestration"}
    assert {game for (game,) in scene.rows("select game_id::text from orchestration.live_games")} == ours
    for percentage in (0, 100):
        scene.flag("enrolment", value=percentage)
        scene.do("update public.games set prompt = 'a dog'")
        assert dict(scene.rows("select game_id::text, handler from orchestration.enrolments")) == decided
    assert {row[0] for row in scene.rows("select distinct percentage from orchestration.enrolments")} == {40}


def test_deny_beats_allow_beats_percentage(scene: Scene) -> None:
    allowed, denied, both = (str(uuid.uuid4()) for _ in range(3))
    scene.do(
        "select orchestration.set_flag('enrolment', 'test', 'a test', null, 0, %s, %s)",
        [allowed, both],
        [denied, both],
    )
    for game in (allowed, denied, both):
        scene.do("insert into public.games (id, prompt) values (%s, 'a cat')", game)
    ours = scene.rows("select game_id::text from orchestration.enrolments where handler = 'orchestration'")
    assert ours == [(allowed,)]
    scene.flag("enrolment", enabled=False, value=100)
    scene.do("insert into public.games (prompt) values ('a cat')")
    assert scene.one("select count(*) from orchestration.live_games") == 1


def test_an_installed_database_begins_with_nothing_enrolled(scene: Scene) -> None:
    assert scene.one("select value from orchestration.flags where name = 'enrolment'") == 0
    scene.do("insert into public.games (prompt) values ('a cat')")
    assert scene.rows("select handler from orchestration.enrolments") == [("legacy",)]
