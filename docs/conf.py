"""How Sphinx builds this documentation; ``tox -e docs`` does."""

from __future__ import annotations

import pathlib
import sys

_DOCS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_DOCS / "_ext"), str(_DOCS.parent)]

from crawlpool._version import __version__  # noqa: E402 - the path comes first

project = "crawlpool"
copyright = "crawlpool contributors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "facts",
    "command",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"crawlpool {version}"
html_copy_source = False
default_role = None
smartquotes = False  # they would make dashes of an option's
today_fmt = "%Y-%m-%d"

# The API, from its docstrings.
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 100

# A reference into crawlpool must lead somewhere. Other projects' pages would have to be downloaded to be linked.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(requests|urllib3|tenacity|http|concurrent|collections|threading|os|ssl|pathlib|cookiejar)\..*"),
    (r"py:.*", r"(typing|typing_extensions|types|abc|enum|json|argparse|tempfile)\..*"),
    # Names that the sources import for type checkers only, and so are read here as they are written there.
    (r"py:class", r"(Any\]?|Callable|Iterable|Iterator|Mapping(\[str)?|Sequence|Collection)"),
    (r"py:class", r"(CookieJar|CookiePolicy|Cookie|Morsel)"),
    (r"py:class", r"(Unpack|BaseAdapter|PreparedRequest|TracebackType|TextIO|optional|re\.Pattern|Literal|Self)"),
    (r"py:exc", r"CookieConflictError"),
    # Types of the options, and of what isn't for users; the text of the reference says what they are.
    (r"py:class", r"(crawlpool\.sinks\.jsonl\.)?(MapResults|Deadline|Clock|Fence|HasFileno|Site|Container)"),
    (
        r"py:class",
        r"(Route|Script|Fault|Shutdown|Data|Served|socket\.socket|crawlpool\.testing\.\w+\.(_Self|Script|Answer|Data))",
    ),
    (r"py:class", r"(crawlpool\.\w+\.)?\w+Options"),
    (r"py:class", r"(crawlpool\.config\.)?TimeoutValue"),
]

# Each page of examples begins in an empty folder, beside a site on loopback; see _ext/example_site.py.
doctest_global_setup = """
import example_site as _example_site
site = _example_site.begin()
server = _example_site.server()
"""
doctest_global_cleanup = """
_example_site.end()
"""
doctest_test_doctest_blocks = "default"
