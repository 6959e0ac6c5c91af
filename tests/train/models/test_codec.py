"""The small codec: k-means, lengths, chunked decoding, the running phase, the two paths of the bases, and export."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from engines.feeds import CODEC_PERIOD
from train.models.codec import (
    PERIOD,
    FrameCodec,
    FrameCodecConfig,
    fourier_basis,
    hann,
    inverse_spectrum,
    k_means,
    nearest,
    overlap_add,
    power_spectrum,
    running_phase,
    volume,
)

HOP = 512
TINY = FrameCodecConfig(n_codebooks=3, codebook_size=32, latent=32, decoder_mlp=32, decoder_blocks=2)


@pytest.fixture
def codec():
    """Fitted to noise, as far as that has a structure."""
    torch.manual_seed(0)
    codec = FrameCodec(TINY).eval()
    codec.fit(codec.levels(sounds()).flatten(0, 1), 4, torch.Generator().manual_seed(0))
    return codec


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sounds():
    """Noises [4, 60 hops] of many levels, with tones."""
    time = torch.arange(60 * HOP) / 44100
    tones = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (200.0, 700.0, 2500.0, 9000.0)])
    return noise(4, 60 * HOP) * torch.logspace(-3, 0, 60 * HOP) + 0.3 * tones * torch.logspace(0, -3, 60 * HOP)


def some_codes(frames, batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 32, (batch, 3, frames), generator=generator, dtype=torch.int32)


def test_the_shipped_size_fits_the_bundle():
    codec = FrameCodec()
    assert sum(p.numel() for p in (*codec.parameters(), *codec.buffers())) <= 4_800_000  # 4.7 M of values, most in fp16
    assert codec.embedding_table().shape == (9, 1024, 256)


def test_the_runtime_knows_the_period(codec):
    assert PERIOD == CODEC_PERIOD and codec.context % PERIOD == 0 == FrameCodec().context % PERIOD


# ---------------------------------------------------------------- k-means
def test_rows_of_nearest_are_nearest():
    x, rows = noise(50, 8), noise(13, 8, seed=1)
    assert torch.equal(nearest(x, rows), torch.cdist(x, rows).argmin(dim=-1))


def test_rows_of_k_means_are_the_means_of_their_points():
    x = noise(300, 4)
    rows = k_means(x, 8, 60, torch.Generator().manual_seed(0))
    own = nearest(x, rows)
    means = torch.stack([x[own == i].mean(dim=0) for i in range(8)])  # [] would be NaN
    assert torch.allclose(rows, means, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_rows_without_points_move(seed):
    x = torch.cat([torch.zeros(40, 2), torch.ones(10, 2)])  # most first rows are equal
    rows = k_means(x, 3, 20, torch.Generator().manual_seed(seed))
    assert torch.equal(rows[nearest(x, rows)], x)


def test_each_codebook_lowers_the_error_and_the_seed_decides(codec):
    torch.manual_seed(5)  # the draws come from the generator alone
    levels = codec.levels(sounds()).flatten(0, 1)
    other = FrameCodec(TINY)
    errors = other.fit(levels, 4, torch.Generator().manual_seed(0))
    assert len(errors) == 3 and errors[0] > errors[1] > errors[2] > 0
    for name, value in other.named_buffers():
        assert torch.equal(value, codec.get_buffer(name)), name
        assert torch.equal(value, value.half().float()), name  # a bundle stores it exactly
    rest = other.projected(sounds())
    for k, rows in enumerate(other.quantizer.codebook):
        code = torch.cdist(rest, rows.expand(4, -1, -1)).argmin(dim=-1)
        assert (other.encode(sounds())[:, k] == code).float().mean() > 0.995
        rest = rest - rows[code]
    kept = (rest @ other.axes.T)[..., : TINY.bands].abs().mean()
    assert float(kept) == pytest.approx(errors[-1], rel=1e-3)
    other.fit(levels, 4, torch.Generator().manual_seed(1))
    assert not torch.equal(other.quantizer.codebook, codec.quantizer.codebook)


def test_too_few_frames_are_refused(codec):
    with pytest.raises(ValueError, match="31 frames cannot fill codebooks of 32 rows"):
        codec.fit(torch.zeros(31, TINY.levels), 1, torch.Generator())


def test_levels_see_where_in_a_hop_a_sound_is(codec):
    """A frame's own bands hardly know it; those of its quarters do."""
    clicks = torch.zeros(4, 8 * HOP)
    for i in range(4):
        clicks[i, 4 * HOP + 64 + 128 * i] = 0.5  # the centre of each quarter of frame 4
    quarters = codec.levels(clicks)[:, 4, TINY.bands :].unflatten(-1, (4, -1)).mean(-1)
    assert quarters.argmax(dim=1).tolist() == [0, 1, 2, 3]


