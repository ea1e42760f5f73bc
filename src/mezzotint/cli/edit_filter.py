"""`mezzotint edit filter`: a picture through filters, as an image prompt would go through them. No model runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mezzotint.cli.edit_move import _opaque
from mezzotint.cli.options import Parser, print_json


def run(arguments: Sequence[str]) -> int:
    """Filter one picture."""
    parser = Parser("edit filter", "A picture through pixel-space filters, to be an image prompt (arXiv 2404.13263).")
    parser.add_argument("image", type=Path, help="the picture: PNG, TIFF, JPEG, WebP")
    parser.add_argument("--filters", required=True, help="in order, as 'desaturate|invert|contrast:1.5'")
    parser.add_argument("--out", type=Path, help="the file of the result (default: IMAGE-filtered)")
    parser.json_option()
    told = parser.parse_args(arguments)

    from mezzotint.edit.filters import parse
    from mezzotint.io.photo import check_photo_path, write_photo

    chain = parse(told.filters)
    photo, image = _opaque(told.image)
    out = told.out or told.image.with_name(f"{told.image.stem}-filtered{told.image.suffix}")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"cannot write {out}: {'it is a folder' if out.is_dir() else 'its folder does not exist'}")
    if out.resolve() == told.image.resolve():
        raise ValueError(f"{out} is the picture itself; give the result a file of its own with --out")
    made = chain(image[None].clamp(-1, 1))[0]
    grey = photo.image.shape[0] == 1 and bool((made == made[:1]).all())
    result = photo.with_image(made[:1] if grey else made)
    check_photo_path(out, result)
    write_photo(out, result)
    if told.json:
        facts = {"image": str(told.image), "filters": str(chain), "removes": sorted(chain.removes), "out": str(out)}
        print_json(facts)
        return 0
    print(f"{out}  {chain}" + (f", removes {', '.join(sorted(chain.removes))}" if chain.removes else ""))
    return 0
