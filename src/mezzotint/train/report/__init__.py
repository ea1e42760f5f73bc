"""What a run's folder tells: pictures at fixed seeds, metric cards, one HTML page; and who else is told."""

from mezzotint.train.report.flops import flops_per_sample
from mezzotint.train.report.page import render, write_page
from mezzotint.train.report.record import RunRecord, find_runs, read_run
from mezzotint.train.report.reporter import Reporter, Reporters
from mezzotint.train.report.reporting import Reporting, RunWatch
from mezzotint.train.report.samples import DenoisedSamples, FirstBatch, Reconstructions
from mezzotint.train.report.tensorboard import TensorBoard
from mezzotint.train.report.tracker import Tracker

__all__ = [
    "DenoisedSamples",
    "FirstBatch",
    "Reconstructions",
    "Reporter",
    "Reporters",
    "Reporting",
    "RunRecord",
    "RunWatch",
    "TensorBoard",
    "Tracker",
    "find_runs",
    "flops_per_sample",
    "render",
    "read_run",
    "write_page",
]
