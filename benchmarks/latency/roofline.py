"""Lower limits ("floors") for the time of a step on this machine: its matrix products, and reading its weights.

Every matrix product of the step is timed at its shape and precision, with the fastest installed library. The second
floor is the time to read the weights from memory once. A real step also needs time for norms, softmax, sampling,
copies and waiting.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.common.machine import cores
from benchmarks.latency.step_flops import Product, masked_shares
from engines.contract import IR_VERSION, OPSET, ModelConfig
from engines.ort import import_onnxruntime
from runtime.errors import OptionError

BUDGET = 0.15  # seconds to time one product with one library
SQUARE, CARD_SQUARE = 1024, 8192  # size of the matrices for the peak rate: a GPU needs larger ones
COPY_BYTES, CARD_COPY_BYTES = 2**28, 2**32  # several times the caches
LAUNCHES = 20  # products in one CUDA graph: launching and waiting take longer than many a product
Call = Callable[[], object]
Row = dict[str, Any]


def best_seconds(call: Call, budget: float = BUDGET) -> float:
    """The shortest of at least three calls, after one warm-up call."""
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < budget:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def operands(p: Product) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left, right = (p.batch, p.m, p.k), (p.k, p.n) if p.weight else (p.batch, p.k, p.n)
    return rng.random(left, dtype=np.float32), rng.random(right, dtype=np.float32)


# ---------------------------------------------------------------- one product with each library
def with_numpy(p: Product, precision: str, threads: int) -> Call | None:
    """OpenBLAS chooses its threads, so this is used only if the thread count is the default."""
    if precision != "fp32" or threads not in (0, cores()):
        return None
    a, b = operands(p)
    return lambda: np.matmul(a, b)


def with_torch(p: Product, precision: str, threads: int) -> Call | None:
    if precision != "fp32":
        return None
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads or cores())
    a, b = (torch.from_numpy(x) for x in operands(p))
    return lambda: torch.matmul(a, b)


def with_onnxruntime(p: Product, precision: str, threads: int) -> Call | None:
    """MatMul; for int8, MatMulInteger with a zero point per column, as in a dynamically quantised graph."""
    try:
        ort = import_onnxruntime()
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    a, b = operands(p)
    kind, made, more = "MatMul", TensorProto.FLOAT, []
    if precision == "int8":
        a, b = (a * 255).astype(np.uint8), (b * 255 - 128).astype(np.int8)
        kind, made = "MatMulInteger", TensorProto.INT32
        more = [("a_zero", np.array(128, np.uint8)), ("b_zero", np.zeros(p.n, np.int8))]
    stored = [numpy_helper.from_array(v, n) for n, v in ([("b", b)] if p.weight else []) + more]
    given = {"a": a} | ({} if p.weight else {"b": b})
    dtype = TensorProto.UINT8 if precision == "int8" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(kind, ["a", "b", *(n for n, _ in more)], ["y"])],
        "product",
        [helper.make_tensor_value_info(n, dtype, v.shape) for n, v in given.items()],
        [helper.make_tensor_value_info("y", made, (p.batch, p.m, p.n))],
        stored,
    )
    opset = [helper.make_opsetid("", OPSET)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, given)


LIBRARIES = {"numpy": with_numpy, "torch": with_torch, "onnxruntime": with_onnxruntime}


def graph_seconds(work: Call) -> float:
    """Seconds of one `work()` on an NVIDIA GPU, from a CUDA graph of LAUNCHES of them."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as capturing needs it: libraries allocate their workspace in the first run
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            work()

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return best_seconds(replay) / LAUNCHES


