"""What the fork server of the tests has done before it forks: so a child begins at once, not after seconds.

Most of these seconds are imports of torch, a third of them only when the first optimiser is made.
"""

import numpy as np
import torch

import lwm_nb.cli  # noqa: F401
from lwm_nb.labyrinth.task import LabyrinthTask

torch.set_num_threads(1)  # a thread pool does not survive a fork
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
env = LabyrinthTask(size=2).make(2)
env.reset(seed=0)
env.step(np.zeros(2, int))
