"""Print sizes and costs: the published variants, or one network of the width family."""

from __future__ import annotations

import argparse

from dd.models.rmt.summary import published_table, width_table
from dd.models.rmt.variants import VARIANTS, published, width_variant

_GEOMETRIES = {8: (1, (1, 1), 1), 28: (1, (1, 1, 1), 2), 32: (3, (2, 2, 2, 2), 2)}
"""Side of the images -> channels, depths and total stride of the stem: digits, MNIST and CIFAR-10."""


def _depths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with hyphens between, as in 2-2-2") from None


def main(arguments: list[str] | None = None) -> None:
    """See ``python -m dd.models.rmt --help``."""
    parser = argparse.ArgumentParser("python -m dd.models.rmt", description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="side of the published variants' images (default 224)")
    parser.add_argument("--classes", type=int, help="outputs (default 1000; 10 with --width)")
    parser.add_argument("--width", type=int, metavar="K", help="the network of the width family with k = K instead")
    parser.add_argument("--image", type=int, default=32, help="side of its images (default 32)")
    parser.add_argument("--channels", type=int, help="of its images (default 1; 3 for --image 32)")
    parser.add_argument("--depths", type=_depths, help="its blocks a stage, as in 1-1 (default by --image)")
    parser.add_argument("--patch", type=int, help="total stride of its stem, 1, 2 or 4 (default by --image)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.width is None:
            sizes = {name: published(name, 1000 if chosen.classes is None else chosen.classes) for name in VARIANTS}
            print(published_table(sizes, chosen.size))
            return
        channels, depths, patch = _GEOMETRIES.get(chosen.image, _GEOMETRIES[28])
        architecture = width_variant(
            chosen.width,
            channels=channels if chosen.channels is None else chosen.channels,
            height=chosen.image,
            width=chosen.image,
            classes=10 if chosen.classes is None else chosen.classes,
            depths=depths if chosen.depths is None else chosen.depths,
            patch=patch if chosen.patch is None else chosen.patch,
        )
        print(width_table(architecture, chosen.image, chosen.image))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
