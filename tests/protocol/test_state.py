"""The tables of `mailmerge.smtp.state`: what they do not have cannot happen, what they have does happen."""

from __future__ import annotations

import ast
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mailmerge.smtp.state
from dialogues import play
from mailmerge.smtp.deadlines import Deadlines
from mailmerge.smtp.handshake import Handshake
from mailmerge.smtp.reply_queue import ReplyQueue
from mailmerge.smtp.state import (
    MACHINE_OF,
    STEPS,
    TRANSITIONS,
    Auth,
    Gate,
    Life,
    SessionState,
    Stage,
    StartTls,
    StateMachine,
    Step,
    Trigger,
)
from mailmerge.smtp.transactions import Outbox
from mailmerge.smtp.transfer import Transfer
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.smtp"))
MACHINES: list[type[StateMachine]] = StateMachine.__subclasses__()


def whole(data: bytes) -> list[bytes]:
    """Leave *data* in one piece."""
    return [data] if data else []


def octets(data: bytes) -> list[bytes]:
    """Cut *data* into single octets."""
    return [data[i : i + 1] for i in range(len(data))]


def at(
    life: Life = Life.OPEN, start_tls: StartTls = StartTls.UNUSED, auth: Auth = Auth.UNUSED
) -> SessionState:
    """Return a session's state with these machines where they are wanted."""
    state = SessionState(starttls=False, sign_in=False)
    state.life, state.start_tls, state.auth = life, start_tls, auth
    return state


# --- what is not in a table cannot happen ------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_every_pair_of_state_and_trigger(machine: type[StateMachine]) -> None:
    """A trigger leads to the state that the table names, of the same machine; any other one is a bug."""
    for state, trigger in product(machine, Trigger):
        if (state, trigger) in TRANSITIONS:
            assert state.after(trigger) is TRANSITIONS[state, trigger]
            assert type(state.after(trigger)) is machine
        else:
            with pytest.raises(RuntimeError, match=f"{state.name} cannot take {trigger.name}"):
                state.after(trigger)


def test_every_trigger_belongs_to_one_machine() -> None:
    """No trigger moves two machines, and none is idle."""
    for trigger in Trigger:
        machines = {type(state) for state, moved_by in TRANSITIONS if moved_by is trigger}
        assert machines == {MACHINE_OF[trigger]}


def test_every_state_is_a_beginning_or_can_be_reached() -> None:
    """No state of a machine is cut off from the others."""
    beginnings = {
        Life.GREETING,
        StartTls.UNUSED,
        StartTls.OWED,
        Auth.UNUSED,
        Auth.OWED,
        mailmerge.smtp.state.Trial.UNTRIED,
        mailmerge.smtp.state.Reset.NOT_DUE,
        Stage.WAITING,
        Gate.SHUT,
    }
    reached = beginnings | set(TRANSITIONS.values())
    assert reached == {state for machine in MACHINES for state in machine}


def test_triggers_of_a_message_do_not_move_the_session() -> None:
    """A session's state takes the triggers of its own machines only."""
    for trigger in (trigger for trigger in Trigger if MACHINE_OF[trigger] in {Stage, Gate}):
        with pytest.raises(RuntimeError, match="about one message"):
            at().on(trigger)


@pytest.mark.parametrize("auth", Auth)
@pytest.mark.parametrize("start_tls", StartTls)
def test_nothing_is_open_that_owes_something(start_tls: StartTls, auth: Auth) -> None:
    """A session opens only when TLS and sign-in are done, or were never wanted."""
    state = at(Life.OPENING, start_tls, auth)
    if start_tls in {StartTls.UNUSED, StartTls.DONE} and auth in {Auth.UNUSED, Auth.DONE}:
        state.on(Trigger.OPENED)
        assert (state.life, state.begun) == (Life.OPEN, True)
    else:
        with pytest.raises(RuntimeError, match=r"open with"):
            state.on(Trigger.OPENED)
        assert (state.life, state.begun) == (Life.OPENING, False)


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_every_step_in_every_state(step: Step) -> None:
    """A step is said where its rule allows it; elsewhere not an octet of it is queued."""
    rule = STEPS[step]
    for life, start_tls in product(Life, StartTls):
        outbox = Outbox()
        state = at(life, start_tls)
        replies = ReplyQueue(state, outbox)
        if life in rule.life and start_tls in rule.start_tls:
            replies.ask(step, b"anything")
            assert (outbox.queued, len(replies), state.may_say(step)) == (10, 2, True)
        else:
            with pytest.raises(RuntimeError, match=f"may not be sent in Life {life.name}"):
                replies.ask(step, b"anything")
            with pytest.raises(RuntimeError, match=f"StartTls {start_tls.name}"):
                replies.owe(step, 1, 0, 0)
            assert (outbox.queued, len(replies), state.may_say(step)) == (0, 1, False)