# ---------------------------------------------------------------- lengths
@pytest.mark.parametrize("length, frames", [(1, 1), (511, 1), (512, 1), (513, 2), (5000, 10)])
def test_one_token_per_started_hop(codec, length, frames):
    codes = codec.encode(noise(2, length))
    assert codes.shape == (2, 3, frames) and codes.dtype == torch.int32
    assert int(codes.min()) >= 0 and int(codes.max()) < 32
    assert codec.decode(codes).shape == (2, frames * 512)


def test_padding_is_silence(codec):
    audio = noise(1, 700)
    assert torch.equal(codec.encode(audio), codec.encode(torch.nn.functional.pad(audio, (0, 324))))


def test_summed_rows_are_the_decoders_input(codec):
    codes = codec.encode(noise(2, 4000))
    table = codec.embedding_table()
    summed = sum(table[k][codes[:, k].long()] for k in range(3))
    assert torch.allclose(summed, codec.quantizer.decode(codes), atol=1e-5)


# ---------------------------------------------------------------- decoding
def chunked(codec, codes, begins):
    """Chunks that begin at `begins`, decoded with the codec's context."""
    count, parts = codes.shape[2], []
    for begin, end in zip(begins, [*begins[1:], count], strict=True):
        left, right = max(0, begin - codec.context), min(count, end + codec.context)
        parts.append(codec.decode(codes[:, :, left:right])[:, (begin - left) * HOP : (end - left) * HOP])
    return torch.cat(parts, dim=1)


@torch.no_grad()
def test_chunks_that_begin_at_multiples_of_the_period_equal_the_whole(codec):
    codes = some_codes(90)
    torch.nn.init.normal_(codec.head.weight[-TINY.gains :], std=0.1)  # a volume curve that is not 1
    whole = codec.decode(codes)
    assert torch.allclose(chunked(codec, codes, [0, 4, 28, 32, 60, 88]), whole, atol=1e-5)
    assert not torch.allclose(chunked(codec, codes, [0, 30]), whole, atol=1e-3)


@torch.no_grad()
def test_less_context_is_not_enough(codec):
    codes = some_codes(60)
    middle = codec.decode(codes)[:, 28 * HOP : 29 * HOP]
    short = codec.context - PERIOD
    assert short > 0
    audio = codec.decode(codes[:, :, 28 - short : 29 + short])[:, short * HOP : (short + 1) * HOP]
    assert not torch.allclose(audio, middle, atol=1e-6)


def only(codec, part, level):
    """Make the head constant: `level` in one of the six parts of its spectra, all other levels quiet, the rest zero."""
    with torch.no_grad():
        codec.head.weight.zero_()
        parts = codec.head.bias.split(codec.head_sizes)
        for i, one in enumerate(parts):
            one.fill_(0.0 if i in (1, 4, 6) else -20.0)
        parts[part].copy_(level)


@torch.no_grad()
def test_a_code_that_stays_need_not_repeat_each_hop(codec):
    """Bin 41 has 882.9 Hz, 10.25 turns per hop: only a phase that runs on can give a tone there."""
    level = torch.full((TINY.bins,), -20.0)
    level[41] = 5.0
    only(codec, 0, level)
    tone = codec.decode(some_codes(1).expand(-1, -1, 20))[0, 4 * HOP : -4 * HOP]
    assert torch.allclose(tone[: -PERIOD * HOP], tone[PERIOD * HOP :], atol=1e-4) and tone.abs().max() > 0.05
    spectrum = torch.fft.rfft(tone[: 8 * HOP]).abs()
    assert int(spectrum.argmax()) * 44100 / (8 * HOP) == pytest.approx(41 * 44100 / TINY.fft, abs=1)
    assert not torch.allclose(tone[:-HOP], tone[HOP:], atol=0.01)
    assert running_phase(PERIOD + 1, TINY.bins)[0][-1].equal(torch.ones(TINY.bins))


