"""The hub as a service in its own domains under a domain lease, while the rest of the machine enforces."""

from __future__ import annotations

from tests.vm.bench import Context, Scenario, listed, unique
from tests.vm.scenarios.steps import HUB_LOG, OURS, answer, apply, configure, logged, permissive, queue, wait_logged

MAX_ROUNDS = 4
LIMITS = "c.Spawner.mem_limit = '1G'\nc.Spawner.cpu_limit = 1.0\n"
ALL_LEVELS = {"none", "note", "review"}


def a_class(context: Context) -> None:
    """An instructor hands out files; two users at once, over them."""
    context.teacher_hands_out()
    context.run("sepolicyd learn mark 'a lesson'", timeout=120)
    context.lesson("alice", "bob")


def one_round(context: Context) -> bool:
    """Lease, class, review, apply, enforce; whether anything had to be asked."""
    context.run("sepolicyd learn start jupyterhub --for 40m --hidden", timeout=180)
    context.mode("Enforcing")
    context.expect("jupyterhub_t" in permissive(context), "a lease was started and jupyterhub_t is not permissive")
    mark = context.mark()
    context.start_service()
    a_class(context)
    figures = context.figures
    figures.denials = (figures.denials or 0) + len(unique(context.denied(mark)))
    candidates = queue(context)
    figures.questions = (figures.questions or 0) + len(candidates)
    approved, denied = answer(context, candidates, ALL_LEVELS)
    context.say(f"{len(candidates)} questions: {approved} approved, {denied} denied")
    if approved:
        figures.rules = apply(context)
    done = context.run("sepolicyd enforce", check=False, timeout=180)
    context.expect("enforcing" in done.out, f"`sepolicyd enforce` said: {done.text[-500:]}")
    context.expect(not permissive(context) & OURS, "after `enforce` a domain is still permissive")
    return bool(candidates)


def enforced_class(context: Context) -> set[tuple[str, str, str, str]]:
    """The whole class under enforcing, hub restart included; the denials that concern the service."""
    context.mode("Enforcing")
    context.expect(not permissive(context) & OURS, "a domain of ours is permissive")
    mark = context.mark()
    context.start_service()
    context.lesson("alice", "bob")
    context.teacher_hands_out("Übung 3.txt")
    return {access for access in unique(context.denied(mark)) if set(access[:2]) & OURS}


def play(context: Context) -> None:
    context.mode("Enforcing")
    configure(context, extra=LIMITS)
    before = logged(context)
    new: set[tuple[str, str, str, str]] = set()
    for number in range(1, MAX_ROUNDS + 1):
        context.figures.rounds = number
        one_round(context)
        new = enforced_class(context)
        if not new:
            break
        context.say(f"denied under enforcing after round {number}: {listed(new)}")
    context.figures.new_denials = len(new)
    wait_logged(context, "after `init`", before)
    label = context.run(f"stat -c %C {HUB_LOG}").out.strip()
    context.expect(":jupyterhub_log_t:" in label, f"the unit's log is {label}")
    context.expect(not new, f"after {MAX_ROUNDS} rounds an ordinary class is still denied: {listed(new)}")


SCENARIO = Scenario("domain", "slim", "the hub in its own domains, a domain lease, then a class under enforcing", play)
