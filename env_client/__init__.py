"""The featherweight side: steps environments and asks a server for actions. Imports neither torch nor the server."""

import os

# The client multiplies no matrices; without this numpy's BLAS starts a thread, with its own buffers, for every core.
# Must stand before the first import of numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
