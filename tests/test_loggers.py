import math

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_foresight.functional import make_estimate
from lightning_foresight.history import History
from lightning_foresight.loggers import is_logger, write_figure, write_layout, write_rows


class FakeLogger:
    def __init__(self):
        self.calls = []

    def log_metrics(self, metrics, step):
        self.calls.append((step, metrics))


class WandbLogger(FakeLogger):
    def log_image(self, key, images, step):
        self.calls.append(("image", key, images, step))


class MyWandbLogger(WandbLogger):
    pass


def test_loggers_are_recognised_by_the_names_of_their_classes():
    assert is_logger(MyWandbLogger(), "WandbLogger")
    assert not is_logger(FakeLogger(), "WandbLogger")


def test_rows_of_one_step_are_written_together_and_infinite_ends_as_they_are():
    history = History()
    history.add(step=1, epoch=1.0, key="a", value=torch.tensor(1.0))
    unbounded = make_estimate(torch.tensor(2.0), lower=torch.tensor(0.5), upper=torch.tensor(float("inf")))
    history.add(step=1, epoch=1.0, key="b", value=unbounded)
    history.add(step=2, epoch=1.0, key="a", value=torch.tensor(3.0))
    logger = FakeLogger()
    write_rows([logger], history.rows)
    assert logger.calls == [(1, {"a": 1.0, "b": 2.0, "b_lower": 0.5, "b_upper": math.inf}), (2, {"a": 3.0})]


def test_a_figure_goes_to_the_tracker_or_becomes_a_file(tmp_path):
    from matplotlib.figure import Figure

    figure, wandb, other = Figure(), WandbLogger(), FakeLogger()
    paths = write_figure([wandb, other], "ei/plane", figure, 7, str(tmp_path))
    assert wandb.calls == [("image", "ei/plane", [figure], 7)]
    assert paths == [tmp_path / "figures" / "ei" / "plane" / "7.png"]
    assert paths[0].stat().st_size > 0
    assert write_figure([wandb], "ei/plane", figure, 8, str(tmp_path)) == []


def test_a_layout_without_bands_is_not_written(tmp_path):
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path)
    write_layout([logger], {"ei": []})
    logger.experiment.flush()
    assert not EventAccumulator(logger.log_dir).Reload().Tags()["tensors"]
