"""The model card, written from the manifest alone, so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

SHOWN = ("auroc", "sensitivity", "specificity", "accuracy", "balanced_accuracy", "brier")
NAMES = {"auroc": "AUROC", "brier": "Brier score", "balanced_accuracy": "balanced accuracy"}


def text(manifest: dict[str, Any]) -> str:
    """Markdown."""
    ran = manifest["variants"][0]
    decision, settings = manifest["decision"], manifest["training"]["settings"]
    lines = [
        f"# Model card: {manifest['name']} {manifest['version']}",
        "",
        f"A ResNet-50 that takes {manifest['input']['height']} x {manifest['input']['width']} pixels and tells benign from malignant breast tissue. "
        f"{manifest['intended_use']}",
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
    lines += ["", "Colour alone (mean and deviation of R, G, B; logistic regression; same patients):", "", "| set | AUROC |", "|---|---:|"]
    for source, scores in manifest["reference"]["baseline"].items():
        auroc = scores["auroc"]
        lines.append(f"| {source} | {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}] |")
    lines += [
        "",
        "## Decision",
        "",
        f"Chosen {decision['chosen']}. Benign below {decision['review_low']:.4f}, "
        f"malignant from {decision['review_high']:.4f}, between them a person should look. "
        f"Temperature {manifest['output']['temperature']:.3f}, fitted on validation patients with both classes weighed alike: "
        "where cancer is rarer or more frequent than benign tissue, a probability is too high or too low.",
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
        "| variant | size MB | max abs. difference of p | AUROC lost | decisions that differ | in this bundle |",
        "|---|---:|---:|---|---:|---|",
    ]
    for variant in [*manifest["variants"], *manifest["compared"].values()]:
        difference = variant["difference"]
        drops = ", ".join(f"{source} {drop:+.4f}" for source, drop in difference["auroc_drop"].items())
        carried = "yes" if variant in manifest["variants"] else "no"
        lines.append(
            f"| {variant['precision']} | {variant['bytes'] / 1e6:.1f} | {difference['max_delta_p']:.2g} | {drops} "
            f"| {difference['flipped']} of {difference['images']} | {carried} |"
        )
    versions = ", ".join(f"{name} {number}" for name, number in manifest["training"]["versions"].items())
    training = manifest["training"]
    runs = [*training["before"], {"settings": settings, "epoch": training["epoch"]}]
    lines += [
        "",
        "## Training",
        "",
        *(f"{number}. {_run(run)}" for number, run in enumerate(runs, 1)),
        "",
        f"{versions}; revision {training['revision']}.",
        "",
    ]
    return "\n".join(lines)


def _run(run: dict[str, Any]) -> str:
    settings = run["settings"]
    teacher = settings.get("teacher", "none")
    return (
        f"{', '.join(settings['data'])} at {settings['size']} pixels from `{settings['weights']}`: "
        f"{settings['epochs']} epochs (kept: {run['epoch']}), "
        f"batch {settings['batch_size']}, peak learning rate {settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}"
        + (f", learning the features of {teacher} beside the labels." if teacher != "none" else ".")
    )
