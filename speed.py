import time, torch, numpy as np, cProfile, pstats
from dataclasses import replace
from lwm_nb.atari.agent import *
from lwm_nb.atari.agent import LAPTOP, TASK_SETTINGS
from lwm_nb.atari.frames import AtariTask
torch.set_num_threads(1); torch.set_flush_denormal(True)
c = PixelConfig(**LAPTOP | dict(num_envs=128, unroll=20, burn_in=10, stride=10, encoder_batch=128, encoder_every=2))
t = AtariTask(**TASK_SETTINGS[("atari","laptop")])
r = training_costs(c, t.make(128), times=5)
print({k: round(v, 4) for k, v in r.items()})
tr = noisy_training(c, t.make(128)); L = tr.learner
for _ in range(2): L.update()
t0=time.process_time(); 
for _ in range(5): L.update()
print("update cpu", (time.process_time()-t0)/5)
pr=cProfile.Profile(); pr.enable()
for _ in range(5): L.update()
pr.disable(); pstats.Stats(pr).sort_stats("tottime").print_stats(3)
