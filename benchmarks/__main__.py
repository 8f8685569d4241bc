"""`python -m benchmarks`: light at start."""

from __future__ import annotations

from pathlib import Path

import click

from bcd_edge.cli import ErrorGroup


@click.group(cls=ErrorGroup)
def main() -> None:
    """Measure bcd-edge beside alternatives, in alternating turns; prints medians and ratios."""


@main.command("graph-input")
@click.argument("bundle", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="Per row.")
def graph_input(bundle: Path | None, seconds: float) -> None:
    """Speed of an INT8 graph with uint8 NHWC pixels as its first quantised activation, beside a float32 NCHW input."""
    from benchmarks.graph_input import compare

    compare(bundle, seconds)


@main.command("precisions")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="Per row.")
def precisions(bundle: Path, seconds: float) -> None:
    """Size and speed of a bundle's variants on every provider here, and their loss of accuracy from the manifest."""
    from benchmarks.precisions import compare

    compare(bundle, seconds)


@main.command("runtime")
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="Per side of a comparison.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def runtime(seconds: float, out: Path | None) -> None:
    """The runtime beside PyTorch, Ultralytics' predictor, OpenVINO's benchmark_app, a plain loop, and the machine's limit. Nine minutes."""
    from benchmarks.runtime import compare

    compare(seconds, out)


@main.command("explain")
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", required=True, type=click.Path(path_type=Path, exists=True), help="With the variants fp32 and int8.")
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path, exists=True), help="best.pt of the run that the bundle was exported from."
)
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def explain(images: Path, bundle: Path, checkpoint: Path, out: Path | None) -> None:
    """Explanations beside the lime package: time, stability over seeds, and the effect of INT8. A minute per image."""
    from benchmarks.explain import compare

    compare(images, bundle, checkpoint, out)


@main.command("borders")
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="Its first variant; the embedded bundle if not given.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def borders(images: Path, bundle: Path | None, out: Path | None) -> None:
    """Whether explanations favour the border of the image: a model that looks there looks at something else than tissue."""
    from benchmarks.explain import borders

    borders(images, bundle, out)


@main.command("train")
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True, help="Per loader, step, and both.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def train(seconds: float, device: str, out: Path | None) -> None:
    """The cost of the data loader beside the training step."""
    from benchmarks.train import compare

    compare(seconds, device, out)


@main.command("mlperf")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), required=True, help="New folder for the files of bcd-edge benchmark.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the tables into this Markdown file.")
def mlperf(bundle: Path, keep: Path, out: Path | None) -> None:
    """`bcd-edge benchmark` with cpu, openvino, fp32 and int8, and LoadGen's figures beside ours."""
    from benchmarks.mlperf import compare

    compare(bundle, keep, out)


