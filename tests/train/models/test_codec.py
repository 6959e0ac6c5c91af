"""The small codec: lengths, chunked decoding, the two paths of the spectral bases, gradients, and export."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from train.models.codec import (
    FrameCodec,
    FrameCodecConfig,
    fourier_basis,
    hann,
    inverse_spectrum,
    overlap_add,
    power_spectrum,
)

TINY = FrameCodecConfig(
    n_codebooks=3, codebook_size=32, latent=32, encoder_mlp=32, decoder_mlp=32, encoder_blocks=1, decoder_blocks=2
)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    return FrameCodec(TINY).eval()


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_shipped_size_fits_the_bundle():
    codec = FrameCodec()
    assert sum(p.numel() for p in codec.parameters()) <= 4_300_000
    assert codec.embedding_table().shape == (9, 1024, 256)


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


@torch.no_grad()
def test_chunked_decoding_equals_whole_decoding(codec):
    codes = torch.randint(0, 32, (1, 3, 90), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    whole, hop, context = codec.decode(codes), 512, codec.context
    chunks = []
    for begin in range(0, 90, 25):
        end, left, right = min(begin + 25, 90), max(0, begin - context), min(90, begin + 25 + context)
        audio = codec.decode(codes[:, :, left:right])
        chunks.append(audio[:, (begin - left) * hop : (end - left) * hop])
    assert torch.allclose(torch.cat(chunks, dim=1), whole, atol=1e-5)


@torch.no_grad()
def test_less_context_is_not_enough(codec):
    codes = torch.randint(0, 32, (1, 3, 60), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    middle = codec.decode(codes)[:, 30 * 512 : 31 * 512]
    short = codec.context - 3
    audio = codec.decode(codes[:, :, 30 - short : 31 + short])[:, short * 512 : (short + 1) * 512]
    assert not torch.allclose(audio, middle, atol=1e-6)


def test_matrix_bases_equal_the_fft(monkeypatch):
    frames = noise(1, 3, 256)
    real, imag = noise(1, 3, 129, seed=1), noise(1, 3, 129, seed=2)
    fast = power_spectrum(frames), inverse_spectrum(real, imag)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    spelled = power_spectrum(frames), inverse_spectrum(real, imag)
    assert torch.allclose(fast[0], spelled[0], atol=1e-4) and torch.allclose(fast[1], spelled[1], atol=1e-6)


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


def test_gradients_reach_every_part_and_dropout_drops(codec):
    audio = noise(2, 4096)
    decoded, quantized = codec.train()(audio, torch.tensor([1, 3]))
    (decoded.square().mean() + quantized.codebook_loss + quantized.commitment_loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in codec.parameters())
    one = codec.quantizer(codec.latent(audio), torch.tensor([1, 1])).latent
    assert torch.equal(quantized.latent[0], one[0]) and not torch.equal(quantized.latent[1], one[1])


def test_full_depth_training_path_equals_encode_and_decode(codec):
    audio = noise(1, 4096)
    decoded, quantized = codec(audio, torch.tensor([3]))
    assert torch.equal(quantized.codes.int(), codec.encode(audio))
    assert torch.allclose(decoded, codec.decode(codec.encode(audio)), atol=1e-5)


def test_dead_rows_are_revived_the_same_way_each_time(codec):
    quantizer = codec.quantizer
    batch = quantizer(codec.latent(noise(2, 8192)), torch.tensor([3, 3]))
    assert quantizer.revive(batch, torch.Generator().manual_seed(0), 0.1) == 3 * 32  # the first call places all
    first = quantizer.codebook.detach().clone()
    quantizer.usage[:, 5] = 0.0
    unused = ~(batch.codes == 5).any(-1).any(0)
    assert quantizer.revive(batch, torch.Generator().manual_seed(1), 0.005, decay=0.99) == int(unused.sum())
    assert torch.equal((quantizer.codebook != first).any(-1)[:, 5], unused)


def test_unknown_configuration_is_named():
    with pytest.raises(ValueError, match="colour"):
        FrameCodec.from_config({"colour": 1})


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
def test_export_matches_and_stores_no_basis(codec, tmp_path):
    stored = 4 * sum(p.numel() for p in codec.parameters())
    encode = export(codec, "encode", noise(2, 9000), tmp_path / "encoder.onnx")
    decode = export(codec, "decode", codec.encode(noise(2, 9000)), tmp_path / "decoder.onnx")
    for batch, length in ((1, 5000), (3, 512), (2, 7177)):
        audio = noise(batch, length, seed=length)
        codes = codec.encode(audio)
        assert np.mean(encode(audio) == codes.numpy()) >= 0.999
        assert np.abs(decode(codes) - codec.decode(codes).numpy()).max() < 1e-4
    size = sum(f.stat().st_size for f in tmp_path.iterdir())
    assert size < 1.3 * stored + 300_000  # one basis alone has 8 MB
