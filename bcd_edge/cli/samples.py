"""`bcd-edge samples`."""

from __future__ import annotations

import click


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
def command(folder: str) -> None:
    """Write sample images to try bcd-edge with.

    Three synthetic pictures that resemble H&E (pink stroma, purple nuclei; drawn by a program, not tissue) and a real
    microscope image from scikit-image (colon, immunohistochemistry: neither breast nor H&E). They show that the program
    runs; its results for them mean nothing.
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
        raise OutputError(f"The samples could not be written to {folder} ({error.strerror}); give a folder that you can write to.") from None
    click.echo(f"Next: bcd-edge predict {folder}", err=True)
