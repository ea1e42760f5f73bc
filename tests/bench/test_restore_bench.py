"""`bench restore`: its numbers are right where they are known, deepinv sees the same problem, calls are equal."""

from __future__ import annotations

import json
import math

import pytest
import torch

from mezzotint import load
from mezzotint.bench import restore as bench
from mezzotint.bench.peers import Peer, find_peer
from mezzotint.bench.restore_case import CASES, Case, Prior, case_of
from mezzotint.bench.restore_data import Pictures, pictures
from mezzotint.bench.restore_levels import LEVELS, their_times
from mezzotint.bench.restore_ours import guess, restored, suits
from mezzotint.bench.restore_score import cost_of, scores
from mezzotint.bench.restore_theirs import THEIRS, AsDenoiser, measured, physics
from mezzotint.cli import bench_restore
from mezzotint.cli.main import run as mezzotint
from mezzotint.core import VP, Flow, Gaussian, Noise
from mezzotint.latent import Identity
from mezzotint.metric import load_features
from mezzotint.model import Model
from mezzotint.restore.operators import ReflectBlur

deepinv = pytest.mark.skipif(find_peer("deepinv").module is None, reason="deepinv is not installed")


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return (0.4 * Noise(range(3))("x", 0, (3, 16, 16))).clamp(-1, 1)


@pytest.fixture
def prior() -> Prior:
    return Prior(Gaussian(torch.zeros(3, 16, 16), std=0.4).denoiser(Flow()))