def card_seconds(p: Product, precision: str) -> float:
    """Seconds of one product on an NVIDIA GPU with PyTorch, without TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    a = torch.randn(p.batch, p.m, p.k, device="cuda", dtype=kind)  # zeros would run faster than real numbers
    b = torch.randn(*((p.k, p.n) if p.weight else (p.batch, p.k, p.n)), device="cuda", dtype=kind)
    made = torch.empty(p.batch, p.m, p.n, device="cuda", dtype=kind)
    return graph_seconds(lambda: torch.matmul(a, b, out=made))


def card_bandwidth(size: int = CARD_COPY_BYTES) -> float:
    """GB/s, read plus written, of copying `size` bytes inside of a GPU's memory, less if its memory is small."""
    import torch

    size = min(size, torch.cuda.mem_get_info()[0] // 4)
    source, target = (torch.full((size,), n, dtype=torch.uint8, device="cuda") for n in range(2))
    return 2 * size / graph_seconds(lambda: target.copy_(source)) / 1e9


def release_card(card: bool) -> None:
    """Give memory back that PyTorch keeps for later: the processes that are measured next need the GPU's memory."""
    if card:
        import torch

        torch.cuda.empty_cache()


def fastest(p: Product, precision: str, threads: int, card: bool) -> tuple[float, str]:
    """Seconds of one of the `count` products, and the fastest library. Raises OptionError if no library can do it."""
    if card:
        return card_seconds(p, precision), "torch cuda"
    calls = {name: make(p, precision, threads) for name, make in LIBRARIES.items()}
    found = [(best_seconds(call), name) for name, call in calls.items() if call is not None]
    if not found:
        raise OptionError(
            f"products in {precision} cannot be timed without onnx; install it with: pip install '.[export]'"
        )
    return min(found)


# ---------------------------------------------------------------- floors of a step
def computed_precision(p: Product, precision: str, card: bool) -> str:
    """The precision of the computation. int8 applies to weights only; CPUs compute weights stored as fp16 in fp32."""
    if card:
        return precision if precision in ("fp16", "bf16") else "fp32"
    return "int8" if precision == "int8" and p.weight else "fp32"


def measure(products: Sequence[Product], precision: str, threads: int = 0, card: bool = False) -> list[Row]:
    """Measure the GFLOP/s of every product, at its shape and precision."""
    rows = []
    for p in products:
        computed = computed_precision(p, precision, card)
        seconds, library = fastest(p, computed, threads, card)
        rate = p.flops / p.count / seconds / 1e9
        rows.append(asdict(p) | {"precision": computed, "gflops": rate, "library": library})
    release_card(card)
    return rows


def row_flops(row: Row, masked: float = 1.0) -> float:
    share = masked if row["name"] == "head" else 1.0
    return 2.0 * row["m"] * row["k"] * row["n"] * row["batch"] * row["count"] * share


def step_seconds(rows: Sequence[Row], masked: float = 1.0) -> float:
    """Least seconds of the matrix products of a step, at the measured rates."""
    return sum(row_flops(row, masked) / (row["gflops"] * 1e9) for row in rows)


def weights_seconds(rows: Sequence[Row], gigabytes: float) -> float:
    """Least seconds to read the weights of a step once, at `gigabytes` per second, in the precision of the products."""
    size = {"int8": 1, "fp16": 2, "bf16": 2, "fp32": 4}
    read = sum(row["k"] * row["n"] * row["count"] * size[row["precision"]] for row in rows if row["weight"])
    return read / gigabytes / 1e9


def rate(rows: Sequence[Row]) -> float:
    """GFLOP/s of all products of a step, one after the other."""
    return sum(row_flops(row) for row in rows) / step_seconds(rows) / 1e9


def video_floor(rows: Sequence[Row], config: ModelConfig, steps: int) -> dict[str, float]:
    """Least seconds and GFLOP of all steps of one full window. The head counts for masked tokens only."""
    shares = masked_shares(steps, config.window_tokens * config.n_codebooks)
    flops = sum(row_flops(row, share) for share in shares for row in rows)
    return {"seconds": sum(step_seconds(rows, share) for share in shares), "gflop": flops / 1e9}


# ---------------------------------------------------------------- the machine
def square_rate(precision: str, threads: int = 0, card: bool = False) -> float:
    """GFLOP/s of a square product."""
    side = CARD_SQUARE if card else SQUARE
    p = Product("square", side, side, side)
    return p.flops / fastest(p, precision, threads, card)[0] / 1e9


def bandwidth(threads: int = 0, size: int = COPY_BYTES) -> float:
    """GB/s, read plus written, of copying `size` bytes with all threads."""
    n = threads or cores()
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    bounds = [size * i // n for i in range(n + 1)]

    def copy(i: int) -> None:
        np.copyto(target[bounds[i] : bounds[i + 1]], source[bounds[i] : bounds[i + 1]])

    with ThreadPoolExecutor(n) as pool:
        return 2 * size / best_seconds(lambda: list(pool.map(copy, range(n)))) / 1e9


def machine_floor(threads: int = 0, card: bool = False) -> dict[str, Any]:
    """Rates of square products and of memory on this machine; with `card`, also products on the GPU."""
    out: dict[str, Any] = {"bandwidth_gb_per_second": bandwidth(threads), "gflops": {}}
    for precision in ("fp32", "int8"):
        with suppress(OptionError):  # int8 needs onnx
            out["gflops"][precision] = square_rate(precision, threads)
    if card:
        out["card_gflops"] = {p: square_rate(p, threads, card=True) for p in ("fp32", "fp16", "bf16")}
        out["card_bandwidth_gb_per_second"] = card_bandwidth()
        release_card(card)
    return out
