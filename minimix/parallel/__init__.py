"""One training, shared by several processes that mpiexec started: data parallelism.

    mpiexec -n 4 minimix train

Each process, a rank in MPI's words, holds the whole model and looks at its own part of every batch.
The loss of a batch is the mean over its N images, a sum over ranks of the mean over their n images
weighted by n / N, and so is its gradient:

    L = Σᵣ (nᵣ/N) Lᵣ        ∂L/∂θ = Σᵣ (nᵣ/N) ∂Lᵣ/∂θ

Each rank therefore scales its loss by nᵣ/N, and one sum over all ranks, a step, gives everybody the
same gradient. Then all take the same step of the optimizer, and the weights stay the same bits.
Batch norm alone looks at more than one image at a time: `moments` has it look at all ranks' images.
What is complete before the backward pass ends is sent meanwhile: `early`.

`shard` says which images are a rank's, `ranks` is all that knows MPI, and `ending` sees to it that
the processes end together. Li et al. 2020, "PyTorch distributed", arXiv:2006.15704.
"""

from .early import announce as announce
from .early import early_sums as early_sums
from .ending import together as together
from .moments import synchronized as synchronized
from .ranks import ALONE as ALONE
from .ranks import Ranks as Ranks
from .ranks import apart as apart
from .ranks import world as world
from .shard import Shard as Shard
from .shard import fewest as fewest
from .shard import shard as shard