class Known(Model):
    """Independent pixels of std 0.4, whose denoiser is exact."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.autoencoder, self.name = Identity(), "known"

    def prior(self, prompt=None, guidance=1.0):
        return Gaussian(torch.zeros(3, 16, 16), std=0.4).denoiser(Flow()), None


@pytest.fixture
def model() -> Known:
    return Known()


def test_numbers_of_known_answers(x):
    extractor, case = load_features(), case_of("denoise", x)
    same = scores(x, case, extractor)
    assert torch.isinf(same.psnr).all() and torch.allclose(same.ssim, torch.ones(3, dtype=torch.float64))
    assert same.perceptual.eq(0).all() and same.frechet == pytest.approx(0, abs=1e-6)
    off = scores(
        x.clamp(-1, 0.5) + 0.2, Case("denoise", case.operator, 0.2, x.clamp(-1, 0.5), case.y, case.seeds), extractor
    )
    assert torch.allclose(off.psnr, torch.full((3,), 20 * math.log10(2 / 0.2), dtype=torch.float64), atol=1e-5)
    # the truth leaves the noise: std sqrt(m) / |y|, which is std / sqrt(std^2 + E x^2)
    assert same.consistency.mean() == pytest.approx(0.2 / math.hypot(0.2, 0.4), rel=0.03)


def test_the_guess_of_noise_alone_has_the_psnr_of_the_noise(x):
    case = case_of("denoise", 0.1 * x)
    assert torch.allclose(guess(None, case, 0), case.y, atol=1e-6)
    psnr = scores(case.y, case, load_features()).psnr.mean()
    assert psnr == pytest.approx(10 * math.log10(4 / 0.2**2), abs=0.3)


@pytest.mark.parametrize("task", CASES)
def test_measurements_are_the_operators_and_the_same_each_time(task, x):
    case, again = case_of(task, x), case_of(task, x)
    assert torch.equal(case.y, again.y) and torch.equal(case.rows(1, 3).y, case.y[1:])
    left = case.y - case.operator(x)
    inside = left if task != "inpaint" else left[:, case.operator.mask.expand(3, 3, 16, 16)[0]]
    assert float(inside.std() if case.std else inside.abs().max()) == pytest.approx(case.std, rel=0.15)


def test_calls_are_as_many_as_asked(x, prior):
    case = case_of("inpaint", x)
    for method in ("dps", "ddnm", "diffpir", "red-diff"):
        prior.calls = 0
        restored(method, prior, case, 7)
        assert prior.calls == 7, method
    prior.calls = 0
    restored("repaint", prior, case, 60)
    assert 48 < prior.calls <= 60


def test_why_a_method_is_left_out(x):
    assert suits("pigdm", case_of("jpeg", x)) == "needs a linear operator"
    case = case_of("deblur", x)
    plain = Case("deblur", ReflectBlur(torch.ones(3, 3) / 9), case.std, x, case.y, case.seeds)
    assert suits("ddrm", plain) == "needs a singular value decomposition"
    assert suits("ddrm", case_of("sr4", x)) == suits("dps", case_of("jpeg", x)) == ""


@pytest.mark.parametrize("schedule", [Flow(), VP()], ids=["flow", "vp"])
def test_the_wrapped_denoiser_is_the_same_denoiser(schedule, x):
    d = AsDenoiser(Prior(Gaussian(torch.zeros(3, 16, 16), std=0.4).denoiser(schedule)))
    u = (x + 1) / 2
    for sigma in (0.05, torch.tensor(0.5), torch.full((3, 1, 1, 1), 2.0)):
        s = 2 * float(torch.as_tensor(sigma).flatten()[0])
        expected = (0.4**2 / (0.4**2 + s**2) * x + 1) / 2  # the posterior mean, in [0, 1]
        assert torch.allclose(d(u, sigma), expected, atol=2e-5)


def test_their_levels():
    assert their_times("ddrm", 3, Flow()).tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    for method in LEVELS:
        t = their_times(method, 10, VP())
        assert (t.diff() < 0).all() and t[-1] == 0
    uniform = their_times("dps", 10, VP(0.1, 20.0))
    assert uniform.tolist() == pytest.approx(torch.linspace(1, 0, 11).tolist(), abs=1e-6)


@deepinv
@pytest.mark.parametrize("task", CASES)
def test_deepinv_sees_the_same_problem(task, x):
    case = case_of(task, x)
    a, y = physics(case), measured(case)
    u = (x + 1) / 2
    scale = 2.0  # from [0, 1] to [-1, 1]
    assert torch.allclose(scale * (y - a.A(u)), case.y - case.operator(x), atol=1e-5)
    if case.operator.linear:
        v = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(a.A_adjoint(v), case.operator.adjoint(v), atol=1e-5)
    assert float(a.noise_model.sigma) == pytest.approx(case.std / 2)


@deepinv
@pytest.mark.parametrize("method", THEIRS)
def test_deepinvs_methods_make_as_many_calls_and_help(method, x, prior):
    case = case_of("denoise", x)
    state = torch.get_rng_state()
    made = THEIRS[method][1](prior, case, 8)
    assert prior.calls == 8 and made.shape == x.shape and torch.equal(torch.get_rng_state(), state)
    if method != "dps":  # whose step size is none for so few steps
        known = 0.4**2 * 0.2**2 / (0.4**2 + 0.2**2)  # variance of the posterior; samples err by twice that at best
        assert 0.9 * known < float((made - x).square().mean()) < 3 * known


def test_rows_pairs_and_report(x, model):
    told: list[str] = []
    given = Pictures(x, "three of noise")
    rows, pairs = bench.measure(
        model, given, tasks=["denoise", "jpeg"], methods=["ddrm"], nfe=5, batch=2, say=told.append
    )
    by = {(r.task, r.side, r.method): r for r in rows}
    best = by["denoise", "mezzotint", "ddrm"]
    assert best.n == 3 and best.nfe == 5 and 17 < best.psnr < 21  # a sample's 18.0, the posterior mean's 21.0
    assert by["jpeg", "mezzotint", "ddrm"].note == "needs a linear operator"
    assert by["jpeg", "no prior", "total-variation"].psnr is None
    result = bench.report(rows, pairs, model="test", given=given, nfe=5, batch=2, seed=0)
    assert json.loads(json.dumps(result))["noise"] == {"denoise": 0.2, "jpeg": 0.0}
    if find_peer("deepinv").module is None:
        assert not pairs and find_peer("deepinv").reason in told
    else:
        assert [(p.method, p.levels) for p in pairs] == [("ddrm", "own"), ("ddrm", "deepinv's")]
        theirs = by["denoise", "deepinv", "ddrm"].psnr
        assert pairs[0].difference == pytest.approx(best.psnr - theirs, abs=0.002)
        assert pairs[0].low < pairs[0].difference < pairs[0].high


def test_a_missing_deepinv_is_one_line(x, monkeypatch, model):
    monkeypatch.setattr(bench, "find_peer", lambda name: Peer(name, None, None, f"{name} is not installed"))
    told: list[str] = []
    rows, pairs = bench.measure(model, Pictures(x, ""), tasks=["denoise"], methods=["ddrm"], nfe=3, say=told.append)
    assert told[0] == "deepinv is not installed" and not pairs
    assert {row.side for row in rows} == {"no prior", "mezzotint"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tasks", "unblur"], "unknown 'unblur'; expected some of inpaint, sr4"),
        (["--methods", "magic"], "unknown 'magic'; expected some of red-diff"),
        (["--images", "1"], "1 images"),
        (["--images", "0"], "at least 1"),
        (["--nfe", "2"], "2 network calls"),
        (["--data", "no-such-folder"], "no-such-folder"),
        (["--images", "9999"], "the test split of the emoji has"),
        (["--model", "emoji"], "works on latents"),
    ],
)
def test_bad_arguments_are_one_line(arguments, told, capsys):
    pytest.importorskip("pyarrow")
    assert mezzotint(["bench", "restore", *arguments]) != 0
    error = capsys.readouterr().err.strip()
    assert told in error and len(error.splitlines()) == 1


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    out = tmp_path / "new" / "restore.json"
    arguments = ["--images", "2", "--nfe", "3", "--tasks", "denoise", "--methods", "ddrm", "--no-peers"]
    assert bench_restore.main([*arguments, "--device", "cpu", "--out", str(out)]) == 0
    result, printed = json.loads(out.read_text()), capsys.readouterr()
    assert [r["method"] for r in result["rows"]] == ["guess", "total-variation", "ddrm"]
    assert "denoise    ddrm" in printed.out and "2 of 2 images" in printed.err
    assert result["images"] == 2 and result["rows"][2]["nfe"] == 3 and list(tmp_path.glob("new/*")) == [out]


def test_crops_of_photographs(tmp_path):
    from PIL import Image

    for k in range(3):
        Image.new("RGB", (40, 36), (60 * k, 0, 0)).save(tmp_path / f"{k}.png")
    made = pictures(str(tmp_path), (16, 16), 4, skip=1)
    assert made.x.shape == (4, 3, 16, 16) and torch.equal(made.x[0], made.x[2])
    red = made.x[:, 0].flatten(1).mean(1)
    assert torch.allclose(red, torch.tensor([60, 120, 60, 120]) / 127.5 - 1, atol=0.01)
    with pytest.raises(ValueError, match="smaller --skip"):
        pictures(str(tmp_path), (16, 16), 4, skip=3)
    with pytest.raises(ValueError, match=r"18, 20\) at 1/2 of its size"):
        pictures(str(tmp_path), (32, 32), 4)


def test_costs_are_counted():
    with cost_of(torch.device("cpu")) as cost:
        torch.ones(8 << 20).sum()  # 32 MiB
    assert cost.seconds > 0 and (cost.memory is None or 30 < cost.memory < 60)


def test_the_shipped_prior_is_one_of_pixels():
    assert load("emoji-pixel").autoencoder.spec.factor == 1