@pytest.mark.parametrize("step", Step, ids=lambda step: step.name)
def test_plaintext_that_owes_tls_hears_nothing_private(step: Step) -> None:
    """While TLS is owed nothing can be said but EHLO and STARTTLS, however far the session is."""
    said = [life for life in Life if at(life, StartTls.OWED).may_say(step)]
    assert bool(said) == (step in {Step.GREETING, Step.EHLO, Step.STARTTLS})


def test_only_the_tables_move_the_machines() -> None:
    """Outside of state.py a state is only ever replaced by the one that ``after`` returns."""
    names = {"life", "start_tls", "auth", "trial", "reset", "begun", "stage", "state"}
    folder = Path(mailmerge.smtp.state.__file__).parent
    wrong = []
    for path in folder.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef) or function.name == "__init__":
                continue
            for node in ast.walk(function):
                if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
                    continue
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Attribute) and target.attr in names for target in targets):
                    moved = ast.unparse(node.value) if node.value else ""
                    if ".after(Trigger." not in moved and path.name != "state.py":
                        wrong.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert wrong == []


def test_the_page_is_up_to_date() -> None:
    """``docs/protocol.md`` is what ``scripts/write-protocol-page`` would write."""
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "scripts" / "write-protocol-page"), "--print"]
    page = subprocess.run(command, env=unmeasured(), check=True, capture_output=True, encoding="utf-8").stdout
    assert (root / "docs" / "protocol.md").read_text("utf-8") == page


# --- what is in a table does happen ------------------------------------------------------------------------


@contextmanager
def watched() -> Iterator[tuple[set[tuple[StateMachine, Trigger]], set[Step]]]:
    """Collect the moves that are made, and the steps that are said, meanwhile."""
    moves: set[tuple[StateMachine, Trigger]] = set()
    steps: set[Step] = set()
    after, says = StateMachine.after.__code__, {ReplyQueue.ask.__code__, ReplyQueue.owe.__code__}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is after:
            moves.add((frame.f_locals["self"], frame.f_locals["trigger"]))
        elif event == "call" and frame.f_code in says:
            steps.add(frame.f_locals["step"])

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield moves, steps
    finally:
        sys.setprofile(before)


def test_the_dialogues_go_every_way_of_the_tables() -> None:
    """Each move of each machine is made, and each step is said, in some written dialogue."""
    with watched() as (moves, steps):
        for path, cut in product(TRANSCRIPTS, (whole, octets)):
            play(path, cut)
    missing = [
        f"{type(state).__name__}.{state.name} {trigger.name}" for state, trigger in TRANSITIONS.keys() - moves
    ]
    assert sorted(missing) == []
    assert steps == set(Step) - {Step.GREETING}


def test_every_step_has_its_time_and_its_taker() -> None:
    """There is a deadline for each step's reply, and exactly one part of the session that takes it."""
    state, outbox = at(), Outbox()
    replies = ReplyQueue(state, outbox)
    handshake = Handshake("h", "me", state, replies, private=True, credentials=None)
    transfer = Transfer("h", state, replies, outbox, [], pipeline="auto", messages_per_connection=None)
    takers = [*handshake.handlers, *transfer.handlers, Step.QUIT]
    assert sorted(takers, key=lambda step: step.name) == sorted(Step, key=lambda step: step.name)
    assert all(Deadlines().of(step) > 0 for step in Step)
