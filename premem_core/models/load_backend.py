"""Loading a backend by its name, and the default backend of this installation."""

import importlib.util

from premem_core.errors import UsageError
from premem_core.models.backend import Backend, Resources
from premem_core.records import Checkpoint

BACKENDS = ("vllm", "hf", "server")


def default_backend() -> str:
    """The name of the default backend: vLLM where it is installed, otherwise transformers."""
    return "vllm" if importlib.util.find_spec("vllm") else "hf"


def load_backend(name: str, checkpoint: Checkpoint, resources: Resources = Resources()) -> Backend:
    """Load a checkpoint into the backend with this name.

    Raises:
        UsageError: there is no such backend, or `resources` has no server for it.
        CheckpointError: the checkpoint cannot be loaded.
    """
    if name == "hf":
        from premem_core.models.transformers_backend import TransformersBackend

        return TransformersBackend(checkpoint, batch_divisor=resources.batch_divisor)
    if name == "vllm":
        from premem_core.models.vllm_backend import VLLMBackend

        return VLLMBackend(checkpoint, resources)
    if name == "server":
        from premem_core.models.server.server_backend import ServerBackend

        if resources.server is None:
            raise UsageError("the backend 'server' needs a running server; give its --endpoint")
        return ServerBackend(checkpoint, resources.server)
    raise UsageError(f"backend '{name}' is unknown; choose one of: {', '.join(BACKENDS)}")
