"""The filter banks equal those that the weights and published scores were made with, and an independent library's."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.common import torchvision_stub
from tests.support.paths import ROOT
from train.models import mel
from train.models.mel import BEATS, MFCC, ONSETS, VGGISH, MelBank, codec_bank, hz_to_mel, mel_filters, mel_to_hz

BANKS = {
    "codec128": codec_bank(44100, 128, 20),
    "codec512": codec_bank(44100, 512, 80),
    "codec2048": codec_bank(44100, 2048, 80),
    "mfcc": MFCC,
    "onsets": ONSETS,
    "vggish": VGGISH,
    "beats": BEATS,
}
# of the five separate implementations before 2026-11-28, float32 for the codec, VGGish and BEATs: shape, sum of the
# values, sum weighted by (bin + 1), sum weighted by (band + 1), and the largest value of one band with its place
STORED = {
    "codec128": ((65, 20), 0.056825555502200586, 0.9017883870078549, 0.6085063308241843, (4, 6), 0.0031330627389252186),
    "codec512": ((257, 80), 0.9244596133703453, 56.58078371086594, 37.612694862156786, (16, 26), 0.007583462633192539),
    "codec2048": ((1025, 80), 3.71427915293583, 894.2554047120825, 150.4644552110932, (65, 26), 0.011866034008562565),
    "mfcc": ((1025, 128), 5.941555275187513, 1437.3921779229568, 383.4057270081481, (65, 42), 0.017010783153029816),
    "onsets": ((513, 40), 466.63980746853093, 111544.59997315383, 12915.638239086398, (64, 13), 0.9553412575511574),
    "vggish": ((257, 64), 230.9135992063675, 27934.011349435663, 10078.091153277084, (35, 21), 0.9830551147460938),
    "beats": ((256, 128), 252.61048340797424, 32335.91835451126, 22346.60603451729, (30, 42), 0.5374832153320312),
}


@pytest.mark.parametrize("name", BANKS)
def test_a_bank_is_what_it_was(name: str) -> None:
    shape, total, by_bin, by_band, place, value = STORED[name]
    filters = mel_filters(BANKS[name])
    assert filters.dtype == np.float64 and filters.shape == shape
    bins, bands = np.arange(1, shape[0] + 1), np.arange(1, shape[1] + 1)
    got = [filters.sum(), bins @ filters.sum(1), filters.sum(0) @ bands, filters[place]]
    tolerance = 1e-12 if name in ("mfcc", "onsets") else 1e-4 if name == "beats" else 1e-7  # stored as float32
    np.testing.assert_allclose(got, [total, by_bin, by_band, value], rtol=tolerance)


@pytest.mark.parametrize("name", BANKS)
def test_a_bank_is_that_of_transformers(name: str) -> None:
    torchvision_stub.install()
    audio_utils = pytest.importorskip("transformers.audio_utils")
    b = BANKS[name]
    scale = "slaney" if b.scale == "slaney" else "kaldi" if b.straight_in == "mel" else "htk"
    norm = "slaney" if b.unit_area else None
    want = audio_utils.mel_filter_bank(
        b.fft // 2 + 1, b.bands, b.low, b.high, b.rate, norm, scale, b.straight_in == "mel"
    )
    np.testing.assert_allclose(mel_filters(b), want[: b.fft // 2 + b.nyquist], atol=1e-9)


def test_torch_computes_the_same_bank_as_numpy() -> None:
    torch = pytest.importorskip("torch")
    for name, bank in BANKS.items():
        ours = mel_filters(bank, torch, device="cpu")
        np.testing.assert_allclose(ours.numpy(), mel_filters(bank), atol=1e-12, err_msg=name)
    single = mel_filters(BEATS, torch, "float32", device="cpu")
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), mel_filters(BEATS), atol=3e-5)
    shape, total, by_bin, by_band, place, value = STORED["beats"]
    exact = (
        single.double().numpy()
    )  # the weights of BEATs were trained on the float32 bank; CPUs round its logarithms differently
    bins, bands = np.arange(1, shape[0] + 1), np.arange(1, shape[1] + 1)
    got = [exact.sum(), bins @ exact.sum(1), exact.sum(0) @ bands, exact[place]]
    np.testing.assert_allclose(got, [total, by_bin, by_band, value], rtol=1e-6)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_the_scales_are_inverses(scale: str) -> None:
    frequencies = np.array([0.0, 20, 999, 1000, 1001, 7600, 22050])
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(frequencies, scale), scale), frequencies, atol=1e-9)


def test_triangles_have_the_area_that_was_asked_for() -> None:
    fine = MelBank(44100, 1 << 17, 16, 0, 22050, "slaney", unit_area=True)
    np.testing.assert_allclose(mel_filters(fine).sum(0) * (fine.rate / fine.fft), 1, rtol=1e-3)
    assert mel_filters(MelBank(44100, 1 << 17, 16, 0, 22050, "slaney")).max() == pytest.approx(1, abs=1e-3)


def test_the_module_does_not_load_torch() -> None:
    code = f"import sys, {mel.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
