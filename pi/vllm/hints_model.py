"""Hints: the model, its code, its weights and its adapters."""

from __future__ import annotations

import re

from pi.vllm.hint import Hint, Values
from pi.vllm.hints_start import INSTALL, SETUP

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for --max-lora-rank (`config/lora.py`)."""


def _rank(match: re.Match[str]) -> Values:
    return {"rank": next((rank for rank in RANKS if rank >= int(match[1])), None)}


NEWER = f"install a newer vLLM: {SETUP} --vllm nightly"

HINTS = (
    Hint(
        "trust-remote-code",
        r"trust_remote_code",
        "the model contains Python code; if you trust it",
        ("--set trust-remote-code",),
    ),
    Hint(
        "architecture-unknown",
        r"does not recognize this architecture",
        "transformers of {vllm} does not know the model",
        (f"{SETUP} --vllm nightly", f"{INSTALL}-U transformers"),
    ),
    Hint(
        "architecture-unknown",
        r"Model architectures .{1,300} are not supported",
        f"{{vllm}} does not know the model: {SETUP} --vllm nightly",
    ),
    Hint(
        "wrong-quantization",
        r"Unknown quantization method|Cannot find the config file for \w+"
        r"|does not match the quantization (?:method|argument)",
        "the model is not in that format: leave --quantization out",
    ),
    Hint(
        "gguf-unsupported",
        r"\.gguf' is not a valid JSON|GGUF model with architecture",
        "vLLM does not read GGUF files: choose the model in safetensors format",
    ),
    Hint(
        "tokenizer-too-old",
        r"untagged enum ModelWrapper|Tokenizer class \w+ does not exist",
        "transformers or tokenizers on the pod is older than the model's tokenizer",
        (f"{INSTALL}-U transformers tokenizers", NEWER),
    ),
    Hint(
        "tokenizer-missing",
        r"Can't load tokenizer for|Unrecognized configuration class.{0,200}AutoTokenizer",
        "there are no tokenizer files beside the weights; name the model from which they were made",
        ("--set tokenizer=REPOSITORY",),
    ),
    Hint(
        "rope-unknown",
        r"(?:KeyError: '(?:type|rope_type|factor|rope_theta)'|Unknown RoPE scaling|rope_\w+.{0,40}(?:must|unknown))",
        "the model has a form of rope scaling that {vllm} does not know",
        (NEWER,),
    ),
    Hint(
        "dtype-unsupported",
        r"not supported for quantization method [\s\S]{0,40}Supported dtypes: \[torch\.(\w{1,20})",
        "this checkpoint needs another number type",
        ("--set dtype={0}",),
    ),
    Hint(
        "dtype-unsupported",
        r"have the same dtype|expected scalar type \w+ but found",
        "parts of the model have different number types",
        ("--set dtype=bfloat16", "--set dtype=half", NEWER),
    ),
    Hint(
        "prefix-caching-unsupported",
        r"[Pp]refix caching is not supported",
        "{vllm} cannot keep beginnings of this model's requests",
        ("--set no-enable-prefix-caching",),
    ),
    Hint(
        "speculation-unsupported",
        r"Eagle\d? is only supported|error for SpeculativeConfig|draft model is not supported"
        r"|[Ss]peculat\w+ .{0,80}not (?:yet |currently )?support",
        "{vllm} cannot draft tokens so: pi start ... --no-draft, or leave --speculative-config out",
    ),
    Hint(
        "not-multimodal",
        r"only supported for multimodal models|is not a multimodal model",
        "the model reads text only: leave --limit-mm-per-prompt and other arguments for images out",
    ),
    Hint(
        "cache-layout-unsupported",
        r"[Cc]annot unify|page size of the layer is not divisible",
        "{vllm} cannot lay out this model's cache",
        ("--set kv-cache-dtype=auto", NEWER),
    ),
    Hint(
        "mistral-format",
        r"KeyError: '(?:model\.)?layers\.\d+\.attention\.w[kqvo]\.",
        "the weights are in Mistral's own format",
        ("--set load-format=mistral --set config-format=mistral --set tokenizer-mode=mistral",),
    ),
    Hint(
        "mistral-files-missing",
        r"No such file or directory: '[^']{0,300}(?:params|tekken)\.json'",
        "the model is not in Mistral's own format: leave --config-format, --load-format and --tokenizer-mode out",
    ),
    Hint(
        "no-experts",
        r"experts .{0,40}must be greater than 0|[Ee]xpert parallelism is only",
        "the model has no experts: leave --enable-expert-parallel out",
    ),
    Hint(
        "bitsandbytes-format",
        r"\.(?:absmax|quant_state|nested_absmax)\b",
        "the weights are in bitsandbytes' format",
        ("--set quantization=bitsandbytes",),
    ),
    Hint(
        "weights-missing",
        r"No such file or directory: ['\"][^'\"]{0,300}\.(?:safetensors|bin|pt)['\"]"
        r"|were not initialized from checkpoint"
        r"|referenced in index but missing"
        r"|Some weights .{0,80}missing",
        "weights are missing: pi cache rm MODEL, then start again",
    ),
    Hint(
        "weights-unknown",
        r"no module or parameter named|KeyError: '(?:[\w.]{1,100}\.)?(?:layers|blocks|h|experts)\.\d+\.[\w.]{1,100}'"
        r"|[Ss]ize mismatch|size of tensor a \(\d+\) must match|shape mismatch"
        r"|Attempted to load weight|loaded_weight\.shape|param\S*\.shape"
        r"|in weight_loader"
        r"|[Uu]nexpected key|Unrecognized weight",
        "the files have weights that {vllm} does not expect",
        (NEWER, "use another checkpoint of the model"),
    ),
    Hint(
        "damaged-weights",
        r"SafetensorError|Error while deserializing header|parse_safetensors_file_metadata|PytorchStreamReader"
        r"|invalid load key|git-lfs",
        "a weights file is damaged or incomplete: pi cache rm MODEL, then start again",
    ),
    Hint(
        "no-weights",
        r"Cannot find any model weights",
        "there are no *.safetensors files there: check the path or the repository",
    ),
    Hint(
        "adapter-rank",
        r"LoRA rank (\d{1,4}) is greater than max_lora_rank",
        "the adapter has a larger rank",
        ("--set max-lora-rank={rank}",),
        _rank,
    ),
    Hint(
        "adapter-rank",
        r"max_lora_rank[\s\S]{0,120}input_value=(\d{1,3})\b",
        "vLLM takes certain ranks only",
        ("--set max-lora-rank={rank}",),
        _rank,
    ),
    Hint(
        "adapter-missing",
        r"No adapter found for|adapter_config\.json.{0,40}(?:not found|No such file)|Can't find 'adapter_config",
        "there are no files of an adapter there: check its id or path after --lora NAME=",
    ),
    Hint(
        "adapters-unsupported",
        r"does not support LoRA|LoRA is not supported",
        "{vllm} cannot use adapters with this model: leave --lora out, or merge the adapter into the weights",
    ),
    Hint(
        "adapter-unfit",
        r"expected target modules|unsupported LoRA weight|[Ll]o[Rr][Aa].{0,80}(?:not supported|unsupported"
        r"|does not support|not found|modules_to_save)",
        "vLLM cannot use this adapter with this model: check for which model it was trained",
    ),
    Hint(
        "pipeline-unsupported",
        r"[Pp]ipeline parallelism is not supported",
        "vLLM cannot spread this model's layers",
        ("--gpus {fewer_gpus}", "use another number of GPUs"),
    ),
    Hint(
        "task-unsupported",
        r"does not support [`'\"]?(?:--runner|--task|--convert)?\s*(?:generate|embed|pooling|classify)",
        "the model cannot do that: leave --runner and --convert out",
    ),
)
