"""This installation of Premem: where the files lie that it brings, and which extras are there.

An *extra* is a part that `pip install premem` leaves out, named in brackets: `premem[score]`.
"""

from importlib.util import find_spec
from pathlib import Path

from premem_core.errors import InstallationError

PACKAGE = Path(__file__).parent
_IN_A_WHEEL = PACKAGE / "_files"  # where pyproject.toml puts what a checkout has at its root

# The folder of app.py, serve.py, pages/, data/ and .streamlit/.
FILES = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else PACKAGE.parent

EXTRAS = {
    "score": (
        "torch",
        "transformers",
        "tokenizers",
        "accelerate",
        "peft",
        "safetensors",
        "jinja2",
        "huggingface_hub",
    ),
    "vllm": ("vllm",),
    "ray": ("ray", "fsspec"),
    "generate": ("openai",),
    "server": (
        "openai",
        "transformers",
        "tokenizers",
        "safetensors",
        "jinja2",
        "huggingface_hub",
    ),
    "inspect": ("inspect_ai",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "hub": ("huggingface_hub",),
}
PURPOSES = {
    "score": "scoring and fine-tuning",
    "vllm": "the backend 'vllm'",
    "ray": "scoring on a Ray cluster",
    "generate": "asking a model's endpoint",
    "server": "the backend 'server'",
    "inspect": "reading the logs of inspect_ai",
    "trackio": "pushing to Trackio",
    "wandb": "pushing to W&B",
    "mlflow": "pushing to MLflow",
    "hub": "pushing to the hub",
}


def require_extra(extra: str) -> None:
    """Look for an extra's packages, without loading one.

    Raises:
        InstallationError: one of them is not installed.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise _not_installed(package, extra)


def explain(error: ModuleNotFoundError) -> InstallationError | None:
    """What to install where an import failed; None where no extra has that package."""
    package = (error.name or "").partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
    return _not_installed(package, extra) if extra else None


def _not_installed(package: str, extra: str) -> InstallationError:
    return InstallationError(
        f"the package {package} is not installed; for {PURPOSES[extra]}, "
        f"run: pip install 'premem[{extra}]'"
    )
