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
Loader.add_constructor("!ambiguous", _ambiguous)


def parse_yaml(data: str | bytes) -> Any:
    """The one document in ``data``; ValueError says in one line what is wrong, and where."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{error.problem}{f', line {mark.line + 1}' if mark else ''}") from error
    except RecursionError:
        raise ValueError("its lists or keys are nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the last three: `!!int word`
        raise ValueError(" ".join(str(error).split())) from error
