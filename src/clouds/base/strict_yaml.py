"""YAML as it is meant: `on` and `no` are words, a key stands once, and what readers differ on is refused.

    parse_yaml("{on: road, off: sidewalk}")  # {"on": "road", "off": "sidewalk"}
    parse_yaml("{steps: 10, steps: 20}")  # ValueError: the key 'steps' is given twice
"""

import re
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """Only `true` and `false` are booleans, as in YAML 1.2; dates, `1:30` and `1_000` are texts.

    All else that PyYAML writes without quotes reads back as what it was.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - none of PyYAML's own; filled below

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (name := self.construct_object(key)) in seen:
                problem = f"the key {name!r} is given twice; keep one"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(name if isinstance(key, yaml.ScalarNode) else None)
        return node


def _int(loader: Loader, node: yaml.ScalarNode) -> int:
    text = node.value.lower().replace("0x", "")
    value = int(loader.construct_yaml_int(node)) if len(text) < 40 else 1 << 64
    if abs(value) >= 1 << 63:
        problem = f"{node.value[:40]} is no number that a setting can have (beyond 64 bits); quote it if it is a text"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
    return value


def _ambiguous(_loader: Loader, node: yaml.ScalarNode) -> None:
    problem = f"{node.value} is octal to some readers and decimal to others; leave out the zeros, or quote a text"
    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


for tag, plain, first in (
    ("tag:yaml.org,2002:bool", r"(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"(~|null|Null|NULL|)$", ("~", "n", "N", "")),
    ("!ambiguous", r"[-+]?0[0-9]+$", "-+0"),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$", "-+0123456789"),
    ("tag:yaml.org,2002:float",
     r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", "-+0123456789."),
    ("tag:yaml.org,2002:merge", "<<$", "<"),
):  # fmt: skip
    Loader.add_implicit_resolver(tag, re.compile(plain), list(first))
PLAIN = ("null", "bool", "float", "str", "seq", "map")  # a recipe holds nothing else: no dates, sets or bytes
Loader.yaml_constructors = {None: Loader.yaml_constructors[None]} | {
    tag: Loader.yaml_constructors[tag] for tag in (f"tag:yaml.org,2002:{kind}" for kind in PLAIN)
}
Loader.add_constructor("tag:yaml.org,2002:int", _int)
Loader.add_constructor("!ambiguous", _ambiguous)

MAX_LENGTH = 1 << 20  # characters
MAX_NODES = 200_000  # once every alias stands for what it names


def _nodes(node: yaml.Node, above: frozenset[int], known: dict[int, int]) -> int:
    """Values below a node, aliases counted as often as they stand there; ValueError for one that holds itself."""
    if id(node) in above:
        raise ValueError(f"an alias that stands for itself, line {node.start_mark.line + 1}")
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = (each for child in children for each in (child if isinstance(child, tuple) else (child,)))
        known[id(node)] = 1 + sum(_nodes(each, above | {id(node)}, known) for each in flat)
        if known[id(node)] > MAX_NODES:
            line = node.start_mark.line + 1
            raise ValueError(f"more than {MAX_NODES} values, line {line}; write less, or fewer aliases")
    return known[id(node)]


def parse_yaml(data: str | bytes) -> Any:
    """The one document in ``data``; ValueError says in one line what is wrong, and where."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        if len(text) > MAX_LENGTH:
            raise ValueError(f"{len(text)} characters; expected at most {MAX_LENGTH}, settings and not data")
        loader = Loader(text)
        try:
            if (node := loader.get_single_node()) is None:
                return None
            _nodes(node, frozenset(), {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{error.problem}{f', line {mark.line + 1}' if mark else ''}") from error
    except RecursionError:
        raise ValueError("its lists or keys are nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the last three: `!!int word`
        raise ValueError(" ".join(str(error).split())) from error
