"""`vace eval`: does a checkpoint do what its tasks say? Measured on held-out toy worlds, against baselines.

scores.py     what is measured, pure functions of arrays
measures.py   which measures are taken of which task
makers.py     what makes the outputs: the model and the baselines
run.py        the evaluation itself; summary.py and report.py: what comes of it
"""

from vace.evaluation.run import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
