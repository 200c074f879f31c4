"""Evaluation throughput on a GPU against Trainer.predict and pipeline: `evaluate.py --device cuda`.

    python benchmarks/gpu_evaluate.py [--quick] [--out benchmarks]

Says so and ends well where there is no GPU. Writes gpu_evaluate.md and gpu_evaluate.json.
"""

from __future__ import annotations

import sys

from evaluate import main

if __name__ == "__main__":
    sys.argv += ["--device", "cuda"]
    main()
