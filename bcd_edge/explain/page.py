"""A self-contained HTML page of explanations."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from bcd_edge.explain import Explanation
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
<p>Orange superpixels speak for the label that is named, blue ones against it: what the probability would lose or gain without them.
They show what this model looks at, not what is in the tissue.</p>
$articles
<footer>$what For research. Assists a pathologist; it does not diagnose alone.</footer>
</body></html>
""")

_ARTICLE = Template("""<article><img alt="$name with superpixels for and against $label" src="data:image/png;base64,$png">
<div><h2>$name</h2>
<p>Decision: <strong>$decision</strong>. $reasons<br>Explained: $label, p = $probability. $sure</p>
<table><tr><th>superpixel</th><th>weight</th><th>standard error</th><th>area</th></tr>$rows</table></div></article>""")


@dataclass(frozen=True, slots=True)
class Explained:
    """One image's record, explanation and overlay (PNG bytes)."""

    record: Record
    explanation: Explanation
    png: bytes


def page(explained: Sequence[Explained]) -> str:
    """HTML that needs no other file."""
    articles = "\n".join(_article(one) for one in explained)
    ran = explained[0].record.execution if explained else None
    what = f"{ran.bundle} {ran.precision} on {ran.provider}, bundle {ran.bundle_sha256[:12]}, bcd-edge {ran.version}." if ran else ""
    return _PAGE.substitute(articles=articles, what=escape(what))


def _article(one: Explained) -> str:
    plain = one.explanation.as_dict()
    rows = "".join(
        f"<tr><td>{row['superpixel']}</td><td>{row['weight']:+.4f}</td>"
        f"<td>{'-' if row['standard_error'] is None else format(row['standard_error'], '.4f')}</td><td>{row['area']:.1%}</td></tr>"
        for row in plain["superpixels"][:8]
    )
    doubt = "" if one.explanation.converged else "<span class=doubt>Not converged: other samples could give another picture.</span> "
    return _ARTICLE.substitute(
        name=escape(Path(one.record.source).name or one.record.source),
        label=one.explanation.label,
        png=base64.b64encode(one.png).decode(),
        decision=one.record.decision,
        reasons=escape("; ".join(one.record.reasons)) + ".",
        probability=f"{one.explanation.probability:.3f}",
        sure=f"{doubt}{one.explanation.samples} samples by {one.explanation.explainer}: {escape(one.explanation.reason)}.",
        rows=rows,
    )