@main.command("sensitivity")
@click.option("--provider", default="null", show_default=True, help="What is measured; null is quick.")
@click.option("--delay", default="5ms", show_default=True, metavar="5ms", help="Time per call of null.")
@click.option("--seconds", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Per row; each run has two.")
@click.option("--pairs", nargs=2, type=click.IntRange(0), default=(40, 20), show_default=True, help="Of equal runs, and of runs 10 % apart.")
@click.option("--busy", type=click.IntRange(0), default=0, show_default=True, help="Programs to start that use the processor now and then.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def sensitivity(provider: str, delay: str, seconds: float, pairs: tuple[int, int], busy: int, out: Path | None) -> None:
    """False alarms of `bcd-edge benchmark compare`, and the slowdowns of 10 % that it finds. About seven minutes."""
    from benchmarks.sensitivity import measure

    measure(provider, delay, seconds, pairs, busy, out)


@main.command("monitoring")
@click.option("--clinics", type=click.IntRange(1), default=400, show_default=True, help="Simulated for each row.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def monitoring(clinics: int, out: Path | None) -> None:
    """False alarms of `bcd-edge monitor`, how soon it finds a change, and how often its intervals hold the truth. Four minutes."""
    from benchmarks.monitoring import measure

    measure(clinics, out)


@main.command("dicom")
@click.option("--images", type=click.IntRange(5), default=500, show_default=True, help="How many are sent while the watcher is killed.")
@click.option("--seed", default=27, show_default=True, help="Of the moments of killing.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def dicom(images: int, seed: int, out: Path | None) -> None:
    """Receiving from DCMTK's storescu: killed while images arrive, and how quick it is. Two minutes."""
    from benchmarks.dicom import measure

    measure(out, seed, images)


@main.command("gpu")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for gpu.json, gpu.md and the log; with --from a Markdown file.")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="Best with int8, fp16 and fp32.  [default: the embedded one]")
@click.option("--seconds", type=click.FloatRange(1), default=480.0, show_default=True, help="For all parts together.")
@click.option("--dry-run", is_flag=True, help="Every part on the CPU with the smallest counts; the figures mean nothing.")
@click.option("--from", "measured", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put this gpu.json into --out.")
def gpu(out: Path, bundle: Path | None, seconds: float, dry_run: bool, measured: Path | None) -> None:
    """An NVIDIA card: answers beside the CPU's, latency, throughput, training; beside ONNX Runtime itself and PyTorch. Eight minutes at most."""
    from benchmarks.gpu.report import publish
    from benchmarks.gpu.run import measure

    if measured:
        publish(measured, out)
    else:
        measure(out, str(bundle or ""), seconds, dry_run=dry_run)


@main.command("all")
@click.argument("images", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", required=True, type=click.Path(path_type=Path, exists=True), help="With the variants fp32 and int8.")
@click.option(
    "--checkpoint", required=True, type=click.Path(path_type=Path, exists=True), help="best.pt of the run that the bundle was exported from."
)
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="Per side of a comparison.")
@click.option("--device", default="cpu", show_default=True, help="For training: cpu or cuda.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the tables into this Markdown file.")
@click.pass_context
def everything(ctx: click.Context, images: Path, bundle: Path, checkpoint: Path, seconds: float, device: str, out: Path | None) -> None:
    """`runtime`, `train` and `explain`, one after the other."""
    ctx.invoke(runtime, seconds=seconds, out=out)
    ctx.invoke(train, seconds=2 * seconds, device=device, out=out)
    ctx.invoke(explain, images=images, bundle=bundle, checkpoint=checkpoint, out=out)


@main.command("watch")
@click.option("--full", is_flag=True, help="The promised sizes; half an hour and 2 GB of the temporary folder. Otherwise small ones.")
@click.option("--seed", type=click.IntRange(0), default=8, show_default=True, help="Of pictures, moments and behaviours.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def watch(full: bool, seed: int, out: Path | None) -> None:
    """A watched folder through crashes, bad writers, full disks and more, and what watching costs."""
    from benchmarks.watch import measure

    measure(out, seed, full=full)


@main.command("archive")
@click.option("--pictures", type=click.IntRange(100), default=20_000, show_default=True, help="On the cluster whose nodes and driver are killed.")
@click.option("--objects", type=click.IntRange(100), default=5_000, show_default=True, help="In the object store that fails.")
@click.option("--names", type=click.IntRange(10_000), default=1_000_000, show_default=True, help="In the listing whose memory is measured.")
@click.option("--timed", type=click.IntRange(40), default=5_000, show_default=True, help="Pictures of each timed run.")
@click.option(
    "--only",
    type=click.Choice(["cluster", "store", "engine", "ray", "plan", "recipe", "listing"]),
    multiple=True,
    help="Only this part; may be given several times.  [default: all]",
)
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the lines of the parts into this file's table.")
def archive(only: tuple[str, ...], out: Path | None, **sizes: int) -> None:
    """A large collection: kills on a Ray cluster, a failing object store, speed beside predict and Ray's recipe, memory of listing. An hour.

    The store and Ray's recipe need: pip install "moto[server]" s3fs "ray[data]"
    """
    from benchmarks.archive import measure

    measure(out, only, sizes)


@main.command("serve")
@click.option("--pictures", type=click.IntRange(20), default=200, show_default=True, help="Sent by the clients of each closed loop.")
@click.option("--open", "open_s", type=click.FloatRange(1), default=300.0, show_default=True, help="Seconds of the open loop.")
@click.option("--results", type=click.IntRange(100), default=100_000, show_default=True, help="In the folder whose pages are timed.")
@click.option("--cases", type=click.IntRange(15), default=5_000, show_default=True, help="Requests drawn from the API's document, as each role.")
@click.option("--kills", type=click.IntRange(1), default=10, show_default=True, help="Of watcher and server, with 200 pictures and 100 reviews each.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def serve(pictures: int, open_s: float, results: int, cases: int, kills: int, out: Path | None) -> None:
    """The server: start, memory, load, pages of a large folder, drawn requests, and kills. Twenty minutes.

    Beside servers that one would write with FastAPI or LitServe and ONNX Runtime, where they are installed: pip install fastapi litserve
    """
    from benchmarks.serve import measure

    measure(out, pictures=pictures, cases=cases, results=results, open_s=open_s, kills=kills)


@main.command("decoding")
@click.argument("images", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="For each side of the comparison of speed.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def decoding(images: Path | None, seconds: float, out: Path | None) -> None:
    """Every layout of every format beside a second decoder, and damaged files; IMAGES is a ZIP of real JPEGs to damage. Five minutes."""
    from benchmarks.decoding import compare

    compare(images, out, seconds)


@main.command("quality")
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), help="Whose answers are watched.  [default: the embedded one]")
@click.option("--flagged", type=click.Path(path_type=Path, dir_okay=False), help="File for the names of the tissue images that are flagged.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def quality(data: Path, bundle: Path | None, flagged: Path | None, out: Path | None) -> None:
    """What the quality check flags of the collections in DATA: tissue, degraded tissue, and what is no histology. Some minutes."""
    from benchmarks.quality import compare

    compare(data, bundle, out, flagged)


@main.command("slides")
@click.option("--texture", type=click.Path(path_type=Path, exists=True), help="Slide from whose middle the tissue is taken.  [default: drawn tissue]")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def slides(texture: Path | None, out: Path | None) -> None:
    """Whole slides: speed beside the machine's bound and beside PyTorch, memory, first answer, a DICOM twin. Ten minutes, 2 GB of temporary files."""
    from benchmarks.slides import measure

    measure(texture, out)


@main.command("live")
@click.option("--picture", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Tissue that the camera sees.  [default: drawn tissue]")
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Per side of a comparison.")
@click.option("--minutes", type=click.FloatRange(0.02), default=3.0, show_default=True, help="Of the stream whose memory is watched.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def live(picture: Path | None, seconds: float, minutes: float, out: Path | None) -> None:
    """A camera's picture: latency, rate, processor, memory; beside the same work alone and a loop of OpenCV and Ultralytics. Twelve minutes."""
    from benchmarks.live import measure

    measure(picture, seconds, minutes, out)


@main.command("rulers")
@click.option("--number", type=click.IntRange(1), default=300, show_default=True, help="Drawings of each kind.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def rulers(number: int, out: Path | None) -> None:
    """Whether the scale measured from drawn stage micrometers is right. Two minutes."""
    from benchmarks.rulers import measure

    measure(number, out)


@main.command("stillness")
@click.argument("pictures", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def stillness(pictures: Path | None, out: Path | None) -> None:
    """Whether noise, lamp, motion and blur of a live picture are told; PICTURES is a folder of PNGs of tissue. Three minutes."""
    from benchmarks.stillness import measure

    measure(pictures, out)


@main.command("cohort")
@click.option("--cohorts", type=click.IntRange(10), default=200, show_default=True, help="Simulated for each row.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of BreaKHis: images.zip and manifest.csv.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for the reports on BreaKHis.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def cohort(cohorts: int, data: Path | None, keep: Path | None, out: Path | None) -> None:
    """How far `bcd-edge cohort` can be believed: known nuclei, changed pictures, planted effects, none at all, BreaKHis. Ten minutes of one core."""
    from benchmarks.cohort import measure_all

    measure_all(cohorts, data, keep, out)


@main.command("fuzz")
@click.option("--cases", type=click.IntRange(1), default=200_000, show_default=True, help="How many mutated files.")
@click.option("--seed", type=click.IntRange(0), default=17, show_default=True, help="Of the mutations.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep what came of each process; the same command goes on from there.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def fuzz(cases: int, seed: int, log: Path | None, out: Path | None) -> None:
    """The decoders with mutated files of every format, in processes with a limit of memory (Linux). Five minutes for all."""
    from benchmarks.fuzz import run

    run(cases, seed, log, out)


@main.command("corpus")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--list", "listing", type=click.Path(path_type=Path, dir_okay=False), help="CSV of every file, what came of it, and beside Pillow.")
@click.option("--out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Put the table into this Markdown file, between its marks.")
def corpus(folder: Path, listing: Path | None, out: Path | None) -> None:
    """The decoders with every file of a folder, for example an imaging library's own test images, beside Pillow (Linux). Minutes."""
    from benchmarks.corpus import run

    run(folder, listing, out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
