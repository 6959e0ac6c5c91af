"""The task that trains MaskVAT on prepared examples (`train.prepare`).

The loss is cross-entropy over masked tokens, plus the auxiliary losses for the designs with an encoder. `batch` is the
effective batch size: torchrun's processes split it, and each computes its rows in parts of `device_batch`. Neither
changes the result: see train.data.sample_order and train.loop.gradient_cache.
"""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from engines.contract import DESIGNS, SIZES, Grid
from engines.length_adapter import adapter_index, condition_indices
from train import distributed
from train.checkpoint import COMPONENTS, load, save, system_config
from train.data import sample_order
from train.data.batch import Batch, Hiding
from train.data.dataset import Examples, open_source
from train.errors import RecipeError
from train.loop.flops import Cost
from train.loop.gradient_cache import CachedLoss, cached_loss
from train.loop.reporting import Sample
from train.models.flops import forward_flops
from train.models.losses import TARGET_NORMS, contrastive_loss, masked_cross_entropy
from train.models.maskvat import MaskVAT
from train.recipe import COUNT, NATURAL, POSITIVE, SHARE, ProvenanceOptions, Ranges, options_from
from train.tasks.distillation import distilled_guidance, load_teacher
from train.tasks.generated_validation import GeneratedValidation, GenerationOptions
from train.tasks.made_up_features import MadeUpFeatures, made_up_features
from train.tasks.maskvat_objective import Objective, Terms
from train.tasks.precision import rounded, uses_bfloat16
from train.tasks.start_weights import load_start

VALIDATION_RATIOS = (0.3, 0.6, 0.9)


@dataclass(frozen=True)
class MaskVATOptions(GenerationOptions, distributed.BatchSplit, ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("batch", "readers", "validation_count"), COUNT),
        **dict.fromkeys(("mse_weight", "contrastive_weight", "teacher_guidance"), NATURAL),
        "crop_seconds": POSITIVE,
        **dict.fromkeys(("condition_dropout", "frame_dropout", "sync_dropout", "span_share", "codebook_decay"), SHARE),
    }
    data: str  # prepared examples: a folder, or the folder or URL of shards
    validation: str
    system: str  # system folder with codec and encoders; the trained component is saved there
    concepts: str = ""  # file of train.prepare.backgrounds; needed if examples show concepts
    start: str = ""  # system folder with a maskvat to start from (fine-tuning); default: random weights
    teacher: str = ""  # system folder with a maskvat whose guided prediction is learned (train.tasks.distillation)
    teacher_guidance: float = 3.0
    design: str = "hybrid"
    size: str = "mini"
    batch: int = 8  # examples of one update, over all processes
    # seconds of each example; shorter crops train faster. Crops start at multiples of train.data.dataset.start_interval
    crop_seconds: float = 10.0
    # shares of examples that get [NULL] for both streams (paper, section 3.2.3), and for one of them; a design without
    # sync features drops both or none
    condition_dropout: float = 0.1
    frame_dropout: float = 0.1
    sync_dropout: float = 0.1
    span_share: float = 0.25  # share of examples whose mask covers spans of time in all codebooks, for redos
    # weight in the loss of each codebook against the one before it. Below 1, more is learned of the first codes, which
    # say how a frame sounds, than of the last ones, which can hardly be predicted
    codebook_decay: float = 1.0
    mse_weight: float = 1.0
    contrastive_weight: float = 1.0
    target_norm: str = "layernorm"
    device: str = "auto"  # PyTorch device; "auto" uses CUDA if available, otherwise the CPU
    strategy: str = "ddp"  # for several processes: "ddp", or "fsdp" if the network does not fit on a device
    # matrix products in bfloat16, if the device has instructions for it; parameters, norms and losses stay float32
    bfloat16: bool = False
    compile: bool = False  # torch.compile the blocks
    readers: int = 4  # threads that read shards
    validation_count: int = 24  # number of validation examples
    round_weights: bool = False  # round final weights to fp16, so that an fp16 bundle holds them exactly
    model: dict[str, Any] = field(default_factory=dict)  # other fields of ModelConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.design not in DESIGNS:
            raise ValueError(f"unknown design {self.design!r}; choose from {', '.join(DESIGNS)}")
        if self.target_norm not in TARGET_NORMS:
            raise ValueError(f"unknown target_norm {self.target_norm!r}; choose from {', '.join(TARGET_NORMS)}")
        if self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}; choose from {', '.join(SIZES)}")
        if self.strategy not in distributed.STRATEGIES:
            raise ValueError(f"unknown strategy {self.strategy!r}; choose from {', '.join(distributed.STRATEGIES)}")
        _ = self.hiding  # checks that the dropouts fit together

    @property
    def hiding(self) -> Hiding:
        """What is hidden from the network."""
        alone = (0.0, 0.0) if self.design == "adaln_a" else (self.frame_dropout, self.sync_dropout)
        return Hiding(self.condition_dropout, *alone, self.span_share)


