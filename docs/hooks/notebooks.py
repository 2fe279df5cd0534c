"""Notebooks as pages: text as it is, code in fences, what a cell printed or showed below it; nothing is run here."""

import base64
import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for each in [file for file in files if file.src_uri.endswith(".ipynb")]:
        name = each.src_uri.removesuffix(".ipynb")
        notebook = json.loads((Path(config.docs_dir) / each.src_uri).read_text("utf-8"))
        pictures: list[bytes] = []
        text = page(notebook, Path(name).name, pictures)
        files.append(File.generated(config, f"{name}.md", content=text))
        for k, data in enumerate(pictures):
            files.append(File.generated(config, f"{name}-{k}.png", content=data))
    return files


def page(notebook: dict[str, Any], name: str, pictures: list[bytes]) -> str:
    """A notebook as Markdown; its pictures join ``pictures``, and stand in the text as NAME-0.png, NAME-1.png, ..."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            shown = output.get("data", {})
            if "image/png" in shown:
                parts.append(f"![What this cell shows]({name}-{len(pictures)}.png)")
                pictures.append(base64.b64decode("".join(shown["image/png"])))
            elif output.get("name") != "stderr":
                parts.append(f"```text\n{''.join(output.get('text') or shown.get('text/plain', [])).rstrip()}\n```")
    parts.append(f"[This page as a notebook]({name}.ipynb)")
    return "\n\n".join(parts) + "\n"
