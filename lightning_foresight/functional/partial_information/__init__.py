"""What the parts of a layer know of a target: apart, each alone, and only together."""

from lightning_foresight.functional.partial_information.joint_table import JointRows, joint_table
from lightning_foresight.functional.partial_information.sx_pid import Atoms, SxPIDResult, sx_pid

__all__ = ["Atoms", "JointRows", "SxPIDResult", "joint_table", "sx_pid"]
