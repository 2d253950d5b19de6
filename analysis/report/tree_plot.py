"""The tree of rules as a picture, drawn by hand: no graphviz, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from analysis.report.plots import WIDTH, cut_name
from analysis.report.svg import Scale, bar, frame, line, text
from analysis.report.words import DASH, spell_share

Node = Mapping[str, Any]

MOST_DOMAINS = 8  # rows a node has room for: those whose effects differ most between nodes
RULE_LENGTH = 25
BOX, GAP = 182.0, 10.0  # a node's width, and the room beside it
ROW, HEAD, DROP = 15.0, 46.0, 34.0  # a domain's row, a node's heading, the room for branches
THETA = (80.0, 128.0)  # where a node's bars begin and end


def plot_tree(nodes: Sequence[Node]) -> Markup:
    """Draw every node with its rule, runs, mean effects and the mixture that CausalMix-A reads off them.

    Parameters
    ----------
    nodes : sequence of mappings
        ``rule``, ``n_runs``, ``depth``, ``children``, ``theta`` and ``mixture`` by domain, the root first.
    """
    domains = choose_domains(nodes)
    height = HEAD + ROW * len(domains) + 8
    centres = _place(nodes)
    tops = [8.0 + node["depth"] * (height + DROP) for node in nodes]
    reach = max((abs(node["theta"][d]) for node in nodes for d in domains), default=0.0) or 1.0
    parts: list[Markup] = []
    for i, node in enumerate(nodes):
        for child in node["children"]:
            middle = tops[child] - DROP / 2
            parts += [line(centres[i], tops[i] + height, centres[i], middle, "branch")]
            parts += [line(centres[i], middle, centres[child], middle, "branch")]
            parts += [line(centres[child], middle, centres[child], tops[child], "branch")]
    for node, x, top in zip(nodes, centres, tops):
        parts += _draw_node(node, domains, x - BOX / 2, top, height, reach)
    leaves = [node for node in nodes if not node["children"]]
    told = "; ".join(f"{node['n_runs']} runs" for node in leaves)
    label = f"Tree of rules over the state: {len(nodes)} nodes, leaves of {told}; mean effects and mixture of each"
    width = max(WIDTH, max(centres) + BOX / 2 + 4)
    return frame(width, max(tops) + height + 8, label, parts)


def choose_domains(nodes: Sequence[Node]) -> list[str]:
    """Return the domains that a node lists: all, or those whose effects differ most between nodes, in their order."""
    domains = list(nodes[0]["theta"])
    if len(domains) <= MOST_DOMAINS:
        return domains
    columns = {d: [node["theta"][d] for node in nodes] for d in domains}
    ranges = {d: max(values) - min(values) + 1e-9 * abs(values[0]) for d, values in columns.items()}
    kept = sorted(domains, key=lambda d: -ranges[d])[:MOST_DOMAINS]
    return [d for d in domains if d in kept]


def spell_rule(rule: str) -> str:
    """Return a rule that fits a node's heading: a long feature loses its middle, never the number."""
    if len(rule) <= RULE_LENGTH:
        return rule
    name, sign, number = rule.rsplit(" ", 2)
    return f"{cut_name(name, RULE_LENGTH - len(sign) - len(number) - 2)} {sign} {number}"


def _place(nodes: Sequence[Node]) -> list[float]:
    """Return the centre of every node: leaves side by side, a parent over the middle of its children."""
    leaves = [i for i, node in enumerate(nodes) if not node["children"]]
    width = max(WIDTH, len(leaves) * (BOX + GAP) - GAP + 4)
    step = width / len(leaves)
    centres = [0.0] * len(nodes)
    for i in reversed(range(len(nodes))):  # children stand after their parent in the list
        below = nodes[i]["children"]
        centres[i] = sum(centres[c] for c in below) / len(below) if below else step * (leaves.index(i) + 0.5)
    return centres


def _draw_node(node: Node, domains: list[str], left: float, top: float, height: float, reach: float) -> list[Markup]:
    x = Scale(-reach, reach, left + THETA[0], left + THETA[1])
    right, bottom = left + BOX - 8, top + height - 8
    parts = [bar(left, top, BOX, height, "leaf" if not node["children"] else "node", 6.0)]
    parts += [text(left + 8, top + 16, spell_rule(node["rule"]), "rule")]
    parts += [text(left + 8, top + 32, f"{node['n_runs']} runs", "fine")]
    parts += [text(x(0.0), top + 32, "\N{GREEK SMALL LETTER THETA}", "fine", "middle")]
    parts += [text(right, top + 32, "share", "fine", "end")]
    parts += [line(x(0.0), top + HEAD - 8, x(0.0), bottom, "axis")]
    for row, domain in enumerate(domains):
        middle = top + HEAD + ROW * (row + 0.5) - 3
        theta = node["theta"][domain]
        start, end = sorted((x(0.0), x(theta)))
        parts += [text(left + 8, middle + 4, cut_name(domain, 10), "fine name")]
        parts += [bar(start, middle - 4, end - start, 8.0, "gain" if theta > 0 else "loss", 1.0)]
        mixture = node["mixture"]
        share = DASH if mixture is None else spell_share(mixture[domain])
        parts += [text(right, middle + 4, share, "fine", "end")]
    return parts
