"""Run by the Python of an installed vLLM: makes the start-up checks of plans with vLLM's own classes.

stdin: {"cases": [{"config": {...}, "tensor": 2, ...}, ...]}; stdout, last line: for each case what vLLM objects to, and
the context that fits. A model is built from its config.json on the "meta" device, without weights: what each of
its layers says of its cache decides. Missing here are a GPU (so kernels are stand-ins), the experts (they keep no cache)
and torchvision (pictures are not read).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

os.environ |= {"VLLM_LOGGING_LEVEL": "CRITICAL", "HF_HUB_OFFLINE": "1"}
warnings.simplefilter("ignore")

import torch
from transformers.utils import import_utils

LAZY = import_utils._LazyModule.__getattr__


def _lazy(module: Any, name: str) -> Any:
    """Return a class of transformers, or an empty one if it needs torchvision."""
    try:
        return LAZY(module, name)
    except ModuleNotFoundError:
        return type(name, (), {})


import_utils.is_torchvision_available()  # its answer stays
import_utils._LazyModule.__getattr__ = _lazy


class StandIn(ModuleType):
    """A module whose every name is a stand-in."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class StandIns(MetaPathFinder, Loader):
    """Finds packages that no CPU has: pictures are not read, and kernels not compiled."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ("cutlass", "torchvision") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None


sys.meta_path.append(StandIns())

from vllm.config import get_layers_from_vllm_config, set_current_vllm_config, vllm
from vllm.config.compilation import CUDAGraphMode
from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment, parallel_state
from vllm.distributed.kv_transfer.kv_connector.utils import get_current_attn_backends
from vllm.distributed.utils import get_pp_indices
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers import fused_moe
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models import registry
from vllm.platforms import current_platform
from vllm.platforms.cpu import CpuPlatform
from vllm.platforms.interface import Platform
from vllm.v1.attention.backend import AttentionCGSupport, MultipleOf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.attention.backends.mla.amx_mla import AMXMLABackend
from vllm.v1.attention.backends.mla.cpu_mla import CPUMLABackend
from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout
from vllm.v1.core.kv_cache_utils import get_kv_cache_configs
from vllm.v1.kv_cache_interface import FullAttentionSpec

TEXT = {
    "Gemma4ForConditionalGeneration": "Gemma4ForCausalLM",
    "KimiK25ForConditionalGeneration": "DeepseekV3ForCausalLM",
    "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
    "Qwen3VLForConditionalGeneration": "Qwen3ForCausalLM",
    "Qwen3VLMoeForConditionalGeneration": "Qwen3MoeForCausalLM",
    "Qwen3_5ForConditionalGeneration": "Qwen3_5ForCausalLM",
    "Qwen3_5MoeForConditionalGeneration": "Qwen3_5MoeForCausalLM",
}
"""The class of the part that keeps a cache, for models with a vision tower, which needs torchvision."""

GRAPHS, SUPPORTED = CUDAGraphMode.FULL_AND_PIECEWISE, AttentionCGSupport.UNIFORM_BATCH


class Drafting:
    """What the cache's code asks of a model that drafts with a head of its own (MTP)."""

    method = "mtp"

    def __init__(self, tokens: int) -> None:
        self.num_speculative_tokens = tokens

    def use_eagle(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: False) if name.startswith("use") else None


ON_CPUS = (CPUAttentionBackend, CPUMLABackend, AMXMLABackend)
"""Stand for the kernels of NVIDIA GPUs, which read any layout of the cache (`FlashAttentionBackend`)."""


class NoExperts(torch.nn.Module):  # type: ignore[misc]
    """Stands for the experts of a layer, whose kernels a CPU lacks."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __getattr__(self, name: str) -> Any:
        return MagicMock()


class Kernel:
    """Block sizes of the attention kernels on NVIDIA GPUs (`FlashAttentionBackend`)."""

    @staticmethod
    def get_supported_kernel_block_sizes() -> list[Any]:
        return [MultipleOf(16)]

    @staticmethod
    def customize_spec(spec: Any) -> Any:
        return spec


SPARSE = ("topk_indices_buffer", "index_group_builder")
"""Arguments of attention to chosen tokens only, which a CPU does not have."""


def dense(implementation: Any, *words: Any, **named: Any) -> Any:
    """Return a CPU's attention to compressed keys and values, for a layer that a GPU would serve sparsely."""
    return implementation(*words, **{name: value for name, value in named.items() if name not in SPARSE})


def prepare() -> None:
    """Replace what needs a GPU, and look at model classes in this process instead of one for each."""
    vllm.HAS_TRITON = True  # a GPU has it, so vLLM takes its second model runner
    registry._run_in_subprocess = lambda look: look()
    registry._LazyRegisteredModel._load_modelinfo_from_cache = lambda *_, **__: None
    registry._LazyRegisteredModel._save_modelinfo_to_cache = lambda *_, **__: None
    fused_moe.FusedMoEFactory = NoExperts
    torch.cuda.Event = torch.cuda.Stream = MagicMock()
    plain = CpuPlatform.get_attn_backend_cls.__func__

    def backend(cls: Any, selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None) -> str:
        return str(plain(cls, selected_backend, attn_selector_config._replace(use_sparse=False), num_heads))

    CpuPlatform.get_attn_backend_cls = classmethod(backend)
    changed = CpuPlatform.check_and_update_config.__func__

    def check(cls: Any, config: Any) -> None:
        """Keep what a CPU would change for compressed keys and values."""
        cache, scheduler = config.cache_config, config.scheduler_config
        kept = cache.enable_prefix_caching, scheduler.enable_chunked_prefill, scheduler.max_num_batched_tokens
        changed(cls, config)
        cache.enable_prefix_caching, scheduler.enable_chunked_prefill, scheduler.max_num_batched_tokens = kept

    CpuPlatform.check_and_update_config = classmethod(check)
    CPUAttentionBackend.get_supported_kernel_block_sizes = staticmethod(lambda *_: [MultipleOf(16)])
    for latent in (CPUMLABackend, AMXMLABackend):
        implementation = partial(dense, latent.get_impl_cls())
        latent.get_impl_cls = staticmethod(partial(lambda each: each, implementation))
    Platform._find_non_ssm_backends = classmethod(lambda cls, config: [Kernel])
    init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, backend="gloo")