@torch.no_grad()
@pytest.mark.parametrize("part, centre", [(3, 64), (5, 64 + 2 * 128)])
def test_short_spectra_are_where_their_quarter_is(codec, part, centre):
    """A quarter's sound is inside its window of one hop: that is how sharp an attack can be."""
    level = torch.full((4, TINY.short_bins), -20.0)
    level[(centre - 64) // 128] = 0.0
    only(codec, part, level.flatten())
    audio = codec.decode(some_codes(1))[0]  # one frame; the frames that pad it have the same spectra
    pulses = codec.decode(some_codes(9))[0].unflatten(0, (9, HOP)).square().mean(0)
    at = torch.arange(HOP)
    away = (at - centre + HOP // 2) % HOP - HOP // 2  # cyclic, as each frame has the pulse
    assert audio.shape == (HOP,)
    assert float((pulses * away.abs()).sum() / pulses.sum()) < 80  # samples; a uniform spread has 128


@torch.no_grad()
def test_a_volume_is_sharper_than_a_window(codec):
    """The second half of each frame is loud: it rises from one point to the next, 32 samples; a window needs 150."""
    only(codec, 2, torch.zeros(()))
    steady = codec.decode(some_codes(9))
    gains = torch.full((TINY.gains,), -6.0)
    gains[TINY.gains // 2 :] = 0.5
    codec.head.bias.split(codec.head_sizes)[6].copy_(gains)
    curve = codec.decode(some_codes(9)) / steady
    at = curve.unflatten(1, (9, HOP))[0, :-1]
    assert torch.allclose(at[:, HOP // 2 : -32], torch.tensor(0.5).exp(), rtol=1e-3)
    assert torch.allclose(at[:, : HOP // 2 - 32], torch.tensor(-6.0).exp(), rtol=1e-3)
    assert torch.allclose(volume(gains.expand(1, 3, -1), HOP)[0, HOP - 16], gains[[0, -1]].exp().mean())


def test_a_codec_begins_with_a_volume_of_one(codec):
    audio = noise(1, 9 * HOP)
    older = FrameCodec(replace(TINY, gains=0)).eval()
    state = codec.state_dict()
    rows = len(older.head.bias)
    older.load_state_dict(state | {name: state[name][:rows] for name in ("head.weight", "head.bias")})
    codes = codec.encode(audio)
    assert torch.allclose(older.decode(codes), codec.decode(codes), atol=1e-6)
    assert FrameCodec.from_config({}).config == FrameCodecConfig(gains=0)


@torch.no_grad()
@pytest.mark.parametrize("part", [2, 5])
def test_noise_is_chosen_by_the_codes(codec, part):
    """Equal codes give equal noise, other codes other noise, and its level is what the network says."""
    only(codec, part, torch.zeros(()))
    codes = some_codes(40)
    sound = codec.decode(codes)
    assert torch.equal(codec.decode(codes.clone()), sound)
    other = codes.clone()
    other[:, 1, 20] ^= 1
    changed = (codec.decode(other) != sound).unflatten(1, (40, HOP)).any(-1)[0].nonzero().flatten()
    assert 20 in changed and changed.min() >= 18 and changed.max() <= 22  # the rows beside it stay
    only(codec, part, torch.ones(()))
    louder = codec.decode(codes)
    assert torch.allclose(louder, sound * torch.e, atol=1e-4)
    spectrum = torch.stft(sound[0], 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    assert 0.4 < float(spectrum[5:-5].std() / spectrum[5:-5].mean()) < 0.65  # of noise: 0.52


def test_rows_of_noise_differ_between_frames_of_equal_codes(codec):
    rows = codec.rows_of(some_codes(1).expand(-1, -1, PERIOD))[0]
    assert len(set(rows.tolist())) == PERIOD
    assert FrameCodec(TINY).noise.equal(codec.noise)  # the same table in every codec


def test_matrix_bases_equal_the_fft(monkeypatch, codec):
    frames = noise(1, 3, 256)
    real, imag = noise(1, 3, 129, seed=1), noise(1, 3, 129, seed=2)
    fast = power_spectrum(frames), inverse_spectrum(real, imag), codec.levels(sounds())
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    spelled = power_spectrum(frames), inverse_spectrum(real, imag), codec.levels(sounds())
    for a, b, limit in zip(fast, spelled, (1e-4, 1e-6, 1e-3), strict=True):
        assert torch.allclose(a, b, atol=limit)


@pytest.mark.parametrize("exporting", [False, True])
def test_bases_are_made_where_the_input_is(codec, monkeypatch, exporting):
    """A meta tensor cannot be combined with a CPU tensor, so it represents any other device."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    codec.to("meta")
    codes = codec.encode(torch.zeros(1, 4096, device="meta"))
    assert codes.shape == (1, 3, 8) and codes.is_meta
    audio = codec.decode(codes)
    assert audio.shape == (1, 4096) and audio.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_the_cpus_sound(codec):
    audio = noise(1, 8192)
    codes = codec.encode(audio)
    sound = codec.decode(codes)
    codec.cuda()
    assert (codec.encode(audio.cuda()).cpu() == codes).float().mean() > 0.99
    assert torch.allclose(codec.decode(codes.cuda()).cpu(), sound, atol=1e-3)


def test_synthesis_inverts_analysis():
    """Windowed frames of a true spectrum add up to the signal: the overlap gain is 1.5 everywhere."""
    audio = noise(1, 20 * 128).double()
    frames = audio.unfold(1, 512, 128)  # [1, T, 512]
    cos, sin = (basis.double() for basis in fourier_basis(512))
    windowed = frames * hann(512)
    built = overlap_add(inverse_spectrum(windowed @ cos, -(windowed @ sin)), 128) / 1.5
    assert torch.allclose(built[:, 384:-384], audio[:, 384 : built.shape[1] - 384], atol=1e-5)


def test_gradients_reach_the_decoder_and_not_the_codebooks(codec):
    audio = noise(2, 4096)
    own = codec.rows_of(codec.encode(audio))
    decoded, other = codec.train()(audio, [own, own + 1])
    decoded.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.parameters())
    assert {*FrameCodec.ENCODING, "noise"} == {n for n, b in codec.named_buffers() if not b.requires_grad}
    assert torch.allclose(decoded, codec.decode(codec.encode(audio)), atol=1e-5)
    assert not torch.allclose(decoded, other, atol=1e-3)


def test_unknown_configuration_is_named():
    with pytest.raises(ValueError, match="colour"):
        FrameCodec.from_config({"colour": 1})


# ---------------------------------------------------------------- export
class Method(torch.nn.Module):
    """One method of the codec as a module, for the exporter."""

    def __init__(self, codec, name):
        super().__init__()
        self.codec, self.name = codec, name

    def forward(self, x):
        return getattr(self.codec, self.name)(x)


def export(codec, name, example, path: Path):
    ort = pytest.importorskip("onnxruntime")
    axes = ({0: torch.export.Dim.DYNAMIC, example.ndim - 1: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(
        Method(codec, name).eval(), (example,), dynamo=True, opset_version=20, dynamic_shapes=axes, verbose=False
    )
    program.save(str(path))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_export_matches(codec, tmp_path):
    """With the exporter's own defaults; tests/export has the project's, and the sizes of files."""
    torch.nn.init.normal_(codec.head.weight[-TINY.gains :], std=0.1)
    encode = export(codec, "encode", noise(2, 9000), tmp_path / "encoder.onnx")
    decode = export(codec, "decode", codec.encode(noise(2, 9000)), tmp_path / "decoder.onnx")
    for batch, length in ((1, 5000), (3, 512), (2, 7177)):
        audio = noise(batch, length, seed=length)
        codes = codec.encode(audio)
        assert np.mean(encode(audio) == codes.numpy()) >= 0.999
        assert np.abs(decode(codes) - codec.decode(codes).numpy()).max() < 1e-4
