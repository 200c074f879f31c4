"""Why a soup fails: one finding per function, each from values alone."""

from __future__ import annotations

from stockpot.analysis.diagnosis.beside import (
    Tokenizer,
    label_name_findings,
    merged_label_orders,
    said_labels,
    tokenizer_findings,
)
from stockpot.analysis.diagnosis.headers import (
    duplicate_findings,
    near_duplicate_findings,
    refusals,
    statistics_findings,
    usual_first,
)
from stockpot.analysis.diagnosis.heads import head_findings, head_names
from stockpot.analysis.diagnosis.scores import (
    MidpointLoss,
    basin_findings,
    overlap_findings,
    resolution_findings,
    saturation_findings,
    unequal_findings,
)
from stockpot.analysis.diagnosis.starts import Origins, WeightAngles, origins, start_findings, weight_angles
from stockpot.analysis.diagnosis.verdict import concluded
from stockpot.analysis.diagnosis.weights import movement_findings, not_finite_findings

__all__ = [
    "MidpointLoss", "Origins", "Tokenizer", "WeightAngles", "basin_findings", "concluded", "duplicate_findings",
    "head_findings", "head_names", "label_name_findings", "merged_label_orders", "movement_findings",
    "near_duplicate_findings", "not_finite_findings", "origins", "overlap_findings", "refusals",
    "resolution_findings", "said_labels", "saturation_findings", "start_findings", "statistics_findings",
    "tokenizer_findings", "unequal_findings", "usual_first", "weight_angles",
]  # fmt: skip
