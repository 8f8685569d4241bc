"""The model card, written from the manifest alone, so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

from train.evaluation.report import doubts

SHOWN = ("auroc", "sensitivity", "specificity", "accuracy", "balanced_accuracy", "brier")
NAMES = {"auroc": "AUROC", "brier": "Brier score", "balanced_accuracy": "balanced accuracy"}


def text(manifest: dict[str, Any]) -> str:
    """Markdown."""
    ran = manifest["variants"][0]
    decision, settings = manifest["decision"], manifest["training"]["settings"]
    lines = [
        f"# Model card: {manifest['name']} {manifest['version']}",
        "",
        f"{_networks(manifest)} classifies an image as benign or malignant. {manifest['description']} {manifest['intended_use']}",
        "",
        f"Licence of the weights: {manifest['licence']}.",
        "",
        "## What it must not be used for",
        "",
        *(f"- {limit}" for limit in manifest["limits"]),
        "",
        "## Data and split",
        "",
        *(f"- {source}" for source in manifest["data"]),
        "",
        f"Split by patient (seed {settings['seed']}, fingerprint `{manifest['training']['split']['fingerprint'][:16]}`): nobody is on two sides.",
        "",
        "| part | set | patients | benign images | malignant images |",
        "|---|---|---:|---:|---:|",
    ]
    for part, sources in manifest["training"]["split"]["parts"].items():
        lines += [f"| {part} | {source} | {count['patients']} | {count['benign']} | {count['malignant']} |" for source, count in sources.items()]
    lines += [
        "",
        f"## Results of the shipped {ran['precision']} model on patients never trained on",
        "",
        "In brackets the 95 % interval from resampling patients. "
        f"Sensitivity, specificity and accuracy are at the operating threshold {decision['threshold']:.4f}.",
        "",
        "| set | images (malignant) | patients | " + " | ".join(NAMES.get(name, name) for name in SHOWN) + " |",
        "|---|---:|---:|" + "---:|" * len(SHOWN),
    ]
    for source, scores in ran["test"].items():
        cells = " | ".join(
            f"{scores['metrics'][name]['value']:.3f} [{scores['metrics'][name]['low']:.3f}, {scores['metrics'][name]['high']:.3f}]" for name in SHOWN
        )
        lines.append(f"| {source} | {scores['images']} ({scores['malignant']}) | {scores['patients']} | {cells} |")
    lines += [
        "",
        *(
            f"**{source}: {sentence}**" + "\n"
            for source in ran["test"]
            for sentence in doubts(ran["test"][source], manifest["reference"]["baseline"].get(source))
        ),
    ]
    lines += ["Colour alone (mean and standard deviation of R, G, B; logistic regression; same patients):", "", "| set | AUROC |", "|---|---:|"]
    for source, scores in manifest["reference"]["baseline"].items():
        auroc = scores["auroc"]
        lines.append(f"| {source} | {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}] |")
    lines += [
        "",
        "## Decision",
        "",
        f"Chosen {decision['chosen']}. {_benign(decision)}, "
        f"malignant from {decision['review_high']:.4f}, between them review: the picture needs a pathologist. "
        f"{_calibration(manifest)}, fitted on patients that the network had not seen, with both classes weighed alike: "
        "where cancer is rarer or more frequent than benign tissue, a probability is too high or too low.",
        *_novelty(manifest),
        *_scale(manifest),
        "",
        "| set | sent to review | malignant images called benign |",
        "|---|---:|---:|",
        *(
            f"| {source} | {scores['review']} of {scores['images']} | {scores['malignant_called_benign']} of {scores['malignant']} |"
            for source, scores in ran["test"].items()
        ),
        "",
        "## Variants beside the PyTorch reference, same test images",
        "",
        "Differences are variant minus reference, the mean of the sets weighted by their patients, with the 95 % interval of a paired bootstrap by "
        "patient. A variant whose interval's bad end passes a bound is refused.",
        "",
        "| variant | for | size MB | max abs. difference of p | AUROC | sensitivity | flips | verdict | in this bundle |",
        "|---|---|---:|---:|---|---|---:|---|---|",
    ]
    for variant in [*manifest["variants"], *manifest["compared"].values()]:
        judged = variant["gate"]
        size = sum(file["bytes"] for file in variant.get("members", [variant])) / 1e6
        differences = " | ".join(_signed(judged["difference"].get(metric)) for metric in ("auroc", "sensitivity"))
        verdict = "refused" if judged["refused"] else "passed"
        lines.append(
            f"| {variant['precision']} | {', '.join(variant.get('providers', ['all']))} | {size:.1f} | {judged['max_delta_p']:.2g} | {differences} "
            f"| {judged['flips']} of {judged['images']} | {verdict} | {'yes' if variant in manifest['variants'] else 'no'} |"
        )
    lines += _previous(manifest)
    versions = ", ".join(f"{name} {number}" for name, number in manifest["training"]["versions"].items())
    training = manifest["training"]
    runs = [run for member in (training, *training["ensemble"]) for run in (*member["before"], member)]
    lines += [
        "",
        "## Training",
        "",
        *(f"{number}. {_run(run)}" for number, run in enumerate(runs, 1)),
        "",
        f"{versions}; revision {training['revision']}.",
        *(["", training["note"]] if "note" in training else []),
        "",
    ]
    return "\n".join(lines)


def _calibration(manifest: dict[str, Any]) -> str:
    """How logits become a probability, as the beginning of a sentence."""
    if manifest["training"]["ensemble"]:
        return "Each network with a temperature or scale and bias of its own"
    collections = manifest.get("calibration", {})
    if not collections:
        return f"Temperature {manifest['output']['temperature']:.3f}"
    parts = ", ".join(f"{name} {values['scale']:.3f} and {values['bias']:+.3f}" for name, values in collections.items())
    return f"Scale and bias of the logits' difference by collection: {parts}"


def _benign(decision: dict[str, Any]) -> str:
    """Up to where an image is called benign; a band from zero on has nothing below it."""
    return f"Benign below {decision['review_low']:.4f}" if decision["review_low"] else "No image is called benign without review"


def _novelty(manifest: dict[str, Any]) -> list[str]:
    """When a picture is too unlike the training pictures."""
    novelty = manifest.get("novelty")
    if not novelty:
        return []
    return [
        "",
        f"A picture whose embedding lies farther than {novelty['threshold']:.2f} from those of the training pictures "
        f"needs review: {novelty['chosen']}.",
    ]


def _scale(manifest: dict[str, Any]) -> list[str]:
    """Which fields of view the model was trained on."""
    scale = manifest.get("scale")
    if not scale:
        return ["", "Fields of view that it was trained on: not known, so the scale of a picture is not looked at."]
    trained = ", ".join(f"{name} {side:.0f}" for name, side in scale["trained_um"].items())
    return [
        "",
        f"Trained on fields of view with these sides in µm (of the square of the same area): {trained}, zoomed from "
        f"{scale['low_um']:.0f} to {scale['high_um']:.0f}. A picture whose scale is given and which shows more or less needs review. "
        "The network itself is not told the scale.",
    ]


def _networks(manifest: dict[str, Any]) -> str:
    """What runs, as the beginning of a sentence."""
    training = manifest["training"]
    each = [
        f"{run['settings']['network']} at {run['settings']['size']} x {run['settings']['size']} pixels" for run in (training, *training["ensemble"])
    ]
    return f"A {each[0]}" if len(each) == 1 else f"An ensemble of {' and '.join(each)}, whose probabilities are averaged,"


def _previous(manifest: dict[str, Any]) -> list[str]:
    """How much better or worse than the bundle it replaces."""
    previous = manifest.get("previous")
    if not previous:
        return []
    lines = [
        "",
        f"## Beside {previous['name']}, on the same test patients",
        "",
        f"On {previous['patients']} test patients ({previous['images']} images) that neither learned from; both runs held out "
        f"{previous['held_out_by_both']} of them, and the others were not in the earlier one. {_unjudged(previous['unjudged'])}"
        f"{manifest['variants'][0]['precision']} of this bundle minus {previous['precision']} of that one, with the 95 % interval of a paired "
        "bootstrap by patient. An interval that holds 0 proves no difference.",
        "",
        "| set | AUROC | Brier score |",
        "|---|---|---|",
    ]
    rows = {"mean, weighted by patients": previous["difference"], **previous["by_source"]}
    return lines + [f"| {name} | {_signed(metrics['auroc'])} | {_signed(metrics['brier'])} |" for name, metrics in rows.items()]


def _unjudged(sources: list[str]) -> str:
    return f"Not compared, with fewer than two patients of a class: {', '.join(sources)}. " if sources else ""


def _signed(metric: dict[str, float] | None) -> str:
    return f"{metric['value']:+.4f} [{metric['low']:+.4f}, {metric['high']:+.4f}]" if metric else "–"


def _run(run: dict[str, Any]) -> str:
    settings = run["settings"]
    teacher = settings.get("teacher", "none")
    return (
        f"{settings['network']} on {', '.join(settings['data'])} at {settings['size']} pixels from `{settings['init']}`: "
        f"{settings['epochs']} epochs (kept: {run['epoch']}), "
        f"batch {settings['batch_size']}, peak learning rate {settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}"
        + (f", learning the features of {teacher} beside the labels." if teacher != "none" else ".")
    )
