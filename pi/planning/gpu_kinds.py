"""The NVIDIA GPUs that pi knows: name, memory, compute capability, and the pods in which providers rent them."""

from __future__ import annotations

from dataclasses import dataclass

ANY = (1, 2, 3, 4, 5, 6, 7, 8)
WHOLE = (1, 2, 4, 8)
FEW = (1, 2, 4)


@dataclass(frozen=True)
class Kind:
    """One product. `memory_mib` is `memory.total` of nvidia-smi; `also` are kinds whose recipes fit it too.

    `pattern` matches the name in nvidia-smi. `rented` are the GPUs of the pods that providers rent.
    """

    name: str
    title: str
    memory_mib: int
    capability: tuple[int, int]
    nvlink: bool
    pattern: str
    rented: tuple[int, ...] = ()
    also: tuple[str, ...] = ()


KINDS = (
    Kind("gb300", "GB300", 284208, (10, 3), True, r"GB300", FEW),
    Kind("b300", "B300", 275040, (10, 3), True, r"B300", WHOLE),
    Kind("gb200", "GB200", 189471, (10, 0), True, r"GB200", FEW),
    Kind("b200", "B200", 183359, (10, 0), True, r"B200", ANY),
    Kind("gh200_144gb", "GH200 144GB", 147456, (9, 0), True, r"GH200 144G"),
    Kind("gh200", "GH200", 97871, (9, 0), True, r"GH200", (1,)),
    Kind("h200_nvl", "H200 NVL", 143771, (9, 0), True, r"H200 NVL", ANY, ("h200",)),
    Kind("h200", "H200", 143771, (9, 0), True, r"H200", ANY),
    Kind("h100_nvl", "H100 NVL", 95830, (9, 0), False, r"H[18]00 NVL", ANY),
    Kind("h100_pcie", "H100 PCIe", 81559, (9, 0), False, r"H[18]00 PCIe", ANY, ("h100",)),
    Kind("h100", "H100 80GB", 81559, (9, 0), True, r"H[18]00", ANY),
    Kind("h20_141gb", "H20 141GB", 143771, (9, 0), True, r"H20\b", (), ("h20",)),
    Kind("h20", "H20", 97871, (9, 0), True, r"H20\b"),
    Kind("a100_80gb", "A100 80GB", 81920, (8, 0), True, r"A[18]00.*80G", ANY),
    Kind("a100", "A100 40GB", 40960, (8, 0), True, r"A[18]00", WHOLE),
    Kind("a30", "A30", 24576, (8, 0), False, r"A30\b", ANY),
    Kind("v100_16gb", "V100 16GB", 16384, (7, 0), True, r"V100.*16G"),
    Kind("v100", "V100", 32768, (7, 0), True, r"V100"),
    Kind("p100", "P100", 16384, (6, 0), False, r"P100"),
    # Blackwell workstations and GeForce 50
    Kind("rtx_pro_6000", "RTX PRO 6000", 97887, (12, 0), False, r"RTX PRO 6000", ANY),
    Kind("rtx_6000d", "RTX 6000D", 86016, (12, 0), False, r"RTX (PRO )?6000D"),
    Kind("rtx_pro_5000_72gb", "RTX PRO 5000 72GB", 73728, (12, 0), False, r"RTX PRO 5000"),
    Kind("rtx_pro_5000", "RTX PRO 5000", 48935, (12, 0), False, r"RTX PRO 5000", WHOLE),
    Kind("rtx_pro_4500", "RTX PRO 4500", 32623, (12, 0), False, r"RTX PRO 4500", ANY),
    Kind("rtx_pro_4000", "RTX PRO 4000", 24467, (12, 0), False, r"RTX PRO 4000", FEW),
    Kind("rtx_5090", "RTX 5090", 32607, (12, 0), False, r"RTX 5090( D)?", ANY),
    Kind("rtx_5090_d_v2", "RTX 5090 D v2", 24463, (12, 0), False, r"RTX 5090 D v2"),
    Kind("rtx_5080", "RTX 5080", 16303, (12, 0), False, r"RTX 5080", FEW),
    Kind("rtx_5070_ti", "RTX 5070 Ti", 16303, (12, 0), False, r"RTX 5070 Ti", FEW),
    Kind("rtx_5070", "RTX 5070", 12227, (12, 0), False, r"RTX 5070", FEW),
    Kind("rtx_5060_ti", "RTX 5060 Ti", 16311, (12, 0), False, r"RTX 5060 Ti", FEW),
    Kind("rtx_5060", "RTX 5060", 8151, (12, 0), False, r"RTX 50[56]0( Ti)?", (1, 2)),
    Kind("dgx_spark_gb10", "GB10", 122570, (12, 1), False, r"GB10\b"),
    Kind("thor", "Thor", 125772, (11, 0), False, r"Thor\b"),
    Kind("orin", "Orin", 62841, (8, 7), False, r"Orin\b"),
    # Ada
    Kind("l40s", "L40S", 46068, (8, 9), False, r"L40S", ANY),
    Kind("l40", "L40", 46068, (8, 9), False, r"L40\b", ANY),
    Kind("l20", "L20", 46068, (8, 9), False, r"L20\b"),
    Kind("l4", "L4", 23034, (8, 9), False, r"L[42]\b", ANY),
    Kind("rtx_6000_ada", "RTX 6000 Ada", 49140, (8, 9), False, r"RTX 6000 Ada", ANY),
    Kind("rtx_5000_ada", "RTX 5000 Ada", 32760, (8, 9), False, r"RTX 5000 Ada", ANY),
    Kind("rtx_4500_ada", "RTX 4500 Ada", 24570, (8, 9), False, r"RTX 4500 Ada", FEW),
    Kind("rtx_4000_ada", "RTX 4000 Ada", 20475, (8, 9), False, r"RTX 4000 (SFF )?Ada", FEW),
    Kind("rtx_2000_ada", "RTX 2000 Ada", 16380, (8, 9), False, r"RTX 2000 Ada", FEW),
    Kind("rtx_4090_48gb", "RTX 4090 48GB", 49140, (8, 9), False, r"RTX 4090", WHOLE),
    Kind("rtx_4090", "RTX 4090", 24564, (8, 9), False, r"RTX 4090( D)?", ANY),
    Kind("rtx_4080", "RTX 4080", 16376, (8, 9), False, r"RTX 4080( SUPER)?", FEW),
    Kind("rtx_4070_ti_super", "RTX 4070 Ti SUPER", 16376, (8, 9), False, r"RTX 4070 Ti SUPER", FEW),
    Kind("rtx_4070", "RTX 4070", 12282, (8, 9), False, r"RTX 4070( Ti| SUPER)?", FEW),
    Kind("rtx_4060_ti_16gb", "RTX 4060 Ti 16GB", 16380, (8, 9), False, r"RTX 4060 Ti", FEW),
    Kind("rtx_4060", "RTX 4060", 8188, (8, 9), False, r"RTX 40[56]0( Ti)?", (1, 2)),
    # Ampere
    Kind("a40", "A40", 46068, (8, 6), False, r"A40\b", ANY, ("a6000",)),
    Kind("a6000", "RTX A6000", 49140, (8, 6), False, r"A6000", ANY),
    Kind("a5500", "RTX A5500", 24564, (8, 6), False, r"A5500"),
    Kind("a5000", "RTX A5000", 24564, (8, 6), False, r"A5000", ANY),
    Kind("a4500", "RTX A4500", 20470, (8, 6), False, r"A4500", FEW),
    Kind("a4000", "RTX A4000", 16376, (8, 6), False, r"A4000", FEW),
    Kind("a2000_12gb", "RTX A2000 12GB", 12282, (8, 6), False, r"A2000", (1, 2)),
    Kind("a2000", "RTX A2000", 6138, (8, 6), False, r"A2000", (1, 2)),
    Kind("a10", "A10", 23028, (8, 6), False, r"A10G?\b"),
    Kind("a16", "A16", 15356, (8, 6), False, r"A16\b"),
    Kind("a2", "A2", 15356, (8, 6), False, r"A2\b"),
    Kind("rtx_3090", "RTX 3090", 24576, (8, 6), False, r"RTX 3090( Ti)?", ANY),
    Kind("rtx_3080_ti", "RTX 3080 Ti", 12288, (8, 6), False, r"RTX 3080 Ti", FEW),
    Kind("rtx_3080", "RTX 3080", 10240, (8, 6), False, r"RTX 3080", FEW),
    Kind("rtx_3070", "RTX 3070", 8192, (8, 6), False, r"RTX 3070( Ti)?", (1, 2)),
    Kind("rtx_3060", "RTX 3060", 12288, (8, 6), False, r"RTX 3060", FEW),
    Kind("rtx_3060_ti", "RTX 3060 Ti", 8192, (8, 6), False, r"RTX 30[56]0( Ti)?"),
    # Turing
    Kind("t4", "T4", 15360, (7, 5), False, r"T4\b"),
    Kind("quadro_rtx_8000", "Quadro RTX 8000", 49152, (7, 5), False, r"Quadro RTX 8000", (1, 2)),
    Kind("quadro_rtx_6000", "Quadro RTX 6000", 24576, (7, 5), False, r"Quadro RTX 6000", (1, 2)),
    Kind("quadro_rtx_5000", "Quadro RTX 5000", 16384, (7, 5), False, r"Quadro RTX 5000"),
    Kind("titan_rtx", "TITAN RTX", 24576, (7, 5), False, r"TITAN RTX", (1, 2)),
    Kind("rtx_2080_ti_22gb", "RTX 2080 Ti 22GB", 22528, (7, 5), False, r"RTX 2080 Ti"),
    Kind("rtx_2080_ti", "RTX 2080 Ti", 11264, (7, 5), False, r"RTX 2080 Ti", FEW),
    Kind("rtx_2060_12gb", "RTX 2060 12GB", 12288, (7, 5), False, r"RTX 2060"),
    Kind("rtx_2080", "RTX 2080", 8192, (7, 5), False, r"RTX 20[678]0( SUPER)?", (1, 2)),
    Kind("rtx_2060", "RTX 2060", 6144, (7, 5), False, r"RTX 2060"),
)  # fmt: skip
"""The most specific pattern comes first; of two products with one name, the one with more memory.

Capability: https://developer.nvidia.com/cuda-gpus. Memory: as nvidia-smi prints it, except "gh200_144gb", "rtx_6000d",
"rtx_pro_5000_72gb", "thor" and "orin", which are estimates from their capacity.

Rented: RunPod (docs.runpod.io/references/gpu-types, 1 to 8 of a kind in a pod), Vast.ai, DataCrunch (Verda) and Prime
Intellect (powers of two), autumn 2026. Cards below 24 GB come in pods of up to 4. A kind without counts is not offered
by these four, or vLLM no longer runs on it: pi serves it, but no hint names it.
"""
