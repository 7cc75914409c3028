"""The hub: the folder of a curated data set becomes a data set repository, private by default.

A folder that is pushed again changes only the files that differ; if none does, the hub makes no
commit. The token is the one of `hf auth login`, or HF_TOKEN.
"""

from pathlib import Path

from premem_core.errors import PushError, UsageError
from premem_core.sinks.series import first_line

PARTS = ("README.md", "recipe.yaml", "data/train.parquet")  # what `curation.export` writes


def push_dataset(folder: Path, repository: str, public: bool = False) -> str:
    """Upload a folder that `premem curate` wrote, and return the address of the repository.

    Args:
        repository: owner/name; it is made if it does not exist.
        public: whether everyone may read it.

    Raises:
        UsageError: the folder is not one of a curated data set, the name is invalid, or the
            repository exists, is public, and `public` is False.
        PushError: the hub does not answer or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError

    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing:
        raise UsageError(
            f"{folder} is not a curated data set ({missing[0]} is missing in it); give a folder "
            "that 'premem curate --out FOLDER' wrote"
        )
    api = HfApi()
    try:
        address = api.create_repo(
            repository, repo_type="dataset", private=not public, exist_ok=True
        )
        if not public and not api.repo_info(repository, repo_type="dataset").private:
            raise UsageError(
                f"the repository {repository} is public, and everyone would see the data; give "
                "--public to push to it, or another name"
            )
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="dataset",
            commit_message="Upload a data set that Premem curated",
        )
    except HFValidationError as error:
        raise UsageError(f"--repo takes OWNER/NAME, not '{repository}': {error}") from error
    except LocalTokenNotFoundError as error:
        raise PushError("there is no token for the hub; run 'hf auth login'") from error
    except (HTTPError, OSError) as error:
        raise PushError(f"the hub did not take {folder}: {first_line(error)}") from error
    return str(address)
