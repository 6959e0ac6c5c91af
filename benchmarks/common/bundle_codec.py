"""The codec of a bundle, as benchmarks use it: whole sounds at 44.1 kHz."""

from engines.contract import FloatArray, Int32Array
from runtime.bundle import Bundle
from train.synthetic.recordings import PoolError

RATE = 44100


class BundleCodec:
    """The codec of a bundle, on the backend that `runtime` chooses."""

    def __init__(self, bundle: Bundle) -> None:
        if bundle.config.sample_rate != RATE:
            raise PoolError(
                f"the bundle's codec runs at {bundle.config.sample_rate} Hz; this benchmark needs a codec at {RATE} Hz"
            )
        self.bundle, self.name, self.rate = bundle, bundle.manifest.name, RATE

    def encode(self, audio: FloatArray) -> Int32Array:
        codes: Int32Array = self.bundle.run("codec_encoder", audio=audio[None])[0][0]
        return codes

    def decode(self, codes: Int32Array) -> FloatArray:
        audio: FloatArray = self.bundle.run("codec_decoder", codes=codes[None])[0][0]
        return audio
