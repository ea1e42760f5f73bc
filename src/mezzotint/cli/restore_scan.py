"""`mezzotint restore SCAN --task mri|ct`: a volume measured as a scanner would, restored, and written as NIfTI."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mezzotint.cli.options import Parser, count, find_device, print_json

_HEADS, _STEPS = 80, 20  # synthetic heads of the default prior; steps where none are told
_ENDINGS = (".nii.gz", ".nii")


def main(arguments: Sequence[str]) -> int:
    """Measure, restore and write."""
    told = _parser().parse_args(arguments)
    if told.image is None:
        raise ValueError(f"a scan is needed: mezzotint restore head.nii.gz --task {told.task}")
    out = told.out or told.image.with_name(f"{_stem(told.image)}-restored.nii.gz")
    if not out.name.endswith(_ENDINGS):
        raise ValueError(f"--out {out}: expected a file that ends in .nii or .nii.gz")
    samples = told.samples if told.samples > 1 or not told.uncertainty else 8
    record, spread = (out.with_name(_stem(out) + end) for end in (".json", "-spread.nii.gz"))
    for path in (out, record, *([spread] if samples > 1 else [])):
        if path.is_dir() or not path.parent.is_dir():
            why = "it is a folder" if path.is_dir() else "its folder does not exist"
            raise ValueError(f"cannot write {path}: {why}")
    if told.model is not None and told.prior:
        raise ValueError("--model and --prior are two priors; give one")

    import torch

    from mezzotint.core import Noise
    from mezzotint.data.medical import write_nifti
    from mezzotint.io.atomic import write_text
    from mezzotint.papers.setting import versions
    from mezzotint.restore import MomentMatching, posterior
    from mezzotint.restore.names import find_method
    from mezzotint.restore.scan import ct_scan, mri_scan

    head = _read(told.image, told.task)
    if head.data.shape[0] != 1:
        raise ValueError(f"{told.image} has {head.data.shape[0]} values a voxel; restore one volume at a time")
    volume = head.to_model(_rule(told.task))
    x = volume.data.transpose(0, 1).contiguous()  # slices are the batch
    noise = Noise(range(told.seed, told.seed + len(x)))
    std = {} if told.noise is None else {"std": told.noise}
    if told.task == "mri":
        scan = mri_scan(x, noise, acceleration=told.acceleration, coils=told.coils, **std)
    else:
        scan = ct_scan(x, noise, views=told.views, span=told.span, **std)
    d, about = _prior(told, head.size)
    exact = told.model is None
    method = find_method(told.method) if told.method else MomentMatching(5 if exact else 1)
    seeds = range(told.seed, told.seed + samples)
    with torch.no_grad():
        made = posterior(method, d, scan.operator, scan.y, seeds, std=scan.std, steps=told.steps or _STEPS)

    measured = {"simulated": told.task, "noise": scan.std / (2 if told.task == "ct" else 1), **(
        {"acceleration": told.acceleration, "coils": told.coils} if told.task == "mri"
        else {"views": told.views, "span": told.span}
    )}  # fmt: skip
    before, after = (_measures(volume, z, head) for z in (scan.plain, made.mean))
    facts = {
        "format": "mezzotint-restore-scan-1", "image": str(told.image), "task": told.task,
        "method": told.method or "moment", "prior": about, "steps": told.steps or _STEPS, "seeds": list(seeds),
        "measurement": measured, "size": list(head.size), "unit": head.unit, "without_a_prior": before,
        "restored": after, "medical_device": False, "torch_threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip
    if samples > 1:
        assert volume.range_map is not None
        one = volume.range_map.inverse(torch.ones(1)) - volume.range_map.inverse(torch.zeros(1))
        write_nifti(spread, float(one) * made.std[:, 0], like=head)
    write_nifti(out, volume.with_data(made.mean[:, 0]))
    write_text(record, json.dumps(facts, indent=2) + "\n")
    if told.json:
        print_json({**facts, "out": str(out), "spread": str(spread) if samples > 1 else None})
        return 0
    print(f"{out}  the measurement was simulated from {told.image}; nothing here is a medical device")
    if samples > 1:
        print(f"{spread}  standard deviation over {samples} results, {head.unit or 'in the unit of the file'}")
    figures = "; ".join(f"{name} {before[name]:.4g} -> {after[name]:.4g}" for name in after)
    print(f"{record}  {facts['method']}, prior: {about}; without a prior -> restored: {figures}")
    return 0


def _parser() -> Parser:
    parser = Parser("restore", "A scan measured as a scanner would, with a known truth, and restored slice by slice.")
    parser.add_argument("image", nargs="?", type=Path, help="a volume: NIfTI, or a folder with one DICOM series")
    parser.add_argument("--task", required=True, choices=["mri", "ct"], help="the scanner")
    parser.add_argument(
        "--prior", nargs="+", type=Path, default=[], help="other scans of its size (default: synthetic)"
    )
    parser.add_argument("--model", help="a model of one channel and the slices' size, in place of --prior")
    parser.add_argument("--method", help="such as moment, pigdm, diffpir (default: moment)")
    parser.add_argument("--acceleration", type=float, default=4.0, help="mri: one of so many columns is sampled")
    parser.add_argument("--coils", type=count, default=4, help="mri: how many")
    parser.add_argument("--views", type=count, default=20, help="ct: angles")
    parser.add_argument("--span", type=float, default=180.0, help="ct: degrees that they cover")
    parser.add_argument("--noise", type=float, help="std: k-space of [-1, 1] (0.02), line integrals in pixels (0.2)")
    parser.add_argument("--steps", type=count, help=f"of the method (default: {_STEPS})")
    parser.add_argument("--samples", type=count, default=1, help="how many; several give their mean and spread")
    parser.add_argument("--uncertainty", action="store_true", help="write the spread (8 samples unless told)")
    parser.add_argument("--out", type=Path, help="NIfTI file (default: SCAN-restored.nii.gz)")
    parser.seed_option()
    parser.device_option()
    parser.json_option()
    return parser


def _stem(path: Path) -> str:
    return next((path.name[: -len(end)] for end in _ENDINGS if path.name.endswith(end)), path.name)


def _read(path: Path, task: str) -> Any:
    from mezzotint.data.medical import read_dicom, read_nifti

    if path.is_dir():
        return read_dicom(path)
    if not path.name.endswith(_ENDINGS):
        raise ValueError(f"{path}: expected a NIfTI file (.nii, .nii.gz) or a folder with one DICOM series")
    return read_nifti(path, unit="HU" if task == "ct" else "")


def _rule(task: str) -> Any:
    from mezzotint.data.medical import Percentile, Window

    return Window(-1000.0, 1000.0) if task == "ct" else Percentile()


def _prior(told: Any, size: tuple[int, int, int]) -> tuple[Any, str]:
    """The denoiser, and what it knows."""
    import torch

    from mezzotint.core import VP
    from mezzotint.data.medical import phantom_volume
    from mezzotint.restore.scan import slice_prior

    if told.model is not None:
        from mezzotint import load

        model = load(told.model, find_device(told.device))
        spec = model.autoencoder.spec
        if (spec.factor, spec.channels) != (1, 1) or tuple(model.size) != size[1:]:
            made = f"{spec.channels} channels of {model.size[0]} x {model.size[1]}"
            raise ValueError(f"{model.name} makes {made}; these slices need one channel of {size[1]} x {size[2]}")
        return model.prior()[0], model.name
    if told.prior:
        scans = [_read(path, told.task) for path in told.prior]
        for path, scan in zip(told.prior, scans, strict=True):
            if scan.size[1:] != size[1:]:
                shown = f"{scan.size[1]} x {scan.size[2]}"
                raise ValueError(f"{path} has slices of {shown}; the scan's are {size[1]} x {size[2]}")
        about = f"Gaussian of {len(scans)} scans"
    else:
        if min(size[1:]) < 16 or math.prod(size[1:]) > 4096:
            raise ValueError(
                f"slices of {size[1]} x {size[2]}: the Gaussian prior takes 16 x 16 to 64 x 64; give --model, a "
                "network of their size"
            )
        kind, depth = ("ct" if told.task == "ct" else "t1"), max(8, size[0])
        scans = [phantom_volume(100 + k, (depth, *size[1:]), kind).volume for k in range(_HEADS)]
        about = f"Gaussian of {_HEADS} synthetic heads"
    slices = torch.cat([scan.to_model(_rule(told.task)).data[0] for scan in scans])
    return slice_prior(slices[:, None]).denoiser(VP()), about


def _measures(volume: Any, z: Any, head: Any) -> dict[str, float]:
    """Of slices in [-1, 1] against the volume that was measured; Hounsfield units from air on."""
    from mezzotint.metric import volume_report

    zero = -1000.0 if head.unit == "HU" else 0.0
    made, truth = (v.clamp(min=zero) - zero for v in (volume.with_data(z[:, 0]).to_unit().data, head.data))
    return {row.name.replace("volume ", ""): row.value for row in volume_report(made, truth)}