def text_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a config.json that keeps a cache, in 16 bit."""
    config = {key: value for key, value in config.items() if key != "quantization_config"}
    names = config.get("architectures") or [""]
    if names[0] not in TEXT:
        return config
    text = {"tie_word_embeddings": config.get("tie_word_embeddings", False), **config["text_config"]}
    return {**text, "architectures": [TEXT[names[0]]]}


@contextmanager
def model_of(case: dict[str, Any]) -> Iterator[Any]:
    """Build a model on the meta device as one of `tensor` GPUs does, and return vLLM's configuration with it."""
    folder = tempfile.mkdtemp()
    Path(folder, "config.json").write_text(json.dumps(text_of(case["config"])))
    config = EngineArgs(
        model=folder,
        skip_tokenizer_init=True,
        load_format="dummy",
        max_model_len=4096,
        enable_prefix_caching=case["prefix_caching"],
        kv_cache_dtype=case["cache_dtype"],
        dtype="bfloat16",
        enforce_eager=True,
        max_num_seqs=8,
        disable_hybrid_kv_cache_manager=None if case["windows"] else True,
    ).create_engine_config()
    config.speculative_config = Drafting(case["drafts"]) if case["drafts"] else None
    config.parallel_config.tensor_parallel_size = case["tensor"]
    with set_current_vllm_config(config):
        if parallel_state._TP is None:
            ensure_model_parallel_initialized(1, 1)
            parallel_state._EP = parallel_state._EP or parallel_state._TP
        parallel_state._TP.world_size = case["tensor"]
        with torch.device("meta"):
            initialize_model(config)
        yield config


def specs_of(config: Any) -> dict[str, Any]:
    """Return what each layer says of its cache, with pages as vLLM aligns them on a GPU, and those of a draft head."""
    cache = config.cache_config
    cache.block_size, cache.mamba_page_size_padded = max(16, cache.block_size if cache.block_size == 256 else 16), None
    if config.model_config.is_hybrid:
        Platform._align_hybrid_block_size.__func__(type(current_platform), config, Kernel)
    found = {}
    for name, layer in get_layers_from_vllm_config(config, AttentionLayerBase).items():
        if not getattr(layer, "kv_sharing_target_layer_name", None) and (spec := layer.get_kv_cache_spec(config)):
            found[name] = spec
    if config.speculative_config:
        whole = [spec for spec in found.values() if isinstance(spec, FullAttentionSpec)]
        found[f"draft.{config.model_config.hf_text_config.num_hidden_layers - 1}"] = whole[-1]
    backends = [each for each in get_current_attn_backends(config) if each not in ON_CPUS]
    layouts = [layout.name for layout in get_supported_kv_cache_layouts(backends)]
    resolve_kv_cache_layout(config, [layouts], found.values())
    return found


def objection(config: Any, case: dict[str, Any], specs: dict[str, Any], room: int) -> tuple[str | None, int]:
    """Return why vLLM would not start with this room for its cache, and the context that it would serve."""
    model = config.model_config
    model.original_max_model_len = model.max_model_len = case["context"] or case["longest"]
    if case["context"] is None:
        model.original_max_model_len = -1
    config.parallel_config.pipeline_parallel_size = case["pipeline"]
    config.scheduler_config.max_num_seqs = case["sequences"]
    config.scheduler_config.max_num_batched_tokens = case["tokens"]
    config.scheduler_config.async_scheduling = True
    stages = list(_stages(specs, case["pipeline"], model.hf_text_config.num_hidden_layers))
    try:
        model.verify_with_parallel_config(config.parallel_config)
        made = get_kv_cache_configs(config, [dict(stage) for stage in stages], [room] * len(stages))
        config.compilation_config.cudagraph_mode = GRAPHS
        config.compilation_config.resolve_cudagraph_mode_and_sizes(
            SUPPORTED, "a kernel", use_v2_model_runner=True, kv_cache_config=made[0], max_num_reqs=case["sequences"]
        )
    except Exception as problem:
        return repr(problem)[:400], 0
    return None, model.max_model_len


def _stages(specs: dict[str, Any], pipeline: int, layers: int) -> Iterator[dict[str, Any]]:
    """Yield the layers of each pipeline stage."""
    for stage in range(pipeline):
        first, end = get_pp_indices(layers, stage, pipeline)
        yield {name: spec for name, spec in specs.items() if first <= _number(name) < end}


def _number(name: str) -> int:
    return next(int(part) for part in name.split(".") if part.isdigit())


def main() -> None:
    prepare()
    cases = json.load(sys.stdin)["cases"]
    answers: list[dict[str, Any]] = []
    for case in cases:
        try:
            with model_of(case) as config:
                specs = specs_of(config)
                for plan in case["plans"]:
                    whole = {**case, **plan}
                    answers.append({"plan": plan["number"], "worst": objection(config, whole, specs, plan["worst"])[0]})
                    answers[-1]["own"], answers[-1]["context"] = objection(config, whole, specs, plan["room"])
        except Exception as problem:
            answers += [{"plan": plan["number"], "unread": repr(problem)[:300]} for plan in case["plans"]]
        print(len(answers), file=sys.stderr, flush=True)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
