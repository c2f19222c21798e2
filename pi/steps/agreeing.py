"""Before one model starts over several pods: what must be equal, the network between them, and who else reaches it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pi import config, screen
from pi.calls import network, span
from pi.calls.network import Address, PodNetwork
from pi.calls.span import Member
from pi.errors import InputError
from pi.planning import catalog, refusals, spanning, venvs
from pi.planning.serve import Rank
from pi.planning.spanning import Parts
from pi.planning.types import LaunchPlan, PodFacts, Request
from pi.pods.types import Span
from pi.steps import kept_prices, measurements, meeting
from pi.steps.asking import facts_for
from pi.steps.members import Joined, all_of
from pi.steps.starting import Across


@dataclass(frozen=True)
class Agreed:
    """What the pods have agreed on: the plan of each, its part, and sentences for the user."""

    members: tuple[Joined, ...]
    request: Request
    facts: Mapping[str, PodFacts]
    plans: Mapping[str, LaunchPlan]
    parts: Mapping[str, Parts]
    ranks: Mapping[str, Member]
    notes: tuple[str, ...]

    @property
    def head(self) -> Joined:
        return self.members[0]

    @property
    def plan(self) -> LaunchPlan:
        """The plan of the head."""
        return self.plans[self.head.pod.name]


def agree(members: Sequence[Joined], request: Request, across: Across) -> Agreed:
    """Return the plans and parts of all pods, if they suit each other. Raises PiError. Changes nothing."""
    known_models, measured, prices = catalog.load(config.config_dir()), measurements.load(), kept_prices.load()
    names = [member.pod.name for member in members]

    def survey(member: Joined) -> PodFacts:
        facts = facts_for(member.connection, request, known_models)
        refusals.require_gpus(member.pod.name, member.pod.gpus, facts)
        return replace(facts, measurements=measured, prices=prices)

    with screen.progress() as line:
        line.show(f"  asking {len(members)} pods")
        facts = dict(zip(names, all_of(members, survey), strict=True))
        spanning.require_equal_gpus(facts)
        plans = spanning.plans(request, facts, known_models)
        for name, plan in plans.items():
            if refusal := venvs.refusal(plan, facts[name], name):
                raise refusal
        look = partial(_parts, plans, across)
        parts = dict(zip(names, all_of(members, look), strict=True))
        spanning.require_equal(parts)
        networks = dict(zip(names, all_of(members, lambda member: network.look(member.connection)), strict=True))
        interfaces = {name: each.interface for name, each in parts.items()}
        addresses = meeting.addresses(networks, across.addresses, interfaces)
        notes = _measured(members, addresses, plans[names[0]], facts[names[0]], across, line.show)
    closed, kept = protected(networks, addresses, across)
    return Agreed(
        tuple(members),
        request,
        facts,
        plans,
        parts,
        _ranks(names, parts, addresses, closed, spanning.meeting_port(facts[names[0]])),
        (*notes, *kept),
    )


def _parts(plans: Mapping[str, LaunchPlan], across: Across, member: Joined) -> Parts:
    name = member.pod.name
    return span.look(member.connection, plans[name], across.addresses.get(name))


def _ranks(
    names: Sequence[str],
    parts: Mapping[str, Parts],
    addresses: Mapping[str, Address],
    closed: Mapping[str, bool],
    port: int,
) -> dict[str, Member]:
    group, machines = secrets.token_hex(8), tuple(parts[name].machine for name in names)
    every = tuple(addresses[name].address for name in names)
    return {
        name: Member(
            Span(number, tuple(names), machines, group),
            Rank(number, every, addresses[name].interface, port),
            closed[name],
        )
        for number, name in enumerate(names)
    }


def _measured(
    members: Sequence[Joined],
    addresses: Mapping[str, Address],
    plan: LaunchPlan,
    facts: PodFacts,
    across: Across,
    show: Callable[[str], object],
) -> list[str]:
    """Measure the lines of the head with each pod, and of each pod with the next. Raises InputError if one is unfit."""
    pairs = {(0, number) for number in range(1, len(members))}
    pairs |= {(number, number + 1) for number in range(1, len(members) - 1)}
    lines = {}
    for one, other in sorted(pairs):
        here, there = members[one], members[other]
        own, address = addresses[here.pod.name].address, addresses[there.pod.name].address
        names = f"{here.pod.name} and {there.pod.name}"
        show(f"  measuring the network between {names}")
        line = network.measure(here.connection, own, there.connection, address)
        if line.problem:
            raise InputError(
                "span-unreached",
                f"{names} do not reach each other at {own} and {address}: {line.problem}",
                "name other addresses: --address POD=IP; or let them talk in the provider's firewall",
            )
        lines[names] = line
    names, slowest = min(lines.items(), key=lambda each: each[1].gbit_per_s)
    width = (facts.config or {}).get("hidden_size")
    wide = width if isinstance(width, int) and 0 < width < 10**6 else None
    try:
        return spanning.network_notes(plan, names, slowest.gbit_per_s, slowest.round_trip_ms, wide)
    except InputError as error:
        if not across.slow_network:
            raise
        return [f"{error.message}; accepted by --slow-network"]


def protected(
    networks: Mapping[str, PodNetwork], addresses: Mapping[str, Address], across: Across
) -> tuple[dict[str, bool], list[str]]:
    """Return which pods close their ports by their own firewall, and sentences on what keeps others out.

    Raises InputError if nothing does on some pod: the ports between pods take any caller, and unpickle what comes.
    """
    closed = {name: found.firewall is None for name, found in networks.items()}
    by_firewall = [name for name, is_closed in closed.items() if is_closed]
    by_network = {name: addresses[name].network for name in networks if not closed[name] and addresses[name].network}
    open_ones = [name for name in networks if not closed[name] and name not in by_network]
    notes = []
    if by_firewall:
        walls = " and ".join(by_firewall)
        notes.append(f"only these pods reach the ports between them: pi sets the firewall of {walls}")
    if by_network:
        each = ", ".join(f"{name} in {kind}" for name, kind in by_network.items())
        notes.append(f"the ports between pods are on the provider's isolated network: {each}")
    if open_ones and not across.insecure_public:
        why = "; ".join(f"{name}: {networks[name].firewall}" for name in open_ones)
        raise InputError(
            "span-open",
            f"others could reach the ports between the pods, which run what comes in; pi may not close them: {why}",
            "use pods on a provider's isolated network, or run as root with nftables; to accept it: --insecure-public",
        )
    if open_ones:
        notes.append(
            f"NOT PROTECTED: anyone who reaches {' or '.join(open_ones)} can run code there (--insecure-public)"
        )
    return closed, notes
