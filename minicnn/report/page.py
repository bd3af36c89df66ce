"""The page of a run: metrics, pictures and settings in one HTML file that needs nothing else.

Names of files, classes and settings come from strangers. jinja2 escapes every value, the page has no script, and its
content security policy lets a browser load nothing: pictures are inside, as data.
"""

import base64
import json

from minicnn.data.decoder import read_bytes
from minicnn.errors import ImageError, MissingExtraError, printable
from minicnn.files import write_whole
from minicnn.evaluation.describe import HEADS as ALL_HEADS
from minicnn.metrics import HEADS, shown

__all__ = ["page"]

_TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{{ title }}</title>
<style>
:root { --ink: #222; --quiet: #666; --line: #ddd; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: #fff;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p, ul { margin: .4rem 0; max-width: 42rem; }
.warning { border-left: .3rem solid #d55e00; padding: .2rem 0 .2rem .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
.metrics th, .metrics td { text-align: right; white-space: nowrap; padding: .3rem 0 .3rem 1.1rem; }
.metrics th:first-child { text-align: left; padding-left: 0; }
thead th, .settings th { font-weight: 600; }
.settings { font-size: .9rem; }
td.undefined, figcaption, footer { color: var(--quiet); }
td.undefined { font-style: italic; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figcaption { font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; }
footer { margin-top: 2.5rem; font-size: .9rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } .wide { overflow: visible; }
               h2 { break-after: avoid; } img { max-height: 22cm; } }
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p class="warning">minicnn is a teaching and research tool, <strong>not a medical device</strong>: nothing on this page
may be used to diagnose or treat anybody.</p>
</header>
<main>
<h2>Metrics</h2>
<div class="wide"><table class="metrics">
<thead><tr><th scope="col">set</th>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for part, cells in rows %}<tr><th scope="row">{{ part }}</th>{% for cell in cells -%}
<td{% if cell == "undefined" %} class="undefined"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% if undefined %}<ul>
{% for part, metric, reason in undefined %}<li>{{ part }} {{ metric }} is undefined: {{ reason }}.</li>
{% endfor %}</ul>{% endif %}
{% if classes %}<p>Classes: {{ classes }}.{% if positive %} Positive is <strong>{{ positive }}</strong>.{% endif %}</p>
{% endif %}
{% if notes %}<h2>Notes</h2>
<ul>
{% for note in notes %}<li>{{ note }}</li>
{% endfor %}</ul>{% endif %}
{% if figures %}<h2>Pictures</h2>
{% for caption, data in figures %}<figure><img src="data:image/png;base64,{{ data }}" alt="{{ caption }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}{% endif %}
{% if config %}<h2>Settings</h2>
<div class="wide"><table class="settings">
<tbody>
{% for key, value in config %}<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}</tbody>
</table></div>{% endif %}
</main>
<footer>Made by minicnn.</footer>
</body>
</html>
"""


def page(path, title, parts, figures=None, config=None, classes=(), notes=()):
    """Write the page of a run.

    Parameters
    ----------
    path : str or Path; an HTML file
    title : str
    parts : dict; from the name of a part to its metrics, as for `metrics.table`
    figures : dict, optional; from a caption to the path of a PNG file, which becomes part of the page
    config : dict, optional; settings, shown as a table; inner objects by dotted names
    classes : sequence of names in order; of two the second is the positive one
    notes : sequence of sentences

    Raises
    ------
    ImageError : a picture that is missing or is not a PNG file
    CheckpointError : the page could not be written
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise MissingExtraError("writing the report", "jinja2", "app") from None

    environment = Environment(autoescape=True)
    html = environment.from_string(_TEMPLATE).render(
        title=printable(title), heads=list(HEADS.values()),
        rows=[(printable(part), shown(metrics)) for part, metrics in parts.items()],
        undefined=[(printable(part), ALL_HEADS[metric], printable(reason)) for part, metrics in parts.items()
                   for metric, reason in metrics["undefined"].items()],
        figures=[(printable(caption), _png(picture)) for caption, picture in (figures or {}).items()],
        config=list(_flat(config or {})), notes=[printable(note) for note in notes],
        classes=", ".join(map(printable, classes)), positive=printable(classes[1]) if len(classes) == 2 else "")
    write_whole(path, html.encode())


def _png(path):
    """Return the picture's bytes in base64."""
    content = read_bytes(path)
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ImageError(f"{printable(path)}: expected a PNG file for the page.")
    return base64.b64encode(content).decode("ascii")


def _flat(config, prefix=""):
    """Yield (dotted name, text) for each setting."""
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            yield printable(f"{prefix}{key}"), printable(text)
