"""Sphinx: MyST pages, furo, and the API from the docstrings."""

import re

import mezzotint

project = "Mezzotint"
author = "The Mezzotint authors"
copyright = author
release = version = mezzotint.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Mezzotint {release}"

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # jaxtyping's shapes are told under Args
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False


_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with formulas: indented lines are formulas, and a * or | or a trailing _ no markup."""
    out, section, formula = [], False, False
    for line in lines:
        section = bool(_SECTION.match(line)) or (section and (not line or line.startswith(" ")))
        indented = line.startswith(" ") and not section
        if indented and not formula:
            out += ["", "::", ""]
        if formula and not indented and line:
            out.append("")
        formula = indented or (formula and not line)
        out.append(line if formula or line.lstrip().startswith((">>>", "...")) else _escaped(line))
    lines[:] = out


def _escaped(line):
    parts = re.split(r"(`+[^`]*`+)", line)  # what stands in backticks stays as it is
    parts[::2] = [re.sub(r"([*|])|_(?=\W|$)", lambda m: "\\" + m[0], part) for part in parts[::2]]
    return "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", plain_text, priority=100)  # before napoleon reads the sections
