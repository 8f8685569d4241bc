"""An HTML page of explanations, in one file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from bcd_edge.explain import Explanation
from bcd_edge.explain.overlay import NUMBERED
from bcd_edge.records import Record

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>bcd-edge: explanations</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; background: #fff; }
article { border-top: 1px solid #ccc; padding: 1.5rem 0; display: flex; flex-wrap: wrap; gap: 1.5rem; }
article img { max-width: min(100%, 42rem); height: auto; align-self: flex-start; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; margin: 0; }
table { border-collapse: collapse; margin-top: .5rem; } td, th { padding: .1rem .8rem .1rem 0; text-align: right; }
.doubt { color: #a33; font-weight: 600; } footer { color: #555; border-top: 1px solid #ccc; padding-top: 1rem; }
</style></head><body>
<h1>Explanations</h1>
<p>Orange superpixels speak for the label, blue ones against it: without them its probability would fall or rise.
They show what this model looks at, not what is in the tissue.</p>
$articles
<footer>$execution For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")

_ARTICLE = Template("""<article><img alt="$name with superpixels for and against $label" src="data:image/png;base64,$png">
<div><h2>$name</h2>
<p>Decision: <strong>$decision</strong>. $reasons<br>Explained: $label, p = $probability. $sure<br>Scale: $scale.</p>
<table><tr><th>superpixel</th><th>weight</th><th>standard error</th><th>area</th></tr>$rows</table></div></article>""")


@dataclass(frozen=True, slots=True)
class Explained:
    """Record, explanation and overlay (PNG bytes) of an image."""

    record: Record
    explanation: Explanation
    png: bytes


def page(explained: Sequence[Explained]) -> str:
    """The HTML of a page that needs no other file."""
    articles = "\n".join(map(_article, explained))
    ran = explained[0].record.execution if explained else None
    execution = f"{ran.bundle} {ran.precision} on {ran.provider}, bundle {ran.bundle_sha256[:12]}, bcd-edge {ran.version}." if ran else ""
    return _PAGE.substitute(articles=articles, execution=escape(execution))


def _article(image: Explained) -> str:
    plain = image.explanation.as_dict()
    rows = "".join(
        f"<tr><td>{row['superpixel']}</td><td>{row['weight']:+.4f}</td>"
        f"<td>{'-' if row['standard_error'] is None else format(row['standard_error'], '.4f')}</td><td>{row['area']:.1%}</td></tr>"
        for row in plain["superpixels"][:NUMBERED]
    )
    doubt = "" if image.explanation.converged else "<span class=doubt>Not converged: other samples could give another result.</span> "
    return _ARTICLE.substitute(
        name=escape(Path(image.record.source).name or image.record.source),
        label=image.explanation.label,
        png=base64.b64encode(image.png).decode(),
        decision=image.record.decision,
        reasons=escape("; ".join(image.record.reasons)) + ".",
        probability=f"{image.explanation.probability:.3f}",
        scale=f"{image.record.um_per_pixel:g} µm per pixel" if image.record.um_per_pixel else "not known",
        sure=f"{doubt}{image.explanation.samples} samples by {image.explanation.explainer}: {escape(image.explanation.reason)}.",
        rows=rows,
    )
