"""The report: one page without other files or a network, and beside it the tables, AnnData, and a script that makes all of it again."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pprint import pformat
from string import Template
from typing import Any, Final

import pyarrow as pa

from bcd_edge import __version__
from bcd_edge.cohort import clinical, embedding_map, extract, figures, page
from bcd_edge.cohort.associations import HEADS, Association, associate
from bcd_edge.cohort.clinical import Clinical, Outcome
from bcd_edge.cohort.dictionary import BY_NAME, FEATURES, NAMES
from bcd_edge.cohort.embedding_map import Points
from bcd_edge.errors import OutputError, UsageError
from bcd_edge.results.summary import count

PAGE: Final = "report.html"
FEATURES_FILE, CLINICAL_FILE, FIGURES, SCRIPT = "features.parquet", "clinical.csv", "figures", "reproduce.py"
# Where a report is made before it takes the place of an earlier one.
UNFINISHED: Final = ".unfinished"
_REPRODUCE: Final = Template('''"""Makes this report again from features.parquet and clinical.csv beside it; made by bcd-edge $version.

    pip install "bcd-edge[$extra]" && python reproduce.py
"""

from pathlib import Path

from bcd_edge.cohort.report import reproduce

SETTINGS = $settings

# What these files no longer show.
LEFT_OUT = $left_out

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    reproduce(here, SETTINGS, LEFT_OUT, here / "reproduced")
    print(f"Wrote {here / 'reproduced' / '$page'}")
''')


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked of a report.

    Attributes:
        key: column of the clinical table with the patient.
        columns: name of a column to its kind and values, see `clinical.parse_columns`.
        time: column with the time to the event.
        event: column with whether it was observed.
        umap: whether the map is made by UMAP, too.
    """

    key: str = "patient"
    columns: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    time: str | None = None
    event: str | None = None
    umap: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was found.

    Attributes:
        pictures: table of features by picture, of patients that the clinical table has.
        patients: means by patient.
        outcomes: what was compared.
        associations: of all features with all outcomes.
        left_out: which pictures, patients and values are missing, and why, where the tables of the report do not show it.
        notes: what was not compared and why, those of `left_out` among them.
        warnings: why what was found may be no biology.
    """

    pictures: pa.Table
    patients: pa.Table
    outcomes: Sequence[Outcome]
    associations: Sequence[Association]
    left_out: Sequence[str]
    notes: Sequence[str]
    warnings: Sequence[str]


def analyse(features: pa.Table, table: Clinical, settings: Settings, left_out: Sequence[str] = ()) -> Report:
    """Joins pictures and clinical table by patient, and compares.

    Args:
        features: of pictures.
        table: may have more patients, or fewer.
        settings: what was asked.
        left_out: notes on what is missing already.

    Raises:
        UsageError: they have no patient in common, or a column is not what it was said to be.
    """
    own = sorted(set(features["patient"].to_pylist()))
    joined = join(own, table)
    missing = strangers([name for name in own if name not in table.patients])
    if unseen := sorted(table.patients.difference(own)):
        missing.append(f"Patients of the clinical table who have no picture, {len(unseen)} in all: {_list(unseen)}.")
    found, notes = clinical.outcomes(joined, settings.columns, settings.time, settings.event)
    pictures = features.filter(pa.array([name in joined.patients for name in features["patient"].to_pylist()]))
    patients = extract.means(pictures, ["patient"])
    rows, few = associate(NAMES, extract.matrix(patients), patients["patient"].to_pylist(), found)
    gone = [*left_out, *table.notes, *missing]
    return Report(pictures, patients, found, rows, gone, [*gone, *notes, *few], [*_warnings(rows), *_bundles(pictures)])


def join(names: Sequence[str], table: Clinical) -> Clinical:
    """The clinical table of patients that have pictures.

    Raises:
        UsageError: there is none.
    """
    joined = table.of(names)
    if not joined.patients:
        raise UsageError(
            f"No patient of the pictures ({_list(names)}) is in the clinical table ({_list(sorted(table.patients))}); "
            "name them alike, or give --patients and --key."
        )
    return joined


def missing_pictures(left_out: Mapping[str, Sequence[str]], *, named: bool) -> list[str]:
    """Notes on pictures that were left out, by reason, with the first of their names or without."""
    return [f"{count(len(names), 'picture')} left out: {reason}" + (f" ({_list(names)})" if named else "") for reason, names in left_out.items()]


def strangers(names: Sequence[str]) -> list[str]:
    """A note on patients with pictures who are not in the clinical table, if there are any."""
    return [f"Patients with pictures who are not in the clinical table are left out, {len(names)} in all: {_list(names)}."] if names else []


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _warnings(rows: Sequence[Association]) -> list[str]:
    """How pictures were taken goes with an outcome: then any feature may."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        if row.is_found and BY_NAME[row.feature].group == "technical":
            titles.setdefault(row.outcome, []).append(BY_NAME[row.feature].title)
    return [
        f"{outcome}: {', '.join(names)} goes with it, so the pictures were taken differently; what looks like biology may be that."
        for outcome, names in titles.items()
    ]


def _bundles(pictures: pa.Table) -> list[str]:
    """Whether answers and embeddings are by different bundles, or by several."""
    answered, embedded = (sorted(set(pictures[name].to_pylist())) for name in ("bundle", "embedding_bundle"))
    return [] if answered == embedded else [f"p(malignant) and novelty are by {', '.join(answered)}, the embedding by {', '.join(embedded)}."]