class MaskVATTask:
    """The task "maskvat" of train.fit. See train.loop.trainer.PartsTask."""

    def __init__(self, options: MaskVATOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        self.device = distributed.find_device(options.device, distributed.local_rank())
        self.own, self.part = options.split_batch(options.batch)
        parts = {n: load(options.system, n) for n in COMPONENTS if n != "maskvat"}
        self.codec = parts["codec"]
        sizes = SIZES[options.size] | options.model
        try:
            self.config = c = system_config(parts, design=options.design, **sizes)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise RecipeError(f"[task] model and the components of {options.system} do not fit: {error}") from error
        made_up = made_up_features(options.concepts, c.frame_dim, c.frame_fps)
        self.train_examples, self.validation_examples = (
            Examples(open_source(place, split, c), c, options.readers, made_up)
            for place, split in ((options.data, "train"), (options.validation, "validation"))
        )
        self.n_tokens = min(c.window_tokens, c.n_tokens(round(options.crop_seconds * c.sample_rate)))
        self.indices = self._indices(self.n_tokens)
        torch.manual_seed(seed)
        self.model = self._model(made_up)
        teacher = load_teacher(options.teacher, options.teacher_guidance, c, self.device)
        self.module = Objective(self.model, options.target_norm, options.codebook_decay, teacher)
        layers = [*(self.model.encoder if c.has_memory else ()), *self.model.blocks]
        if options.compile:
            for layer in layers:
                layer.compile()
        self.network = distributed.distribute(self.module, self.device, options.strategy, layers)
        flops = 3 * options.batch * forward_flops(c, self.n_tokens)  # backward needs twice the products of forward
        self.bfloat16 = uses_bfloat16(options.bfloat16, self.device)
        self.facts = {"bfloat16": float(self.bfloat16)}
        dtype = torch.bfloat16 if self.bfloat16 else torch.float32
        self.cost = Cost(options.batch * self.n_tokens * c.n_codebooks, flops, self.device, dtype)
        self.generated_validation = self._generated_validation()
        self.steps = 0
        self.ahead: dict[int, Future[list[Batch]]] = {}
        self.reader = ThreadPoolExecutor(1)

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "MaskVATTask":
        return cls(options_from(MaskVATOptions, options), seed)

    def _model(self, made_up: MadeUpFeatures | None) -> MaskVAT:
        """The model with random weights and the codec's tables and code frequencies, or with the weights of `start`."""
        model = MaskVAT(self.config)
        if made_up is not None and made_up.words is not None:
            model.load_words(torch.from_numpy(made_up.words))
        if self.options.start:
            if not self.options.teacher and distilled_guidance(self.options.start):
                print(
                    f"the maskvat in {self.options.start} is distilled; without task.teacher it becomes an ordinary one"
                )
            load_start(model, self.options.start)
        else:
            model.load_embeddings(self.codec.embedding_table())
            model.load_frequencies(self.train_examples.frequencies())
        return model

    def _generated_validation(self) -> GeneratedValidation | None:
        count = min(self.options.generate_count, len(self.validation_examples))
        guidance = 0.0 if self.options.teacher else self.options.generate_guidance
        options = replace(self.options, generate_count=count, generate_guidance=guidance)
        return (
            GeneratedValidation(options, self.codec.to(self.device), self.config.sample_rate, self.device)
            if count
            else None
        )

    def _indices(self, n_tokens: int) -> dict[str, Tensor]:
        c = self.config
        n_frames, n_sync, n_audio = c.n_frames(n_tokens), c.n_sync(n_tokens), self.train_examples.n_audio(n_tokens)
        indices = condition_indices(c, n_tokens, n_frames, n_sync)
        beats = Grid(c.audio_rate, c.audio_stride, c.audio_stride // 2)
        indices["audio_index"] = adapter_index(beats, c.frame_grid, n_audio, n_frames, c.length_adapter)
        return {name: torch.from_numpy(index).long().to(self.device) for name, index in indices.items()}

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    # ------------------------------------------------------------ a step
    def batches(self, step: int) -> list[Batch]:
        """The rows of a step's batch that this process computes, in parts."""
        o = self.options
        rows = sample_order.rows(self.seed, step, o.batch, len(self.train_examples), self.own)
        parts = [rows[i : i + self.part] for i in range(0, len(rows), self.part)]
        examples = self.train_examples
        return [examples.training_batch(part, self.seed, self.n_tokens, o.hiding) for part in parts]

    def _read(self, step: int) -> list[Batch]:
        """`batches` on the device; a thread reads those of the next step."""
        ready = self.ahead.pop(step, None)
        batches = ready.result() if ready else self.batches(step)
        self.ahead = {step + 1: self.reader.submit(self.batches, step + 1)}
        return [batch.to(self.device) for batch in batches]

    def backward(self, step: int) -> dict[str, float]:
        """Compute gradients of a step's batch, averaged over processes; return the loss and its terms."""
        batches = self._read(step)
        counts = torch.stack([torch.stack([b.mask.sum(), b.kept.sum()]) for b in batches]).sum(dim=0)
        n_masked, n_kept = distributed.sum_over_processes(counts).tolist()
        negatives = self._negatives(batches)
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            with distributed.gradient_exchange(self.network, last=i == len(batches) - 1):
                with self.precision():
                    terms: Terms = self.network("terms", batch, self.indices)
                loss, numbers = self._loss(terms, n_masked, max(1, n_kept), negatives, i)
                (loss * distributed.world_size()).backward()  # the wrapper takes the mean over processes
            share = 1 / (len(batches) * distributed.world_size())
            for name, value in numbers.items():
                value = value.detach() * (share if name in ("contrastive", "target_std") else 1)
                sums[name] = sums.get(name, 0) + value
        self.steps = step + 1
        values = dict(zip(sums, distributed.sum_over_processes(torch.stack(list(sums.values()))).tolist(), strict=True))
        return {"loss": self._weighted(values)} | values

    def _negatives(self, batches: list[Batch]) -> CachedLoss | None:
        """The contrastive loss over the whole batch; None if the batch is a single part."""
        if not self.config.has_memory or (len(batches) == 1 and distributed.world_size() == 1):
            return None
        with torch.no_grad(), self.precision():
            rows = [self.network("embeddings", batch, self.indices) for batch in batches]
        return cached_loss(rows, contrastive_loss)

    def _loss(
        self, terms: Terms, n_masked: int, n_kept: int, negatives: CachedLoss | None, part: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The contribution of a part to the loss of the whole batch, and the values of its terms."""
        tokens = terms.tokens / n_masked
        if terms.mse is None or terms.target_std is None:
            return tokens, {"tokens": tokens}
        mse = terms.mse / n_kept
        contrastive = negatives.surrogate(part, terms.rows) if negatives else contrastive_loss(*terms.rows)
        loss = self._weighted({"tokens": tokens, "mse": mse, "contrastive": contrastive})
        value = torch.full_like(mse, negatives.value) if negatives else contrastive
        return loss, {"tokens": tokens, "mse": mse, "contrastive": value, "target_std": terms.target_std}

    def _weighted(self, terms: dict[str, Any]) -> Any:
        if "mse" not in terms:
            return terms["tokens"]
        o = self.options
        return terms["tokens"] + o.mse_weight * terms["mse"] + o.contrastive_weight * terms["contrastive"]

    # ------------------------------------------------------------ validation and result
    def validate(self) -> dict[str, float]:
        """Cross-entropy and accuracy of masked tokens at fixed mask ratios, with the video and with [NULL]."""
        generator = torch.Generator().manual_seed(self.seed)
        count = min(len(self.validation_examples), self.options.validation_count)
        sums: dict[str, list[float]] = {"tokens": [], "accuracy": [], "tokens_null": []}
        for first in range(0, count, self.part):
            chosen = list(range(first, min(first + self.part, count)))
            batch = self.validation_examples.validation_batch(chosen, self.n_tokens).to(self.device)
            for ratio in VALIDATION_RATIOS:
                batch.mask.copy_(torch.rand(batch.codes.shape, generator=generator) < ratio)
                for name, dropped in (("tokens", False), ("tokens_null", True)):
                    batch.drop.fill_(dropped)
                    with self.precision():
                        logits, _ = self.network("logits", batch, self.indices)
                    sums[name].append(masked_cross_entropy(logits, batch.codes, batch.mask).item())
                    if not dropped:
                        hits = logits.argmax(dim=-1) == batch.codes
                        sums["accuracy"].append(hits[batch.mask].float().mean().item())
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def validate_generated(self, validated: dict[str, float]) -> tuple[dict[str, float], list[Sample]]:
        """Score sound generated for validation examples, with the paper's aggregate; empty if generate_count is 0."""
        if self.generated_validation is None:
            return {}, []

        def logits(batch: Batch) -> Tensor:
            with self.precision():
                found: Tensor = self.network("logits", batch, self.indices)[0]
            return found

        def batches(chosen: list[int]) -> Batch:
            return self.validation_examples.validation_batch(chosen, self.n_tokens).to(self.device)

        scores, samples = self.generated_validation(logits, batches, self.config.mask_token, self.seed)
        return scores | {
            "aggregate": self.generated_validation.scores.aggregate(validated["accuracy"], scores)
        }, samples

    def finish(self, out: Path) -> None:
        name = f"MaskVAT {self.config.design}, {self.options.size}"
        distilled = {"distilled_guidance": self.options.teacher_guidance} if self.options.teacher else {}
        provenance = self.options.provenance(name, clips=len(self.train_examples), steps=self.steps, **distilled)
        state = {key: distributed.to_full(value) for key, value in self.model.state_dict().items()}
        if self.options.round_weights:
            state = rounded(state)
        if distributed.rank() == 0:
            save(Path(self.options.system), "maskvat", self.model, "maskvat", provenance, state)
        if self.train_examples.bad:
            print(f"{len(self.train_examples.bad)} prepared examples could not be used", file=sys.stderr)
