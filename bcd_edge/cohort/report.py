"""The report: one page without other files or a network, and beside it the tables, AnnData, and a script that makes all of it again."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pprint import pformat
from string import Template
from typing import Any, Final

import pyarrow as pa

from bcd_edge import __version__
from bcd_edge.cohort import clinical, embedding_map, extract, page
from bcd_edge.cohort.associations import Association, associate
from bcd_edge.cohort.clinical import Clinical, Outcome
from bcd_edge.cohort.dictionary import BY_NAME, FEATURES, NAMES
from bcd_edge.cohort.embedding_map import Points
from bcd_edge.errors import OutputError, UsageError
from bcd_edge.system.atomic import atomic_write

PAGE: Final = "report.html"
FEATURES_FILE, CLINICAL_FILE = "features.parquet", "clinical.csv"
_REPRODUCE: Final = Template('''"""Makes this report again from features.parquet and clinical.csv beside it; made by bcd-edge $version.

    pip install "bcd-edge[research]" && python reproduce.py
"""

from pathlib import Path

from bcd_edge.cohort.report import reproduce

SETTINGS = $settings

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    reproduce(here, SETTINGS, here / "reproduced")
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
        notes: what a reader should know.
    """

    pictures: pa.Table
    patients: pa.Table
    outcomes: Sequence[Outcome]
    associations: Sequence[Association]
    notes: Sequence[str]


def analyse(features: pa.Table, table: Clinical, settings: Settings) -> Report:
    """Joins pictures and clinical table by patient, and compares.

    Raises:
        UsageError: they have no patient in common, or a column is not what it was said to be.
    """
    found, notes = clinical.outcomes(table, settings.columns, settings.time, settings.event)
    own = sorted(set(features["patient"].to_pylist()))
    without, unseen = [name for name in own if name not in table.patients], sorted(table.patients.difference(own))
    if len(without) == len(own):
        raise UsageError(
            f"No patient of the pictures ({', '.join(own[:3])}) is in the clinical table ({', '.join(unseen[:3])}); "
            "name them alike, or give --patients and --key."
        )
    if without:
        notes.append(f"Patients with pictures who are not in the clinical table are left out, {len(without)} in all: {_list(without)}.")
    if unseen:
        notes.append(f"Patients of the clinical table who have no picture, {len(unseen)} in all: {_list(unseen)}.")
    pictures = features.filter(pa.array([name in table.patients for name in features["patient"].to_pylist()]))
    patients = extract.means(pictures, ["patient"])
    rows, few = associate(NAMES, extract.matrix(patients), patients["patient"].to_pylist(), found)
    return Report(pictures, patients, found, rows, [*notes, *few, *_warnings(rows), *_bundles(pictures)])


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _warnings(rows: Sequence[Association]) -> list[str]:
    """How pictures were taken goes with an outcome: then any feature may."""
    titles: dict[str, list[str]] = {}
    for row in rows:
        if row.is_found and BY_NAME[row.feature].group == "technical":
            titles.setdefault(row.outcome, []).append(row.feature)
    return [
        f"{outcome}: {', '.join(names)} goes with it, so the pictures were taken differently; what looks like biology may be that."
        for outcome, names in titles.items()
    ]


def _bundles(pictures: pa.Table) -> list[str]:
    """Whether answers and embeddings are by different bundles, or by several."""
    answered, embedded = (sorted(set(pictures[name].to_pylist())) for name in ("bundle", "embedding_bundle"))
    return [] if answered == embedded else [f"p(malignant) and novelty are by {', '.join(answered)}, the embedding by {', '.join(embedded)}."]


def write(report: Report, table: Clinical, settings: Settings, out: Path, left_out: Mapping[str, int] | None = None) -> None:
    """Writes all files into a folder.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        extract.write(report.pictures, out / FEATURES_FILE)
        plain = report.pictures.drop_columns(["embedding", "thumbnail"])
        associations = pa.Table.from_pylist([row.as_dict() for row in report.associations])
        slides = extract.means(report.pictures, ["patient", "slide"])
        for name, rows in (("patients", report.patients), ("slides", slides), ("associations", associations)):
            extract.write(rows, out / f"{name}.parquet")
            atomic_write(out / f"{name}.csv", _csv(rows.column_names, rows.to_pylist()))
        atomic_write(out / "features.csv", _csv(plain.column_names, plain.to_pylist()))
        dictionary = [asdict(feature) for feature in FEATURES]
        atomic_write(out / "dictionary.csv", _csv(list(dictionary[0]), dictionary))
        atomic_write(out / CLINICAL_FILE, _clinical(table, report, settings.key))
        maps = embedding_map.maps(extract.embeddings(report.pictures), by_umap=settings.umap)
        _write_anndata(report, table, maps, out / "cohort.h5ad")
        script = _REPRODUCE.substitute(version=__version__, settings=pformat(asdict(settings), sort_dicts=False), page=PAGE)
        atomic_write(out / "reproduce.py", script.encode())
        atomic_write(out / PAGE, page.html(report, maps, left_out or {}).encode())
    except OSError as error:
        raise OutputError(f"The report cannot be written to {out} ({error.strerror or error}); give a folder that you can write to.") from None


def reproduce(folder: Path, settings: Mapping[str, Any], out: Path) -> None:
    """Makes a report again from the files of another one; what `reproduce.py` calls.

    Args:
        folder: of a report.
        settings: those of the report.
        out: for the new one.
    """
    columns = {name: (kind, tuple(levels)) for name, (kind, levels) in settings["columns"].items()}
    given = Settings(**{**settings, "columns": columns})
    table = clinical.read(folder / CLINICAL_FILE, given.key)
    write(analyse(extract.read(folder / FEATURES_FILE), table, given), table, given, out)


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
    partial = path.with_name(f".{path.name}")
    data.write_h5ad(partial)
    partial.replace(path)
