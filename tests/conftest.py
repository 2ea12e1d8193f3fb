"""One thread: the suite shares its cores, and sums do not depend on how many there are."""

import torch

torch.set_num_threads(1)
