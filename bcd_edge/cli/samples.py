"""`bcd-edge samples`."""

from __future__ import annotations

import click


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
def command(folder: str) -> None:
    """Write sample images to try the program with.

    Three synthetic H&E-like pictures (pink stroma, purple nuclei; drawn by a program, no tissue) and one real
    microscope picture that scikit-image ships (colon, immunohistochemistry: not breast, not H&E). They show that the
    program runs; what it says about them means nothing.
    """
    from pathlib import Path

    import cv2

    from bcd_edge import synthetic
    from bcd_edge.errors import OutputError

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, image in synthetic.samples().items():
            _, encoded = cv2.imencode(".png", image[..., ::-1])
            file = Path(folder) / f"{name}.png"
            file.write_bytes(encoded.tobytes())
            click.echo(file)
    except OSError as error:
        raise OutputError(f"The samples could not be written to {folder} ({error.strerror}); give a folder you may write to.") from None
    click.echo(f"Next: bcd-edge predict {folder}", err=True)