@contextlib.contextmanager
def folder(out: Path) -> Iterator[Path]:
    """A folder to make a report in, which takes the place of `out`'s files at the end of the block; after an error, `out` is as before.

    Raises:
        UsageError: there is something else in `out`.
        OutputError: it cannot be written.
    """
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names - {UNFINISHED} and SCRIPT not in names:
        raise UsageError(f"{out} has files that are no report's; give a folder that is new, empty, or has an earlier report.")
    is_new, unfinished = not out.exists(), out / UNFINISHED
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        _replace(unfinished, out)
    except OSError as error:
        raise OutputError(f"The report cannot be written to {out} ({error.strerror or error}); give a folder that you can write to.") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new:
            with contextlib.suppress(OSError):
                out.rmdir()  # it is empty after an error


def _replace(finished: Path, out: Path) -> None:
    """Moves files to where they belong, the page last: where there is a page, all is there and of one report."""
    (out / PAGE).unlink(missing_ok=True)
    shutil.rmtree(out / FIGURES, ignore_errors=True)
    for path in sorted(finished.iterdir(), key=lambda path: (path.name == PAGE, path.name != SCRIPT)):
        path.replace(out / path.name)


def write(report: Report, table: Clinical, settings: Settings, out: Path) -> None:
    """Writes all files of a report.

    Args:
        report: by `analyse`.
        table: that it is of.
        settings: that it is of.
        out: an empty folder, see `folder`.

    Raises:
        OSError: they cannot be written.
    """
    associations = pa.table({name: [row.as_dict()[name] for row in report.associations] for name in HEADS})
    slides = extract.means(report.pictures, ["patient", "slide"])
    tables = {"features": report.pictures, "patients": report.patients, "slides": slides, "associations": associations}
    for name, rows in tables.items():
        extract.write(rows, out / f"{name}.parquet")
        plain = rows.select([head for head in rows.column_names if head not in ("embedding", "thumbnail")])
        (out / f"{name}.csv").write_bytes(_csv(plain.column_names, plain.to_pylist()))
    dictionary = [asdict(feature) for feature in FEATURES]
    (out / "dictionary.csv").write_bytes(_csv(list(dictionary[0]), dictionary))
    (out / CLINICAL_FILE).write_bytes(_clinical(table, report, settings.key))
    maps = embedding_map.maps(extract.embeddings(report.pictures), by_umap=settings.umap)
    _write_anndata(report, table, maps, out / "cohort.h5ad")
    told = {"settings": pformat(asdict(settings), sort_dicts=False), "left_out": pformat(list(report.left_out), width=140)}
    extra = "umap" if settings.umap else "research"
    (out / SCRIPT).write_bytes(_REPRODUCE.substitute(version=__version__, extra=extra, page=PAGE, **told).encode())
    drawn = page.draw(report, maps)
    _write_figures(drawn, out / FIGURES)
    (out / PAGE).write_bytes(page.html(report, maps, drawn).encode())


def _write_figures(drawn: Mapping[str, str], out: Path) -> None:
    out.mkdir()
    for name, figure in drawn.items():
        svg = figures.standalone(figure)
        (out / f"{name}.svg").write_bytes(svg.encode())
        (out / f"{name}.png").write_bytes(figures.png(svg))


def reproduce(earlier: Path, settings: Mapping[str, Any], left_out: Sequence[str], out: Path) -> None:
    """Makes a report again from the files of another one; what `reproduce.py` calls.

    Args:
        earlier: folder of a report.
        settings: those of the report.
        left_out: its notes on what is missing.
        out: for the new one.
    """
    columns = {name: (kind, tuple(levels)) for name, (kind, levels) in settings["columns"].items()}
    given = Settings(**{**settings, "columns": columns})
    table = clinical.read(earlier / CLINICAL_FILE, given.key)
    with folder(out) as unfinished:
        write(analyse(extract.read(earlier / FEATURES_FILE), table, given, left_out), table, given, unfinished)


def _csv(heads: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _shown(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _clinical(table: Clinical, report: Report, key: str) -> bytes:
    """The clinical table as it was read, of the patients that have pictures."""
    names = report.patients["patient"].to_pylist()
    rows = [{key: name} | {head: column.get(name) for head, column in table.columns.items()} for name in names]
    return _csv([key, *table.columns], rows)


def _write_anndata(report: Report, table: Clinical, maps: Mapping[str, Points], path: Path) -> None:
    """Pictures x features with the clinical table beside them, as scanpy and its relatives read it."""
    import anndata
    import pandas as pd

    rows = report.pictures
    keys = pd.DataFrame({name: rows[name].to_pylist() for name in extract.KEYS}, index=[str(index) for index in range(rows.num_rows)]).fillna("")
    for head, column in table.columns.items():
        keys[f"clinical: {head}".replace("/", " per ")] = [column.get(patient) or "" for patient in keys["patient"]]
    described = pd.DataFrame([asdict(feature) for feature in FEATURES]).set_index("name")
    data = anndata.AnnData(extract.matrix(rows), obs=keys, var=described)
    if (embeddings := extract.embeddings(rows)) is not None:
        data.obsm["X_embedding"] = embeddings
    for name, points in maps.items():
        data.obsm[f"X_{name}"] = points
    data.write_h5ad(path)
