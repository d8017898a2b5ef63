"""Mutual information: the information plane's two questions, and estimators by name."""

from lightning_foresight.functional.mutual_information.between_layers import (
    check_layer_pair_estimator,
    layer_pair_information,
)
from lightning_foresight.functional.mutual_information.binned import binned_information
from lightning_foresight.functional.mutual_information.critic import Critic
from lightning_foresight.functional.mutual_information.data_processing import data_processing_gap
from lightning_foresight.functional.mutual_information.kde import kde_information
from lightning_foresight.functional.mutual_information.plane import (
    input_information,
    label_information,
    plane_information,
)
from lightning_foresight.functional.mutual_information.registry import (
    ESTIMATORS,
    Estimator,
    check_has_unit,
    check_plane_estimator,
    find_estimator,
    mutual_information,
)

__all__ = [
    "ESTIMATORS",
    "Critic",
    "Estimator",
    "binned_information",
    "check_has_unit",
    "check_layer_pair_estimator",
    "check_plane_estimator",
    "data_processing_gap",
    "find_estimator",
    "input_information",
    "kde_information",
    "label_information",
    "layer_pair_information",
    "mutual_information",
    "plane_information",
]
