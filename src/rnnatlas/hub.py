"""The Hugging Face Hub: what is kept there, and how it gets there; needs huggingface_hub."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rnnatlas.errors import RNNAtlasError, SettingsError, reason

SCHEME = "hf://"
Kind = Literal["dataset", "model"]
"""Zoos are datasets there, runs are models."""

_ADDRESS = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+?)(?:@([^/]+))?/?")


def is_address(place: Path | str) -> bool:
    """Whether a place is one of the Hub, such as hf://user/name."""
    return str(place).startswith(SCHEME)


def repository(address: str) -> tuple[str, str | None]:
    """Which repository an address such as hf://user/name or hf://user/name@v1 names, and of which revision.

    Raises:
        SettingsError: It names none.
    """
    found = _ADDRESS.fullmatch(address if "://" in address else f"{SCHEME}{address}")
    if found is None:
        raise SettingsError(
            f"expected a repository such as hf://user/name or hf://user/name@v1, found {address}"
        )
    return found[1], found[2]


def of_datasets(address: str) -> str:
    """An address of a zoo as fsspec takes it."""
    name, revision = repository(address)
    return f"{SCHEME}datasets/{name}" + (f"@{revision}" if revision else "")


def download(address: str) -> Path:
    """The folder of this machine's cache with all files of a model.

    Raises:
        SettingsError: The address names none, or huggingface_hub is not installed.
        RNNAtlasError: There is none, or the Hub cannot be reached.
    """
    name, revision = repository(address)
    with reaching(address) as library:
        return Path(library.snapshot_download(name, revision=revision))


def upload(name: str, kind: Kind, files: Mapping[str, bytes | str], private: bool = False) -> str:
    """Puts files into a repository, which is made if there is none, as one commit.

    Args:
        name: Of the repository: user/name.
        kind: Of the repository.
        files: Path there → content, or where the file is on this machine.
        private: Whether nobody else sees a new repository.

    Returns:
        Its address on the web.

    Raises:
        SettingsError: huggingface_hub is not installed, or the name is none.
        RNNAtlasError: The Hub cannot be reached, or refuses.
    """
    name, revision = repository(name)
    with reaching(f"{SCHEME}{name}") as library:
        api = library.HfApi()
        there = api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        operations = [
            library.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
            for path, content in files.items()
        ]
        message = "Upload with rnnatlas"
        api.create_commit(name, operations, commit_message=message, repo_type=kind, revision=revision)
        return str(there)


@contextmanager
def reaching(place: str) -> Iterator[Any]:
    """Gives huggingface_hub, and says in one sentence why the Hub does not answer.

    Raises:
        SettingsError: huggingface_hub is not installed.
        RNNAtlasError: The Hub cannot be reached, or refuses.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise SettingsError(
            f'{place} is on the Hugging Face Hub, which needs: pip install "rnnatlas[hub]"'
        ) from None
    try:
        yield huggingface_hub
    except RNNAtlasError:
        raise
    except Exception as error:  # of requests, of the Hub, of the cache
        raise RNNAtlasError(
            f"{place} cannot be had from the Hugging Face Hub, or put there ({reason(error)}); check "
            "the name, the network, and that you are logged in (hf auth login)"
        ) from None


def front_matter(values: Mapping[str, Any]) -> str:
    """What a card begins with: data for the Hub."""
    from rnnatlas.settings import to_yaml

    return f"---\n{to_yaml(values)}---\n\n"
